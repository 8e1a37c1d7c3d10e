"""Who gets the credit: from the rewards of a step's episodes to an advantage for every token the model wrote.

The config chooses; the arithmetic is in `advantages`. Only graded episodes come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..tools.errors import UserError
from .advantages import (
    Bools,
    Floats,
    Ints,
    component_advantages,
    discounted_returns,
    explained_variance,
    generalized_advantages,
    group_advantages,
    leave_one_out_advantages,
    overlong_penalty,
    turn_advantages,
    whitened,
)
from .rl_config import RlConfig
from .teacher_config import TeacherConfig
from .trajectory import CUT, TOO_LONG, Trajectory


@dataclass(frozen=True, slots=True)
class Measured:
    """What the learner said about the episodes of a step before it changed; None where nobody asked."""

    old_logps: Sequence[Floats] | None = None
    """The learner's own log-probability of each trained token. [N][T]"""
    reference_logps: Sequence[Floats] | None = None
    """The reference model's. [N][T]"""
    kls: Sequence[Floats] | None = None
    """The estimated KL divergence at each trained token, by `rl.kl.estimator`. [N][T]"""
    teacher_gaps: Sequence[Floats] | None = None
    """The teacher's log-probability of each trained token less the student's, by `rl.teacher`. [N][T]"""
    values: Sequence[Floats] | None = None
    """The critic's estimate before each trained token. [N][T]"""
    final_values: Floats | None = None
    """The critic's estimate after the last token of each episode. [N]"""


@dataclass(frozen=True, slots=True)
class Credit:
    """An advantage for every trained token of a step's episodes."""

    advantages: Sequence[Floats]
    """[N][T]"""
    returns: Sequence[Floats] | None = None
    """What the critic should have said, where there is one. [N][T]"""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers for the log."""

    @classmethod
    def of_episodes(cls, batch: Sequence[Trajectory], advantages_N: Floats) -> Credit:
        """Give each episode's advantage to all of its tokens."""
        return cls(_repeated(batch, advantages_N))


def assign(
    batch: Sequence[Trajectory],
    config: RlConfig,
    measured: Measured | None = None,
    *,
    kl_coef: float = 0.0,
    longest: int = 0,
) -> Credit:
    """Return the advantages of a step's graded episodes as `config` wants them made.

    Args:
        batch: the episodes, all graded.
        config: the RL section.
        measured: what the learner measured; the critic's values for `gae`, KL where it is part of the reward.
        kl_coef: the weight of the KL divergence now; used with `kl.where = "reward"`.
        longest: the most tokens that an episode may have; used with `overlong_buffer`.

    With a teacher over the sampled tokens, log p_teacher - log p_student of a token is added to its advantage: in
    expectation that is the gradient of the reverse KL there (Lu et al. 2025, "On-Policy Distillation").

    Raises `UserError` for a component that a score lacks.
    """
    measured = measured or Measured()
    if config.rewarded:
        credit = _of_rewards(batch, config, measured, kl_coef=kl_coef, longest=longest)
    else:
        credit = Credit.of_episodes(batch, np.zeros(len(batch)))
    return credit if config.teacher is None else _taught(credit, config.teacher, measured)


def _taught(credit: Credit, teacher: TeacherConfig, measured: Measured) -> Credit:
    """Weigh the advantages of the rewards, and add what the teacher says of the sampled tokens."""
    advantages = [teacher.reward_coef * advantage_T for advantage_T in credit.advantages]
    metrics = credit.metrics
    if measured.teacher_gaps is not None:
        gaps = measured.teacher_gaps
        advantages = [a + teacher.coef * gap_T for a, gap_T in zip(advantages, gaps, strict=True)]
        tokens = sum(map(len, gaps))
        metrics = metrics | {
            "teacher_divergence": -float(sum(gap_T.sum() for gap_T in gaps)) / max(tokens, 1)
        }
    return Credit(advantages, credit.returns, metrics)


def _of_rewards(
    batch: Sequence[Trajectory], config: RlConfig, measured: Measured, *, kl_coef: float, longest: int
) -> Credit:
    groups_N: Ints = np.array([t.group for t in batch], dtype=np.int64)
    graded_N: Bools = np.array([t.graded for t in batch], dtype=np.bool_)
    metrics: dict[str, float] = {}
    turns = [np.array([turn.reward for turn in t.turns], dtype=np.float64) for t in batch]
    if config.overlong_buffer > 0:
        penalty_N = _penalties(batch, config.overlong_buffer, longest)
        turns = [_with_last(rewards, penalty) for rewards, penalty in zip(turns, penalty_N, strict=True)]
        metrics["overlong_penalty"] = float(penalty_N.mean()) if len(penalty_N) else 0.0
    costs = None
    if config.kl.where == "reward" and kl_coef > 0 and measured.kls is not None:
        costs = [kl_coef * kl_T for kl_T in measured.kls]

    if config.advantage == "gae":
        return _from_critic(batch, config, measured, turns, costs, metrics)
    if config.advantage == "batch":
        paid = [_paid(t, rewards, cost) for t, rewards, cost in _zipped(batch, turns, costs)]
        returns = [discounted_returns(rewards_T) for rewards_T in paid]
        return Credit(whitened(returns), metrics=metrics)
    if config.credit == "turn":
        paid_turns = [_paid_turns(t, rewards, cost) for t, rewards, cost in _zipped(batch, turns, costs)]
        by_turn = turn_advantages(
            [discounted_returns(rewards, config.turn_discount) for rewards in paid_turns],
            groups_N,
            graded_N,
            scale=config.advantage == "mean_std",
        )
        return Credit([_turns_repeated(t, a) for t, a in zip(batch, by_turn, strict=True)], metrics=metrics)

    totals = [float(r.sum() - (0.0 if c is None else c.sum())) for _, r, c in _zipped(batch, turns, costs)]
    rewards_N: Floats = np.array(totals, dtype=np.float64)
    if config.components:
        parts = {name: np.array([_part(t, name) for t in batch]) for name in config.components}
        advantages_N = component_advantages(parts, config.components, groups_N, graded_N)
    elif config.advantage == "leave_one_out":
        advantages_N = leave_one_out_advantages(rewards_N, groups_N, graded_N)
    else:
        scale = config.advantage == "mean_std"
        advantages_N = group_advantages(rewards_N, groups_N, graded_N, scale=scale)
    advantages = _repeated(batch, advantages_N)
    return Credit(whitened(advantages) if config.advantage == "group_batch" else advantages, metrics=metrics)


