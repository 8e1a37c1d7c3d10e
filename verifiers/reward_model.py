"""`RewardModel`: the head of a sequence-classification model as a verifier, in batches.

Loads on first use and needs the `train` extra. Training one is the business of `quintain.rl`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..tools.chat import Message, user
from .base import Episode, Score, Verifier


@dataclass(eq=False)
class RewardModel(Verifier):
    """The score of a reward model with one output, squashed to [0, 1] by `sigmoid(scale * (logit - shift))`.

    The raw logit is in the score's parts, so that trainers can normalise it themselves. Concurrent `acall`s
    are put into batches.
    """

    model: str
    """A folder or an id that `AutoModelForSequenceClassification` loads."""
    scale: float = 1.0
    """Steepness of the squashing."""
    shift: float = 0.0
    """The logit that is worth 0.5."""
    batch_size: int = 8
    """Conversations in one forward pass."""
    max_tokens: int = 4096
    """Tokens of a conversation; what comes before the last so many is cut."""
    device: str = ""
    """Where it runs; empty: CUDA if there is one, else the CPU."""
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _waiting: list[tuple[Episode, asyncio.Future[Score]]] = field(
        default_factory=list, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_tokens < 1 or self.scale <= 0:
            raise ValueError(
                f"batch_size and max_tokens must be at least 1 and scale above 0, "
                f"got {self.batch_size}, {self.max_tokens}, {self.scale}"
            )

    def score(self, episode: Episode) -> Score:
        """Judge one conversation."""
        return self.score_batch([episode])[0]

    def score_batch(self, episodes: Sequence[Episode]) -> list[Score]:
        """Judge several conversations; a logit that is not finite is ungraded."""
        logits: list[float] = []
        with self._lock:
            for start in range(0, len(episodes), self.batch_size):
                logits.extend(
                    self._logits([conversation(e) for e in episodes[start : start + self.batch_size]])
                )
        return [self._score(logit) for logit in logits]

    def _score(self, logit: float) -> Score:
        if not math.isfinite(logit):
            return Score.ungraded(f"the reward model gave {logit}")
        squashed = 1 / (1 + math.exp(-max(-60.0, min(60.0, self.scale * (logit - self.shift)))))
        return Score(squashed, {"logit": logit}, reason=f"logit {logit:.4g}")

    async def ascore(self, episode: Episode) -> Score:
        """Judge one conversation together with those that wait at the same time."""
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        self._waiting.append((episode, future))
        await asyncio.sleep(0)  # let the others of this round of the loop come along
        if self._waiting and self._waiting[0][1] is future:
            batch, self._waiting = self._waiting, []
            try:
                scores = await asyncio.to_thread(self.score_batch, [waiting for waiting, _ in batch])
            except Exception as error:
                for _, waiting_future in batch:
                    if not waiting_future.done():
                        waiting_future.set_exception(error)
            else:
                for (_, waiting_future), score in zip(batch, scores, strict=True):
                    if not waiting_future.done():
                        waiting_future.set_result(score)
        return await future

    def _logits(self, conversations: list[list[Message]]) -> list[float]:
        import torch

        model, tokenizer = self._loaded()
        rows = [self._tokens(tokenizer, messages)[-self.max_tokens :] for messages in conversations]
        longest = max(len(row) for row in rows)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=model.device)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device
        )
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits
        return [float(row[0]) for row in logits.float().cpu()]

    def _tokens(self, tokenizer: Any, messages: list[Message]) -> list[int]:
        """Return the tokens of a conversation: at least one, and none for characters that UTF-8 cannot write."""
        clean: list[Any] = [{**m, "content": _encodable(m["content"])} for m in messages]
        if tokenizer.chat_template:
            found = tokenizer.apply_chat_template(clean, tokenize=True, return_dict=False)
        else:
            found = tokenizer("\n\n".join(m["content"] for m in clean))["input_ids"]
        return [int(token) for token in found] or [tokenizer.pad_token_id]

    def _loaded(self) -> tuple[Any, Any]:
        if not self._state:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self.model)
            model = AutoModelForSequenceClassification.from_pretrained(self.model)
            if model.config.num_labels != 1:
                raise ValueError(
                    f"{self.model} has {model.config.num_labels} outputs; a reward model has one (num_labels=1)"
                )
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            if model.config.pad_token_id is None:
                model.config.pad_token_id = tokenizer.pad_token_id
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            self._state.update(model=model.to(device).eval(), tokenizer=tokenizer)
        return self._state["model"], self._state["tokenizer"]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def conversation(episode: Episode) -> list[Message]:
    """Return what a reward model reads: the episode's messages, or prompt and reply."""
    if episode.messages:
        return list(episode.messages)
    return [user(episode.task.prompt), episode.reply.as_message()]
