"""Packing: many sequences in one row, end to end, with nothing wasted on padding and no sequence seeing another.

Sequences that begin alike, as those of a group do, share their beginning: it is in the row once. A trajectory of
several samples is laid down as so many sequences, one after the other; what is said of its trained tokens stays one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .attention import Segment
from .trajectory import Trajectory

SHARED_TOKENS = 16
"""A common beginning shorter than this is repeated: sharing it would not pay for the longer list of segments."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """R rows of T tokens, the N tokens in them that are trained on, and the M sequences they belong to.

    Packed, there is one row and `segments` says what lies where. Otherwise every sequence has a row of its own, with
    unused places at the end, and `segments` is empty.
    """

    ids_RT: Tensor
    """Token ids; 0 in unused places."""
    positions_RT: Tensor
    """The place of each token in its own sequence."""
    segments: tuple[Segment, ...]
    """What lies where in a packed row."""
    places_N: Tensor
    """Where, in the rows laid end to end, the token *before* each trained token is: its state predicts it."""
    targets_N: Tensor
    """The trained token."""
    sampler_logp_N: Tensor
    """What the sampler gave it."""
    ends_M: Tensor
    """Where the last token of each sequence is: its state is what the episode ended in."""
    members: tuple[int, ...]
    """Which sequences these are, in the order of the trained tokens: indices into what was packed."""
    lengths: tuple[int, ...]
    """How many trained tokens each of them has."""

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on `device`."""
        tensors: dict[str, Any] = {
            f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)


def pack(
    trajectories: Sequence[Trajectory], budget: int, *, alone: bool = False, share: bool = True
) -> Iterator[PackedBatch]:
    """Yield the trajectories in batches of at most `budget` tokens (more only for one that is longer).

    Args:
        trajectories: what is packed; those of a group are kept together.
        budget: tokens that run through the model at a time.
        alone: give every sequence a row of its own, for models that cannot run packed rows; sequences of
            similar length then meet.
        share: compute what the sequences of a group begin with once.
    """
    for trajectory in trajectories:
        if not trajectory.trainable:
            raise ValueError(
                f"trajectory {trajectory.id} holds text in place of tokens: it cannot be trained on"
            )
    if alone:
        yield from _rows(trajectories, budget)
        return
    row = _Row()
    for family in _families(trajectories):
        prefix = _common_prefix([trajectories[i] for i in family]) if share and len(family) > 1 else 0
        prefix = prefix if prefix >= SHARED_TOKENS else 0
        placed = None
        for index in family:
            own = len(trajectories[index].ids) - prefix  # all its samples: they stay together
            needed = own + (prefix if placed is None else 0)
            if row.length and row.length + needed > budget:
                yield row.batch()
                row, placed = _Row(), None
            if prefix and placed is None:
                placed = row.put_prefix(trajectories[index].ids[:prefix])
            row.put(index, trajectories[index], prefix, placed or 0)
    if row.length:
        yield row.batch()


