"""Who shares the work of a learner: this process alone, or one rank of several that hold the weights together.

Every rank sees all episodes of a step and draws the same minibatches. What a rank runs of them, and how the ranks
come to one number, is said here; `sharding.Team` is the answer for several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .attention import Segment
from .packing import PackedBatch, pack
from .trajectory import Trajectory

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")


class Ranks(Protocol):
    """What the learner asks of the ranks. Those that answer with one value for all must be called by all."""

    rank: int
    """Which of them this process is, from 0."""
    size: int
    """How many there are. A gradient is their mean, so a loss whose denominators are global is multiplied by it."""

    def shard(self, module: nn.Module, *, halves: bool) -> None:
        """Spread the weights of `module` over the ranks, in place; `halves` keeps half precision as it is."""
        ...

    def batches(
        self, trajectories: Sequence[Trajectory], budget: int, *, alone: bool
    ) -> Iterator[PackedBatch]:
        """Yield what this rank runs of the trajectories, as `pack` does; every rank gets as many batches."""
        ...

    def merged(self, found: Mapping[int, Value]) -> dict[int, Value]:
        """Return what all ranks have found."""
        ...

    def total(self, *values: float) -> list[float]:
        """Return the sum over the ranks of each value."""
        ...

    def largest(self, value: float) -> float:
        """Return the largest of the ranks' values."""
        ...

    def clip(self, parameters: Sequence[Tensor], norm: float) -> float:
        """Scale the gradients down to `norm` together and return the norm that they had."""
        ...


class Alone:
    """One process that does all the work."""

    rank = 0
    size = 1

    def shard(self, module: nn.Module, *, halves: bool) -> None:
        """Leave the module as it is."""

    def batches(
        self, trajectories: Sequence[Trajectory], budget: int, *, alone: bool
    ) -> Iterator[PackedBatch]:
        """Yield all of the trajectories."""
        return pack(trajectories, budget, alone=alone)

    def merged(self, found: Mapping[int, Value]) -> dict[int, Value]:
        """Return what is given."""
        return dict(found)

    def total(self, *values: float) -> list[float]:
        """Return what is given."""
        return list(values)

    def largest(self, value: float) -> float:
        """Return what is given."""
        return value

    def clip(self, parameters: Sequence[Tensor], norm: float) -> float:
        """Clip by the norm of all gradients."""
        return nn.utils.clip_grad_norm_(parameters, norm).item()


@dataclass(frozen=True, slots=True)
class Launch:
    """What torchrun said to this process."""

    variables: Mapping[str, str]
    """Its rank and where the others are, by the names of torchrun."""

    @property
    def rank(self) -> int:
        """Which rank this process is, from 0."""
        return int(self.variables["RANK"])

    @property
    def place(self) -> int:
        """Which process of this machine it is, from 0: the number of its CUDA device."""
        return int(self.variables.get("LOCAL_RANK", self.variables["RANK"]))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Give the variables back to the environment, for those who are to connect."""
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name in self.variables:
                os.environ.pop(name, None)


def rank_here() -> int | None:
    """Return which rank torchrun made this process; None for a process of its own."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(os.environ["RANK"]) if size.isdigit() and int(size) > 1 and "RANK" in os.environ else None


def take_launch() -> Launch | None:
    """Return what torchrun said, None for a process of its own, and take it out of the environment.

    A library that found it there, a trainer or an engine, would wait for ranks that do not call it.
    """
    if rank_here() is None:
        return None
    return Launch({name: os.environ.pop(name) for name in TORCHRUN if name in os.environ})


def shares(trajectories: Sequence[Trajectory], size: int) -> list[list[int]]:
    """Return which of the trajectories each of `size` ranks runs: about as many tokens each.

    A group stays together, so that its beginning is computed once, unless it is more than a rank's share. The
    heaviest come first, each to the rank that has the least (Graham 1969: at most 4/3 of the best makespan).
    """
    groups: dict[int, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        groups.setdefault(trajectory.group, []).append(index)

    def tokens(unit: Sequence[int]) -> int:
        return sum(len(trajectories[i].ids) for i in unit)

    fair = tokens(range(len(trajectories))) / size
    units: list[list[int]] = []
    for group in groups.values():
        units += [group] if tokens(group) <= fair else [[index] for index in group]
    found: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for unit in sorted(units, key=tokens, reverse=True):
        least = loads.index(min(loads))
        found[least] += unit
        loads[least] += tokens(unit)
    return [sorted(share) for share in found]


def share_batches(
    trajectories: Sequence[Trajectory], mine: Sequence[int], budget: int, *, alone: bool
) -> list[PackedBatch]:
    """Return the batches of the trajectories `mine`; their `members` are indices into `trajectories`."""
    packed = pack([trajectories[i] for i in mine], budget, alone=alone)
    return [replace(batch, members=tuple(mine[m] for m in batch.members)) for batch in packed]


def idle_batch(*, alone: bool) -> PackedBatch:
    """Return a batch of one token that nothing is learned from, for a rank that has less to do than another.

    Gathering and reducing weights takes all ranks, so each runs as often as the one with the most to do.
    """
    nothing = torch.zeros(0, dtype=torch.long)
    return PackedBatch(
        ids_RT=torch.zeros(1, 1, dtype=torch.long),
        positions_RT=torch.zeros(1, 1, dtype=torch.long),
        segments=() if alone else (Segment(0, 1),),
        places_N=nothing,
        targets_N=nothing,
        sampler_logp_N=torch.zeros(0),
        ends_M=nothing,
        members=(),
        lengths=(),
    )
