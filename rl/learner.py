"""The learner: takes the episodes of one step and moves the weights.

The forward pass runs packed rows without the language-model head; the head runs on the trained tokens
alone. Nothing here samples, scores or writes files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from .advantages import Floats
from .config import RlConfig
from .losses import clipped_policy_loss, importance_weights, kl_to_reference, token_weights
from .packing import PackedBatch, pack
from .trajectory import Trajectory

HEAD_TOKENS = 1024
"""The head runs on this many tokens at a time, so that logits over a large vocabulary never exist at once."""


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is not a finite number; the minibatch it came from has not touched the weights."""


def token_logprobs(
    model: PreTrainedModel, batch: PackedBatch, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the entropy (nats) of each trained token. [N], [N]

    Both are of the distribution that was sampled from: the softmax of logits / temperature, in float32.
    """
    hidden_RLH = model.base_model(
        input_ids=batch.ids_RL,
        position_ids=batch.positions_RL,
        attention_mask=batch.attention_mask(),
        use_cache=False,
    ).last_hidden_state
    hidden_NH = hidden_RLH[batch.rows_N, batch.columns_N]
    head: nn.Module = model.get_output_embeddings()
    logps, entropies = [], []
    for hidden, targets in zip(
        torch.split(hidden_NH, HEAD_TOKENS), torch.split(batch.targets_N, HEAD_TOKENS), strict=True
    ):
        if torch.is_grad_enabled() and len(hidden_NH) > HEAD_TOKENS:
            logp, entropy = checkpoint(_head, head, hidden, targets, temperature, use_reentrant=False)
        else:
            logp, entropy = _head(head, hidden, targets, temperature)
        logps.append(logp)
        entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies)


def _head(head: nn.Module, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logp_NV = torch.log_softmax(head(hidden).float() / temperature, dim=-1)
    entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
    return logp_NV.gather(1, targets[:, None])[:, 0], entropy_N


@dataclass(slots=True)
class _Sums:
    """What a step's metrics are made of."""

    tokens: int = 0
    clipped: float = 0.0
    ratio_max: float = 1.0
    mismatch: float = 0.0
    mismatch_tokens: int = 0
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)


