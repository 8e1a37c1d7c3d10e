"""The model that a policy is held to: a frozen copy of the start, or the base under a LoRA adapter."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .forward import token_logprobs
from .packing import PackedBatch


class Reference:
    """The policy as it was when this was made.

    A model with a LoRA adapter (`peft`) needs no copy: its base never moves, and is read with the adapter switched
    off. What the adapter held before is then not part of the reference.
    """

    def __init__(self, policy: PreTrainedModel) -> None:
        self._policy = policy
        self.copy: PreTrainedModel | None = None
        """The frozen copy; None where the base under an adapter is read."""
        if not hasattr(policy, "disable_adapter"):
            self.copy = copy.deepcopy(policy).eval().requires_grad_(False)

    @torch.no_grad()
    def logprobs(self, batch: PackedBatch, temperature: float) -> Tensor:
        """Return the reference's log-probability of each trained token. [N]"""
        with self._model() as model:
            return token_logprobs(model, batch, temperature)[0]

    def state(self) -> dict[str, Any] | None:
        """Return the weights of the copy; None where there is none."""
        return None if self.copy is None else self.copy.state_dict()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Take over what `state` returned."""
        if self.copy is not None and state is not None:
            self.copy.load_state_dict(state)

    @contextlib.contextmanager
    def _model(self) -> Iterator[PreTrainedModel]:
        if self.copy is not None:
            yield self.copy
            return
        was_training = self._policy.training
        self._policy.eval()
        try:
            with self._policy.disable_adapter():
                yield self._policy
        finally:
            self._policy.train(was_training)
