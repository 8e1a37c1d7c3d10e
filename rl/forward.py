"""The forward pass of the learner: packed rows through the trunk, the heads on the trained tokens alone.

Logits over the whole vocabulary never exist for more than `HEAD_TOKENS` tokens at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from .attention import packed_rows
from .packing import PackedBatch

HEAD_TOKENS = 1024
"""The head runs on this many tokens at a time."""


def hidden_states(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Return the last hidden state of every place, the rows laid end to end. [R x T, H]"""
    trunk = model.base_model
    given = {"input_ids": batch.ids_RT, "position_ids": batch.positions_RT, "use_cache": False}
    if batch.segments:
        with packed_rows():
            hidden_RTH = trunk(**given, packed_segments=batch.segments).last_hidden_state
    else:  # a causal model does not see the unused places, which come last
        hidden_RTH = trunk(**given).last_hidden_state
    states: Tensor = hidden_RTH.flatten(0, 1)
    return states


def token_logprobs(
    model: PreTrainedModel, batch: PackedBatch, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the entropy (nats) of each trained token. [N], [N]

    Both are of the distribution that was sampled from: the softmax of logits / temperature, in float32.
    """
    return head_logprobs(model, hidden_states(model, batch)[batch.places_N], batch, temperature)


def head_logprobs(
    model: PreTrainedModel, hidden_NH: Tensor, batch: PackedBatch, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return what `token_logprobs` returns, from the states that the trained tokens were written in."""
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
