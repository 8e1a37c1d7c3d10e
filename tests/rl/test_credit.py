"""Credit: which token gets which advantage, worked by hand on trajectories that are written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from quintain.rl.credit import Credit, Measured, assign
from quintain.rl.rl_config import RlConfig
from quintain.rl.trajectory import StopReason, Turn
from quintain.tools.errors import UserError
from quintain.verifiers.base import Score

GIVEN, WROTE = 40, 41


@pytest.fixture
def episode(trajectory):
    """Make an episode from its turns: how many tokens each has and what it was paid; one token is given before each."""

    def make(
        *turns: tuple[int, float], group: int = 0, stop: StopReason = StopReason.TERMINATED, **parts: float
    ):
        ids, mask, spans = [], "", []
        for length, reward in turns:
            ids += [GIVEN] + [WROTE] * length
            mask += "." + "x" * length
            spans.append(Turn(len(ids) - length, len(ids), reward))
        made = trajectory(ids, mask, group=group)
        return dataclasses.replace(made, turns=spans, stop=stop, score=Score(1.0, parts))

    return make


def config(**options: object) -> RlConfig:
    return RlConfig.model_validate(options)


def tokens(credit: Credit) -> list[list[float]]:
    return [np.round(a, 5).tolist() for a in credit.advantages]


def test_every_token_of_an_episode_gets_the_episodes_advantage(episode):
    batch = [episode((2, 0.0), (1, 1.0)), episode((1, 0.0))]
    assert tokens(assign(batch, config())) == [[0.5, 0.5, 0.5], [-0.5]]


def test_with_turn_credit_a_turn_gets_what_was_paid_from_it_on(episode):
    # Returns (1.5, 1) and (0, 0): means 0.75 and 0.5.
    batch = [episode((2, 0.5), (1, 1.0)), episode((1, 0.0), (2, 0.0))]
    assert tokens(assign(batch, config(credit="turn"))) == [[0.75, 0.75, 0.5], [-0.75, -0.5, -0.5]]


def test_a_turn_discount_makes_later_rewards_count_less(episode):
    # First turns: 0.5 + 0.5 x 1 = 1 against 0.
    batch = [episode((1, 0.5), (1, 1.0)), episode((1, 0.0), (1, 0.0))]
    assert tokens(assign(batch, config(credit="turn", turn_discount=0.5))) == [[0.5, 0.5], [-0.5, -0.5]]


def test_kl_in_the_reward_is_taken_off_the_whole_episode(episode):
    # Rewards 1 - 0.1 x 3 = 0.7 and 0 - 0.1 x 1 = -0.1: the mean is 0.3.
    batch = [episode((2, 1.0)), episode((1, 0.0))]
    measured = Measured(kls=[np.array([1.0, 2.0]), np.array([1.0])])
    found = assign(batch, config(kl={"coef": 0.1, "where": "reward"}), measured, kl_coef=0.1)
    assert tokens(found) == [[0.4, 0.4], [-0.4]]


def test_normalised_over_the_batch_a_token_pays_for_the_kl_from_it_on(episode):
    # Returns (1 - 0.1 x 3, 1 - 0.1 x 2) = (0.7, 0.8) and (0 - 0.1,): mean 7/15.
    batch = [episode((2, 1.0)), episode((1, 0.0))]
    measured = Measured(kls=[np.array([1.0, 2.0]), np.array([1.0])])
    found = assign(
        batch, config(advantage="batch", kl={"coef": 0.1, "where": "reward"}), measured, kl_coef=0.1
    )
    returns = np.array([0.7, 0.8, -0.1])
    expected = (returns - returns.mean()) / returns.std()
    assert np.concatenate(found.advantages).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_critics_values_pass_over_what_the_environment_wrote(episode):
    """Two turns with a tool's answer in between: the value of the next state is that of the next *written* token."""
    batch = [episode((2, 0.0), (1, 1.0))]
    measured = Measured(values=[np.array([0.2, 0.4, 0.7])], final_values=np.array([0.9]))
    found = assign(batch, config(advantage="gae", critic={"lam": 0.0, "whiten": False}), measured)
    # lam = 0: 0.4 - 0.2; 0.7 - 0.4; 1 - 0.7
    assert tokens(found) == [[0.2, 0.3, 0.3]]
    assert np.round(found.returns[0], 5).tolist() == [0.4, 0.7, 1.0]


