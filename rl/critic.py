"""The critic of PPO: what an episode is still worth in the state in which a token was written."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from ..tools.errors import UserError
from .attention import enable_packing
from .forward import hidden_states, plain
from .packing import PackedBatch
from .rl_config import CriticConfig


class Critic(nn.Module):
    """A value head on the policy's trunk, or on a trunk of its own.

    The head starts at zero, so the first estimate of everything is 0 and the first advantages are the returns.

    Args:
        policy: the model that acts; a shared critic reads its hidden states, a separate one starts as a copy of its
            trunk unless `config.path` names another model.
        config: the critic's section.

    Raises `UserError` for a `path` that cannot be loaded or whose vocabulary is not the policy's.
    """

    def __init__(self, policy: PreTrainedModel, config: CriticConfig) -> None:
        super().__init__()
        self.shared = config.kind == "shared"
        self.trunk: nn.Module | None = None
        if not self.shared:
            self.trunk = (
                copy.deepcopy(plain(policy).base_model) if config.path is None else _trunk(config, policy)
            )
        source: Any = plain(policy) if self.trunk is None else self.trunk
        size = int(source.config.get_text_config().hidden_size)
        self.head = nn.Linear(size, 1, dtype=torch.float32, device=policy.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def values(self, hidden_NH: Tensor) -> Tensor:
        """Return the value of each state, in units of reward. [N]"""
        value_N: Tensor = self.head(hidden_NH.float())[:, 0]
        return value_N

    def forward(self, policy: PreTrainedModel, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return the values before each trained token and after the last token of each sequence. [N], [M]"""
        reader = policy if self.trunk is None else self.trunk
        states = hidden_states(reader, batch)
        return self.values(states[batch.places_N]), self.values(states[batch.ends_M])


def _trunk(config: CriticConfig, policy: PreTrainedModel) -> nn.Module:
    try:
        trunk: Any = AutoModel.from_pretrained(config.path, dtype=policy.dtype)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"rl.critic.path {config.path!r} holds no model that can be loaded ({first})"
        ) from error
    ours, theirs = policy.get_input_embeddings().num_embeddings, trunk.get_input_embeddings().num_embeddings
    if ours != theirs:
        raise UserError(
            f"rl.critic.path {config.path!r} knows {theirs} tokens and the policy {ours}: a critic reads the "
            "policy's tokens, so it needs a model of the same tokenizer"
        )
    moved: nn.Module = trunk.to(policy.device)
    if enable_packing(plain(policy)) and not enable_packing(moved):
        raise UserError(
            f"rl.critic.path {config.path!r} is a {type(moved).__name__}, which cannot run packed sequences as the "
            "policy does; use a model of plain attention, or leave it out to copy the policy"
        )
    return moved
