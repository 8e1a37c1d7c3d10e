"""Who says which answer is better: any verifier that scores both (a reward model, a rubric, a rule), or a judge.

People are in `labels`, groups of trajectories in `pairs.pairs_from_groups`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ...tools.chat import Message, Reply
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.judge import Judge
from .preference import Preference

T = TypeVar("T")
AT_ONCE = 32
"""Comparisons in flight at the same time."""


@dataclass(slots=True)
class Sourced:
    """Comparisons with a verdict, and those without."""

    preferences: list[Preference] = field(default_factory=list)
    """The verdicts, in the order of the comparisons."""
    ungraded: list[tuple[int, str]] = field(default_factory=list)
    """The places (from 0) of comparisons that could not be judged, with the reason: they say nothing."""
    changed: int = 0
    """Comparisons in which a judge chose by the place: another answer in the other order. They are ties."""
    agreed: int = 0
    """Decided ones that prefer the side which was the chosen one before."""


async def by_score(
    comparisons: Sequence[Preference],
    verifier: Verifier,
    *,
    source: str,
    gap: float = 0.0,
    scale: float = 1.0,
) -> Sourced:
    """Return the preferences of a verifier that scores each answer on its own.

    Args:
        comparisons: Two answers each; which one is chosen plays no role.
        verifier: Sees the whole conversation; a raw `logit` in the score's parts (a reward model) counts in place of
            the squashed value.
        source: Goes into the preferences, such as `reward_model:NAME`.
        gap: Scores that differ by no more are a tie (strength 5).
        scale: The margins are differences of scores times this.
    """

    async def one(comparison: Preference) -> tuple[Score, Score]:
        first, second = await asyncio.gather(
            *(verifier.acall(_episode(comparison, side)) for side in (comparison.chosen, comparison.rejected))
        )
        return first, second

    found = Sourced()
    for place, (comparison, (first, second)) in enumerate(
        zip(comparisons, await _all(comparisons, one), strict=True)
    ):
        failed = next((score for score in (first, second) if not score.graded), None)
        if failed is not None:
            found.ungraded.append((place, _last_line(failed.reason)))
            continue
        values = [score.parts.get("logit", score.value) for score in (first, second)]
        _decide(found, comparison, values[0] - values[1], gap, scale, source)
    return found


async def by_judge(comparisons: Sequence[Preference], judge: Judge, *, source: str = "judge") -> Sourced:
    """Return the preferences of a judge that sees both answers, in both orders (`Judge.compare`).

    A judge that changes its mind with the order has said nothing: a tie, counted in `changed`.
    """

    async def one(comparison: Preference) -> Score:
        other = _text(comparison.rejected)
        try:
            return await judge.compare(_episode(comparison, comparison.chosen), other)
        except Exception as error:  # a failure of the line is no verdict
            return Score.ungraded(f"{type(error).__name__}: {error}")

    found = Sourced()
    for place, (comparison, score) in enumerate(zip(comparisons, await _all(comparisons, one), strict=True)):
        if not score.graded:
            found.ungraded.append((place, _last_line(score.reason)))
            continue
        found.changed += {score.parts.get("shown_first"), score.parts.get("shown_second")} == {0.0, 1.0}
        _decide(found, comparison, 2 * score.value - 1, 0.0, 1.0, source)
    return found


def _decide(
    found: Sourced, comparison: Preference, lead: float, gap: float, scale: float, source: str
) -> None:
    """Add the verdict of a comparison in which the first side leads by `lead`."""
    plain = replace(comparison, strength=None, margin=None, source=source)
    if abs(lead) <= gap:
        found.preferences.append(replace(plain, strength=5, margin=0.0))
        return
    tokens = plain.tokens
    if lead < 0:
        plain = replace(
            plain,
            chosen=plain.rejected,
            rejected=plain.chosen,
            tokens=None if tokens is None else (tokens[1], tokens[0]),
        )
    found.agreed += lead > 0
    found.preferences.append(replace(plain, margin=abs(lead) * scale))


async def _all(comparisons: Sequence[Preference], one: Callable[[Preference], Awaitable[T]]) -> list[T]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def held(comparison: Preference) -> T:
        async with gate:
            return await one(comparison)

    return await asyncio.gather(*(held(comparison) for comparison in comparisons))


def _episode(comparison: Preference, side: Sequence[Message]) -> Episode:
    asked = next((m["content"] for m in reversed(comparison.prompt) if m["role"] == "user"), "")
    task = Task(comparison.id or "comparison", asked, info=dict(comparison.info))
    return Episode(task, Reply(_text(side)), (*comparison.prompt, *side))


def _text(side: Sequence[Message]) -> str:
    return next((m["content"] for m in reversed(side) if m["role"] == "assistant" and m["content"]), "")


def _last_line(reason: str) -> str:
    """Return what a traceback ends with, or a reason of one line as it is."""
    return (reason.strip().splitlines() or ["no reason given"])[-1][:300]
