"""Advantages: how much better an episode was than what could be expected. Pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def group_advantages(
    rewards_N: Floats, groups_N: NDArray[np.int64], graded_N: NDArray[np.bool_], *, scale: bool = False
) -> Floats:
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
    for group in np.unique(groups_N):
        members = np.flatnonzero((groups_N == group) & graded_N)
        if len(members) < 2:
            continue
        rewards = rewards_N[members]
        centred = rewards - rewards.mean()
        advantages_N[members] = centred / (rewards.std() + 1e-6) if scale else centred
    return advantages_N


def zero_variance_fraction(
    rewards_N: Floats, groups_N: NDArray[np.int64], graded_N: NDArray[np.bool_]
) -> float:
    """Return the fraction of groups whose graded episodes all have the same reward: they teach nothing."""
    groups = np.unique(groups_N)
    flat = sum(len(np.unique(rewards_N[(groups_N == g) & graded_N])) < 2 for g in groups)
    return flat / max(len(groups), 1)