@pytest.mark.parametrize(
    ("stop", "last"),
    [
        (StopReason.TERMINATED, 0.0 - 0.5),
        (StopReason.TRUNCATED, 0.9 - 0.5),
        (StopReason.TURN_TOKENS, 0.9 - 0.5),
        (StopReason.EPISODE_TOKENS, 0.9 - 0.5),
    ],
)
def test_a_cut_episode_is_bootstrapped_and_a_terminated_one_is_not(episode, stop, last):
    batch = [episode((1, 0.0), stop=stop)]
    measured = Measured(values=[np.array([0.5])], final_values=np.array([0.9]))
    found = assign(batch, config(advantage="gae", critic={"whiten": False}), measured)
    assert tokens(found) == [[pytest.approx(last)]]
    off = config(advantage="gae", critic={"whiten": False, "bootstrap": False})
    assert tokens(assign(batch, off, measured)) == [[-0.5]]


def test_the_critic_is_told_how_much_it_explains(episode):
    batch = [episode((1, 1.0)), episode((1, 0.0))]
    measured = Measured(values=[np.array([1.0]), np.array([0.0])], final_values=np.zeros(2))
    found = assign(batch, config(advantage="gae", critic={}), measured)
    assert found.metrics == {"explained_variance": 1.0, "value": 0.5}


def test_an_episode_near_the_limit_pays_the_overlong_penalty(episode):
    # The limit is 20 tokens, the buffer 10: lengths 5, 15 and 20 pay 0, 0.5 and 1.
    batch = [episode((4, 1.0)), episode((14, 1.0)), episode((19, 1.0))]
    found = assign(batch, config(overlong_buffer=0.5), longest=20)
    assert [a[0] for a in tokens(found)] == [0.5, 0.0, -0.5]
    assert found.metrics["overlong_penalty"] == pytest.approx(-0.5)


def test_an_episode_that_a_token_limit_cut_pays_it_whole(episode):
    batch = [episode((4, 0.0)), episode((4, 0.0), stop=StopReason.TURN_TOKENS)]
    assert [a[0] for a in tokens(assign(batch, config(overlong_buffer=0.5), longest=20))] == [0.5, -0.5]


def test_components_take_the_place_of_the_reward(episode):
    options = {"advantage": "mean_std", "components": {"right": 1.0, "style": 0.0}}
    batch = [episode((1, 0.0), right=1.0, style=0.0), episode((1, 1.0), right=0.0, style=1.0)]
    assert tokens(assign(batch, config(**options))) == [
        [pytest.approx(1, abs=1e-4)],
        [pytest.approx(-1, abs=1e-4)],
    ]


def test_a_component_that_a_score_lacks_is_named(episode):
    options = {"advantage": "mean_std", "components": {"rigth": 1.0}}
    with pytest.raises(UserError, match=r"rl.components names 'rigth', .* it has: right, style"):
        assign([episode((1, 0.0), right=1.0, style=0.0)] * 2, config(**options))


def test_group_batch_is_the_group_advantage_over_the_spread_of_the_batch(episode):
    batch = [episode((1, 1.0)), episode((1, 0.0)), episode((1, 0.2), group=1), episode((1, 0.0), group=1)]
    found = np.concatenate(assign(batch, config(advantage="group_batch")).advantages)
    plain = np.array([0.5, -0.5, 0.1, -0.1])
    assert found.tolist() == pytest.approx((plain / plain.std()).tolist(), rel=1e-4)


@pytest.mark.parametrize("advantage", ["mean", "mean_std", "leave_one_out", "batch", "group_batch"])
def test_no_episodes_get_no_credit(advantage):
    assert assign([], config(advantage=advantage)).advantages == []
