"""Verifiers made of verifiers: weighted sums, gates, minima, and the first that decides.

An ungraded part makes the whole ungraded where its value would have mattered: a reward that quietly lost a
component would be a wrong one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .base import Episode, Score, Task, Verifier

_ROUNDING = 1e-9  # weights such as 0.7 + 0.2 + 0.1 sum to a little more than 1


@dataclass(frozen=True, init=False)
class WeightedSum(Verifier):
    """The weighted sum of verifiers; the score's parts are the values of its terms, before weighting.

    Written `0.8 * math + 0.2 * style`, or with names and weights that a config can hold:

        WeightedSum({"right": (0.8, MathAnswer()), "brief": (0.2, brief)})
    """

    terms: Mapping[str, tuple[float, Verifier]]
    """Weight and verifier by name; no weight is negative and together they are at most 1."""

    def __init__(self, terms: Mapping[str, tuple[float, Verifier]]) -> None:
        if not terms:
            raise ValueError("a weighted sum needs at least one term")
        total = 0.0
        for name, (weight, verifier) in terms.items():
            if not isinstance(verifier, Verifier):
                raise TypeError(f"the term {name!r} must be a (weight, verifier) pair, got {verifier!r:.100}")
            if not 0 <= weight <= 1 + _ROUNDING:
                raise ValueError(f"the weight of {name!r} must be in [0, 1], got {weight}")
            total += weight
        if total > 1 + _ROUNDING:
            listed = ", ".join(f"{name} {weight:g}" for name, (weight, _) in terms.items())
            raise ValueError(f"the weights must sum to at most 1, got {total:g} ({listed}); scale them down")
        object.__setattr__(self, "terms", dict(terms))

    @classmethod
    def joined(cls, *summands: Verifier) -> WeightedSum:
        """Return one sum of several; a verifier that is no sum has weight 1, equal names are numbered."""
        terms: dict[str, tuple[float, Verifier]] = {}
        for summand in summands:
            own = summand.terms if isinstance(summand, WeightedSum) else {summand.name: (1.0, summand)}
            for name, term in own.items():
                terms[unused(name, terms)] = term
        return cls(terms)

    def __mul__(self, weight: float) -> WeightedSum:
        """Return the sum with every weight scaled."""
        return WeightedSum({name: (weight * own, verifier) for name, (own, verifier) in self.terms.items()})

    __rmul__ = __mul__

    def at_step(self, step: int) -> WeightedSum:
        """Return the sum with every term at that step."""
        return WeightedSum({name: (weight, v.at_step(step)) for name, (weight, v) in self.terms.items()})

    def score(self, episode: Episode) -> Score:
        """Judge with every term and add up."""
        return self._sum([verifier(episode) for _, verifier in self.terms.values()])

    async def ascore(self, episode: Episode) -> Score:
        """Judge with every term at once and add up."""
        return self._sum(await asyncio.gather(*(v.acall(episode) for _, v in self.terms.values())))

    def _sum(self, scores: Sequence[Score]) -> Score:
        named = dict(zip(self.terms, scores, strict=True))
        if lost := {name: score for name, score in named.items() if not score.graded}:
            return Score.ungraded(_reasons(lost))
        value = sum(weight * named[name].value for name, (weight, _) in self.terms.items())
        return Score(min(value, 1.0), parts=_parts(named), reason=_reasons(named))

    def check(self, task: Task) -> None:
        """Check the task with every term."""
        for _, verifier in self.terms.values():
            verifier.check(task)


@dataclass(frozen=True)
class Gate(Verifier):
    """`reward` counts only where `condition` reaches `threshold`; otherwise the score is 0.

    The learned part of a reward behind a verifiable one: `Gate(MathAnswer(), judge)`. The reward is not
    asked where the gate is closed.
    """

    condition: Verifier
    """What must pass."""
    reward: Verifier
    """What is given then."""
    threshold: float = 1.0
    """The least value of the condition that opens the gate."""

    def at_step(self, step: int) -> Gate:
        """Return the gate with both at that step."""
        return Gate(self.condition.at_step(step), self.reward.at_step(step), self.threshold)

    def score(self, episode: Episode) -> Score:
        """Judge the condition, then the reward."""
        condition = self.condition(episode)
        return self._closed(condition) or self._open(condition, self.reward(episode))

    async def ascore(self, episode: Episode) -> Score:
        """Judge the condition, then the reward, without blocking."""
        condition = await self.condition.acall(episode)
        return self._closed(condition) or self._open(condition, await self.reward.acall(episode))

    def _closed(self, condition: Score) -> Score | None:
        if not condition.graded:
            return Score.ungraded(f"condition: {condition.reason}")
        if condition.value >= self.threshold:
            return None
        return Score(0.0, parts=_parts({"condition": condition}), reason=f"gate closed: {condition.reason}")

    def _open(self, condition: Score, reward: Score) -> Score:
        named = {"condition": condition, "reward": reward}
        if not reward.graded:
            return Score.ungraded(f"reward: {reward.reason}")
        return Score(reward.value, parts=_parts(named), reason=_reasons(named))

    def check(self, task: Task) -> None:
        """Check the task with both."""
        self.condition.check(task)
        self.reward.check(task)


@dataclass(frozen=True, init=False)
class Minimum(Verifier):
    """The least of several scores: everything must be good."""

    verifiers: tuple[Verifier, ...]
    """What is asked; all of it."""

    def __init__(self, verifiers: Iterable[Verifier]) -> None:
        object.__setattr__(self, "verifiers", several(verifiers, "a minimum"))

    def at_step(self, step: int) -> Minimum:
        """Return the minimum of all at that step."""
        return Minimum(verifier.at_step(step) for verifier in self.verifiers)

    def score(self, episode: Episode) -> Score:
        """Judge with every verifier and take the least value."""
        return self._least([verifier(episode) for verifier in self.verifiers])

    async def ascore(self, episode: Episode) -> Score:
        """Judge with every verifier at once and take the least value."""
        return self._least(await asyncio.gather(*(v.acall(episode) for v in self.verifiers)))

    def _least(self, scores: Sequence[Score]) -> Score:
        named = _named(self.verifiers, scores)
        least = min((score for score in scores if score.graded), key=lambda score: score.value, default=None)
        if least is None or (least.value > 0 and not all(score.graded for score in scores)):
            return Score.ungraded(_reasons({n: s for n, s in named.items() if not s.graded}))
        return Score(least.value, parts=_parts(named), reason=_reasons(named))

    def check(self, task: Task) -> None:
        """Check the task with every verifier."""
        for verifier in self.verifiers:
            verifier.check(task)


@dataclass(frozen=True, init=False)
class FirstGraded(Verifier):
    """The first verifier that decides: each next one is asked only if those before it left it ungraded.

    A rule first and a judge for what the rule leaves open: `FirstGraded([rule, judge])`.
    """

    verifiers: tuple[Verifier, ...]
    """In the order in which they are asked."""

    def __init__(self, verifiers: Iterable[Verifier]) -> None:
        object.__setattr__(self, "verifiers", several(verifiers, "a first-that-decides"))

    def at_step(self, step: int) -> FirstGraded:
        """Return the same with all at that step."""
        return FirstGraded(verifier.at_step(step) for verifier in self.verifiers)

    def score(self, episode: Episode) -> Score:
        """Return the first graded score, or the reasons of all."""
        scores: list[Score] = []
        for verifier in self.verifiers:
            scores.append(verifier(episode))
            if scores[-1].graded:
                break
        return self._last(scores)

    async def ascore(self, episode: Episode) -> Score:
        """Return the first graded score, or the reasons of all, without blocking."""
        scores: list[Score] = []
        for verifier in self.verifiers:
            scores.append(await verifier.acall(episode))
            if scores[-1].graded:
                break
        return self._last(scores)

    def _last(self, scores: Sequence[Score]) -> Score:
        named = _named(self.verifiers[: len(scores)], scores)
        if not scores[-1].graded:
            return Score.ungraded(_reasons(named))
        name = list(named)[-1]
        return Score(
            scores[-1].value, parts={name: scores[-1].value, **scores[-1].parts}, reason=_reasons(named)
        )

    def check(self, task: Task) -> None:
        """Check the task with every verifier."""
        for verifier in self.verifiers:
            verifier.check(task)


def several(verifiers: Iterable[Verifier], what: str) -> tuple[Verifier, ...]:
    """Return `verifiers` as a tuple. Raises `ValueError` for none and `TypeError` for something else."""
    listed = tuple(verifiers)
    if not listed:
        raise ValueError(f"{what} needs at least one verifier")
    for verifier in listed:
        if not isinstance(verifier, Verifier):
            raise TypeError(f"{what} takes verifiers, got {verifier!r:.100}")
    return listed


def unused(name: str, taken: Mapping[str, object]) -> str:
    """Return `name`, numbered if it is taken already."""
    numbered, number = name, 2
    while numbered in taken:
        numbered, number = f"{name}_{number}", number + 1
    return numbered


def _named(verifiers: Sequence[Verifier], scores: Sequence[Score]) -> dict[str, Score]:
    named: dict[str, Score] = {}
    for verifier, score in zip(verifiers, scores, strict=True):
        named[unused(verifier.name, named)] = score
    return named


def _parts(named: Mapping[str, Score]) -> dict[str, float]:
    parts: dict[str, float] = {}
    for name, score in named.items():
        if score.graded:
            parts[name] = score.value
            if len(score.parts) > 1 or any(part != score.value for part in score.parts.values()):
                parts.update({f"{name}.{part}": value for part, value in score.parts.items()})
    return parts


def _reasons(named: Mapping[str, Score]) -> str:
    return "; ".join(f"{name}: {score.reason or f'{score.value:g}'}" for name, score in named.items())
