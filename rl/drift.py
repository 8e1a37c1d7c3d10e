"""Signs in the text of replies that a reward is being played: repetition, refusals, broken form."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .trajectory import TOO_LONG, Trajectory

REFUSALS = (
    r"\bI(?:['\u2019]m| am) (?:so |very |really )?(?:sorry|unable|not able)\b",
    r"\bI (?:can(?:not|['\u2019]t)|won['\u2019]t|will not) (?:help|assist|answer|comply|do|provide|discuss|fulfil)",
    r"\bas an? (?:AI|language model)\b",
)
"""Phrases of refusals, in English; regular expressions, letter case aside."""


def repetition(ids: Sequence[int], n: int = 3) -> float:
    """Return the share of n-grams that repeat an earlier one, in [0, 1]: 1 - distinct / all; 0 without any."""
    count = len(ids) - n + 1
    if count < 1:
        return 0.0
    return 1.0 - len({tuple(ids[at : at + n]) for at in range(count)}) / count


def refuses(text: str, patterns: Sequence[str] = REFUSALS) -> bool:
    """Say whether a text refuses, going by its first 400 characters."""
    return any(re.search(pattern, text[:400], re.IGNORECASE) for pattern in patterns)


def signs(
    trajectories: Sequence[Trajectory], *, n: int = 3, patterns: Sequence[str] = REFUSALS
) -> dict[str, float]:
    """Return the means of the signs over episodes; empty for none.

    `length`: sampled tokens of an episode; `repetition`: of the tokens of each reply, see there; `refusals`: the share
    of episodes whose last reply refuses; `format`: the share in which a call could not be read or a token limit cut a
    reply; `disagreement`: the mean of the scores' parts called `sigma`, where an ensemble of reward models gives them.
    """
    if not trajectories:
        return {}
    replies = [t.ids[turn.start : turn.end] for t in trajectories for turn in t.turns]
    last = [
        next((m["content"] for m in reversed(t.messages) if m["role"] == "assistant"), "")
        for t in trajectories
    ]
    broken = [t.stop in TOO_LONG or any(turn.parse_error for turn in t.turns) for t in trajectories]
    found = {
        "length": _mean([float(t.sampled_tokens) for t in trajectories]),
        "repetition": _mean([repetition(reply, n) for reply in replies]),
        "refusals": _mean([float(refuses(text, patterns)) for text in last]),
        "format": _mean([float(b) for b in broken]),
    }
    sigmas = [v for t in trajectories for k, v in t.score.parts.items() if k.rpartition(".")[2] == "sigma"]
    return found | ({"disagreement": _mean(sigmas)} if sigmas else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
