"""The critic of PPO: what it reads, what it is taught, and that it learns what states are worth."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from quintain.rl.credit import assign
from quintain.rl.critic import Critic
from quintain.rl.learner import Learner
from quintain.rl.packing import pack
from quintain.rl.rl_config import CriticConfig, RlConfig
from quintain.rl.trajectory import Turn
from quintain.tools.errors import UserError


@pytest.fixture
def batch(trajectory):
    """Episodes that begin with 50 are worth 1, those with 70 nothing; the lengths differ."""

    def paid(first: int, length: int, reward: float):
        one = trajectory([40, first, *range(80, 80 + length)], ".." + "x" * length, logprobs=None)
        one = dataclasses.replace(one, logprobs=[0, 0] + [-5.0] * length)
        return dataclasses.replace(one, turns=[Turn(2, len(one.ids), reward)])

    return [paid(50, n, 1.0) for n in (1, 2, 3)] + [paid(70, n, 0.0) for n in (3, 2, 1)]


def learner(model, **critic) -> Learner:
    config = RlConfig.model_validate(
        {
            "advantage": "gae",
            "steps": 100,
            "lr": 1e-3,
            "lr_final": 1.0,
            "critic": critic,
            "kl": {"measure_every": 0},
        }
    )
    return Learner(model, config, temperature=1.0, generator=np.random.default_rng(0))


def step(student: Learner, batch) -> dict[str, float]:
    measured = student.measure(batch)
    credit = assign(batch, student.config, measured)
    return {**student.update(batch, credit, measured), **credit.metrics}


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_a_new_critic_knows_nothing(model, batch, kind):
    critic = Critic(model, CriticConfig(kind=kind))
    (packed,) = pack(batch, 8192)
    values_N, finals_M = critic(model, packed)
    assert values_N.tolist() == [0.0] * 12
    assert finals_M.tolist() == [0.0] * 6


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_the_critic_learns_what_states_are_worth(model, batch, kind):
    student = learner(model, kind=kind, lr=0.01)
    explained = [step(student, batch)["explained_variance"] for _ in range(40)]
    assert explained[0] == 0.0
    assert explained[-1] > 0.9


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_in_the_warm_up_the_critic_alone_moves(model, batch, kind):
    before = copy.deepcopy(model.state_dict())
    student = learner(model, kind=kind, warmup_steps=2)
    step(student, batch)
    step(student, batch)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert student.critic.head.weight.abs().sum() > 0
    step(student, batch)
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_separate_critic_leaves_the_policys_gradient_alone(model, batch):
    """With the same advantages the policy moves as it would without a critic."""
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    with_critic = learner(first, whiten=False)
    measured = with_critic.measure(batch)
    credit = assign(batch, with_critic.config, measured)
    with_critic.update(batch, credit, measured)
    config = RlConfig.model_validate({"steps": 100, "lr": 1e-3, "lr_final": 1.0})
    plain = Learner(second, config, temperature=1.0, generator=np.random.default_rng(0))
    plain.update(batch, credit)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_value_of_the_end_is_that_of_the_state_after_the_last_token(model, trajectory):
    """The end of an episode is the state before the first token of its continuation."""
    short = trajectory([40, 41, 42], ".xx")
    longer = trajectory([40, 41, 42, 43], "...x")
    critic = Critic(model, CriticConfig(kind="shared"))
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, finals = critic(model, next(pack([short], 64)))
        values, _ = critic(model, next(pack([longer], 64)))
    assert finals.item() == pytest.approx(values.item(), abs=1e-5)


def test_a_restored_learner_has_its_critic_back(model, batch):
    first = learner(model)
    step(first, batch)
    state, kept = copy.deepcopy(first.state()), copy.deepcopy(model)
    expected = step(first, batch)
    second = learner(kept)
    second.restore(state)
    assert step(second, batch) == expected


def test_a_critic_of_another_vocabulary_is_refused(model, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
    )
    other.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="knows 99 tokens and the policy 320"):
        Critic(model, CriticConfig(path=str(tmp_path)))


def test_a_critic_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(UserError, match="holds no model that can be loaded"):
        Critic(model, CriticConfig(path=str(tmp_path / "none")))
