"""The learner moves the weights the way the advantages say, and only by tokens that the model wrote."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from quintain.rl import forward
from quintain.rl.config import RlConfig
from quintain.rl.credit import Credit
from quintain.rl.forward import token_logprobs
from quintain.rl.learner import Learner, NonFiniteError
from quintain.rl.optim import schedule
from quintain.rl.packing import pack
from quintain.tools.errors import UserError

GOOD, BAD = 1.0, -0.5
TRUNCATED = {"old_logprobs": "learner", "importance": {"kind": "truncate", "cap": 2.0}}


def logps(model, trajectories, temperature=1.0) -> list[list[float]]:
    """The model's log-probabilities of each trajectory's trained tokens."""
    found = {}
    with torch.no_grad():
        for batch in pack(trajectories, 8192):
            parts = token_logprobs(model, batch, temperature)[0].split(list(batch.lengths))
            found.update(zip(batch.members, (part.tolist() for part in parts), strict=True))
    return [found[index] for index in range(len(trajectories))]


def as_sampled_by(model, trajectories, temperature=1.0):
    """The trajectories with the log-probabilities that `model` itself gives: on policy."""
    result = []
    for one, found in zip(trajectories, logps(model, trajectories, temperature), strict=True):
        rest = iter(found)
        result.append(dataclasses.replace(one, logprobs=[next(rest) if mine else 0.0 for mine in one.mask]))
    return result


@pytest.fixture
def two(model, trajectory):
    """A good episode with three sampled tokens and a bad one with two."""
    return as_sampled_by(
        model, [trajectory([40, 41, 42, 43, 44, 45], "..x.xx"), trajectory([40, 41, 50, 51], "..xx")]
    )


class Student(Learner):
    """Takes one advantage an episode."""

    def learn(self, batch, advantages):
        return self.update(batch, Credit.of_episodes(batch, advantages), self.measure(batch))


def learner(model, temperature=1.0, **options) -> Student:
    config = RlConfig.model_validate({"steps": 10, "lr": 1e-3, **options})
    return Student(model, config, temperature=temperature, generator=np.random.default_rng(0))


def weights(model) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def same(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("aggregate", ["token", "sequence"])
def test_an_update_makes_good_tokens_likelier_and_bad_ones_rarer(model, two, aggregate):
    before = logps(model, two)
    learner(model, aggregate=aggregate).learn(two, np.array([GOOD, BAD]))
    after = logps(model, two)
    assert sum(after[0]) > sum(before[0])
    assert sum(after[1]) < sum(before[1])


@pytest.mark.parametrize(
    ("aggregate", "loss"),
    # On policy each ratio is 1: the loss is the mean advantage, negated, of five tokens or of two episodes.
    [("token", -(3 * GOOD + 2 * BAD) / 5), ("sequence", -(GOOD + BAD) / 2)],
)
def test_the_loss_by_hand(model, two, aggregate, loss):
    metrics = learner(model, aggregate=aggregate).learn(two, np.array([GOOD, BAD]))
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert metrics["clip_fraction"] == 0
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["sampler_mismatch"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["kl"] > 0


def test_an_episode_without_advantage_counts_in_the_denominator_alone(model, two):
    metrics = learner(model).learn(two, np.array([GOOD, 0.0]))
    assert metrics["loss"] == pytest.approx(-3 * GOOD / 5, abs=1e-6)


def test_without_any_advantage_nothing_moves(model, two):
    before = weights(model)
    metrics = learner(model).learn(two, np.zeros(2))
    assert same(before, model.state_dict())
    assert (metrics["loss"], metrics["grad_norm"], metrics["kl"]) == (0.0, 0.0, 0.0)


def test_the_gradient_is_that_of_the_plain_formula(model, two):
    """One unpacked pass per episode with the whole head, and autograd."""
    plain = copy.deepcopy(model)
    loss = torch.zeros(())
    for one, advantage in zip(two, (GOOD, BAD), strict=True):
        table = torch.log_softmax(plain(input_ids=torch.tensor([one.ids])).logits[0], -1)
        for t, mine in enumerate(one.mask):
            if mine:
                ratio = (table[t - 1, one.ids[t]] - one.logprobs[t]).exp()
                loss = loss - ratio * advantage / 5
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in plain.parameters()]).norm().item()
    metrics = learner(model).learn(two, np.array([GOOD, BAD]))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_what_a_tool_said_is_no_target(model, trajectory):
    """The tokens after the last reply are seen by nobody: other ones there change nothing at all."""
    results = []
    for said in ([60, 61, 62], [70, 71, 72]):
        copied = copy.deepcopy(model)
        one = trajectory([40, 41, 42, 43, *said], "..xx...")
        metrics = learner(copied).learn([one], np.array([1.0]))
        results.append((metrics["loss"], metrics["grad_norm"], weights(copied)))
    assert results[0][:2] == results[1][:2]
    assert same(results[0][2], results[1][2])


def test_memory_for_a_micro_batch_has_no_influence(model, two):
    found = [
        learner(copy.deepcopy(model), micro_batch_tokens=size, max_grad_norm=1e9).learn(
            two * 8, np.array([GOOD, BAD] * 8)
        )
        for size in (16, 8192)
    ]
    for name in ("loss", "grad_norm", "sampler_mismatch"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("logprob", "advantage", "message"),
    [
        (math.nan, 1.0, "the loss is nan in RL step 1"),
        (-math.inf, -1.0, "the loss is inf in RL step 1"),
        (-math.inf, 1.0, "the norm of the gradient is nan in RL step 1"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_leaves_the_weights(model, two, logprob, advantage, message):
    before, one = weights(model), two[0]
    broken = dataclasses.replace(one, logprobs=[0, 0, logprob, 0, -1.0, -1.0])
    student = learner(model)
    with pytest.raises(NonFiniteError, match=message):
        student.learn([broken, two[1]], np.array([advantage, BAD]))
    assert same(before, model.state_dict())
    assert all(p.grad is None for p in model.parameters())
    assert student.steps == 0


def test_the_importance_cap_changes_nothing_where_sampler_and_learner_agree(model, two):
    found = []
    for options in ({}, TRUNCATED):
        copied = copy.deepcopy(model)
        metrics = learner(copied, **options).learn(two, np.array([GOOD, BAD]))
        found.append((metrics["loss"], metrics["grad_norm"], weights(copied)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    for name, value in found[0][2].items():
        torch.testing.assert_close(value, found[1][2][name], rtol=0, atol=1e-6)


def test_the_importance_cap_bounds_the_weight_of_a_token_the_sampler_found_rare(model, two):
    """The sampler gave the good tokens a tenth of what the learner does: weight 10, capped to 2."""
    rare = dataclasses.replace(
        two[0],
        logprobs=[
            p + math.log(0.1) if mine else 0.0 for p, mine in zip(two[0].logprobs, two[0].mask, strict=False)
        ],
    )
    metrics = learner(model, **TRUNCATED).learn([rare], np.array([1.0]))
    assert metrics["loss"] == pytest.approx(-2.0, abs=1e-5)
    assert metrics["clip_fraction"] == 0  # the ratio is the learner's to its own start
    assert metrics["sampler_mismatch"] == pytest.approx(math.log(10), abs=1e-4)


def test_without_a_cap_a_ratio_over_the_bound_is_clipped(model, two):
    rare = dataclasses.replace(
        two[0],
        logprobs=[
            p + math.log(0.1) if mine else 0.0 for p, mine in zip(two[0].logprobs, two[0].mask, strict=False)
        ],
    )
    before = weights(model)
    metrics = learner(model).learn([rare], np.array([1.0]))
    assert metrics["loss"] == pytest.approx(-1.28, abs=1e-5)
    assert (metrics["clip_fraction"], metrics["grad_norm"]) == (1.0, 0.0)
    assert metrics["ratio_max"] == pytest.approx(10, rel=1e-4)
    assert same(before, model.state_dict())


def test_a_kl_penalty_holds_the_policy_near_its_start(model, two):
    ends = []
    for coefficient in (0.0, 5.0):
        student = learner(copy.deepcopy(model), kl={"coef": coefficient}, lr_final=1.0)
        for _ in range(6):
            found = student.learn(as_sampled_by(student.model, two), np.array([GOOD, BAD]))
        ends.append(found["kl"])
    assert ends[1] < ends[0] / 2


def test_a_token_that_the_update_made_rare_does_not_blow_up_the_metric_kl(model, two):
    before = np.array([p for one in logps(model, two) for p in one])
    student = learner(model, lr=0.05, loss="likelihood")
    for _ in range(3):
        metrics = student.learn(two, np.array([-1.0, -1.0]))
    log_w = np.array([p for one in logps(model, two) for p in one]) - before
    assert log_w.min() < -5
    # Sampled by the reference itself, a token with weight w = p / p_ref is worth 1 - w + w log w, and 1 at most.
    assert metrics["kl"] == pytest.approx(np.mean(1 - np.exp(log_w) + np.exp(log_w) * log_w), rel=1e-4)
    assert 0 < metrics["kl"] < 1.5


def test_an_entropy_bonus_raises_entropy(model, two):
    def entropy() -> float:
        with torch.no_grad():
            return sum(token_logprobs(model, batch)[1].sum().item() for batch in pack(two, 8192))

    before = entropy()
    learner(model, entropy={"coef": 0.1}).learn(two, np.zeros(2))
    assert entropy() > before


def test_logprobs_are_those_of_the_scaled_softmax(model, two):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([two[1].ids])).logits[0]
    table = torch.log_softmax(logits / 0.7, -1)
    expected = [table[1, 50].item(), table[2, 51].item()]
    assert logps(model, two, temperature=0.7)[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("logits", [300, 1 << 24])
def test_the_heads_gradient_is_autograds(model, two, logits, monkeypatch):
    """A token at a time or all at once, entropies included: the same numbers as the textbook's way."""
    monkeypatch.setattr(forward, "HEAD_LOGITS", logits)
    hidden = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    targets, pull = torch.tensor([5, 9, 9, 300, 0, 41, 7]), torch.linspace(-1, 2, 7)
    head = model.get_output_embeddings().weight

    def gradients(logp, entropy):
        hidden.grad = head.grad = None
        (logp @ pull + entropy @ pull.flip(0)).backward()
        return hidden.grad.clone(), head.grad.clone()

    ours = gradients(*forward.head_logprobs(model, hidden, targets, 0.7))
    table = torch.log_softmax(hidden @ head.T / 0.7, -1)
    theirs = gradients(table.gather(1, targets[:, None])[:, 0], -(table.exp() * table).sum(-1))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_head_of_a_frozen_model_gives_states_their_gradient(model):
    hidden = torch.randn(2, 32).requires_grad_(True)
    model.requires_grad_(False)
    logp, _ = forward.head_logprobs(model, hidden, torch.tensor([1, 2]))
    logp.sum().backward()
    assert hidden.grad.abs().sum() > 0


