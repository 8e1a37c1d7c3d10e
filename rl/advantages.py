"""Advantages: how much better an episode, a turn or a token was than what could be expected.

Pure functions of arrays, each with its source. Nothing here knows a model, an environment or a config; which of
them a run uses, and on which rewards, is put together in `credit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TINY = 1e-6
"""Added to a standard deviation before it divides."""


def group_advantages(rewards_N: Floats, groups_N: Ints, graded_N: Bools, *, scale: bool = False) -> Floats:
    """Return each episode's reward less the mean of its group. [N]

    Args:
        rewards_N: the episodes' rewards.
        groups_N: the group of each; episodes of a group tried the same task.
        graded_N: False where the reward is no judgement. Such an episode gets advantage 0 and is left out of
            its group's statistics; so is a group with fewer than two graded episodes.
        scale: divide by the group's standard deviation (population, plus 1e-6).

    With `scale` this is the outcome advantage of GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2);
    without, that of Dr. GRPO (Liu et al. 2025, arXiv 2503.20783, section 3.2), which does not favour tasks on which
    the group nearly agrees.
    """
    advantages_N = np.zeros(len(rewards_N))
    for members in _groups(groups_N, graded_N):
        rewards = rewards_N[members]
        centred = rewards - rewards.mean()
        advantages_N[members] = centred / (rewards.std() + TINY) if scale else centred
    return advantages_N


def leave_one_out_advantages(rewards_N: Floats, groups_N: Ints, graded_N: Bools) -> Floats:
    """Return each episode's reward less the mean of the *others* of its group. [N]

    With G graded episodes in the group that is G / (G - 1) times the reward less the mean of all. Arguments
    as in `group_advantages`. RLOO (Ahmadian et al. 2024, arXiv 2402.14740, eq. 8; Kool et al. 2019).
    """
    advantages_N = np.zeros(len(rewards_N))
    for members in _groups(groups_N, graded_N):
        rewards = rewards_N[members]
        others = (rewards.sum() - rewards) / (len(members) - 1)
        advantages_N[members] = rewards - others
    return advantages_N


def component_advantages(
    parts_KN: Mapping[str, Floats],
    weights_K: Mapping[str, float],
    groups_N: Ints,
    graded_N: Bools,
) -> Floats:
    """Return the weighted sum of the components' advantages, each scaled within its group on its own. [N]

    A component with a large spread does not drown one with a small spread, and two episodes that differ in
    any component differ in the sum. The sum is divided by its standard deviation over the batch, so that the number
    of components does not change the size of the step.

    Args:
        parts_KN: the value of each component for each episode.
        weights_K: the weight of each component, by the same names.
        groups_N, graded_N: as in `group_advantages`.

    Group reward-decoupled normalisation (GDPO; Liu et al. 2026, arXiv 2601.05242). Raises
    `KeyError` for a component without a weight.
    """
    total_N = np.zeros(len(groups_N))
    for name, values_N in parts_KN.items():
        total_N += weights_K[name] * group_advantages(values_N, groups_N, graded_N, scale=True)
    spread = total_N[graded_N].std() if graded_N.any() else 0.0
    return total_N / (spread + TINY) if spread > 0 else total_N


def turn_advantages(
    returns: Sequence[Floats], groups_N: Ints, graded_N: Bools, *, scale: bool = False
) -> list[Floats]:
    """Return the advantage of each turn of each episode: its return less what its group got there. [N][turns]

    Args:
        returns: for each episode what it was paid from each turn on (`discounted_returns` of its rewards).
        groups_N, graded_N: as in `group_advantages`.
        scale: divide by the standard deviation of what is compared.

    The baseline of turn k is the mean over the group's graded episodes that have a turn k. Where fewer than two
    have one, it is the mean of the episodes' whole returns, so that the longest episode still learns from its end. With
    one turn this is `group_advantages`. Turn-level credit as in Zeng et al. 2025 (arXiv 2505.11821).
    """
    found = [np.zeros(len(values)) for values in returns]
    for members in _groups(groups_N, graded_N):
        whole = np.array([returns[i][0] if len(returns[i]) else 0.0 for i in members])
        for turn in range(max(len(returns[i]) for i in members)):
            here = [i for i in members if len(returns[i]) > turn]
            compared = np.array([returns[i][turn] for i in here]) if len(here) > 1 else whole
            spread = compared.std() + TINY if scale else 1.0
            for i in here:
                found[i][turn] = (returns[i][turn] - compared.mean()) / spread
    return found


def discounted_returns(rewards_T: Floats, gamma: float = 1.0) -> Floats:
    """Return what is paid from each place on: G_t = r_t + gamma G_(t+1). [T]

    Sutton and Barto, "Reinforcement Learning", 2nd edition, eq. 3.9.
    """
    returns_T = np.array(rewards_T, dtype=np.float64)
    for t in range(len(returns_T) - 2, -1, -1):
        returns_T[t] += gamma * returns_T[t + 1]
    return returns_T


def generalized_advantages(
    rewards_T: Floats, values_T: Floats, *, gamma: float, lam: float, bootstrap: float = 0.0
) -> tuple[Floats, Floats]:
    """Return the generalised advantage estimate of each token and the return that its value should predict. [T], [T]

    delta_t = r_t + gamma V_(t+1) - V_t and A_t = delta_t + gamma lam A_(t+1); the return is A_t + V_t.

    Args:
        rewards_T: what was paid for each token that the model wrote; the environment's tokens are left out, so
            the value of the first token of a turn is what follows the last token of the turn before.
        values_T: the value of the state in which each was written.
        gamma: the discount a token, in [0, 1].
        lam: 1 gives the whole return less the value, 0 the one-step error.
        bootstrap: the value of the state after the last token: 0 where the episode terminated, the
            critic's estimate where it was truncated.

    Schulman et al. 2015, arXiv 1506.02438, eq. 16.
    """
    after_T = np.append(values_T[1:], bootstrap) if len(values_T) else np.zeros(0)
    delta_T = rewards_T + gamma * after_T - values_T
    advantages_T = discounted_returns(delta_T, gamma * lam)
    return advantages_T, advantages_T + values_T


def whitened(advantages: Sequence[Floats], *, centre: bool = True) -> list[Floats]:
    """Return per-token advantages with variance 1, and mean 0 with `centre`, over all tokens of the batch. [N][T]

    A batch without spread is only centred. REINFORCE++ (Hu et al. 2025, arXiv 2501.03262);
    customary in PPO.
    """
    everything = np.concatenate(advantages) if advantages else np.zeros(0)
    if not len(everything):
        return [np.array(a) for a in advantages]
    middle = everything.mean() if centre else 0.0
    spread = everything.std()
    scale = 1.0 / (spread + TINY) if spread > TINY else 1.0
    return [(a - middle) * scale for a in advantages]


def overlong_penalty(lengths_N: Ints, *, limit: int, buffer: int) -> Floats:
    """Return the soft penalty on long episodes: 0 up to limit - buffer, then down to -1. [N]

    DAPO's soft overlong punishment (Yu et al. 2025, arXiv 2503.14476, eq. 13).
    """
    free = limit - buffer
    return np.clip((free - lengths_N) / buffer, -1.0, 0.0)


def zero_variance_fraction(rewards_N: Floats, groups_N: Ints, graded_N: Bools) -> float:
    """Return the fraction of groups whose graded episodes all have the same reward: they teach nothing."""
    groups = np.unique(groups_N)
    flat = sum(len(np.unique(rewards_N[(groups_N == g) & graded_N])) < 2 for g in groups)
    return flat / max(len(groups), 1)


def explained_variance(values: Floats, returns: Floats) -> float:
    """Return 1 - Var(returns - values) / Var(returns): 1 for a perfect critic, 0 for one that knows the mean alone.

    0.0 where the returns do not vary: there is nothing to explain.
    """
    spread = float(np.var(returns)) if len(returns) else 0.0
    return 1.0 - float(np.var(returns - values)) / spread if spread > 1e-12 else 0.0


def _groups(groups_N: Ints, graded_N: Bools) -> list[NDArray[np.intp]]:
    """Return the graded members of each group that has at least two of them."""
    found = (np.flatnonzero((groups_N == group) & graded_N) for group in np.unique(groups_N))
    return [members for members in found if len(members) > 1]
