"""The same words on both sides: models that compute every token and then say what a script says.

A comparison of two ways to sample is fair only if both sample the same tokens. Both sides here run the model, the
softmax and the draw as they always do; the token that was drawn is then replaced by the script's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel

from quintain.rl.engines.transformers import TransformersEngine

SURE = 1e4
"""Added to a logit, it leaves no other token a chance."""


class ForcedEngine(TransformersEngine):
    """Our engine, saying `script[seed]` to the request whose sampling has that seed."""

    def __init__(
        self, model: PreTrainedModel, script: dict[int, Sequence[int]], *, max_sessions: int = 256
    ) -> None:
        super().__init__(model, max_sessions=max_sessions)
        self.script = script

    def _draw(self, sessions: list[Any], logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        token_B, logprob_B = super()._draw(sessions, logits_BV)
        said = [self.script[s.sampling.seed][len(s.sampled)] for s in sessions]
        return torch.tensor(said, device=token_B.device), logprob_B


class Forced(LogitsProcessor):
    """Makes `model.generate` say the next of `rounds` in each call: one reply for each row of the batch.

    A row that is done gets padding from `generate` itself, whatever the script says.
    """

    def __init__(self, rounds: Sequence[Sequence[Sequence[int]]] = (), *, filler: int = 0) -> None:
        self.rounds = list(rounds)
        self.filler = filler
        self._now: Tensor | None = None
        self._at = 0

    def next_round(self) -> None:
        """Take the replies of the next call of `generate`."""
        replies = self.rounds.pop(0)
        width = max(map(len, replies))
        self._now = torch.tensor([[*reply, *[self.filler] * (width - len(reply))] for reply in replies])
        self._at = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Raise the script's token of each row above all others."""
        assert self._now is not None
        token_B = self._now[:, min(self._at, self._now.shape[1] - 1), None].to(scores.device)
        self._at += 1
        return scores.scatter_add(1, token_B, torch.full_like(token_B, SURE, dtype=scores.dtype))


def episodes(
    count: int,
    group: int,
    *,
    seed: int,
    words: int,
    stop: int,
    prompt: tuple[int, int] = (60, 150),
    turns: tuple[int, int] = (1, 6),
    longest_reply: int = 128,
) -> list[list[tuple[list[int], list[int]]]]:
    """Return episodes as pairs of given tokens and the reply to them, in the spread of lengths that agents have.

    The episodes of a group share their prompt. Replies are log-normal (median 24 tokens, two thirds between 12 and
    48, at most `longest_reply`), so are the answers to them (median 30). Tokens are drawn below `words`; a reply ends
    with `stop`.
    """
    rng = np.random.default_rng(seed)

    def ids(length: int) -> list[int]:
        found: list[int] = rng.integers(stop + 1, words, length).tolist()
        return found

    def length(median: float, top: int) -> int:
        return int(np.clip(rng.lognormal(np.log(median), 0.7), 4, top))

    made = []
    for number in range(count):
        if number % group == 0:
            shared = ids(int(rng.integers(*prompt)))
        episode = []
        for turn in range(int(rng.integers(turns[0], turns[1] + 1))):
            given = shared if turn == 0 else ids(length(30, 160))
            episode.append((list(given), [*ids(length(24, longest_reply) - 1), stop]))
        made.append(episode)
    return made
