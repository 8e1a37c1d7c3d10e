"""Advantages: every expectation is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from quintain.rl.advantages import (
    component_advantages,
    discounted_returns,
    explained_variance,
    generalized_advantages,
    group_advantages,
    leave_one_out_advantages,
    overlong_penalty,
    turn_advantages,
    whitened,
    zero_variance_fraction,
)


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


# --- leave one out


def one_out(rewards: list[float], groups: list[int], graded: list[bool] | None = None) -> list[float]:
    given = np.ones(len(rewards), dtype=bool) if graded is None else np.array(graded)
    return leave_one_out_advantages(np.array(rewards, dtype=float), np.array(groups), given).tolist()


def test_leave_one_out_compares_with_the_mean_of_the_others():
    # 1 against (0 + 0.5) / 2; 0 against (1 + 0.5) / 2; 0.5 against (1 + 0) / 2
    assert one_out([1, 0, 0.5], [0, 0, 0]) == [0.75, -0.75, 0.0]


def test_leave_one_out_is_the_group_advantage_times_g_over_g_minus_1():
    rewards, groups = [1, 0, 0, 1, 0.25], [0, 0, 0, 1, 1]
    plain = advantages(rewards, groups)
    scale = [3 / 2] * 3 + [2.0] * 2
    expected = [a * s for a, s in zip(plain, scale, strict=True)]
    assert one_out(rewards, groups) == pytest.approx(expected)


def test_leave_one_out_leaves_the_ungraded_out():
    assert one_out([1, 0, 0.5], [0, 0, 0], [True, True, False]) == [1.0, -1.0, 0.0]


# --- components


def test_each_component_is_scaled_in_its_group_before_the_sum():
    # right: (1, 0) -> (1, -1); style: (0.1, 0.3) -> (-1, 1); weights 1 and 0.5: (0.5, -0.5), then over its deviation.
    found = component_advantages(
        {"right": np.array([1.0, 0.0]), "style": np.array([0.1, 0.3])},
        {"right": 1.0, "style": 0.5},
        np.array([0, 0]),
        np.array([True, True]),
    )
    assert found.tolist() == pytest.approx([1.0, -1.0], abs=1e-4)


def test_components_tell_apart_what_their_sum_does_not():
    """Two groups: (1 + 0) against (0 + 1) sums to the same reward; with weights 1 and 2 the second is better."""
    parts = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    found = component_advantages(parts, {"a": 1.0, "b": 2.0}, np.array([0, 0]), np.array([True, True]))
    assert found[1] > 0 > found[0]


# --- turns


def by_turn(returns: list[list[float]], groups: list[int], **options: bool) -> list[list[float]]:
    found = turn_advantages(
        [np.array(r, dtype=float) for r in returns],
        np.array(groups),
        np.ones(len(returns), dtype=bool),
        **options,
    )
    return [a.tolist() for a in found]


def test_a_turn_is_compared_with_the_same_turn_of_the_group():
    # turn 0: 3 and 1, mean 2; turn 1: 2 and 0, mean 1
    assert by_turn([[3, 2], [1, 0]], [0, 0]) == [[1.0, 1.0], [-1.0, -1.0]]


def test_a_turn_that_one_episode_alone_has_is_compared_with_the_whole_returns():
    # turn 1 exists once: its return 1 against the mean of (1, 0)
    assert by_turn([[1, 1], [0]], [0, 0]) == [[0.5, 0.5], [-0.5]]


def test_with_one_turn_it_is_the_group_advantage():
    rewards = [1.0, 0.0, 0.0, 0.5]
    assert [a[0] for a in by_turn([[r] for r in rewards], [0] * 4)] == advantages(rewards, [0] * 4)


def test_turn_advantages_over_the_deviation():
    assert by_turn([[1], [0]], [0, 0], scale=True) == [
        [pytest.approx(1.0, abs=1e-5)],
        [pytest.approx(-1.0, abs=1e-5)],
    ]


# --- returns and generalised advantages


def test_discounted_returns():
    # 1; 0 + 0.5 x 1; 2 + 0.5 x 0.5
    assert discounted_returns(np.array([2.0, 0.0, 1.0]), 0.5).tolist() == [2.25, 0.5, 1.0]
    assert discounted_returns(np.array([])).tolist() == []


def test_generalised_advantages_by_hand():
    # delta = (0 + 0.9 x 0.4 - 0.5, 0 + 0.9 x 0.6 - 0.4, 1 + 0 - 0.6) = (-0.14, 0.14, 0.4)
    # A2 = 0.4; A1 = 0.14 + 0.45 x 0.4 = 0.32; A0 = -0.14 + 0.45 x 0.32 = 0.004
    advantages_T, returns_T = generalized_advantages(
        np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.4, 0.6]), gamma=0.9, lam=0.5
    )
    assert advantages_T.tolist() == pytest.approx([0.004, 0.32, 0.4])
    assert returns_T.tolist() == pytest.approx([0.504, 0.72, 1.0])


def test_a_cut_episode_counts_what_the_critic_expects_after_it():
    values = np.array([0.5, 0.4])
    ended, _ = generalized_advantages(np.zeros(2), values, gamma=1.0, lam=1.0)
    cut, _ = generalized_advantages(np.zeros(2), values, gamma=1.0, lam=1.0, bootstrap=0.8)
    assert ended.tolist() == pytest.approx([-0.5, -0.4])
    assert cut.tolist() == pytest.approx([0.3, 0.4])


def test_with_lambda_1_the_advantage_is_the_return_less_the_value_and_with_0_the_one_step_error():
    rewards, values = np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.7, 0.1])
    whole, _ = generalized_advantages(rewards, values, gamma=1.0, lam=1.0)
    assert whole.tolist() == pytest.approx([1.5 - 0.2, 1.5 - 0.7, 1.0 - 0.1])
    step, _ = generalized_advantages(rewards, values, gamma=1.0, lam=0.0)
    assert step.tolist() == pytest.approx([0.7 - 0.2, 0.5 + 0.1 - 0.7, 1.0 - 0.1])


def test_an_episode_without_tokens_has_no_advantages():
    assert [a.tolist() for a in generalized_advantages(np.array([]), np.array([]), gamma=1.0, lam=1.0)] == [
        [],
        [],
    ]


# --- over the batch


def test_whitening_is_over_all_tokens_of_the_batch():
    found = whitened([np.array([1.0, 1.0]), np.array([0.0, 2.0])])  # mean 1, variance 1/2
    assert np.concatenate(found).tolist() == pytest.approx([0, 0, -(2**0.5), 2**0.5], abs=1e-5)


def test_whitening_a_batch_without_spread_only_centres_it():
    assert [a.tolist() for a in whitened([np.array([3.0]), np.array([3.0, 3.0])])] == [[0.0], [0.0, 0.0]]
    assert whitened([]) == []


def test_the_overlong_penalty_falls_over_the_buffer():
    # 100 tokens at most, the last 20 of them a buffer
    found = overlong_penalty(np.array([50, 80, 85, 90, 100, 120]), limit=100, buffer=20)
    assert found.tolist() == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]


def test_explained_variance():
    returns = np.array([0.0, 1.0, 0.0, 1.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.full(4, 0.5), returns) == 0.0
    assert explained_variance(1 - returns, returns) == -3.0  # worse than knowing the mean
    assert explained_variance(returns, np.ones(4)) == 0.0
