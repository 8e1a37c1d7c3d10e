"""The learner: takes the episodes of one step, with an advantage for each token, and moves the weights.

A step is `measure` (what the learner, the reference and the critic say before anything moves), then advantages made of
that by `credit.assign`, then `update`. Nothing here samples, scores or writes files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..tools.errors import UserError
from .advantages import Floats
from .attention import enable_packing
from .credit import Credit, Measured
from .critic import Critic
from .forward import check_forward, plain, policy_pass, token_logprobs
from .losses import (
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
from .masters import Masters
from .packing import PackedBatch
from .ranks import Alone, Ranks
from .reference import Reference
from .rl_config import RlConfig
from .trajectory import Trajectory

KL_SAMPLE = 16
"""Episodes that the metric `kl` is estimated on where the loss does not need it."""


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is not a finite number; the minibatch it came from has not touched the weights."""


@dataclass(slots=True)
class _Sums:
    """What a step's metrics are made of: sums over trained tokens, and one entry a minibatch."""

    tokens: float = 0
    cut: float = 0.0
    ratio: float = 0.0
    ratio_max: float = 1.0
    kept: float = 0.0
    kl: float = 0.0
    entropy: float = 0.0
    mismatch: float = 0.0
    mismatch_tokens: float = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    value_losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)

    def share(self, ranks: Ranks) -> None:
        """Make them the sums over all ranks."""
        names = ("tokens", "cut", "ratio", "kept", "kl", "entropy", "mismatch", "mismatch_tokens")
        for name, value in zip(names, ranks.total(*(getattr(self, name) for name in names)), strict=True):
            setattr(self, name, value)
        self.ratio_max = ranks.largest(self.ratio_max)


