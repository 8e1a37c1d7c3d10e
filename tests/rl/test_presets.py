"""Every named algorithm: what it chooses, that it can be changed, and that it learns."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from quintain.rl.credit import assign
from quintain.rl.learner import Learner
from quintain.rl.rl_config import Algorithm, RlConfig
from quintain.rl.trajectory import Turn

ALGORITHMS = get_args(Algorithm)


def config(**options: object) -> RlConfig:
    return RlConfig.model_validate(options)


@pytest.mark.parametrize(
    ("name", "advantage", "loss", "bounds", "aggregate", "kl"),
    [
        ("grpo", "mean_std", "clip", (0.2, 0.2), "sequence", (0.04, "k3", "loss")),
        ("dr_grpo", "mean", "clip", (0.2, 0.2), "constant", (0.0, "k3", "loss")),
        ("dapo", "mean_std", "clip", (0.2, 0.28), "token", (0.0, "k3", "loss")),
        ("gspo", "mean_std", "sequence_clip", (3e-4, 4e-4), "sequence", (0.0, "k3", "loss")),
        ("cispo", "mean_std", "weighted", (1.0, 0.28), "token", (0.0, "k3", "loss")),
        ("rloo", "leave_one_out", "likelihood", (0.2, 0.28), "sum", (0.03, "k1", "reward")),
        ("reinforce_pp", "batch", "clip", (0.2, 0.2), "token", (0.01, "k1", "reward")),
        ("ppo", "gae", "clip", (0.2, 0.2), "token", (0.01, "k1", "reward")),
    ],
)
def test_a_preset_is_a_choice_of_functions(name, advantage, loss, bounds, aggregate, kl):
    found = config(algorithm=name)
    assert (found.advantage, found.loss, found.aggregate) == (advantage, loss, aggregate)
    assert (found.clip_low, found.clip_high) == bounds
    assert (found.kl.coef, found.kl.estimator, found.kl.where) == kl
    assert (found.critic is not None) == (name == "ppo")


def test_what_a_config_says_beside_a_preset_counts_key_by_key():
    found = config(algorithm="grpo", clip_high=0.3, kl={"coef": 0.1})
    assert (found.clip_low, found.clip_high) == (0.2, 0.3)
    assert (found.kl.coef, found.kl.estimator) == (0.1, "k3")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resolved_preset_reads_back_as_itself(name):
    found = config(algorithm=name)
    assert config(**found.model_dump(mode="json", exclude_none=True)) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage": "gae"}, "needs a critic: add a section"),
        ({"critic": {}}, "a critic is used with advantage = \"gae\" alone, got advantage = 'mean'"),
        ({"algorithm": "reinforce"}, "Input should be 'grpo', 'dr_grpo'"),
        ({"group_size": 1}, "group_size must be at least 2 with advantage = 'mean', got 1"),
        (
            {"credit": "turn", "advantage": "batch"},
            'goes with advantage = "mean" or "mean_std", got \'batch\'',
        ),
        ({"components": {"a": 1.0}}, "components are normalised within their groups"),
        (
            {"components": {"a": 0.0}, "advantage": "mean_std"},
            "at least one of the components needs a weight",
        ),
        ({"dual_clip": 1.1}, "dual_clip must be above 1 \\+ clip_high = 1.28, got 1.1"),
        ({"loss": "likelihood", "minibatches": 2}, "goes with minibatches = 1 and epochs = 1, got 2 and 1"),
        ({"clip_low": 1.0}, "clip_low must be below 1 with loss = 'clip', got 1.0"),
        ({"importance": {"kind": "mask"}}, 'it goes with old_logprobs = "learner"'),
        ({"kl": {"coef": 0.1, "estimator": "k1"}}, "has no gradient as a loss"),
        ({"kl": {"target": 0.1}}, "kl.coef must not start at 0"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_with_their_values(options, message):
    with pytest.raises(ValidationError, match=message):
        config(**options)


def test_an_episode_alone_is_fine_where_a_critic_compares():
    assert config(algorithm="ppo", group_size=1).group_size == 1


# --- a bandit: one token of context, one token of reply, paid if both are even or both are odd

CONTEXTS = (60, 61, 62, 63)
MEMBERS = 16


def play(model, trajectory, draws: torch.Generator):
    """Sample one token after each context, as an engine would, and pay for it."""
    batch = []
    for group, context in enumerate(CONTEXTS):
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=torch.tensor([[40, context]])).logits[0, -1].float(), -1)
        for arm in torch.multinomial(logp.exp(), MEMBERS, replacement=True, generator=draws).tolist():
            one = trajectory([40, context, arm], "..x", logprobs=[0, 0, logp[arm].item()], group=group)
            paid = float(arm % 2 == context % 2)
            batch.append(dataclasses.replace(one, turns=[Turn(2, 3, paid)]))
    return batch


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_preset_solves_a_bandit(name, model, trajectory):
    steps = 20
    options = {"groups": 4, "group_size": MEMBERS, "steps": steps, "lr": 5e-3, "lr_final": 1.0}
    chosen = config(algorithm=name, **options)
    learner = Learner(model, chosen, temperature=1.0, generator=np.random.default_rng(0), longest=4)
    draws = torch.Generator().manual_seed(0)
    means = []
    for _ in range(steps):
        batch = play(model, trajectory, draws)
        means.append(float(np.mean([t.reward for t in batch])))
        measured = learner.measure(batch)
        learner.update(batch, assign(batch, chosen, measured, kl_coef=learner.kl_coef, longest=40), measured)
    assert np.mean(means[:3]) < 0.65
    assert np.mean(means[-3:]) > 0.9