def small(kind: str, **options: object):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=99, num_key_value_heads=2, **shape, **options)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 0.1}),
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.25}),
    ],
)
def test_what_a_model_does_to_its_logits_is_done(kind, options):
    forward.check_forward(small(kind, **options))


def test_a_model_whose_logits_are_made_in_an_unknown_way_is_refused(model, monkeypatch):
    plain = model.forward

    def changed(**given):
        found = plain(**given)
        found.logits = found.logits * 0.5
        return found

    monkeypatch.setattr(model, "forward", changed)
    with pytest.raises(
        UserError, match="LlamaForCausalLM makes its logits in a way that the learner does not know"
    ):
        learner(model)


# --- half precision


def test_steps_too_small_for_bfloat16_add_up(make_model, two):
    """At 1e-5 each step is rounded away in bfloat16; the float32 masters remember all of them."""
    half = make_model().bfloat16()
    student = learner(half, lr=1e-5, lr_final=1.0)
    start = [m.clone() for m in student.masters.state()]
    for _ in range(4):
        student.learn(two, np.array([GOOD, BAD]))
    moved = max((a - b).abs().max().item() for a, b in zip(start, student.masters.state(), strict=True))
    assert moved == pytest.approx(4e-5, rel=0.1)
    for weight, master in zip(list(half.parameters()), student.masters.state(), strict=True):
        assert torch.equal(weight, master.bfloat16())


