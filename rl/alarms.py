"""What looks wrong in a run, with a sentence of advice: pure functions of the metrics so far.

Each rule looks at the steps up to now and says whether its sign is there. An alarm is raised when a sign appears and
not again while it stays, so that nobody learns to overlook it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from .overoptimisation import DRIFTS

Steps = Sequence[Mapping[str, float]]
"""The metrics of the RL steps, oldest first."""

WINDOW = 5
"""Steps whose mean is compared: the first ones, and the last."""


def raised(steps: Steps, evaluations: Sequence[tuple[int, float]] = ()) -> dict[str, str]:
    """Return the alarms that the newest step raises, by name.

    Args:
        steps: the metrics of each RL step, oldest first.
        evaluations: (RL steps done, held-out success) of each evaluation, oldest first.
    """
    now, before = _signs(steps, evaluations), _signs(steps[:-1], evaluations)
    return {name: ADVICE[name] for name in now if name not in before}


ADVICE: Mapping[str, str] = {
    "entropy collapse": "the policy always says the same now: lower rl.lr, raise rl.clip_high or add rl.entropy.coef",
    "longer replies": "replies have doubled in length: look at some episodes, and think of rl.overlong_buffer",
    "shorter replies": "replies have halved in length: look at some episodes; does a short answer get away with it?",
    "cut episodes": "a third of the episodes hits a limit: raise rollout.turn_tokens or episode_tokens, or penalise",
    "reward hacking": "reward rises while held-out success falls: read the best-paid episodes, audit the reward",
    "sampler mismatch": "sampler and learner disagree about the same tokens: use rl.importance, or float32 weights",
    "nothing to learn": "nearly all groups agree in their reward: make tasks easier or harder, or use a curriculum",
    "far from the start": "the KL is above 1 nat a token: lower rl.lr or raise rl.kl.coef",
    "broken calls": "most replies hold a call that cannot be read: the model needs a warm start on the format",
    "over-optimised": "the gold falls while the reward rises: go back to an earlier checkpoint, raise rl.kl.coef",
    "drift of length": "replies are far longer or shorter than at the start, and the gold is watched: read some",
    "drift of disagreement": "the reward models agree less and less: the policy has left what they know",
    "drift of repetition": "replies repeat themselves: does the reward pay for it?",
    "drift of refusals": "replies refuse more than at the start: does the reward pay for it?",
    "drift of format": "more calls cannot be read, or more replies are cut, than at the start",
    "ungraded episodes": "episodes cannot be graded: something of ours fails; the trajectories say what",
}
"""What each alarm means and what to do."""

GUARDED: Mapping[str, str] = {
    "over-optimised": "guard/alarm_gold",
    **{f"drift of {sign}": f"guard/alarm_{sign}" for sign in DRIFTS},
}
"""The alarms of the guard (`guard`), each with the metric that says it is there."""


def _signs(steps: Steps, evaluations: Sequence[tuple[int, float]]) -> list[str]:
    watched = next((s for s in reversed(steps) if "guard/proxy" in s), {})
    signs = [name for name, metric in GUARDED.items() if watched.get(metric, 0.0) > 0]
    if len(steps) < 2 * WINDOW:
        return signs
    # A teacher teaches where all rewards agree, and leads away from the start.
    taught = "teacher_divergence" in steps[-1]
    rules: Mapping[str, Callable[[], bool]] = {
        "entropy collapse": lambda: _late(steps, "entropy") < min(0.2 * _early(steps, "entropy"), 0.1),
        "longer replies": lambda: _late(steps, "reply_tokens") > 2 * _early(steps, "reply_tokens"),
        "shorter replies": lambda: _late(steps, "reply_tokens") < 0.5 * _early(steps, "reply_tokens"),
        "cut episodes": lambda: _late(steps, "truncated") > max(0.33, 1.2 * _early(steps, "truncated")),
        "reward hacking": lambda: _hacked(steps, evaluations),
        "sampler mismatch": lambda: (
            _late(steps, "sampler_mismatch") > 0.05 and not _late(steps, "staleness") > 0
        ),
        "nothing to learn": lambda: not taught and _late(steps, "zero_variance") > 0.9,
        "far from the start": lambda: not taught and _late(steps, "kl") > 1.0,
        "broken calls": lambda: _late(steps, "parse_errors") > 0.5,
        "ungraded episodes": lambda: _late(steps, "ungraded") > 0.05,
    }
    return signs + [name for name, there in rules.items() if there()]


def _hacked(steps: Steps, evaluations: Sequence[tuple[int, float]]) -> bool:
    """Return whether reward rose by 0.1 since the best evaluation while held-out success fell by 0.05."""
    if len(evaluations) < 2:
        return False
    at, best = max(evaluations[:-1], key=lambda found: found[1])
    if best - evaluations[-1][1] < 0.05:
        return False
    then = [s["reward"] for s in steps[max(at - WINDOW, 0) : max(at, 1)] if "reward" in s]
    return bool(then) and _late(steps, "reward") - sum(then) / len(then) >= 0.1


def _early(steps: Steps, name: str) -> float:
    return _mean([s[name] for s in steps[:WINDOW] if name in s])


def _late(steps: Steps, name: str) -> float:
    return _mean([s[name] for s in steps[-WINDOW:] if name in s])


def _mean(values: Sequence[float]) -> float:
    """Return the mean; NaN, which no comparison holds for, where there is nothing."""
    return sum(values) / len(values) if values else math.nan
