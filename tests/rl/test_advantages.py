"""Advantages: every expectation is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from quintain.rl.advantages import group_advantages, zero_variance_fraction


def advantages(rewards: list[float], groups: list[int], graded: list[bool] | None = None, **kwargs: bool):
    given = np.ones(len(rewards), dtype=bool) if graded is None else np.array(graded)
    return group_advantages(np.array(rewards), np.array(groups), given, **kwargs).tolist()


def test_an_advantage_is_the_reward_less_the_mean_of_its_group():
    assert advantages([1, 0, 0, 1, 3, 1], [0, 0, 0, 0, 7, 7]) == [0.5, -0.5, -0.5, 0.5, 1.0, -1.0]


def test_members_of_a_group_need_not_stand_together():
    assert advantages([1, 3, 0, 1], [0, 7, 0, 7]) == [0.5, 1.0, -0.5, -1.0]


def test_scaled_by_the_population_standard_deviation():
    # mean 0.25, deviations (0.75, -0.25, -0.25, -0.25), variance 0.1875
    std = 0.1875**0.5 + 1e-6
    found = advantages([1, 0, 0, 0], [0, 0, 0, 0], scale=True)
    assert found == pytest.approx([0.75 / std, -0.25 / std, -0.25 / std, -0.25 / std])


def test_a_group_that_agrees_has_no_advantage_scaled_or_not():
    assert advantages([1, 1, 1], [0, 0, 0]) == [0, 0, 0]
    assert advantages([1, 1, 1], [0, 0, 0], scale=True) == [0, 0, 0]


def test_an_ungraded_episode_counts_neither_for_itself_nor_for_its_group():
    # The 0.0 of the ungraded one is no judgement: the mean of the others is 0.5, not 1/3.
    assert advantages([1, 0, 0], [0, 0, 0], [True, True, False]) == [0.5, -0.5, 0.0]


def test_an_episode_alone_in_its_group_has_advantage_zero():
    assert advantages([1, 5, 0], [0, 1, 1]) == [0.0, 2.5, -2.5]


def test_a_group_with_one_graded_episode_has_advantage_zero():
    assert advantages([1, 0, 0], [0, 0, 0], [True, False, False]) == [0.0, 0.0, 0.0]


def test_no_episodes_have_no_advantages():
    assert advantages([], []) == []


def test_the_zero_variance_fraction_counts_groups_that_teach_nothing():
    rewards, groups = np.array([1.0, 1, 1, 0, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    graded = np.array([True] * 4 + [True, False])
    assert zero_variance_fraction(rewards, groups, graded) == pytest.approx(2 / 3)
