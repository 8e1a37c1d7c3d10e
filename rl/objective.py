"""What is minimised: the terms of the policy's loss and of the critic's, put together as the config says.

Pure functions of the N trained tokens of a micro-batch; the formulas are in `losses`, the denominators in
`losses.token_weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .losses import (
    clipped_policy_loss,
    kl_estimate,
    likelihood_loss,
    masked_importance,
    sequence_policy_loss,
    truncated_importance,
    value_loss,
    weighted_likelihood_loss,
)
from .rl_config import ImportanceConfig, RlConfig


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of the trained tokens before this pass. Every tensor is [N] and without gradient."""

    lengths: tuple[int, ...]
    """How many of the N tokens each sequence has, in order."""
    advantage_N: Tensor
    sampler_logp_N: Tensor
    """The sampler's log-probabilities."""
    learner_logp_N: Tensor | None = None
    """The learner's own before the step; None where they were not needed or this pass says them."""
    reference_logp_N: Tensor | None = None
    """The reference model's; None where the loss has no KL."""
    value_N: Tensor | None = None
    """The critic's estimates before the step; None without a critic."""
    return_N: Tensor | None = None
    """What the critic should have said; None without a critic."""


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What the policy's loss of a micro-batch is made of. Every tensor is [N]."""

    loss_N: Tensor
    """The loss of each token, without a denominator; it carries the gradient."""
    logp_N: Tensor
    """The policy's log-probability of each token."""
    old_N: Tensor
    """What the ratio was taken to."""
    entropy_N: Tensor
    """The policy's entropy at each token, in nats."""
    cut_N: Tensor
    """Where the clip took the gradient away."""
    kept_N: Tensor | None = None
    """Where the importance weight was not bounded or 0; None without importance weights."""
    kl_N: Tensor | None = None
    """The KL divergence that is in the loss; None where it is not."""
    distance_N: Tensor | None = None
    """The divergence from the teacher that is in the loss; None where it is not."""


def policy_terms(
    config: RlConfig,
    logp_N: Tensor,
    entropy_N: Tensor,
    known: Known,
    *,
    kl_coef: float,
    entropy_coef: float,
    distance_N: Tensor | None = None,
) -> TokenTerms:
    """Return the policy's loss of each trained token: surrogate x importance + KL - entropy + divergence.

    Args:
        config: which surrogate, which importance weights, where the KL is.
        logp_N, entropy_N: of this pass, with gradient.
        known: what does not change with the weights.
        kl_coef, entropy_coef: the weights of the KL divergence and of the entropy bonus now.
        distance_N: the divergence from the teacher, with gradient; None where the loss has none.
    """
    if config.old_logprobs == "sampler":
        old_N = known.sampler_logp_N
    elif known.learner_logp_N is not None:
        old_N = known.learner_logp_N
    else:  # the weights have not moved: this pass is the old policy
        old_N = logp_N.detach()
    loss_N, cut_N = _surrogate(config, logp_N, old_N, known)
    kept_N = kl_N = None
    if config.importance.kind != "off":
        weight_N, kept_N = _importance(config.importance, old_N, known)
        loss_N = loss_N * weight_N
    if known.reference_logp_N is not None:
        kl_N = kl_estimate(logp_N, known.reference_logp_N, config.kl.estimator)
        loss_N = loss_N + kl_coef * kl_N
    if entropy_coef > 0:
        loss_N = loss_N - entropy_coef * entropy_N
    if distance_N is not None:
        assert config.teacher is not None
        loss_N = loss_N + config.teacher.coef * distance_N
    return TokenTerms(loss_N, logp_N, old_N, entropy_N, cut_N, kept_N, kl_N, distance_N)


def critic_loss(config: RlConfig, values_N: Tensor, known: Known) -> Tensor:
    """Return the loss of each estimate of the critic. [N]"""
    assert config.critic is not None and known.value_N is not None and known.return_N is not None
    return value_loss(values_N, known.value_N, known.return_N, clip=config.critic.clip)


def _surrogate(config: RlConfig, logp_N: Tensor, old_N: Tensor, known: Known) -> tuple[Tensor, Tensor]:
    bounds = {"low": config.clip_low, "high": config.clip_high}
    if config.loss == "clip":
        return clipped_policy_loss(logp_N, old_N, known.advantage_N, **bounds, dual=config.dual_clip)
    if config.loss == "sequence_clip":
        return sequence_policy_loss(logp_N, old_N, known.advantage_N, known.lengths, **bounds)
    if config.loss == "weighted":
        return weighted_likelihood_loss(logp_N, old_N, known.advantage_N, **bounds)
    return likelihood_loss(logp_N, known.advantage_N)


def _importance(config: ImportanceConfig, old_N: Tensor, known: Known) -> tuple[Tensor, Tensor]:
    given: tuple[Tensor, Tensor, Sequence[int]] = (old_N.detach(), known.sampler_logp_N, known.lengths)
    if config.kind == "truncate":
        return truncated_importance(*given, cap=config.cap, level=config.level)
    return masked_importance(*given, floor=config.floor, cap=config.cap, level=config.level)
