"""Policy losses and KL estimates: pure functions of tensors over the N trained tokens of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_policy_loss(
    logp_N: Tensor, old_logp_N: Tensor, advantage_N: Tensor, *, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped surrogate, negated, and where the clip took the gradient away. [N], [N] bool

    Args:
        logp_N: log-probabilities of the tokens under the policy in training (with gradient).
        old_logp_N: the same under the policy that sampled them.
        advantage_N: the advantage of each token.
        low, high: the ratio is clipped to [1 - low, 1 + high].

    Schulman et al. 2017 (arXiv 1707.06347, eq. 7); separate bounds as in DAPO (Yu et al. 2025, arXiv 2503.14476,
    section 3.1).
    """
    ratio_N = (logp_N - old_logp_N).exp()
    clipped_N = ratio_N.clamp(1 - low, 1 + high)
    gain_N = torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    cut_N = ((advantage_N > 0) & (ratio_N > 1 + high)) | ((advantage_N < 0) & (ratio_N < 1 - low))
    return -gain_N, cut_N.detach()


def kl_to_reference(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """Return the k3 estimate of KL(policy || reference) from samples of the policy. [N], never negative

    With r = p_ref / p: r - log r - 1. Schulman 2020, "Approximating KL Divergence"; used by GRPO
    (arXiv 2402.03300, eq. 4).
    """
    log_r_N = reference_logp_N - logp_N
    return log_r_N.exp() - log_r_N - 1


def importance_weights(learner_logp_N: Tensor, sampler_logp_N: Tensor, cap: float) -> Tensor:
    """Return min(p_learner / p_sampler, cap), without gradient. [N]

    Corrects for an engine whose arithmetic is not the learner's: truncated importance sampling (Yao et al.
    2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training").
    """
    return (learner_logp_N - sampler_logp_N).exp().clamp(max=cap).detach()


def token_weights(lengths: list[int], aggregate: str, *, tokens: int, sequences: int) -> Tensor:
    """Return the weight of each trained token in the sum that is the loss. [sum of lengths]

    Args:
        lengths: how many trained tokens each sequence has.
        aggregate: `token`: every token 1 / tokens (DAPO, arXiv 2503.14476, section 3.3);
            `sequence`: every token 1 / (sequences x its sequence's length) (GRPO, arXiv 2402.03300, eq. 3).
        tokens, sequences: the denominators, of the whole optimiser step and not of this micro-batch.
    """
    if aggregate == "token":
        return torch.full((sum(lengths),), 1.0 / tokens)
    return torch.cat([torch.full((n,), 1.0 / (sequences * n)) for n in lengths])