def _from_critic(
    batch: Sequence[Trajectory],
    config: RlConfig,
    measured: Measured,
    turns: Sequence[Floats],
    costs: Sequence[Floats] | None,
    metrics: dict[str, float],
) -> Credit:
    critic = config.critic
    if critic is None or measured.values is None or measured.final_values is None:
        raise ValueError("generalised advantages need a critic and its values")
    advantages, returns = [], []
    for index, (trajectory, rewards, cost) in enumerate(_zipped(batch, turns, costs)):
        cut = critic.bootstrap and trajectory.stop in CUT
        advantages_T, returns_T = generalized_advantages(
            _paid(trajectory, rewards, cost),
            measured.values[index],
            gamma=critic.gamma,
            lam=critic.lam,
            bootstrap=float(measured.final_values[index]) if cut else 0.0,
        )
        advantages.append(advantages_T)
        returns.append(returns_T)
    if batch:
        values, targets = np.concatenate(measured.values), np.concatenate(returns)
        metrics["explained_variance"] = explained_variance(values, targets)
        metrics["value"] = float(values.mean()) if len(values) else 0.0
    return Credit(whitened(advantages) if critic.whiten else advantages, returns, metrics)


def _zipped(
    batch: Sequence[Trajectory], turns: Sequence[Floats], costs: Sequence[Floats] | None
) -> list[tuple[Trajectory, Floats, Floats | None]]:
    none: list[Floats | None] = [None] * len(batch)
    return list(zip(batch, turns, none if costs is None else costs, strict=True))


def _paid(trajectory: Trajectory, rewards: Floats, cost_T: Floats | None) -> Floats:
    """Return what was paid for each trained token: a turn's reward for its last one, less the KL of each. [T]"""
    ends = _turn_ends(trajectory)
    paid_T = np.zeros(ends[-1] if len(ends) else 0)
    for end, reward in zip(ends, rewards, strict=True):
        if end > 0:
            paid_T[end - 1] += reward
    return paid_T if cost_T is None else paid_T - cost_T


def _paid_turns(trajectory: Trajectory, rewards: Floats, cost_T: Floats | None) -> Floats:
    if cost_T is None:
        return rewards
    ends = _turn_ends(trajectory)
    starts = [0, *ends[:-1]]
    costs = np.array([cost_T[a:b].sum() for a, b in zip(starts, ends, strict=True)], dtype=np.float64)
    return rewards - costs


def _turn_ends(trajectory: Trajectory) -> list[int]:
    """Return how many trained tokens there are up to the end of each turn."""
    counted = np.concatenate([[0], np.cumsum(np.asarray(trajectory.mask, dtype=np.int64))])
    return [int(counted[turn.end]) for turn in trajectory.turns]


def _turns_repeated(trajectory: Trajectory, advantages: Floats) -> Floats:
    ends = _turn_ends(trajectory)
    repeated: Floats = np.repeat(advantages, np.diff([0, *ends]))
    return repeated


def _repeated(batch: Sequence[Trajectory], advantages_N: Floats) -> list[Floats]:
    return [np.full(t.sampled_tokens, a) for t, a in zip(batch, advantages_N, strict=True)]


def _with_last(rewards: Floats, extra: float) -> Floats:
    changed = rewards.copy()
    if len(changed):
        changed[-1] += extra
    return changed


def _penalties(batch: Sequence[Trajectory], share: float, longest: int) -> Floats:
    """Return the overlong penalty of each episode; one that was cut has reached the limit, whichever it was."""
    buffer = max(1, round(share * longest))
    lengths = [longest if t.stop in TOO_LONG else t.length for t in batch]
    return overlong_penalty(np.array(lengths, dtype=np.int64), limit=longest, buffer=buffer)


def _part(trajectory: Trajectory, name: str) -> float:
    parts = trajectory.score.parts
    if name not in parts:
        known = ", ".join(parts) or "none"
        raise UserError(
            f"rl.components names {name!r}, but the score of episode {trajectory.id} has no such part; it has: {known}"
        )
    return float(parts[name])
