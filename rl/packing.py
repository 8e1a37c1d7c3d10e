"""Packing: many sequences in few rows, with nothing wasted on padding and no sequence seeing another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """R rows of L tokens that hold several sequences each, and the N tokens in them that are trained on."""

    ids_RL: Tensor
    """Token ids; 0 in the unused end of a row."""
    positions_RL: Tensor
    """The place of each token in its own sequence."""
    segments_RL: Tensor
    """Which sequence of the row a token belongs to; -1 in the unused end."""
    rows_N: Tensor
    """The row of the token *before* each trained token: its hidden state predicts it."""
    columns_N: Tensor
    """The column of that token."""
    targets_N: Tensor
    """The trained token."""
    sampler_logp_N: Tensor
    """What the sampler gave it."""
    members: tuple[int, ...]
    """Which sequences are in the batch, in the order of the trained tokens: indices into what was packed."""
    lengths: tuple[int, ...]
    """How many trained tokens each of them has."""
    end_rows_M: Tensor
    """The row of the last token of each sequence, in the order of `members`."""
    end_columns_M: Tensor
    """The column of that token: its hidden state is what the episode ended in."""

    def attention_mask(self) -> Tensor:
        """Return [R, 1, L, L]: True where a token sees another, which is earlier and of the same sequence."""
        same = self.segments_RL[:, :, None] == self.segments_RL[:, None, :]
        return (same & torch.ones(same.shape[-2:], dtype=torch.bool, device=same.device).tril())[:, None]

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on `device`."""
        moved = {
            name: getattr(self, name).to(device)
            for name in self.__slots__
            if name not in ("members", "lengths")
        }
        return PackedBatch(**moved, members=self.members, lengths=self.lengths)


def pack(trajectories: Sequence[Trajectory], budget: int) -> Iterator[PackedBatch]:
    """Yield the trajectories in batches of at most `budget` tokens (more only for one that is longer).

    Rows are as long as the batch's longest sequence and filled first-fit, longest first. Sequences of similar
    length meet, because attention inside a row costs its length squared.
    """
    order = sorted(range(len(trajectories)), key=lambda i: -len(trajectories[i].ids))
    while order:
        width = len(trajectories[order[0]].ids)
        rows: list[list[int]] = []
        room: list[int] = []
        left: list[int] = []
        for index in order:
            length = len(trajectories[index].ids)
            fit = next((r for r, free in enumerate(room) if free >= length), None)
            if fit is not None:
                rows[fit].append(index)
                room[fit] -= length
            elif not rows or (len(rows) + 1) * width <= budget:
                rows.append([index])
                room.append(width - length)
            else:
                left.append(index)
        yield _fill(trajectories, rows, width)
        order = left


def _fill(trajectories: Sequence[Trajectory], rows: list[list[int]], width: int) -> PackedBatch:
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    segments = torch.full((len(rows), width), -1)
    where: list[tuple[int, int]] = []
    targets: list[int] = []
    logps: list[float] = []
    members: list[int] = []
    lengths: list[int] = []
    ends: list[tuple[int, int]] = []
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices):
            trajectory = trajectories[index]
            end = start + len(trajectory.ids)
            ids[row, start:end] = torch.tensor(trajectory.ids)
            positions[row, start:end] = torch.arange(end - start)
            segments[row, start:end] = segment
            trained = [t for t, mine in enumerate(trajectory.mask) if mine and t > 0]
            where.extend((row, start + t - 1) for t in trained)
            targets.extend(trajectory.ids[t] for t in trained)
            logps.extend(trajectory.logprobs[t] for t in trained)
            members.append(index)
            lengths.append(len(trained))
            ends.append((row, end - 1))
            start = end
    rows_N, columns_N = torch.tensor(where, dtype=torch.long).reshape(-1, 2).unbind(1)
    return PackedBatch(
        ids_RL=ids,
        positions_RL=positions,
        segments_RL=segments,
        rows_N=rows_N,
        columns_N=columns_N,
        targets_N=torch.tensor(targets, dtype=torch.long),
        sampler_logp_N=torch.tensor(logps),
        members=tuple(members),
        lengths=tuple(lengths),
        end_rows_M=torch.tensor([row for row, _ in ends]),
        end_columns_M=torch.tensor([column for _, column in ends]),
    )