def _families(trajectories: Sequence[Trajectory]) -> list[list[int]]:
    """Return the indices by group, in the order in which groups appear."""
    found: dict[int, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        found.setdefault(trajectory.group, []).append(index)
    return list(found.values())


def _common_prefix(family: Sequence[Trajectory]) -> int:
    """Return how many tokens all begin with, none of them sampled and none the last of its sequence."""
    first = family[0]
    limit = min(min(t.spans[0][1] - 1, _given(t)) for t in family)
    for place in range(limit):
        if any(t.ids[place] != first.ids[place] for t in family[1:]):
            return place
    return max(limit, 0)


def _given(trajectory: Trajectory) -> int:
    """Return how many tokens come before the first sampled one."""
    mask = list(trajectory.mask)
    return mask.index(True) if True in mask else len(mask)


class _Row:
    """A packed row in the making."""

    def __init__(self) -> None:
        self.length = 0
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._segments: list[Segment] = []
        self._places: list[int] = []
        self._targets: list[int] = []
        self._logps: list[float] = []
        self._ends: list[int] = []
        self._members: list[int] = []
        self._lengths: list[int] = []

    def put_prefix(self, ids: Sequence[int]) -> int:
        """Lay down a beginning that several sequences share and return where it starts."""
        start = self.length
        self._segments.append(Segment(start, start + len(ids)))
        self._lay(ids, 0)
        return start

    def put(self, index: int, trajectory: Trajectory, prefix: int, prefix_start: int) -> None:
        """Lay down a trajectory; its first `prefix` tokens lie at `prefix_start` already."""
        trained = 0
        for begin, end in trajectory.spans:
            known = prefix if begin == 0 else 0
            start, ids = self.length, trajectory.ids[begin:end]
            self._segments.append(
                Segment(
                    start,
                    start + len(ids) - known,
                    prefix_start,
                    prefix_start + known if known else prefix_start,
                )
            )
            self._lay(ids[known:], known)
            for t in _trained(trajectory, begin, end):
                before = t - 1
                self._places.append(start + before - known if before >= known else prefix_start + before)
                self._targets.append(ids[t])
                self._logps.append(trajectory.logprobs[begin + t])
                trained += 1
        self._ends.append(self.length - 1)
        self._members.append(index)
        self._lengths.append(trained)

    def _lay(self, ids: Sequence[int], position: int) -> None:
        self._ids.extend(ids)
        self._positions.extend(range(position, position + len(ids)))
        self.length = len(self._ids)

    def batch(self) -> PackedBatch:
        """Return the row as tensors."""
        return PackedBatch(
            ids_RT=torch.tensor([self._ids], dtype=torch.long),
            positions_RT=torch.tensor([self._positions], dtype=torch.long),
            segments=tuple(self._segments),
            places_N=torch.tensor(self._places, dtype=torch.long),
            targets_N=torch.tensor(self._targets, dtype=torch.long),
            sampler_logp_N=torch.tensor(self._logps, dtype=torch.float32),
            ends_M=torch.tensor(self._ends, dtype=torch.long),
            members=tuple(self._members),
            lengths=tuple(self._lengths),
        )


def _trained(trajectory: Trajectory, begin: int, end: int) -> list[int]:
    """Return the places of the trained tokens of a sample, counted from its beginning; nothing predicts the first."""
    return [t for t in range(1, end - begin) if trajectory.mask[begin + t]]


def _rows(trajectories: Sequence[Trajectory], budget: int) -> Iterator[PackedBatch]:
    """Yield batches with a row for each sequence, longest first; the samples of a trajectory stay together."""
    order = sorted(range(len(trajectories)), key=lambda i: -trajectories[i].length)
    while order:
        width = trajectories[order[0]].length
        rows = count = 0
        while count < len(order):
            rows += len(trajectories[order[count]].samples)
            if count and rows * width > budget:
                break
            count += 1
        yield _padded([(i, trajectories[i]) for i in order[:count]], width)
        order = order[count:]


def _padded(chosen: Sequence[tuple[int, Trajectory]], width: int) -> PackedBatch:
    rows = sum(len(trajectory.samples) for _, trajectory in chosen)
    ids_RT = torch.zeros(rows, width, dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    logps: list[float] = []
    ends: list[int] = []
    lengths: list[int] = []
    row = 0
    for _, trajectory in chosen:
        before = len(targets)
        for begin, end in trajectory.spans:
            ids_RT[row, : end - begin] = torch.tensor(trajectory.ids[begin:end])
            trained = _trained(trajectory, begin, end)
            places.extend(row * width + t - 1 for t in trained)
            targets.extend(trajectory.ids[begin + t] for t in trained)
            logps.extend(trajectory.logprobs[begin + t] for t in trained)
            last = row * width + end - begin - 1
            row += 1
        ends.append(last)
        lengths.append(len(targets) - before)
    return PackedBatch(
        ids_RT=ids_RT,
        positions_RT=torch.arange(width).expand(rows, width),
        segments=(),
        places_N=torch.tensor(places, dtype=torch.long),
        targets_N=torch.tensor(targets, dtype=torch.long),
        sampler_logp_N=torch.tensor(logps, dtype=torch.float32),
        ends_M=torch.tensor(ends, dtype=torch.long),
        members=tuple(index for index, _ in chosen),
        lengths=tuple(lengths),
    )