class Learner:
    """Updates `model` by a policy gradient.

    Args:
        model: trained in place.
        config: the RL section.
        temperature: the one that episodes are sampled at.
        generator: shuffles episodes into minibatches.
    """

    def __init__(
        self, model: PreTrainedModel, config: RlConfig, *, temperature: float, generator: np.random.Generator
    ) -> None:
        self.model = model
        self.config = config
        self.temperature = temperature
        self.generator = generator
        self.steps = 0
        """How many steps the weights have seen."""
        self.reference = copy.deepcopy(model).eval().requires_grad_(False)
        """The model at the start: what the KL divergence is measured to."""
        self.optimizer = torch.optim.AdamW(
            _decay_groups(model, config.weight_decay), lr=config.lr, betas=(0.9, 0.999)
        )

    def learning_rate(self, step: int) -> float:
        """Return the rate of `step` (from 0): a linear warm-up, then a linear way down to `lr * lr_final`."""
        config = self.config
        return config.lr * schedule(step, config.steps, config.warmup_steps, config.lr_final)

    def update(self, trajectories: Sequence[Trajectory], advantages: Floats) -> dict[str, float]:
        """Take the optimiser steps of one training step and return its metrics.

        Ungraded trajectories, and those in which nothing was sampled, must have been left out. Raises
        `NonFiniteError` before a non-finite loss or gradient reaches the weights.
        """
        config = self.config
        rate = self.learning_rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        old = self._logprobs_before(trajectories) if config.importance_cap is not None else None
        sums = _Sums()
        for epoch in range(config.epochs):
            order = self.generator.permutation(len(trajectories))
            for part, chosen in enumerate(np.array_split(order, config.minibatches)):
                self._minibatch(
                    [trajectories[i] for i in chosen],
                    advantages[chosen],
                    None if old is None else [old[i] for i in chosen],
                    sums,
                    untouched=epoch == part == 0,
                )
        self.steps += 1
        return {
            "loss": float(np.mean(sums.losses)) if sums.losses else 0.0,
            "kl": self.kl_from_start(trajectories),
            "clip_fraction": sums.clipped / max(sums.tokens, 1),
            "ratio_max": sums.ratio_max,
            "sampler_mismatch": sums.mismatch / max(sums.mismatch_tokens, 1),
            "grad_norm": float(np.mean(sums.grad_norms)) if sums.grad_norms else 0.0,
            "lr": rate,
        }

    @torch.no_grad()
    def kl_from_start(self, trajectories: Sequence[Trajectory], sample: int = 16) -> float:
        """Return KL(policy || model at the start) in nats a token, estimated (k3) on a few of the episodes."""
        chosen = self.generator.permutation(len(trajectories))[:sample]
        total, tokens = 0.0, 0
        for batch in pack([trajectories[i] for i in chosen], self.config.micro_batch_tokens):
            on_device = batch.to(self.model.device)
            logp_N, _ = token_logprobs(self.model, on_device, self.temperature)
            start_N, _ = token_logprobs(self.reference, on_device, self.temperature)
            total += kl_to_reference(logp_N, start_N).sum().item()
            tokens += len(logp_N)
        return total / max(tokens, 1)

    @torch.no_grad()
    def _logprobs_before(self, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """Return the learner's own log-probabilities of each trajectory's trained tokens, before the update."""
        found: dict[int, Tensor] = {}
        for batch in pack(trajectories, self.config.micro_batch_tokens):
            logp_N, _ = token_logprobs(self.model, batch.to(self.model.device), self.temperature)
            found.update(zip(batch.members, torch.split(logp_N, list(batch.lengths)), strict=True))
        return [found[index] for index in range(len(trajectories))]

    def _minibatch(
        self,
        trajectories: Sequence[Trajectory],
        advantages: Floats,
        old: Sequence[Tensor] | None,
        sums: _Sums,
        *,
        untouched: bool,
    ) -> None:
        """Accumulate the gradient of one minibatch and take the optimiser step."""
        config = self.config
        tokens = sum(t.sampled_tokens for t in trajectories)
        # An episode without advantage has no gradient: it counts in the denominator and need not run.
        everyone = config.kl_coef > 0 or config.entropy_coef > 0
        useful = [i for i, advantage in enumerate(advantages) if advantage != 0 or everyone]
        if not useful:
            return
        total = 0.0
        for packed in pack([trajectories[i] for i in useful], config.micro_batch_tokens):
            batch = packed.to(self.model.device)
            advantage_N = torch.repeat_interleave(
                torch.tensor([advantages[useful[m]] for m in batch.members], dtype=torch.float32),
                torch.tensor(batch.lengths),
            ).to(self.model.device)
            weight_N = token_weights(
                list(batch.lengths), config.aggregate, tokens=tokens, sequences=len(trajectories)
            ).to(self.model.device)
            logp_N, entropy_N = token_logprobs(self.model, batch, self.temperature)
            old_N = batch.sampler_logp_N
            if old is not None:
                old_N = torch.cat([old[useful[m]] for m in batch.members])
            loss_N, cut_N = clipped_policy_loss(
                logp_N, old_N, advantage_N, low=config.clip_low, high=config.clip_high
            )
            if config.importance_cap is not None:
                loss_N = loss_N * importance_weights(old_N, batch.sampler_logp_N, config.importance_cap)
            if config.kl_coef > 0:
                with torch.no_grad():
                    start_N, _ = token_logprobs(self.reference, batch, self.temperature)
                loss_N = loss_N + config.kl_coef * kl_to_reference(logp_N, start_N)
            if config.entropy_coef > 0:
                loss_N = loss_N - config.entropy_coef * entropy_N
            loss = (loss_N * weight_N).sum()
            if not torch.isfinite(loss):
                self.optimizer.zero_grad(set_to_none=True)
                raise NonFiniteError(f"the loss is {loss.item()} in RL step {self.steps + 1}")
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            with torch.no_grad():
                sums.tokens += len(logp_N)
                sums.clipped += cut_N.sum().item()
                sums.ratio_max = max(sums.ratio_max, (logp_N - old_N).max().exp().item())
                if untouched:
                    sums.mismatch += (logp_N - batch.sampler_logp_N).abs().sum().item()
                    sums.mismatch_tokens += len(logp_N)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm).item()
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(f"the norm of the gradient is {norm} in RL step {self.steps + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        sums.losses.append(total)
        sums.grad_norms.append(norm)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs besides the weights."""
        return {
            "steps": self.steps,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.bit_generator.state,
            "reference": self.reference.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.steps = state["steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.bit_generator.state = state["generator"]
        self.reference.load_state_dict(state["reference"])


def schedule(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the factor on the learning rate at `step` (from 0): up linearly, then down linearly to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    return 1 - (1 - final) * min(done, 1.0)


def _decay_groups(model: PreTrainedModel, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices; leave norms and biases alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
