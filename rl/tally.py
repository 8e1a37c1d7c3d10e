"""What a step of the learner is told by: sums over its trained tokens, and the metrics made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .objective import TokenTerms
from .ranks import Ranks


@dataclass(slots=True)
class Tally:
    """Counts what happened in the minibatches of one step."""

    tokens: float = 0
    cut: float = 0.0
    ratio: float = 0.0
    ratio_max: float = 1.0
    kept: float = 0.0
    kl: float = 0.0
    distance: float = 0.0
    entropy: float = 0.0
    mismatch: float = 0.0
    mismatch_tokens: float = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    value_losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)

    @torch.no_grad()
    def add(self, terms: TokenTerms) -> None:
        """Count the tokens of a micro-batch."""
        ratio_N = (terms.logp_N - terms.old_N).exp()
        self.tokens += len(ratio_N)
        self.cut += terms.cut_N.sum().item()
        self.entropy += terms.entropy_N.sum().item()
        self.ratio += ratio_N.sum().item()
        if len(ratio_N):
            self.ratio_max = max(self.ratio_max, ratio_N.max().item())
        if terms.kept_N is not None:
            self.kept += terms.kept_N.sum().item()
        if terms.kl_N is not None:
            self.kl += terms.kl_N.sum().item()
        if terms.distance_N is not None:
            self.distance += terms.distance_N.sum().item()

    @torch.no_grad()
    def add_mismatch(self, logp_N: Tensor, sampler_logp_N: Tensor) -> None:
        """Count how far learner and sampler are apart, with weights that have not moved since they sampled."""
        self.mismatch += (logp_N - sampler_logp_N).abs().sum().item()
        self.mismatch_tokens += len(logp_N)

    def add_minibatch(self, loss: float, value_loss: float, grad_norm: float) -> None:
        """Count an optimiser step."""
        self.losses.append(loss)
        self.value_losses.append(value_loss)
        self.grad_norms.append(grad_norm)

    def share(self, ranks: Ranks) -> None:
        """Make the sums those over all ranks."""
        names = ("tokens", "cut", "ratio", "kept", "kl", "distance", "entropy", "mismatch", "mismatch_tokens")
        for name, value in zip(names, ranks.total(*(getattr(self, name) for name in names)), strict=True):
            setattr(self, name, value)
        self.ratio_max = ranks.largest(self.ratio_max)

    def a_token(self, total: float) -> float:
        """Return one of the sums as a mean over the trained tokens."""
        return total / max(self.tokens, 1)

    def metrics(self, *, kept: bool, critic: bool, skips: bool, beside: bool = False) -> dict[str, float]:
        """Return the metrics of the step.

        Args:
            kept: whether importance weights were used.
            critic: whether there is one.
            skips: whether minibatches that are not finite are left out.
            beside: whether the divergence from a teacher is in the loss.
        """
        found = {
            "loss": _mean(self.losses),
            "clip_fraction": self.a_token(self.cut),
            "ratio_mean": self.a_token(self.ratio) if self.tokens else 1.0,
            "ratio_max": self.ratio_max,
            "sampler_mismatch": self.mismatch / max(self.mismatch_tokens, 1),
            "grad_norm": _mean(self.grad_norms),
        }
        if kept:
            found["kept_fraction"] = self.a_token(self.kept) if self.tokens else 1.0
        if critic:
            found["value_loss"] = _mean(self.value_losses)
        if beside:
            found["teacher_divergence"] = self.a_token(self.distance)
        if skips:
            found["skipped_minibatches"] = float(self.skipped)
        return found


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
