"""Log-probabilities of whole answers under a model: what a reference says once, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..attention import enable_packing
from ..forward import plain, token_logprobs
from ..packing import pack
from .encode import made
from .preference import Tokens

BUDGET = 8192
"""Tokens that run through the model at a time."""


def answer_logps(model: PreTrainedModel, sides: Sequence[Tokens]) -> list[float]:
    """Return the sum of the log-probabilities (nats) of the marked tokens of each side, dropout off."""
    rows = [
        made(list(side.ids), list(side.mask), [(side.begin, len(side.ids))], [0], [], number, None)
        for number, side in enumerate(sides)
    ]
    alone = not enable_packing(plain(model))
    found = [0.0] * len(rows)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in pack(rows, BUDGET, alone=alone, share=False):
                logps = token_logprobs(model, batch.to(model.device))[0].double().cpu()
                at = 0
                for member, length in zip(batch.members, batch.lengths, strict=True):
                    found[member] += float(logps[at : at + length].sum())
                    at += length
    finally:
        model.train(training)
    return found
