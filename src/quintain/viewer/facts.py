"""What the page of an episode says in numbers and words beside its conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def expected(row: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the reward less the group's mean; None where there is no group to compare with."""
    mean = mean_of([member["reward"] for member in members])
    if row["phase"] != "rl" or row["reward"] is None or mean is None or len(members) < 2:
        return None
    return float(row["reward"] - mean)


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return numbers as one, if they are alike, else as their range."""
    if not values:
        return "none"
    low, high = min(values), max(values)
    return form(low) if high - low < 5e-7 else f"{form(low)} to {form(high)}"


def missing(view: str, credit: bool, ratio: bool, phase: str) -> str:
    """Return why the tokens cannot be coloured so, or nothing."""
    if view == "advantage" and not credit:
        return (
            "Advantages are stored for the graded episodes of RL steps alone."
            if phase != "rl"
            else "No advantages of this step are stored: it was ungraded, or an earlier version of Quintain trained it."
        )
    if view == "ratio" and not ratio:
        return (
            "The ratio of the learner to the sampler is not stored here. It is in RL steps for which the learner "
            'measures log-probabilities of its own beforehand (rl.old_logprobs = "learner", several minibatches).'
        )
    return ""


def opening(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Return how many messages all conversations begin with alike."""
    count = 0
    for messages in zip(*conversations, strict=False):
        if any(message != messages[0] for message in messages) or messages[0]["role"] == "assistant":
            break
        count += 1
    return count
