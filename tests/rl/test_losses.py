"""Losses: every expectation is worked by hand; the gradient is compared with finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from quintain.rl.losses import clipped_policy_loss, importance_weights, kl_to_reference, token_weights

LOW, HIGH = 0.2, 0.28


def clipped(ratio: float, advantage: float) -> tuple[float, bool]:
    loss, cut = clipped_policy_loss(
        torch.tensor([math.log(ratio)], dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([advantage], dtype=torch.float64),
        low=LOW,
        high=HIGH,
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


def test_the_gradient_of_the_clipped_loss_is_that_of_finite_differences():
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.5, -0.7], dtype=torch.float64)
    logp = old + torch.tensor([0.1, 0.5, -0.6, -0.1, 0.4, 0.0], dtype=torch.float64)
    advantage = torch.tensor([1.0, 2.0, -1.0, -0.5, -2.0, 0.3], dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return clipped_policy_loss(values, old, advantage, low=LOW, high=HIGH)[0].sum()

    given = logp.clone().requires_grad_(True)
    loss(given).backward()
    step = 1e-6
    for index in range(len(logp)):
        shift = torch.zeros_like(logp)
        shift[index] = step
        slope = (loss(logp + shift) - loss(logp - shift)).item() / (2 * step)
        assert given.grad[index].item() == pytest.approx(slope, abs=1e-7)
    # Worked by hand: -advantage x ratio, and nothing where the clip cut (the second and the third).
    assert given.grad.tolist() == pytest.approx(
        [-math.exp(0.1), 0.0, 0.0, 0.5 * math.exp(-0.1), 2 * math.exp(0.4), -0.3]
    )


def test_k3_by_hand():
    # r = p_ref / p = 2 and 1/2: r - log r - 1
    found = kl_to_reference(torch.tensor([0.25, 0.5]).log(), torch.tensor([0.5, 0.25]).log())
    assert found.tolist() == pytest.approx([1 - math.log(2), math.log(2) - 0.5])


def test_k3_is_zero_for_the_same_policy_and_never_negative():
    logp = torch.linspace(-9, -0.01, 50)
    assert kl_to_reference(logp, logp).tolist() == [0.0] * 50
    assert (kl_to_reference(logp, logp.flip(0)) >= 0).all()


def test_importance_weights_are_ratios_up_to_the_cap_and_without_gradient():
    learner = torch.tensor([0.2, 0.4, 0.9]).log().requires_grad_(True)
    found = importance_weights(learner, torch.tensor([0.4, 0.4, 0.1]).log(), cap=2.0)
    assert found.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert not found.requires_grad


def test_token_weights_count_every_token_alike():
    assert token_weights([1, 3], "token", tokens=8, sequences=2).tolist() == [0.125] * 4


def test_sequence_weights_count_every_episode_alike():
    found = token_weights([1, 4], "sequence", tokens=8, sequences=2)
    assert found.tolist() == [0.5, 0.125, 0.125, 0.125, 0.125]


def test_the_denominator_is_that_of_the_step_and_not_of_the_micro_batch():
    parts = [
        token_weights([2], "token", tokens=5, sequences=2),
        token_weights([3], "token", tokens=5, sequences=2),
    ]
    assert torch.cat(parts).sum().item() == pytest.approx(1.0)
    parts = [
        token_weights([2], "sequence", tokens=5, sequences=2),
        token_weights([3], "sequence", tokens=5, sequences=2),
    ]
    assert torch.cat(parts).sum().item() == pytest.approx(1.0)
