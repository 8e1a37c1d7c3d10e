"""A key-value cache whose rows are sessions: the memory of the `transformers` engine.

One row holds the keys and values of one session for as long as it lives, so a turn that continues a
conversation costs its new tokens only. Living sessions always occupy the first rows: a step over all of them
reads the buffers in place, without gathering.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of up to `rows` sessions, grown on demand.

    Before each forward pass `aim` says which rows are in the batch and at which positions their new tokens
    stand; the layers then write there and give attention the first `high` positions of those rows.
    """

    def __init__(self, layers: int) -> None:
        self.slots = [SlotLayer() for _ in range(layers)]
        super().__init__(layers=self.slots)

    def aim(self, rows: Tensor | int, positions: Tensor, high: int) -> None:
        """Set the target of the next forward pass.

        `rows`: the row of each batch entry [B], or the number n of leading rows that are the batch.
        `positions`: where each new token stands in its row [B, W].
        `high`: how many leading positions attention sees (a mask hides what is not yet written).
        """
        for slot in self.slots:
            slot.rows, slot.positions, slot.high = rows, positions, high

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` sessions of `length` tokens; called before a pass that needs it."""
        for slot in self.slots:
            slot.reserve(rows, length)

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of row `source` into row `target`; without any, neither need be there."""
        if length == 0:
            return
        for slot in self.slots:
            for buffer in (slot.keys, slot.values):
                if buffer is not None:
                    buffer[target, :, :length] = buffer[source, :, :length]

    def clear(self) -> None:
        """Free the buffers; the next ones begin small."""
        for slot in self.slots:
            slot.keys = slot.values = None
            slot.want = (1, 1)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of a `SlotCache`: two buffers [rows, heads, length, width]."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.rows: Tensor | int = 0
        self.positions: Tensor = torch.empty(0)
        self.high = 0
        self.want = (1, 1)

    def reserve(self, rows: int, length: int) -> None:
        """Grow the buffers to at least [rows, :, length]; doubling, so that growing stays cheap."""
        if self.keys is None or self.values is None:
            self.want = (max(rows, self.want[0]), max(length, self.want[1]))
            return
        have = (self.keys.shape[0], self.keys.shape[2])
        self.want = (max(rows, have[0]), max(length, have[1]))
        if self.want != have:
            grown = (
                self.want[0] if rows <= have[0] else max(rows, 2 * have[0]),
                self.want[1] if length <= have[1] else max(length, 2 * have[1]),
            )
            self.keys, self.values = _grow(self.keys, *grown), _grow(self.values, *grown)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers in the model's own shape, type and device."""
        rows, length = self.want
        heads = key_states.shape[1]
        self.keys = key_states.new_zeros(rows, heads, length, key_states.shape[-1])
        self.values = value_states.new_zeros(rows, heads, length, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new keys and values [B, heads, W, width] and return what attention reads."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        read: slice | Tensor
        if isinstance(self.rows, int):
            read = slice(0, self.rows)
            rows = torch.arange(self.rows, device=key_states.device)
        else:
            read = rows = self.rows
        self.keys[rows[:, None], :, self.positions] = key_states.transpose(1, 2)
        self.values[rows[:, None], :, self.positions] = value_states.transpose(1, 2)
        return self.keys[read, :, : self.high], self.values[read, :, : self.high]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` returns."""
        return self.high, 0

    def get_seq_length(self) -> int:
        """Return how many positions attention sees."""
        return self.high

    def get_max_length(self) -> int:
        """Return -1: the buffers grow."""
        return -1


def _grow(buffer: Tensor, rows: int, length: int) -> Tensor:
    grown = buffer.new_zeros(rows, buffer.shape[1], length, buffer.shape[3])
    grown[: buffer.shape[0], :, : buffer.shape[2]] = buffer
    return grown
