"""What the episodes of a step say by themselves, before anything is learned from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .trajectory import StopReason, Trajectory


def batch_metrics(batch: Sequence[Trajectory]) -> dict[str, float]:
    """Return the metrics of a step's episodes; ungraded ones count in `ungraded` and `ungraded/KIND` alone.

    `part/NAME` is the mean of a part of the score, `stop/REASON` the fraction of episodes that ended so.
    """
    graded = [t for t in batch if t.graded]
    turns = [turn for t in graded for turn in t.turns]
    tokens = sum(t.sampled_tokens for t in graded)
    logp = sum(sum(t.logprobs) for t in graded)
    calls = sum(turn.tool_calls for turn in turns)
    return {
        "reward": _mean([t.reward for t in graded]),
        "reward_std": _group_std(graded),
        "success": _mean([t.success for t in graded]),
        **_parts(graded),
        # The mean surprise of what was sampled: an unbiased estimate of the policy's entropy a token.
        "entropy": -logp / max(tokens, 1),
        "sampled_tokens": float(tokens),
        "episode_tokens": _mean([len(t.ids) for t in graded]),
        "turns": _mean([len(t.turns) for t in graded]),
        "reply_tokens": tokens / max(len(turns), 1),
        "truncated": _mean([t.stop != StopReason.TERMINATED for t in graded]),
        **{
            f"stop/{stop}": _mean([t.stop == stop for t in graded])
            for stop in sorted({t.stop for t in graded})
        },
        "parse_errors": _mean([turn.parse_error for turn in turns]),
        "tool_errors": sum(turn.tool_errors for turn in turns) / max(calls, 1),
        "ungraded": _mean([not t.graded for t in batch]),
        # Where an episode's time goes; a retry is an episode that was played more than once.
        "engine_wait_s": _mean([t.timing.engine_s for t in batch]),
        "environment_wait_s": _mean([t.timing.environment_s for t in batch]),
        "verifier_wait_s": _mean([t.timing.verifier_s for t in batch]),
        "retried": _mean([t.timing.attempts > 1 for t in batch]),
        **_ungraded_kinds(batch),
    }


def staleness(batch: Sequence[Trajectory], version: int) -> dict[str, float]:
    """Return how old the weights were that sampled what is learned from, in steps of the learner.

    `version` is how many steps its weights have seen. `staleness` is the mean over sampled tokens, `staleness/N` the
    fraction of tokens that are N steps old.
    """
    ages = Counter(
        version - sampled for t in batch for sampled, mine in zip(t.versions, t.mask, strict=True) if mine
    )
    total = max(ages.total(), 1)
    mean = sum(age * count for age, count in ages.items()) / total
    return {"staleness": mean, **{f"staleness/{age}": count / total for age, count in sorted(ages.items())}}


def time_split(batch: Sequence[Trajectory], rollout_s: float) -> dict[str, float]:
    """Return the seconds of a rollout by what its episodes waited for: engine, environment, verifier.

    Episodes run side by side, so the wall time is shared out in proportion to what they waited together; the three
    add up to `rollout_s`.
    """
    waits = {
        "rollout_engine_s": sum(t.timing.engine_s for t in batch),
        "rollout_environment_s": sum(t.timing.environment_s for t in batch),
        "rollout_verifier_s": sum(t.timing.verifier_s for t in batch),
    }
    total = sum(waits.values())
    if total <= 0:
        return dict.fromkeys(waits, 0.0) | {"rollout_engine_s": rollout_s}
    return {name: rollout_s * waited / total for name, waited in waits.items()}


def _group_std(graded: Sequence[Trajectory]) -> float:
    """Return the mean over groups of the standard deviation of their rewards."""
    groups: dict[int, list[float]] = {}
    for trajectory in graded:
        groups.setdefault(trajectory.group, []).append(trajectory.reward)
    return _mean([float(np.std(rewards)) for rewards in groups.values()])


def _parts(graded: Sequence[Trajectory]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for trajectory in graded:
        for name, value in trajectory.score.parts.items():
            values.setdefault(f"part/{name}", []).append(value)
    return {name: _mean(found) for name, found in sorted(values.items())}


def _ungraded_kinds(batch: Sequence[Trajectory]) -> dict[str, float]:
    """Return the fraction of episodes that could not be graded, by what failed."""
    kinds = Counter(_kind(t) for t in batch if not t.graded)
    return {f"ungraded/{kind}": count / len(batch) for kind, count in sorted(kinds.items())}


def _kind(trajectory: Trajectory) -> str:
    told = trajectory.info.get("kind") or trajectory.score.reason.partition(":")[0].strip()[:40]
    return str(told or "unknown")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
