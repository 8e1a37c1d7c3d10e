"""Score a file of replies with a verifier, and see where it differs from labels or from another verifier."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import Score, Task, Verifier

_REPLY = ("reply", "response", "completion", "output", "prediction")
_ANSWER = ("answer", "gold", "ground_truth", "reference", "target")
_PROMPT = ("prompt", "question", "problem", "input")
_LABEL = ("label", "is_correct", "correct", "expected_score")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file: a task, a reply, and perhaps what somebody else thinks of it."""

    number: int
    """The line, from 1."""
    task: Task
    """The task of the line."""
    reply: str
    """The reply to judge."""
    label: float | None = None
    """A verdict to compare with, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A row and what verifiers made of it."""

    row: Row
    """The row."""
    score: Score
    """What the verifier says."""
    other: Score | None = None
    """What the second verifier says, if there is one."""
    seconds: float = 0.0
    """Seconds that the verifier took."""

    @property
    def differs(self) -> bool:
        """Whether the verifier and the label (or the second verifier) fall on different sides of one half."""
        if self.other is not None:
            return self.score.graded != self.other.graded or (self.score.value > 0.5) != (
                self.other.value > 0.5
            )
        return self.row.label is not None and (
            not self.score.graded or (self.score.value > 0.5) != (self.row.label > 0.5)
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run."""

    rows: int
    """Rows judged."""
    mean: float
    """Mean value of the graded scores; 0.0 where there are none."""
    ungraded: int
    """Rows that could not be judged."""
    agreed: int
    """Rows on which label (or second verifier) and verifier agree."""
    compared: int
    """Rows that have a label or a second score."""
    false_positives: int
    """Rows that the verifier passes and the other does not."""
    false_negatives: int
    """Rows that the verifier fails and the other passes."""
    statuses: Mapping[str, int]
    """How often each first word of a reason occurs."""
    median_ms: float
    """Median of the milliseconds for a row."""
    slowest_ms: float
    """The slowest row's milliseconds."""


def read_rows(
    path: Path, *, reply: str | None = None, answer: str | None = None, label: str | None = None
) -> Iterator[Row]:
    """Read the rows of a JSONL file; the columns are found by their usual names unless given.

    A line is flat (`id`, `prompt`, `answer`, `reply`, `label`, `info`) or holds a `task` object with the first
    three. Raises `ValueError` with the line's number for one that cannot be read or lacks a column.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(data, dict):
                raise ValueError(f"{path}:{number}: a line must be an object, got {data!r:.60}")
            task_part = data.get("task")
            inner: dict[str, Any] = task_part if isinstance(task_part, dict) else data
            text = _column(data, reply, _REPLY, f"{path}:{number}", "reply")
            if not isinstance(text, str):
                raise ValueError(f"{path}:{number}: the reply must be a text, got {text!r:.60}")
            task = Task(
                str(inner.get("id") or data.get("id") or number),
                str(next((inner[name] for name in _PROMPT if name in inner), "")),
                _column(inner, answer, _ANSWER, f"{path}:{number}", "answer"),
                inner.get("info")
                or {k: v for k, v in inner.items() if k in {"functions", "function", "tools", "rubric"}},
            )
            given = _column(data, label, _LABEL, f"{path}:{number}", "label", optional=label is None)
            yield Row(number, task, text, None if given is None else _label(given, f"{path}:{number}"))


def _label(given: Any, where: str) -> float:
    if isinstance(given, bool | int | float) and 0 <= given <= 1:
        return float(given)
    raise ValueError(f"{where}: a label must be true, false or a number from 0 to 1, got {given!r:.60}")


def _column(
    data: Mapping[str, Any],
    name: str | None,
    usual: Sequence[str],
    where: str,
    what: str,
    optional: bool = False,
) -> Any:
    for candidate in (name,) if name else usual:
        if candidate in data:
            return data[candidate]
    if optional:
        return None
    wanted = f"the column {name!r}" if name else f"a {what} (one of the columns {', '.join(usual)})"
    raise ValueError(f"{where}: {wanted} is missing; the columns are {', '.join(data)}")


async def verify_rows(
    rows: Sequence[Row],
    verifier: Verifier,
    other: Verifier | None = None,
    *,
    at_once: int = 64,
    done: Callable[[int], None] | None = None,
) -> list[Verified]:
    """Judge rows, at most `at_once` of them at a time, and return the results in the order of the rows.

    `done` is called with the number of rows finished so far. Raises `ValueError` before anything is judged if a
    task cannot be.
    """
    for row in rows:
        verifier.check(row.task)
        if other is not None:
            other.check(row.task)
    results: list[Verified | None] = [None] * len(rows)
    following = iter(range(len(rows)))
    finished = 0

    async def work() -> None:
        nonlocal finished
        for index in following:
            row = rows[index]
            started = time.perf_counter()
            score = await verifier.acall(row.reply, row.task)
            seconds = time.perf_counter() - started
            second = await other.acall(row.reply, row.task) if other is not None else None
            results[index] = Verified(row, score, second, seconds)
            finished += 1
            if done is not None:
                done(finished)
            if finished % 50 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(min(at_once, len(rows)))))
    return [result for result in results if result is not None]


def summary(results: Sequence[Verified]) -> Summary:
    """Return the figures of a run."""
    graded = [r.score.value for r in results if r.score.graded]
    compared = [r for r in results if r.row.label is not None or r.other is not None]
    wrong = [r for r in compared if r.differs]
    passed = sum(1 for r in wrong if r.score.graded and r.score.value > 0.5)
    times = sorted(r.seconds * 1000 for r in results)
    words = (r.score.reason.split(maxsplit=1)[0].rstrip(":;") if r.score.reason else "-" for r in results)
    return Summary(
        rows=len(results),
        mean=sum(graded) / len(graded) if graded else 0.0,
        ungraded=len(results) - len(graded),
        agreed=len(compared) - len(wrong),
        compared=len(compared),
        false_positives=passed,
        false_negatives=len(wrong) - passed,
        statuses=dict(Counter(words).most_common(12)),
        median_ms=times[len(times) // 2] if times else 0.0,
        slowest_ms=times[-1] if times else 0.0,
    )
