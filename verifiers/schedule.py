"""Weights that change over the steps of a run: a learned reward that comes in late, a crutch that goes away."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .base import Episode, Score, Task, Verifier
from .mix import WeightedSum

Points = Sequence[tuple[int, float]]
"""(step, weight), steps ascending: linear between two points, constant before the first and after the last."""


def weight_at(points: Points, step: int) -> float:
    """Return the weight at a step. It depends on the step alone, so a resumed run goes on with the same weights."""
    before = [point for point in points if point[0] <= step]
    after = [point for point in points if point[0] > step]
    if not before:
        return float(after[0][1])
    if not after:
        return float(before[-1][1])
    (left, low), (right, high) = before[-1], after[0]
    return float(low + (high - low) * (step - left) / (right - left))


@dataclass(frozen=True)
class ScheduledSum(Verifier):
    """A weighted sum whose weights follow the RL step of the run; a judge outside of a run stands at step 0.

        ScheduledSum({"right": {"weight": 0.7, "verifier": MathAnswer()},
                      "form": {"weight": [(0, 0.3), (50, 0.0)], "verifier": form}})

    Raises `ValueError` for a weight outside [0, 1], weights that exceed 1 together at some step, and steps that do
    not ascend; `TypeError` for a term without a verifier.
    """

    terms: Mapping[str, Mapping[str, Any]]
    """By name: `verifier`, and `weight`, a number or points."""
    step: int = field(default=0, metadata={"spec": False})
    """The RL step that the weights are those of."""

    def __post_init__(self) -> None:
        """Refuse what is no schedule: the sum is linear between the points, so it is largest at one of them."""
        if not self.terms:
            raise ValueError("a scheduled sum needs at least one term")
        steps = {0}
        for name, term in self.terms.items():
            if set(term) != {"weight", "verifier"} or not isinstance(term["verifier"], Verifier):
                raise TypeError(f"the term {name!r} must have a weight and a verifier, got {term!r:.100}")
            places = [step for step, _ in _points(name, term["weight"])]
            if any(later <= earlier for earlier, later in itertools.pairwise(places)):
                raise ValueError(f"the steps of {name!r} must ascend, got {places}")
            steps.update(places)
        for step in sorted(steps):
            self._sum_at(step)

    def at_step(self, step: int) -> ScheduledSum:
        """Return the sum with the weights of another step."""
        terms = {
            name: {"weight": term["weight"], "verifier": term["verifier"].at_step(step)}
            for name, term in self.terms.items()
        }
        return replace(self, terms=terms, step=step)

    @property
    def weights(self) -> dict[str, float]:
        """The weights now."""
        return {
            name: weight_at(_points(name, term["weight"]), self.step) for name, term in self.terms.items()
        }

    def score(self, episode: Episode) -> Score:
        """Judge with every term and add up with the weights of the step."""
        return self._sum_at(self.step).score(episode)

    async def ascore(self, episode: Episode) -> Score:
        """Judge with every term at once and add up with the weights of the step."""
        return await self._sum_at(self.step).ascore(episode)

    def check(self, task: Task) -> None:
        """Check the task with every term."""
        for term in self.terms.values():
            term["verifier"].check(task)

    def _sum_at(self, step: int) -> WeightedSum:
        try:
            return WeightedSum(
                {
                    name: (weight_at(_points(name, term["weight"]), step), term["verifier"])
                    for name, term in self.terms.items()
                }
            )
        except ValueError as error:
            raise ValueError(f"at step {step}: {error}") from None


def _points(name: str, weight: Any) -> Points:
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        return [(0, float(weight))]
    try:
        points = [(int(step), float(value)) for step, value in weight]
    except (TypeError, ValueError):
        points = []
    if not points or not all(math.isfinite(value) for _, value in points):
        raise ValueError(
            f"the weight of {name!r} must be a number or points such as [[0, 0.3], [50, 0.0]], got {weight!r:.80}"
        )
    return points
