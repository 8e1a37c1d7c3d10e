"""Policy and value losses, KL estimates, importance weights: pure functions over the N trained tokens of a batch.

Each returns one number a token, so that the denominator is said once, by `token_weights`. Gradients flow through
`logp_N` and `values_N` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k2", "k3"]
Level = Literal["token", "sequence"]


def clipped_policy_loss(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    *,
    low: float,
    high: float,
    dual: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped surrogate, negated, and where the clip took the gradient away. [N], [N] bool

    Args:
        logp_N: log-probabilities of the tokens under the policy in training (with gradient).
        old_logp_N: the same under the policy that sampled them.
        advantage_N: the advantage of each token.
        low, high: the ratio is clipped to [1 - low, 1 + high].
        dual: the most that a bad token's ratio can cost, as a multiple of its advantage, above 1; None for no bound.

    Schulman et al. 2017 (arXiv 1707.06347, eq. 7); separate bounds as in DAPO (Yu et al. 2025, arXiv 2503.14476,
    section 3.1); the dual clip of Ye et al. 2019 (arXiv 1912.09729, eq. 5).
    """
    ratio_N = (logp_N - old_logp_N).exp()
    clipped_N = ratio_N.clamp(1 - low, 1 + high)
    gain_N = torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    cut_N = ((advantage_N > 0) & (ratio_N > 1 + high)) | ((advantage_N < 0) & (ratio_N < 1 - low))
    if dual is not None:
        bad_N = advantage_N < 0
        gain_N = torch.where(bad_N, torch.maximum(gain_N, dual * advantage_N), gain_N)
        cut_N = cut_N | (bad_N & (ratio_N > dual))
    return -gain_N, cut_N.detach()


def sequence_policy_loss(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    lengths: Sequence[int],
    *,
    low: float,
    high: float,
) -> tuple[Tensor, Tensor]:
    """Return the clipped surrogate with one ratio for each sequence, the geometric mean of its tokens'. [N], [N] bool

    Args:
        logp_N, old_logp_N, advantage_N: as in `clipped_policy_loss`.
        lengths: how many of the N tokens each sequence has, in order.
        low, high: the ratio is clipped to [1 - low, 1 + high]; it moves far less than a token's, so they are
            small (3e-4 and 4e-4).

    Each token carries its sequence's ratio, with the gradient of its own log-probability. Averaged with
    `aggregate = "sequence"` and equal advantages in a sequence this is GSPO; advantages of turns make it GSPO-token
    (Zheng et al. 2025, arXiv 2507.18071, eq. 5 to 7 and 13 to 14).
    """
    shift_N = logp_N - old_logp_N
    means = [part.mean() for part in torch.split(shift_N.detach(), list(lengths))]
    mean_N = _spread(means, lengths, like=shift_N)
    ratio_N = (mean_N + logp_N - logp_N.detach()).exp()
    clipped_N = ratio_N.clamp(1 - low, 1 + high)
    gain_N = torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    cut_N = ((advantage_N > 0) & (ratio_N > 1 + high)) | ((advantage_N < 0) & (ratio_N < 1 - low))
    return -gain_N, cut_N.detach()


def weighted_likelihood_loss(
    logp_N: Tensor, old_logp_N: Tensor, advantage_N: Tensor, *, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Return -clip(ratio) x advantage x log p, the ratio without gradient, and where it was clipped. [N], [N] bool

    The clip bounds a token's weight and never takes its gradient away. CISPO (MiniMax 2025, arXiv 2506.13585, eq. 4
    and 5), which leaves the lower bound out: `low = 1`.
    """
    ratio_N = (logp_N - old_logp_N).exp().detach()
    weight_N = ratio_N.clamp(1 - low, 1 + high)
    return -weight_N * advantage_N * logp_N, weight_N != ratio_N


def likelihood_loss(logp_N: Tensor, advantage_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return -advantage x log p, the plain policy gradient, and that nothing was cut. [N], [N] bool

    REINFORCE (Williams 1992); the loss of RLOO (arXiv 2402.14740). Right for samples of the policy itself.
    """
    return -advantage_N * logp_N, torch.zeros_like(logp_N, dtype=torch.bool)


def value_loss(values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip: float | None) -> Tensor:
    """Return half the squared error of the critic, the larger of the clipped and the plain one. [N]

    Args:
        values_N: the critic's estimates (with gradient).
        old_values_N: those before the update.
        returns_N: what they should be.
        clip: an estimate may move this far from the old one before its error stops falling; None for no clip.

    Schulman et al. 2017 (arXiv 1707.06347, eq. 9) with the clip of their implementation.
    """
    error_N = (values_N - returns_N).square()
    if clip is not None:
        near_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
        error_N = torch.maximum(error_N, (near_N - returns_N).square())
    return 0.5 * error_N


