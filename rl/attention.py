"""Attention over packed tokens: sequences lie end to end in one row, and none sees another.

The layout of a row is a list of segments. A segment attends to its prefix, which several may share, and to its own
past; so the prompt of a group is computed once. Registered with transformers as an attention function of its own, this
works for any model that takes its attention from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "quintain_packed"
"""The name of the attention function among those of transformers."""

_packed: ContextVar[bool] = ContextVar("quintain_packed", default=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens in a packed row: [start, end), continuing [prefix_start, prefix_end) if that is not empty."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0


class Sealed:
    """Segments that a compiler does not look into."""

    __slots__ = ("segments",)

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_segments: Sequence[Segment] | Sealed | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within each segment and its prefix. [1, heads, T, D] -> [1, T, heads, D], as transformers wants it.

    Without segments this is what transformers' own `sdpa` computes. With `sliding_window` a token sees that many tokens
    at most, itself included.
    """
    grouped = query.shape[1] != key.shape[1]
    if (
        packed_segments is None
        and grouped
        and query.shape[2] == 1
        and _alike(attention_mask, dropout, options)
    ):
        return _one_token(query, key, value, attention_mask, scaling), None
    if packed_segments is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return result
    return _attend(query, key, value, packed_segments, dropout, scaling, sliding_window), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed_segments: Sequence[Segment] | Sealed,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> Tensor:
    """Attend segment by segment; not compiled, since the layout is another one each time."""
    segments = packed_segments.segments if isinstance(packed_segments, Sealed) else packed_segments
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    for segment in segments:
        own = slice(segment.start, segment.end)
        before = segment.prefix_end - segment.prefix_start
        keys, values = key[:, :, own], value[:, :, own]
        if before:
            shared = slice(segment.prefix_start, segment.prefix_end)
            keys = torch.cat([key[:, :, shared], keys], dim=2)
            values = torch.cat([value[:, :, shared], values], dim=2)
        length = segment.end - segment.start
        windowed = sliding_window is not None and before + length > sliding_window
        mask = None
        if before or windowed:
            mask = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril(before)
            if windowed and sliding_window is not None:
                mask = mask.triu(before - sliding_window + 1)
        outputs.append(
            nn.functional.scaled_dot_product_attention(
                query[:, :, own],
                keys,
                values,
                attn_mask=mask,
                dropout_p=dropout,
                scale=scaling,
                is_causal=mask is None,
                enable_gqa=grouped,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _alike(mask: Tensor | None, dropout: float, options: dict[str, Any]) -> bool:
    """Say whether all heads attend alike: one mask for them, and nothing added for each."""
    special = options.get("position_bias") is not None or options.get("cache") is not None
    return not dropout and not special and (mask is None or mask.shape[1] == 1)


def _one_token(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None
) -> Tensor:
    """Attend from one new token of each sequence: [B, heads, 1, D] -> [B, 1, heads, D].

    The query heads that share keys are laid beside each other as if they were tokens, so no key is copied or read
    twice: five to ten times faster on a CPU than with repeated keys.
    """
    batch, heads, _, width = query.shape
    shared = key.shape[1]
    together = query.reshape(batch, shared, heads // shared, width)
    found = nn.functional.scaled_dot_product_attention(
        together, key, value, attn_mask=attention_mask, scale=scaling
    )
    return found.reshape(batch, 1, heads, width)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _packed.get() else sdpa_mask(*args, **kwargs)


ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)


def enable_packing(model: nn.Module) -> bool:
    """Make `model` attend by `packed_attention` and return True, or return False if it cannot run packed rows.

    Without segments the model computes what it did before. Models with recurrent or convolutional layers, attention
    sinks, soft-capped scores or positions that are not given as ids cannot: sequences would see each other, or be
    computed wrongly. They run one sequence a row.
    """
    config = getattr(model, "config", None)
    if config is None or not _attends_plainly(model, config.get_text_config()):
        return False
    config.get_text_config()._attn_implementation = NAME
    return True


def _attends_plainly(model: nn.Module, config: Any) -> bool:
    if config._attn_implementation == NAME:
        return True
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config._attn_implementation == "sdpa"
        and layers <= {"full_attention", "sliding_attention"}
        and bool(getattr(model, "_supports_attention_backend", False))
        and not getattr(model, "_is_stateful", False)
        and not getattr(config, "alibi", False)
        and getattr(config, "attn_logit_softcapping", None) is None
        and not any(name.rpartition(".")[2] == "sinks" for name, _ in model.named_parameters())
    )


@contextlib.contextmanager
def packed_rows() -> Iterator[None]:
    """Say that the rows of this forward pass are packed: no mask over the whole row is made."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)