class Learner:
    """Updates `model` by a policy gradient.

    Args:
        model: trained in place.
        config: the RL section.
        temperature: the one that episodes are sampled at.
        generator: shuffles episodes into minibatches.
        longest: the most tokens that an episode may have; the denominator of `aggregate = "constant"`.
        ranks: those that share the work; with several, all make the same calls with the same arguments.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: RlConfig,
        *,
        temperature: float,
        generator: np.random.Generator,
        longest: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.ranks = ranks or Alone()
        self.config = config
        self.temperature = temperature
        self.generator = generator
        self.longest = longest
        self.steps = 0
        """How many steps the weights have seen."""
        self.kl_coef = config.kl.coef
        """The weight of the KL divergence now; `kl.target` moves it."""
        self.entropy_coef = config.entropy.coef
        """The weight of the entropy bonus now; `entropy.target` moves it."""
        self._alone = not enable_packing(plain(model))
        self.reference = Reference(model) if config.kl.needs_reference else None
        """What the KL divergence is measured to."""
        self.critic = Critic(model, config.critic) if config.critic is not None else None
        """The value function, for PPO."""
        check_forward(model)
        self.parts = self._modules()
        """The networks by name: `policy`, and `reference`, `trunk` and `value` (the critic's) where there are any."""
        for module in self.parts.values():
            self.ranks.shard(module, halves=not config.masters)
        trained = [p for p in model.parameters() if p.requires_grad]
        judging = [] if self.critic is None else [p for p in self.critic.parameters() if p.requires_grad]
        self.masters = Masters([*trained, *judging], keep=config.masters)
        """What the optimiser moves where the weights are of half precision."""
        self._acting = [self.masters.of(p) for p in trained]
        self._judging = [self.masters.of(p) for p in judging]
        groups = _decay_groups(self._acting, config.weight_decay, config.lr)
        if config.critic is not None:
            groups.append({"params": self._judging, "lr": config.critic.lr, "weight_decay": 0.0})
        self._peaks = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.999))

    def _modules(self) -> dict[str, nn.Module]:
        critic = self.critic
        found = {
            "policy": self.model,
            "reference": None if self.reference is None else self.reference.copy,
            "trunk": None if critic is None else critic.trunk,
            "value": None if critic is None else critic.head,
        }
        return {name: module for name, module in found.items() if module is not None}

    def learning_rate(self, step: int) -> float:
        """Return the rate of `step` (from 0): a linear warm-up, then a linear way down to `lr * lr_final`."""
        return self.config.lr * self._schedule(step)

    def measure(self, trajectories: Sequence[Trajectory]) -> Measured:
        """Return what has to be known of the episodes before the weights move; nothing that nobody needs."""
        config = self.config
        # With one optimiser step the first forward pass is the old policy: a second one would say the same.
        once = config.minibatches * config.epochs == 1
        old = None if config.old_logprobs == "sampler" or once else self._each(trajectories, self._own)
        reference = self.reference if self.kl_coef > 0 else None
        held = None if reference is None else self._each(trajectories, self._held)
        kls = None
        if held is not None and config.kl.where == "reward":
            own = old if old is not None else [_sampled(t) for t in trajectories]
            kls = [
                kl_estimate(torch.from_numpy(p), torch.from_numpy(q), config.kl.estimator).numpy()
                for p, q in zip(own, held, strict=True)
            ]
        values = finals = None
        if self.critic is not None:
            values, finals = self._values(trajectories)
        return Measured(old_logps=old, reference_logps=held, kls=kls, values=values, final_values=finals)

    def update(
        self, trajectories: Sequence[Trajectory], credit: Credit, measured: Measured | None = None
    ) -> dict[str, float]:
        """Take the optimiser steps of one training step and return its metrics.

        Ungraded trajectories, and those in which nothing was sampled, must have been left out. A loss or a gradient
        that is not finite never reaches the weights: `NonFiniteError` is raised, or the minibatch left out, as
        `on_nonfinite` says.
        """
        config = self.config
        measured = measured or Measured()
        rate = self.learning_rate(self.steps)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._schedule(self.steps)
        self.model.train()
        sums = _Sums()
        for epoch in range(config.epochs):
            order = self.generator.permutation(len(trajectories))
            for part, chosen in enumerate(np.array_split(order, config.minibatches)):
                try:
                    self._minibatch(
                        trajectories, chosen, credit, measured, sums, untouched=epoch == part == 0
                    )
                except NonFiniteError:
                    self.optimizer.zero_grad(set_to_none=True)
                    if config.on_nonfinite == "stop":
                        raise
                    sums.skipped += 1
        self.steps += 1
        sums.share(self.ranks)
        tokens = max(sums.tokens, 1)
        metrics = {
            "loss": _mean(sums.losses),
            "clip_fraction": sums.cut / tokens,
            "ratio_mean": sums.ratio / tokens if sums.tokens else 1.0,
            "ratio_max": sums.ratio_max,
            "sampler_mismatch": sums.mismatch / max(sums.mismatch_tokens, 1),
            "grad_norm": _mean(sums.grad_norms),
            "lr": rate,
        }
        if config.importance.kind != "off":
            metrics["kept_fraction"] = sums.kept / tokens if sums.tokens else 1.0
        if self.critic is not None:
            metrics["value_loss"] = _mean(sums.value_losses)
        if config.on_nonfinite == "skip":
            metrics["skipped_minibatches"] = float(sums.skipped)
        metrics.update(self._leash(trajectories, measured, sums))
        if config.entropy.target is not None:
            metrics["entropy_coef"] = self.entropy_coef
            self._control_entropy(sums.entropy / tokens)
        return metrics

    # --- one minibatch

    def _minibatch(
        self,
        trajectories: Sequence[Trajectory],
        chosen: np.ndarray[Any, np.dtype[np.intp]],
        credit: Credit,
        measured: Measured,
        sums: _Sums,
        *,
        untouched: bool,
    ) -> None:
        """Accumulate the gradient of one minibatch and take the optimiser step."""
        tokens = sum(trajectories[i].sampled_tokens for i in chosen)
        # An episode without advantage has no gradient: it counts in the denominator and need not run.
        in_loss = self.kl_coef > 0 and self.config.kl.where == "loss"
        everyone = in_loss or self.entropy_coef > 0 or self.critic is not None
        useful = [int(i) for i in chosen if everyone or np.any(credit.advantages[i])]
        if not useful:
            return
        total = value_total = 0.0
        for packed in self._packed([trajectories[i] for i in useful]):
            members = [useful[m] for m in packed.members]
            batch = packed.to(self.model.device)
            weight_N = token_weights(
                batch.lengths,
                self.config.aggregate,
                tokens=tokens,
                sequences=len(chosen),
                constant=self.longest,
            ).to(self.model.device)
            loss_N, value_N = self._losses(batch, members, credit, measured, sums, untouched=untouched)
            # The critic's error is a mean over tokens whatever the policy's denominator is.
            value = None if value_N is None else value_N.sum() / tokens
            policy = (loss_N * weight_N).sum()
            loss = policy if value is None else policy + self._value_weight() * value
            whole = self.ranks.total(loss.item())[0]  # on every rank, so that none goes on alone
            if not math.isfinite(whole):
                raise NonFiniteError(f"the loss is {whole} in RL step {self.steps + 1}")
            # The denominators are global: the gradient is to be a sum over ranks, not their mean.
            (loss * self.ranks.size).backward()
            total += policy.item()
            value_total += 0.0 if value is None else value.item()
        norm = self._clip_gradients()
        if not math.isfinite(norm):
            raise NonFiniteError(f"the norm of the gradient is {norm} in RL step {self.steps + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.masters.publish()
        total, value_total = self.ranks.total(total, value_total)
        sums.losses.append(total)
        sums.value_losses.append(value_total)
        sums.grad_norms.append(norm)

    def _losses(
        self,
        batch: PackedBatch,
        members: Sequence[int],
        credit: Credit,
        measured: Measured,
        sums: _Sums,
        *,
        untouched: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the policy's loss of each trained token, and the critic's. [N], [N]"""
        config = self.config
        warming = config.critic is not None and self.steps < config.critic.warmup_steps
        with torch.set_grad_enabled(not warming):
            hidden_NH, logp_N, entropy_N = policy_pass(self.model, batch, self.temperature)
        advantage_N = self._gathered(credit.advantages, members)
        if config.old_logprobs == "sampler":
            old_N = batch.sampler_logp_N
        elif measured.old_logps is not None:
            old_N = self._gathered(measured.old_logps, members)
        else:
            old_N = logp_N.detach()
        loss_N, cut_N = self._policy_loss(logp_N, old_N, advantage_N, batch.lengths)
        if config.importance.kind != "off":
            importance_N, kept_N = self._importance(old_N, batch)
            loss_N = loss_N * importance_N
            sums.kept += kept_N.sum().item()
        if measured.reference_logps is not None and config.kl.where == "loss":
            kl_N = kl_estimate(logp_N, self._gathered(measured.reference_logps, members), config.kl.estimator)
            loss_N = loss_N + self.kl_coef * kl_N
            sums.kl += kl_N.sum().item()
        if self.entropy_coef > 0:
            loss_N = loss_N - self.entropy_coef * entropy_N
        with torch.no_grad():
            ratio_N = (logp_N - old_N).exp()
            sums.tokens += len(logp_N)
            sums.cut += cut_N.sum().item()
            sums.entropy += entropy_N.sum().item()
            sums.ratio += ratio_N.sum().item()
            if len(ratio_N):
                sums.ratio_max = max(sums.ratio_max, ratio_N.max().item())
            if untouched:
                sums.mismatch += (logp_N - batch.sampler_logp_N).abs().sum().item()
                sums.mismatch_tokens += len(logp_N)
        value_N = self._value_loss(batch, members, credit, measured, hidden_NH, warming=warming)
        return (loss_N.detach() if warming else loss_N), value_N

    def _policy_loss(
        self, logp_N: Tensor, old_N: Tensor, advantage_N: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        config = self.config
        bounds = {"low": config.clip_low, "high": config.clip_high}
        if config.loss == "clip":
            return clipped_policy_loss(logp_N, old_N, advantage_N, **bounds, dual=config.dual_clip)
        if config.loss == "sequence_clip":
            return sequence_policy_loss(logp_N, old_N, advantage_N, lengths, **bounds)
        if config.loss == "weighted":
            return weighted_likelihood_loss(logp_N, old_N, advantage_N, **bounds)
        return likelihood_loss(logp_N, advantage_N)

    def _importance(self, old_N: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        config = self.config.importance
        given = (old_N.detach(), batch.sampler_logp_N, batch.lengths)
        if config.kind == "truncate":
            return truncated_importance(*given, cap=config.cap, level=config.level)
        return masked_importance(*given, floor=config.floor, cap=config.cap, level=config.level)

    def _value_loss(
        self,
        batch: PackedBatch,
        members: Sequence[int],
        credit: Credit,
        measured: Measured,
        hidden_NH: Tensor,
        *,
        warming: bool,
    ) -> Tensor | None:
        critic, config = self.critic, self.config.critic
        if critic is None or config is None or credit.returns is None or measured.values is None:
            return None
        if critic.shared:  # in the warm-up the trunk stays as it is
            values_N = critic.values(hidden_NH.detach() if warming else hidden_NH)
        else:
            values_N, _ = critic(self.model, batch)
        old_N, returns_N = self._gathered(measured.values, members), self._gathered(credit.returns, members)
        return value_loss(values_N, old_N, returns_N, clip=config.clip)

    def _value_weight(self) -> float:
        """A critic of its own has an optimiser group of its own: the weight would only scale its gradient."""
        config = self.config.critic
        return config.coef if config is not None and config.kind == "shared" else 1.0

    def _clip_gradients(self) -> float:
        norm = self.ranks.clip(self._acting, self.config.max_grad_norm)
        if self._judging:
            critic = self.ranks.clip(self._judging, self.config.max_grad_norm)
            norm = norm if math.isfinite(critic) else critic
        return norm

    # --- before and after

    def _each(self, trajectories: Sequence[Trajectory], ask: Callable[[PackedBatch], Tensor]) -> list[Floats]:
        """Return what `ask` says of the trained tokens of each trajectory. [N][T]"""
        found: dict[int, Floats] = {}
        with torch.no_grad():
            for batch in self._packed(trajectories):
                said_N = ask(batch.to(self.model.device)).double().cpu()
                parts = torch.split(said_N, list(batch.lengths))
                found.update(zip(batch.members, (part.numpy() for part in parts), strict=True))
        found = self.ranks.merged(found)
        return [found[index] for index in range(len(trajectories))]

    def _own(self, batch: PackedBatch) -> Tensor:
        return token_logprobs(self.model, batch, self.temperature)[0]

    def _held(self, batch: PackedBatch) -> Tensor:
        assert self.reference is not None
        return self.reference.logprobs(batch, self.temperature)

    @torch.no_grad()
    def _values(self, trajectories: Sequence[Trajectory]) -> tuple[list[Floats], Floats]:
        """Return the critic's estimates before each trained token and after each episode. [N][T], [N]"""
        assert self.critic is not None
        values: dict[int, Floats] = {}
        finals: dict[int, float] = {}
        for packed in self._packed(trajectories):
            values_N, finals_M = self.critic(self.model, packed.to(self.model.device))
            parts = torch.split(values_N.double().cpu(), list(packed.lengths))
            values.update(zip(packed.members, (part.numpy() for part in parts), strict=True))
            finals.update(zip(packed.members, finals_M.double().tolist(), strict=True))
        values, finals = self.ranks.merged(values), self.ranks.merged(finals)
        everyone = range(len(trajectories))
        return [values[i] for i in everyone], np.array([finals[i] for i in everyone])

    def _leash(self, trajectories: Sequence[Trajectory], measured: Measured, sums: _Sums) -> dict[str, float]:
        """Return the metric `kl`, and move its weight towards the target."""
        config = self.config.kl
        if measured.kls is not None:
            counted = sum(map(len, measured.kls))
            found = float(sum(kl.sum() for kl in measured.kls)) / max(counted, 1)
        elif measured.reference_logps is not None:
            found = sums.kl / max(sums.tokens, 1)
        elif config.measure_every and (self.steps - 1) % config.measure_every == 0:
            return {"kl": self.kl_from_start(trajectories)}
        else:
            return {}
        metrics = {"kl": found}
        if config.target is not None:
            # Ziegler et al. 2019, arXiv 1909.08593, section 2.2: a proportional controller in log space.
            metrics["kl_coef"] = self.kl_coef
            error = min(max(found / config.target - 1, -0.2), 0.2)
            self.kl_coef *= 1 + config.gain * error
        return metrics

    @torch.no_grad()
    def kl_from_start(self, trajectories: Sequence[Trajectory], sample: int = KL_SAMPLE) -> float:
        """Return KL(policy || reference) in nats a token, estimated (k3) on a few of the episodes."""
        assert self.reference is not None
        chosen = self.generator.permutation(len(trajectories))[:sample]
        total, tokens = 0.0, 0.0
        for batch in self._packed([trajectories[i] for i in chosen]):
            on_device = batch.to(self.model.device)
            logp_N, held_N = self._own(on_device), self._held(on_device)
            total += kl_estimate(logp_N, held_N).sum().item()
            tokens += len(logp_N)
        total, tokens = self.ranks.total(total, tokens)
        return total / max(tokens, 1)

    def _control_entropy(self, entropy: float) -> None:
        """Move the bonus towards the target (adaptive entropy control; He et al. 2025, arXiv 2505.22312)."""
        config = self.config.entropy
        assert config.target is not None
        moved = self.entropy_coef + config.gain * (config.target - entropy)
        self.entropy_coef = min(max(moved, 0.0), config.max_coef)

    def _packed(self, trajectories: Sequence[Trajectory]) -> Iterator[PackedBatch]:
        return self.ranks.batches(trajectories, self.config.micro_batch_tokens, alone=self._alone)

    def _gathered(self, arrays: Sequence[Floats], members: Sequence[int]) -> Tensor:
        """Return the arrays of the members of a micro-batch as one tensor, in the order of its tokens. [N]"""
        joined = np.concatenate([arrays[i] for i in members]) if members else np.zeros(0)
        return torch.from_numpy(joined).to(device=self.model.device, dtype=torch.float32)

    def _schedule(self, step: int) -> float:
        config = self.config
        return schedule(step, config.steps, config.warmup_steps, config.lr_final)

    # --- resume

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs besides the weights; of several ranks, besides what their shards hold."""
        numbers = {
            "steps": self.steps,
            "generator": self.generator.bit_generator.state,
            "kl_coef": self.kl_coef,
            "entropy_coef": self.entropy_coef,
        }
        if self.ranks.size > 1:
            return numbers
        return numbers | {
            "optimizer": self.optimizer.state_dict(),
            "masters": self.masters.state(),
            "reference": None if self.reference is None else self.reference.state(),
            "critic": None if self.critic is None else self.critic.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned. Raises `UserError` for the state of several ranks in one process."""
        self.steps = state["steps"]
        self.generator.bit_generator.state = state["generator"]
        self.kl_coef, self.entropy_coef = state["kl_coef"], state["entropy_coef"]
        if self.ranks.size > 1:
            return
        if "optimizer" not in state:
            raise UserError("the checkpoint was written by several ranks: resume it with torchrun")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.reference is not None:
            self.reference.restore(state["reference"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
        self.masters.restore(state["masters"])


def schedule(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the factor on the learning rate at `step` (from 0): up linearly, then down linearly to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    return 1 - (1 - final) * min(done, 1.0)


def _sampled(trajectory: Trajectory) -> Floats:
    """Return the sampler's log-probability of each trained token. [T]"""
    return np.array([p for p, mine in zip(trajectory.logprobs, trajectory.mask, strict=True) if mine])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _decay_groups(trained: Sequence[Tensor], weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Decay matrices; leave norms and biases alone."""
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay, "lr": lr},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0, "lr": lr},
    ]
