"""Losses: every expectation is worked by hand; the gradients are compared with finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quintain.rl.losses import (
    clipped_policy_loss,
    kl_estimate,
    likelihood_loss,
    masked_importance,
    sequence_policy_loss,
    token_weights,
    truncated_importance,
    value_loss,
    weighted_likelihood_loss,
)

LOW, HIGH = 0.2, 0.28
LENGTHS = (2, 4)
OLD = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.5, -0.7], dtype=torch.float64)
MOVED = OLD + torch.tensor([0.1, 0.5, -0.6, -0.1, 0.4, 0.0], dtype=torch.float64)
ADVANTAGE = torch.tensor([1.0, 2.0, -1.0, -0.5, -2.0, 0.3], dtype=torch.float64)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> list[float]:
    given = at.clone().requires_grad_(True)
    loss(given).sum().backward()
    return given.grad.tolist()


def slopes(loss: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> list[float]:
    """The gradient by central differences."""
    found = []
    for index in range(len(at)):
        shift = torch.zeros_like(at)
        shift[index] = step
        found.append((loss(at + shift) - loss(at - shift)).sum().item() / (2 * step))
    return found


# --- the clipped ratio


def clipped(ratio: float, advantage: float, **options: float) -> tuple[float, bool]:
    loss, cut = clipped_policy_loss(
        doubles(math.log(ratio)), doubles(0.0), doubles(advantage), low=LOW, high=HIGH, **options
    )
    return loss.item(), bool(cut.item())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "cut"),
    [
        (1.0, 2.0, -2.0, False),  # on policy: the advantage itself, negated
        (1.2, 2.0, -2.4, False),  # inside the bounds
        (1.5, 2.0, -2.56, True),  # above 1.28: no more to gain
        (0.5, 2.0, -1.0, False),  # a good token made rarer: the way back is open
        (0.9, -2.0, 1.8, False),
        (0.5, -2.0, 1.6, True),  # below 0.8: no more to gain
        (1.5, -2.0, 3.0, False),  # a bad token made likelier: the way back is open
        (3.0, 0.0, 0.0, False),
    ],
)
def test_the_clipped_loss(ratio: float, advantage: float, loss: float, cut: bool):
    assert clipped(ratio, advantage) == (pytest.approx(loss), cut)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "cut"),
    [
        (2.0, -1.0, 2.0, False),  # below the second bound: the plain loss
        (5.0, -1.0, 3.0, True),  # above it a bad token costs no more
        (5.0, 1.0, -1.28, True),  # a good one is bounded by the first clip already
    ],
)
def test_the_dual_clip_bounds_what_a_bad_token_can_cost(ratio, advantage, loss, cut):
    assert clipped(ratio, advantage, dual=3.0) == (pytest.approx(loss), cut)


def test_the_gradient_of_the_clipped_loss_by_hand():
    # -advantage x ratio, and nothing where the clip cut (the second and the third).
    found = gradient(lambda p: clipped_policy_loss(p, OLD, ADVANTAGE, low=LOW, high=HIGH)[0], MOVED)
    assert found == pytest.approx([-math.exp(0.1), 0.0, 0.0, 0.5 * math.exp(-0.1), 2 * math.exp(0.4), -0.3])


# --- one ratio a sequence


def test_the_ratio_of_a_sequence_is_the_geometric_mean_of_its_tokens():
    # Shifts (0.2, -0.1) and (0.3,): means 0.05 and 0.3; the second is above 1.1 and cut.
    logp = doubles(0.2, -0.1, 0.3)
    loss, cut = sequence_policy_loss(
        logp, torch.zeros(3, dtype=torch.float64), doubles(1.0, 1.0, 2.0), (2, 1), low=0.1, high=0.1
    )
    assert loss.tolist() == pytest.approx([-math.exp(0.05), -math.exp(0.05), -2.2])
    assert cut.tolist() == [False, False, True]


def test_the_mean_over_a_sequence_of_its_token_losses_is_the_loss_of_gspo_and_so_is_its_gradient():
    """GSPO, eq. 5: min(s A, clip(s) A) for each sequence, differentiated through s."""

    def as_published(logp: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for a, b, advantage in ((0, 2, 1.0), (2, 6, -0.5)):
            s = (logp[a:b] - OLD[a:b]).mean().exp()
            total = total - torch.minimum(s * advantage, s.clamp(1 - LOW, 1 + HIGH) * advantage) / 2
        return total

    def ours(logp: Tensor) -> Tensor:
        advantage = doubles(1, 1, -0.5, -0.5, -0.5, -0.5)
        loss, _ = sequence_policy_loss(logp, OLD, advantage, LENGTHS, low=LOW, high=HIGH)
        return loss * token_weights(LENGTHS, "sequence", tokens=6, sequences=2)

    near = OLD + doubles(0.1, 0.05, -0.06, -0.01, 0.04, 0.0)
    assert ours(near).sum().item() == pytest.approx(as_published(near).item())
    assert gradient(ours, near) == pytest.approx(slopes(as_published, near), abs=1e-8)


# --- the clipped weight


def test_the_weighted_loss_bounds_the_weight_and_keeps_the_gradient():
    # Ratios e^0.1, e^0.5 > 1.28, e^-0.6 ...: the weight is at most 1.28, and the gradient -weight x advantage.
    weights = [math.exp(0.1), 1.28, math.exp(-0.6), math.exp(-0.1), 1.28, 1.0]
    loss, cut = weighted_likelihood_loss(MOVED, OLD, ADVANTAGE, low=1.0, high=HIGH)
    expected = [-w * a * p for w, a, p in zip(weights, ADVANTAGE.tolist(), MOVED.tolist(), strict=True)]
    assert loss.tolist() == pytest.approx(expected)
    assert cut.tolist() == [False, True, False, False, True, False]
    found = gradient(lambda p: weighted_likelihood_loss(p, OLD, ADVANTAGE, low=1.0, high=HIGH)[0], MOVED)
    assert found == pytest.approx([-w * a for w, a in zip(weights, ADVANTAGE.tolist(), strict=True)])


def test_the_likelihood_loss_and_its_gradient():
    loss, cut = likelihood_loss(MOVED, ADVANTAGE)
    assert loss.tolist() == pytest.approx((-ADVANTAGE * MOVED).tolist())
    assert not cut.any()
    assert gradient(lambda p: likelihood_loss(p, ADVANTAGE)[0], MOVED) == pytest.approx((-ADVANTAGE).tolist())


# --- the critic


@pytest.mark.parametrize(
    ("value", "old", "wanted", "loss"),
    [
        (0.5, 0.5, 1.0, 0.125),  # half the squared error
        (0.9, 0.5, 1.0, 0.5 * 0.3**2),  # moved by more than 0.2: as if it stood at 0.7, the larger error
        (0.1, 0.5, 1.0, 0.5 * 0.9**2),  # moved away: the plain error is the larger
        (0.3, 0.5, 0.3, 0.0),  # just inside
    ],
)
def test_the_value_loss(value, old, wanted, loss):
    found = value_loss(doubles(value), doubles(old), doubles(wanted), clip=0.2)
    assert found.item() == pytest.approx(loss, abs=1e-12)


def test_without_a_clip_the_value_loss_is_half_the_squared_error():
    assert value_loss(doubles(0.9), doubles(0.5), doubles(1.0), clip=None).item() == pytest.approx(0.005)


# --- every gradient against finite differences

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "clip": lambda p: clipped_policy_loss(p, OLD, ADVANTAGE, low=LOW, high=HIGH)[0],
    "dual clip": lambda p: clipped_policy_loss(p, OLD, ADVANTAGE, low=LOW, high=HIGH, dual=1.4)[0],
    "likelihood": lambda p: likelihood_loss(p, ADVANTAGE)[0],
    "value": lambda v: value_loss(v, OLD, OLD + ADVANTAGE, clip=0.2),
    "plain value": lambda v: value_loss(v, OLD, OLD + ADVANTAGE, clip=None),
    "k1": lambda p: kl_estimate(p, OLD, "k1"),
    "k2": lambda p: kl_estimate(p, OLD, "k2"),
    "k3": lambda p: kl_estimate(p, OLD, "k3"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    assert gradient(LOSSES[name], MOVED) == pytest.approx(slopes(LOSSES[name], MOVED), abs=1e-7)


# --- KL


def test_the_estimators_by_hand():
    # r = p_ref / p = 2 and 1/2
    logp, reference = doubles(0.25, 0.5).log(), doubles(0.5, 0.25).log()
    log2 = math.log(2)
    assert kl_estimate(logp, reference, "k1").tolist() == pytest.approx([-log2, log2])
    assert kl_estimate(logp, reference, "k2").tolist() == pytest.approx([log2**2 / 2, log2**2 / 2])
    assert kl_estimate(logp, reference, "k3").tolist() == pytest.approx([1 - log2, log2 - 0.5])


def test_k1_and_k3_are_unbiased():
    """Over a whole distribution, weighted by the policy, both give the divergence exactly."""
    p, q = doubles(0.5, 0.3, 0.2), doubles(0.2, 0.2, 0.6)
    divergence = (p * (p / q).log()).sum().item()
    for name in ("k1", "k3"):
        assert (p * kl_estimate(p.log(), q.log(), name)).sum().item() == pytest.approx(divergence)


def test_k3_is_zero_for_the_same_policy_and_never_negative():
    logp = torch.linspace(-9, -0.01, 50)
    assert kl_estimate(logp, logp).tolist() == [0.0] * 50
    assert (kl_estimate(logp, logp.flip(0)) >= 0).all()


# --- importance

LEARNER, SAMPLER = doubles(0.2, 0.4, 0.9).log(), doubles(0.4, 0.4, 0.1).log()  # ratios 1/2, 1, 9


def test_truncated_weights_are_ratios_up_to_the_cap_and_without_gradient():
    learner = LEARNER.clone().requires_grad_(True)
    found, kept = truncated_importance(learner, SAMPLER, (1, 2), cap=2.0, level="token")
    assert found.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert kept.tolist() == [True, True, False]
    assert not found.requires_grad


def test_a_sequence_is_weighed_by_the_product_of_its_ratios():
    found, kept = truncated_importance(LEARNER, SAMPLER, (1, 2), cap=10.0, level="sequence")
    assert found.tolist() == pytest.approx([0.5, 9.0, 9.0])
    assert kept.all()


def test_masked_weights_leave_out_what_disagrees_too_much():
    found, kept = masked_importance(LEARNER, SAMPLER, (1, 2), floor=0.6, cap=5.0, level="token")
    assert found.tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert kept.tolist() == [False, True, False]
    found, _ = masked_importance(LEARNER, SAMPLER, (1, 2), floor=0.4, cap=5.0, level="sequence")
    assert found.tolist() == pytest.approx([0.5, 0.0, 0.0])


# --- denominators


@pytest.mark.parametrize(
    ("aggregate", "weights"),
    [
        ("token", [0.1] * 5),  # 10 tokens in the step
        ("sequence", [0.5, 0.125, 0.125, 0.125, 0.125]),  # 2 sequences of 1 and 4 tokens
        ("constant", [1 / 16] * 5),  # 2 sequences of at most 8 tokens
        ("sum", [0.5] * 5),
    ],
)
def test_token_weights(aggregate, weights):
    found = token_weights([1, 4], aggregate, tokens=10, sequences=2, constant=8)
    assert found.tolist() == pytest.approx(weights)


@pytest.mark.parametrize("aggregate", ["token", "sequence"])
def test_the_denominator_is_that_of_the_step_and_not_of_the_micro_batch(aggregate):
    parts = [token_weights([n], aggregate, tokens=5, sequences=2) for n in (2, 3)]
    assert torch.cat(parts).sum().item() == pytest.approx(1.0)


def test_an_unknown_denominator_is_refused():
    with pytest.raises(ValueError, match="token, sequence, constant or sum, got 'mean'"):
        token_weights([1], "mean", tokens=1, sequences=1)
