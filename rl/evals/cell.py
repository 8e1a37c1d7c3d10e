"""One model on one environment: from its episodes to its row of numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluate import pass_at_k
from ..inference_time import Answers, answers_of, last_reply
from ..seeds import derive
from ..trajectory import Trajectory
from .statistics import Estimate, best_at_k, bootstrap, majority_at_k, pass_hat_k


@dataclass(frozen=True, slots=True)
class Tokens:
    """What episodes cost."""

    read: int
    """Tokens that the model was shown, each reply's whole context counted, as endpoints bill them."""
    written: int
    """Tokens that it wrote."""

    def cost(self, price_in: float, price_out: float) -> float:
        """Return the money, from prices for a million tokens."""
        return (self.read * price_in + self.written * price_out) / 1e6


@dataclass(frozen=True, slots=True)
class Cell:
    """What one model did on one environment."""

    model: str
    """The model's name."""
    env: str
    """The environment's name."""
    episodes: int
    """How many were played."""
    ungraded: int
    """How many of them could not be judged; they are in no other number."""
    metrics: dict[str, Estimate]
    """`score` (the mean score), `success`, `pass@k`, `pass^k`, `best@k`, `majority@k`; `success/TAG` by tag."""
    problems: dict[int, list[float]]
    """The graded scores of each problem, in the order of the samples."""
    first: dict[int, bool]
    """Whether the first sample of a problem succeeded, where it was graded; for paired tests."""
    tokens: Tokens
    """What it took."""
    means: dict[str, float] = field(default_factory=dict)
    """Per episode: `turns`, `tool_calls`, `tool_errors`, `parse_errors`, `cut` (by a limit), `tokens`."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat record for each metric."""
        return [
            {"model": self.model, "env": self.env, "metric": name, "value": e.value, "low": e.low, "high": e.high,
             "problems": len(self.problems), "episodes": self.episodes, "ungraded": self.ungraded}
            for name, e in self.metrics.items()
        ]  # fmt: skip


def make_cell(
    model: str,
    env: str,
    played: Sequence[Trajectory],
    *,
    seed: int,
    answers: Answers = "number",
    tags: dict[int, str] | None = None,
    tokens: Tokens | None = None,
) -> Cell:
    """Return the numbers of `played`, the episodes of one model on one environment, groups being problems.

    `pass@k` and the like are means over the problems that have at least k graded samples. Intervals come from a
    bootstrap over problems, drawn from `seed`.
    """
    groups: dict[int, list[Trajectory]] = defaultdict(list)
    for trajectory in played:
        groups[trajectory.group].append(trajectory)
    graded = {
        group: kept for group, found in sorted(groups.items()) if (kept := [t for t in found if t.graded])
    }
    rng = np.random.default_rng(derive(seed, "bootstrap", model, env))
    metrics: dict[str, Estimate] = {}

    def put(name: str, means: Sequence[float]) -> None:
        if means:
            metrics[name] = bootstrap(means, rng)

    scores = {group: [t.score.value for t in found] for group, found in graded.items()}
    success = {group: [t.success for t in found] for group, found in graded.items()}
    put("success", [sum(s) / len(s) for s in success.values()])
    put("score", [sum(s) / len(s) for s in scores.values()])
    said = {group: answers_of([last_reply(t) for t in found], answers) for group, found in graded.items()}
    for k in _powers(max(map(len, graded.values()), default=0)):
        whole = [group for group, found in graded.items() if len(found) >= k]
        put(f"pass@{k}", [pass_at_k(len(success[g]), sum(success[g]), k) for g in whole])
        put(f"pass^{k}", [pass_hat_k(len(success[g]), sum(success[g]), k) for g in whole])
        put(f"best@{k}", [best_at_k(scores[g], k) for g in whole])
        put(f"majority@{k}", [majority_at_k(said[g], success[g], k) for g in whole])
    by_tag: dict[str, list[float]] = defaultdict(list)
    for group, tag in (tags or {}).items():
        if group in success:
            by_tag[tag].append(sum(success[group]) / len(success[group]))
    for tag, means in sorted(by_tag.items()):
        put(f"success/{tag}", means)
    first = {group: found[0].success for group, found in groups.items() if found[0].graded}
    return Cell(
        model, env, len(played), sum(not t.graded for t in played), metrics, scores, first,
        tokens or counted(played), _means(played),
    )  # fmt: skip


def counted(played: Sequence[Trajectory]) -> Tokens:
    """Count the tokens of episodes whose ids are tokens."""
    read = written = 0
    for trajectory in played:
        written += trajectory.sampled_tokens
        starts = [start for start, _ in trajectory.spans]
        read += sum(turn.start - max(s for s in starts if s <= turn.start) for turn in trajectory.turns)
    return Tokens(read, written)


def _powers(most: int) -> list[int]:
    """Return 2, 4, 8 ... up to `most`; one sample is `success` itself."""
    found, k = [], 2
    while k <= most:
        found.append(k)
        k *= 2
    return found


def _means(played: Sequence[Trajectory]) -> dict[str, float]:
    from ..trajectory import CUT

    count = max(len(played), 1)
    turns = [turn for trajectory in played for turn in trajectory.turns]
    return {
        "turns": len(turns) / count,
        "tool_calls": sum(turn.tool_calls for turn in turns) / count,
        "tool_errors": sum(turn.tool_errors for turn in turns) / count,
        "parse_errors": sum(turn.parse_error for turn in turns) / count,
        "cut": sum(trajectory.stop in CUT for trajectory in played) / count,
    }
