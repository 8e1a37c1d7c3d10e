"""What the networks say of whole trajectories, without gradient: the policy, the reference and the critic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .advantages import Floats
from .critic import Critic
from .forward import token_logprobs
from .losses import kl_estimate
from .packing import PackedBatch
from .ranks import Ranks
from .reference import Reference
from .teacher import Teacher
from .trajectory import Trajectory


class Reader:
    """Runs trajectories through the networks as they are now; with several ranks each runs its share.

    Args:
        model: the policy.
        ranks: those that share the work; all make the same calls with the same arguments.
        temperature: the one that episodes are sampled at.
        budget: tokens of one pass.
        alone: give every sequence a row of its own, for models that cannot run packed rows.
    """

    def __init__(
        self, model: PreTrainedModel, ranks: Ranks, *, temperature: float, budget: int, alone: bool
    ) -> None:
        self.model = model
        self.ranks = ranks
        self.temperature = temperature
        self._budget = budget
        self._alone = alone

    def batches(self, trajectories: Sequence[Trajectory]) -> Iterator[PackedBatch]:
        """Yield what this rank runs of the trajectories, on the model's device."""
        for batch in self.ranks.batches(trajectories, self._budget, alone=self._alone):
            yield batch.to(self.model.device)

    @torch.no_grad()
    def logprobs(
        self, trajectories: Sequence[Trajectory], of: Reference | Teacher | None = None
    ) -> list[Floats]:
        """Return the log-probability of each trained token by the policy, or by another. [N][T]"""
        found: dict[int, Floats] = {}
        for batch in self.batches(trajectories):
            said_N = self._own(batch) if of is None else of.logprobs(batch, self.temperature)
            found.update(zip(batch.members, _split(said_N, batch.lengths), strict=True))
        found = self.ranks.merged(found)
        return [found[index] for index in range(len(trajectories))]

    @torch.no_grad()
    def values(self, trajectories: Sequence[Trajectory], critic: Critic) -> tuple[list[Floats], Floats]:
        """Return the critic's estimates before each trained token and after each episode. [N][T], [N]"""
        values: dict[int, Floats] = {}
        finals: dict[int, float] = {}
        for batch in self.batches(trajectories):
            values_N, finals_M = critic(self.model, batch)
            values.update(zip(batch.members, _split(values_N, batch.lengths), strict=True))
            finals.update(zip(batch.members, finals_M.double().tolist(), strict=True))
        values, finals = self.ranks.merged(values), self.ranks.merged(finals)
        everyone = range(len(trajectories))
        return [values[i] for i in everyone], np.array([finals[i] for i in everyone])

    @torch.no_grad()
    def kl(self, trajectories: Sequence[Trajectory], reference: Reference) -> float:
        """Return KL(policy || reference) in nats a token, estimated (k3) on the trajectories.

        The tokens are of the policy before its update, and k3 wants those of the policy as it is: each is weighed by
        p / p_sampler. Without that, one token that the update made rare would have p_ref / p as its estimate.
        """
        total, tokens = 0.0, 0.0
        for batch in self.batches(trajectories):
            own_N, held_N = self._own(batch), reference.logprobs(batch, self.temperature)
            weight_N = (own_N - batch.sampler_logp_N).exp()
            total += (weight_N * kl_estimate(own_N, held_N)).sum().item()
            tokens += len(held_N)
        total, tokens = self.ranks.total(total, tokens)
        return total / max(tokens, 1)

    def _own(self, batch: PackedBatch) -> Tensor:
        return token_logprobs(self.model, batch, self.temperature)[0]


def sampled(trajectory: Trajectory) -> Floats:
    """Return the sampler's log-probability of each trained token. [T]"""
    return np.array([p for p, mine in zip(trajectory.logprobs, trajectory.mask, strict=True) if mine])


def gathered(arrays: Sequence[Floats] | None, members: Sequence[int], device: torch.device) -> Tensor | None:
    """Return the arrays of the members of a micro-batch as one tensor, in the order of its tokens. [N]"""
    if arrays is None:
        return None
    joined = np.concatenate([arrays[i] for i in members]) if members else np.zeros(0)
    return torch.from_numpy(joined).to(device=device, dtype=torch.float32)


def _split(said_N: Tensor, lengths: Sequence[int]) -> list[Floats]:
    return [part.numpy() for part in torch.split(said_N.double().cpu(), list(lengths))]
