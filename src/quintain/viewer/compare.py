"""What changed between two checkpoints, or two runs, on the same tasks: two files of trajectories, joined by task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .index import Index

SHOWN = 50
"""Tasks of a page."""
CHANGES = ("changed", "better", "worse", "same", "all")
Place = tuple[str, str]
"""A run's key and the stem of one of its files."""

_JOINED = """
WITH a AS (SELECT task, avg(score) AS score, count(score) AS graded, count(*) AS count, max(prompt) AS prompt
           FROM episode WHERE run = ? AND stem = ? GROUP BY task),
     b AS (SELECT task, avg(score) AS score, count(score) AS graded, count(*) AS count
           FROM episode WHERE run = ? AND stem = ? GROUP BY task),
     both AS (SELECT a.task AS task, a.prompt AS prompt, a.score AS before, b.score AS after,
                     a.count AS before_count, b.count AS after_count, b.score - a.score AS change
              FROM a JOIN b ON a.task = b.task)
"""
_WHERE = {
    "changed": "abs(change) > 1e-9",
    "better": "change > 1e-9",
    "worse": "change < -1e-9",
    "same": "abs(change) <= 1e-9",
    "all": "1",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of trajectories on the tasks that both have."""

    rows: list[dict[str, Any]]
    """Tasks of this page: `task`, `prompt`, `before`, `after` (mean scores, None where ungraded), `change`, counts."""
    counts: dict[str, int]
    """Tasks by `CHANGES`, `ungraded` ones, and those that `only_a` or `only_b` has."""
    before: float | None
    """Mean score over the shared tasks that both graded."""
    after: float | None
    p: float | None
    """Of the two-sided sign test on the tasks that changed; None where none did."""


def compare(index: Index, a: Place, b: Place, *, show: str = "changed", page: int = 1) -> Comparison:
    """Compare file `a` with file `b`; `show` is one of `CHANGES`."""
    places = [*a, *b]
    totals = index.row(
        _JOINED
        + "SELECT count(*) AS 'all', sum(change > 1e-9) AS better, sum(change < -1e-9) AS worse, "
        + "sum(abs(change) <= 1e-9) AS same, sum(change IS NULL) AS ungraded, "
        + "avg(CASE WHEN change IS NULL THEN NULL ELSE before END) AS before, "
        + "avg(CASE WHEN change IS NULL THEN NULL ELSE after END) AS after FROM both",
        places,
    )
    assert totals is not None
    counts = {name: int(totals[name] or 0) for name in ("all", "better", "worse", "same", "ungraded")}
    counts["changed"] = counts["better"] + counts["worse"]
    for name, (one, other) in {"only_a": (a, b), "only_b": (b, a)}.items():
        (counts[name],) = index.column(
            "SELECT count(DISTINCT task) FROM episode WHERE run = ? AND stem = ? AND task NOT IN "
            "(SELECT task FROM episode WHERE run = ? AND stem = ?)",
            [*one, *other],
        )
    rows = index.rows(
        f"{_JOINED} SELECT * FROM both WHERE {_WHERE[show]} "
        "ORDER BY abs(change) DESC NULLS LAST, change, task LIMIT ? OFFSET ?",
        [*places, SHOWN, SHOWN * (page - 1)],
    )
    return Comparison(
        rows, counts, totals["before"], totals["after"], sign_test(counts["better"], counts["worse"])
    )


def sign_test(better: int, worse: int) -> float | None:
    """Return the two-sided p-value of the exact sign test: how likely so uneven a split is if both sides are equal.

    Twice the binomial tail with probability 1/2 (Dixon and Mood 1946); with scores of 0 and 1 it is the exact McNemar
    test. None where nothing changed.
    """
    count = better + worse
    if count == 0:
        return None
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**count))
