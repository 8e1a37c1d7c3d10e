"""The learner: takes the episodes of one step, with an advantage for each token, and moves the weights.

A step is `measure` (what the learner, the reference and the critic say before anything moves), then advantages made of
that by `credit.assign`, then `update`. Nothing here samples, scores or writes files; what a token costs is said in
`objective`, what is counted in `tally`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..tools.errors import UserError
from .attention import enable_packing
from .compiling import check_compiler, compile_layers
from .control import next_entropy_coef, next_kl_coef
from .credit import Credit, Measured
from .critic import Critic
from .forward import check_forward, plain, policy_pass
from .losses import kl_estimate, token_weights
from .masters import Masters
from .objective import Known, critic_loss, policy_terms
from .optim import decay_groups, schedule
from .packing import PackedBatch
from .ranks import Alone, Ranks
from .reading import Reader, gathered, sampled
from .reference import Reference
from .rl_config import RlConfig
from .tally import Tally
from .teacher import Teacher
from .trajectory import Trajectory

KL_SAMPLE = 16
"""Episodes that the metric `kl` is estimated on where the loss does not need it."""


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is not a finite number; the minibatch it came from has not touched the weights."""


class Learner:
    """Updates `model` by a policy gradient.

    Args:
        model: trained in place.
        config: the RL section.
        temperature: the one that episodes are sampled at.
        generator: shuffles episodes into minibatches.
        longest: the most tokens that an episode may have; the denominator of `aggregate = "constant"`.
        ranks: those that share the work; with several, all make the same calls with the same arguments.
        teacher: what `config.teacher` names; every rank has a whole one.
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
        teacher: Teacher | None = None,
    ) -> None:
        self.model = model
        self.teacher = teacher
        """What scores the student's tokens; no part of the checkpoints, since nothing changes it."""
        if (teacher is None) != (config.teacher is None):
            raise ValueError("a learner has a teacher if and only if its config has a section `teacher`")
        self._asks = None if config.teacher is None else config.teacher.over
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
        packs = [enable_packing(plain(one)) for one in (model, *([] if teacher is None else [teacher.model]))]
        self.reader = Reader(
            model,
            self.ranks,
            temperature=temperature,
            budget=config.micro_batch_tokens,
            alone=not all(packs),
        )
        """Runs trajectories through the networks as they are now."""
        self.reference = Reference(model) if config.kl.needs_reference else None
        """What the KL divergence is measured to."""
        self.critic = Critic(model, config.critic) if config.critic is not None else None
        """The value function, for PPO."""
        check_forward(model)
        self.parts = self._modules()
        """The networks by name: `policy`, and `reference`, `trunk` and `value` (the critic's) where there are any."""
        for module in self.parts.values():
            self.ranks.shard(module, halves=not config.masters)
        if config.compile:
            self._compile()
        acting = [p for p in model.parameters() if p.requires_grad]
        judging = [] if self.critic is None else [p for p in self.critic.parameters() if p.requires_grad]
        self.masters = Masters([*acting, *judging], keep=config.masters)
        """What the optimiser moves where the weights are of half precision."""
        self._acting = [self.masters.of(p) for p in acting]
        self._judging = [self.masters.of(p) for p in judging]
        groups = decay_groups(self._acting, config.weight_decay, config.lr)
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

    def _compile(self) -> None:
        if not enable_packing(plain(self.model)):
            raise UserError(
                f"rl.compile goes with packed rows, which {type(plain(self.model)).__name__} cannot run: leave it out"
            )
        check_compiler(self.model.device)
        for name, module in self.parts.items():
            if name != "value":
                compile_layers(module)

    # --- before the weights move

    def measure(self, trajectories: Sequence[Trajectory]) -> Measured:
        """Return what has to be known of the episodes before the weights move; nothing that nobody needs."""
        config = self.config
        # With one optimiser step the first forward pass is the old policy: a second one would say the same.
        once = config.minibatches * config.epochs == 1
        of_kl, of_teacher = config.kl.where == "reward" and self.kl_coef > 0, self._asks == "sampled"
        # Where the sampler has older weights, its log-probabilities are not those of the policy that KL is taken of.
        apart = config.staleness > 0 and (of_kl or of_teacher)
        needed = (config.old_logprobs == "learner" and not once) or apart
        old = self.reader.logprobs(trajectories) if needed else None
        own = [sampled(t) for t in trajectories] if old is None and (of_kl or of_teacher) else old
        held = None
        if self.kl_coef > 0:
            held = self.reader.logprobs(trajectories, self.reference)
        kls = gaps = None
        if of_kl and own is not None and held is not None:
            kls = [
                kl_estimate(torch.from_numpy(p), torch.from_numpy(q), config.kl.estimator).numpy()
                for p, q in zip(own, held, strict=True)
            ]
        if of_teacher and own is not None:
            said = self.reader.logprobs(trajectories, self.teacher)
            gaps = [q - p for p, q in zip(own, said, strict=True)]
        values = finals = None
        if self.critic is not None:
            values, finals = self.reader.values(trajectories, self.critic)
        return Measured(old, held, kls, gaps, values, finals)

    # --- a step

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
        tally = Tally()
        for epoch in range(config.epochs):
            order = self.generator.permutation(len(trajectories))
            for part, chosen in enumerate(np.array_split(order, config.minibatches)):
                untouched = epoch == part == 0
                try:
                    self._minibatch(trajectories, chosen, credit, measured, tally, untouched=untouched)
                except NonFiniteError:
                    self.optimizer.zero_grad(set_to_none=True)
                    if config.on_nonfinite == "stop":
                        raise
                    tally.skipped += 1
        self.steps += 1
        tally.share(self.ranks)
        metrics = tally.metrics(
            kept=config.importance.kind != "off",
            critic=self.critic is not None,
            skips=config.on_nonfinite == "skip",
            beside=self._asks == "vocabulary",
        )
        metrics["lr"] = rate
        metrics.update(self._leash(trajectories, measured, tally))
        if config.entropy.target is not None:
            metrics["entropy_coef"] = self.entropy_coef
            self.entropy_coef = next_entropy_coef(
                self.entropy_coef, tally.a_token(tally.entropy), config.entropy
            )
        return metrics

    def learning_rate(self, step: int) -> float:
        """Return the rate of `step` (from 0): a linear warm-up, then a linear way down to `lr * lr_final`."""
        return self.config.lr * self._schedule(step)

    def _schedule(self, step: int) -> float:
        config = self.config
        return schedule(step, config.steps, config.warmup_steps, config.lr_final)

    def _minibatch(
        self,
        trajectories: Sequence[Trajectory],
        chosen: np.ndarray[Any, np.dtype[np.intp]],
        credit: Credit,
        measured: Measured,
        tally: Tally,
        *,
        untouched: bool,
    ) -> None:
        """Accumulate the gradient of one minibatch and take the optimiser step."""
        tokens = sum(trajectories[i].sampled_tokens for i in chosen)
        # An episode without advantage has no gradient: it counts in the denominator and need not run.
        in_loss = self.kl_coef > 0 and self.config.kl.where == "loss"
        asked = self.critic is not None or self._asks == "vocabulary"
        everyone = in_loss or self.entropy_coef > 0 or asked
        useful = [int(i) for i in chosen if everyone or np.any(credit.advantages[i])]
        if not useful:
            return
        total = value_total = 0.0
        for batch in self.reader.batches([trajectories[i] for i in useful]):
            weight_N = token_weights(
                batch.lengths,
                self.config.aggregate,
                tokens=tokens,
                sequences=len(chosen),
                constant=self.longest,
            ).to(self.model.device)
            known = self._known(batch, [useful[m] for m in batch.members], credit, measured)
            loss_N, value_N = self._losses(batch, known, tally, untouched=untouched)
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
        tally.add_minibatch(total, value_total, norm)

    def _known(self, batch: PackedBatch, members: Sequence[int], credit: Credit, measured: Measured) -> Known:
        """Return what is known of the tokens of a micro-batch, whose trajectories are `members`."""
        device = self.model.device
        advantage_N = gathered(credit.advantages, members, device)
        assert advantage_N is not None
        in_loss = self.config.kl.where == "loss"
        return Known(
            batch.lengths,
            advantage_N,
            batch.sampler_logp_N,
            learner_logp_N=gathered(measured.old_logps, members, device),
            reference_logp_N=gathered(measured.reference_logps, members, device) if in_loss else None,
            value_N=gathered(measured.values, members, device),
            return_N=gathered(credit.returns, members, device),
        )

    def _losses(
        self, batch: PackedBatch, known: Known, tally: Tally, *, untouched: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the policy's loss of each trained token, and the critic's. [N], [N]"""
        config, critic = self.config, self.critic
        # While the critic learns alone, the policy stays as it is: its trunk, too, where they share one.
        warming = config.critic is not None and self.steps < config.critic.warmup_steps
        beside = None
        if self.teacher is not None and self._asks == "vocabulary":
            beside = self.teacher.beside(batch, self.temperature)
        with torch.set_grad_enabled(not warming):
            hidden_NH, logp_N, entropy_N, distance_N = policy_pass(
                self.model, batch, self.temperature, beside
            )
        terms = policy_terms(
            config,
            logp_N,
            entropy_N,
            known,
            kl_coef=self.kl_coef,
            entropy_coef=self.entropy_coef,
            distance_N=distance_N,
        )
        tally.add(terms)
        if untouched:
            tally.add_mismatch(logp_N, batch.sampler_logp_N)
        value_N = None
        if critic is not None and known.value_N is not None and known.return_N is not None:
            values_N = critic.values(hidden_NH) if critic.shared else critic(self.model, batch)[0]
            value_N = critic_loss(config, values_N, known)
        return terms.loss_N, value_N

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

    # --- after a step

    def _leash(
        self, trajectories: Sequence[Trajectory], measured: Measured, tally: Tally
    ) -> dict[str, float]:
        """Return the metric `kl`, and move its weight towards the target."""
        config = self.config.kl
        if measured.kls is not None:
            counted = sum(map(len, measured.kls))
            found = float(sum(kl.sum() for kl in measured.kls)) / max(counted, 1)
        elif measured.reference_logps is not None:
            found = tally.a_token(tally.kl)
        elif config.measure_every and (self.steps - 1) % config.measure_every == 0:
            return {"kl": self.kl_from_start(trajectories)}
        else:
            return {}
        metrics = {"kl": found}
        if config.target is not None:
            metrics["kl_coef"] = self.kl_coef
            self.kl_coef = next_kl_coef(self.kl_coef, found, config)
        return metrics

    def kl_from_start(self, trajectories: Sequence[Trajectory], sample: int = KL_SAMPLE) -> float:
        """Return KL(policy || reference) in nats a token, estimated (k3) on a few of the episodes."""
        assert self.reference is not None
        chosen = self.generator.permutation(len(trajectories))[:sample]
        return self.reader.kl([trajectories[i] for i in chosen], self.reference)

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