def kl_estimate(logp_N: Tensor, reference_logp_N: Tensor, estimator: KlEstimator = "k3") -> Tensor:
    """Return an estimate of KL(policy || reference) from samples of the policy, for each token. [N]

    With r = p_ref / p: k1 = -log r (unbiased, of either sign), k2 = (log r)^2 / 2 (its gradient is the KL's), k3 =
    r - 1 - log r (unbiased, never negative). Schulman 2020, "Approximating KL Divergence"; k3 is used by GRPO
    (arXiv 2402.03300, eq. 4). As a loss, k1 has no gradient in expectation: it belongs into the reward.
    """
    log_r_N = reference_logp_N - logp_N
    if estimator == "k1":
        return -log_r_N
    if estimator == "k2":
        return 0.5 * log_r_N.square()
    return log_r_N.exp() - log_r_N - 1


def truncated_importance(
    learner_logp_N: Tensor, sampler_logp_N: Tensor, lengths: Sequence[int], *, cap: float, level: Level
) -> tuple[Tensor, Tensor]:
    """Return min(p_learner / p_sampler, cap), without gradient, and which tokens were below the cap. [N], [N] bool

    Args:
        learner_logp_N: the learner's log-probabilities before the update.
        sampler_logp_N: those of the engine that sampled, possibly with older weights or other arithmetic.
        lengths: how many of the N tokens each sequence has, in order.
        cap: the largest weight, at least 1.
        level: `token` weighs each token by its own ratio, `sequence` by the ratio of its whole sequence.

    Truncated importance sampling (Ionides 2008; Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You
    Off-Policy RL Training").
    """
    ratio_N = _importance_ratio(learner_logp_N, sampler_logp_N, lengths, level)
    return ratio_N.clamp(max=cap), ratio_N <= cap


def masked_importance(
    learner_logp_N: Tensor,
    sampler_logp_N: Tensor,
    lengths: Sequence[int],
    *,
    floor: float,
    cap: float,
    level: Level,
) -> tuple[Tensor, Tensor]:
    """Return p_learner / p_sampler, or 0 where it is not in [floor, cap], and where it is there. [N], [N] bool

    Arguments as in `truncated_importance`. What sampler and learner disagree about too much is left out instead
    of bounded (IcePop; Ling Team 2025, arXiv 2510.18855).
    """
    ratio_N = _importance_ratio(learner_logp_N, sampler_logp_N, lengths, level)
    kept_N = (ratio_N >= floor) & (ratio_N <= cap)
    return torch.where(kept_N, ratio_N, torch.zeros_like(ratio_N)), kept_N


def token_weights(
    lengths: Sequence[int], aggregate: str, *, tokens: int, sequences: int, constant: int = 1
) -> Tensor:
    """Return the weight of each trained token in the sum that is the loss. [sum of lengths]

    Args:
        lengths: how many trained tokens each sequence has.
        aggregate: `token`: every token 1 / tokens (DAPO, arXiv 2503.14476, section 3.3);
            `sequence`: every token 1 / (sequences x its sequence's length) (GRPO, arXiv 2402.03300, eq. 3);
            `constant`: every token 1 / (sequences x constant) (Dr. GRPO, arXiv 2503.20783, section 3.2);
            `sum`: every token 1 / sequences, so that a sequence counts by its whole log-probability (RLOO,
            arXiv 2402.14740, eq. 8).
        tokens, sequences: the denominators, of the whole optimiser step and not of this micro-batch.
        constant: the longest reply that is possible, in tokens.

    Raises `ValueError` for another `aggregate`.
    """
    if aggregate == "token":
        return torch.full((sum(lengths),), 1.0 / tokens)
    if aggregate == "sequence":
        each = torch.tensor([1.0 / (sequences * max(n, 1)) for n in lengths])
        return torch.repeat_interleave(each, torch.tensor(lengths, dtype=torch.long))
    if aggregate in ("constant", "sum"):
        return torch.full((sum(lengths),), 1.0 / (sequences * (constant if aggregate == "constant" else 1)))
    raise ValueError(f"aggregate must be token, sequence, constant or sum, got {aggregate!r}")


def _importance_ratio(
    learner_logp_N: Tensor, sampler_logp_N: Tensor, lengths: Sequence[int], level: Level
) -> Tensor:
    shift_N = (learner_logp_N - sampler_logp_N).detach()
    if level == "token":
        return shift_N.exp()
    sums = [part.sum() for part in torch.split(shift_N, list(lengths))]
    return _spread(sums, lengths, like=shift_N).exp()


def _spread(values: Sequence[Tensor], lengths: Sequence[int], *, like: Tensor) -> Tensor:
    """Give each sequence's value to all of its tokens."""
    if not values:
        return torch.zeros_like(like)
    return torch.repeat_interleave(torch.stack(list(values)), torch.tensor(lengths, device=like.device))
