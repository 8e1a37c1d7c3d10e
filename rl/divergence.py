"""How far a student's distribution over the vocabulary is from a teacher's, and which way down is."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def divergence(logq_NV: Tensor, logp_NV: Tensor, beta: float) -> Tensor:
    """Return D(p || q) of each row, in nats: the generalised Jensen-Shannon divergence. [N]

    Args:
        logq_NV: log-probabilities of the student.
        logp_NV: those of the teacher.
        beta: 0 is KL(p || q), the forward KL; 1 is KL(q || p), the reverse KL; in between it is
            beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.

    Agarwal et al. 2023 (arXiv 2306.13649, section 2). The in-between ones go to 0 with beta and with 1 - beta; divided
    by that they go to the KLs.
    """
    if beta == 0:
        return (logp_NV.exp() * (logp_NV - logq_NV)).sum(-1)
    if beta == 1:
        return (logq_NV.exp() * (logq_NV - logp_NV)).sum(-1)
    mixed_NV = _mixed(logq_NV, logp_NV, beta)
    of_p_N = (logp_NV.exp() * (logp_NV - mixed_NV)).sum(-1)
    of_q_N = (logq_NV.exp() * (logq_NV - mixed_NV)).sum(-1)
    return beta * of_p_N + (1 - beta) * of_q_N


def divergence_slope(logq_NV: Tensor, logp_NV: Tensor, beta: float) -> Tensor:
    """Return the gradient of each row of `divergence` by the logits of the student. [N, V]

    With g = dD/dq it is q (g - sum q g). Here g is -p / q for the forward KL, log q/p for the reverse KL, and
    (1 - beta) log q/m in between: what m owes to q cancels out.
    """
    q_NV = logq_NV.exp()
    if beta == 0:
        return q_NV - logp_NV.exp()
    gap_NV = logq_NV - (logp_NV if beta == 1 else _mixed(logq_NV, logp_NV, beta))
    slope_NV: Tensor = q_NV * (gap_NV - torch.linalg.vecdot(q_NV, gap_NV)[:, None])
    return slope_NV if beta == 1 else slope_NV.mul_(1 - beta)


def _mixed(logq_NV: Tensor, logp_NV: Tensor, beta: float) -> Tensor:
    mixed_NV: Tensor = torch.logaddexp(logp_NV + math.log(beta), logq_NV + math.log1p(-beta))
    return mixed_NV