def test_gradients_of_half_precision_are_summed_in_float32(make_model, two):
    half = make_model().bfloat16()
    student = learner(half)
    seen = []
    plain = student.optimizer.step
    student.optimizer.step = lambda: (
        seen.extend(g["params"] for g in student.optimizer.param_groups),
        plain(),
    )
    student.learn(two, np.array([GOOD, BAD]))
    assert {p.dtype for group in seen for p in group} == {torch.float32}
    assert all(p.grad is None for p in half.parameters())


def test_masters_survive_a_resume(make_model, two):
    first = learner(make_model().bfloat16(), lr=1e-5)
    first.learn(two, np.array([GOOD, BAD]))
    state, kept = copy.deepcopy(first.state()), copy.deepcopy(first.model)
    second = learner(kept, lr=1e-5)
    second.restore(state)
    assert second.learn(two, np.array([GOOD, BAD])) == first.learn(two, np.array([GOOD, BAD]))
    for a, b in zip(first.masters.state(), second.masters.state(), strict=True):
        assert torch.equal(a, b)


def test_the_schedule_rises_then_falls_to_its_end():
    assert [schedule(step, 6, 2, 0.1) for step in range(6)] == pytest.approx([0.5, 1.0, 1.0, 0.7, 0.4, 0.1])
    assert schedule(0, 1, 0, 0.1) == 1.0


def test_the_rate_of_a_step_is_the_schedules(model, two):
    student = learner(model, steps=3, lr=1e-3, lr_final=0.5)
    rates = [student.learn(two, np.array([GOOD, BAD]))["lr"] for _ in range(3)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3])


def test_a_restored_learner_goes_on_exactly(model, two):
    options = {"minibatches": 2, "epochs": 2, "kl": {"coef": 0.1}}
    advantages = np.array([GOOD, BAD])
    first = learner(model, **options)
    first.learn(two, advantages)
    state, kept = copy.deepcopy(first.state()), copy.deepcopy(model)
    expected = first.learn(two, advantages)
    second = learner(kept, **options)
    second.restore(state)
    assert second.learn(two, advantages) == expected
    assert same(weights(model), kept.state_dict())
