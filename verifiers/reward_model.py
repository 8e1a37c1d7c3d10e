"""`RewardModel`: learned reward models as a verifier, in batches; one, or several that may disagree.

Loads on first use and needs the `train` extra. Training one is the business of `quintain.rl.stages.reward_model`.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..tools.chat import Message, user
from .base import Episode, Score, Verifier
from .reward_tokens import SEPARATOR, conversation_ids, step_ids, steps_of


@dataclass(eq=False)
class RewardModel(Verifier):
    """The score of one or several reward models, squashed to [0, 1] by `sigmoid(scale * (logit - shift))`.

        RewardModel("runs/rm/model")
        RewardModel(["runs/rm-0/model", "runs/rm-1/model", "runs/rm-2/model"], pessimism=1.0)

    Of several models the mean of their logits less `pessimism` times their standard deviation counts (arXiv
    2310.02743, section 3.2): what only one of them likes is worth little. A model that was trained here knows the mean
    and deviation of its logits on its own rows; those are taken off first, so that members are comparable. The
    logit, and with several models `sigma`, are in the score's parts, so that trainers can normalise them themselves.

    A process reward model judges every step of the last reply: with `steps`, the least, the last or the mean of them
    counts. Concurrent `acall`s are put into batches, and what was asked before is remembered.
    """

    model: str | list[str]
    """A folder or an id that `AutoModelForSequenceClassification` loads, with one output; or several of them, or the
    folder of an ensemble."""
    pessimism: float = 0.0
    """Standard deviations among the models that are taken off."""
    steps: Literal["", "minimum", "last", "mean"] = ""
    """For process reward models: what the steps of a reply count together; empty judges the whole reply once."""
    separator: str = SEPARATOR
    """With `steps`: what ends a step."""
    scale: float = 1.0
    """Steepness of the squashing."""
    shift: float = 0.0
    """The logit that is worth 0.5."""
    normalize: bool = True
    """Whether logits are brought to mean 0 and deviation 1 where the model knows its own."""
    batch_size: int = 8
    """Conversations in one forward pass."""
    batch_tokens: int = 16_384
    """Tokens of one forward pass, padding included; a longer conversation goes alone."""
    max_tokens: int = 4096
    """Tokens of a conversation; what comes before the last so many is cut."""
    cache: int = 4096
    """Conversations whose logits are remembered; 0 for none."""
    device: str = ""
    """Where it runs; empty: CUDA if there is one, else the CPU."""
    _loaded: list[_Member] = field(default_factory=list, init=False, repr=False)
    _known: OrderedDict[tuple[int, ...], tuple[float, ...]] = field(
        default_factory=OrderedDict, init=False, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _waiting: list[tuple[Episode, asyncio.Future[Score]]] = field(
        default_factory=list, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if min(self.batch_size, self.batch_tokens, self.max_tokens) < 1 or self.scale <= 0:
            raise ValueError(
                f"batch_size, batch_tokens and max_tokens must be at least 1 and scale above 0, "
                f"got {self.batch_size}, {self.batch_tokens}, {self.max_tokens}, {self.scale}"
            )
        if self.pessimism < 0 or self.cache < 0:
            raise ValueError(f"pessimism and cache must be at least 0, got {self.pessimism} and {self.cache}")
        if not self.paths:
            raise ValueError("name at least one model")
        if self.pessimism and len(self.paths) < 2:
            raise ValueError(
                f"pessimism {self.pessimism:g} needs several models, got {self.paths[0]!r} alone"
            )
        if self.steps not in ("", "minimum", "last", "mean"):
            raise ValueError(f"steps must be empty, minimum, last or mean, got {self.steps!r}")
        if self.steps and not self.separator:
            raise ValueError("steps need a separator")

    @property
    def paths(self) -> list[str]:
        """The models, one or several; a folder of members, as an ensemble is written, stands for them."""
        named = [self.model] if isinstance(self.model, str) else list(self.model)
        return [path for name in named for path in members_of(name)]

    def score(self, episode: Episode) -> Score:
        """Judge one conversation."""
        return self.score_batch([episode])[0]

    def score_batch(self, episodes: Sequence[Episode]) -> list[Score]:
        """Judge several conversations; a logit that is not finite is ungraded."""
        with self._lock:
            if not self._loaded:
                self._loaded = [_Member.load(path, self.device) for path in self.paths]
            by_member = [self._logits(at, member, episodes) for at, member in enumerate(self._loaded)]
        return [self._score(logits) for logits in zip(*by_member, strict=True)]

    def _score(self, logits: Sequence[float]) -> Score:
        if not all(map(math.isfinite, logits)):
            return Score.ungraded(f"the reward model gave {', '.join(f'{logit:g}' for logit in logits)}")
        mean = statistics.fmean(logits)
        parts = {"logit": mean}
        if len(logits) > 1:
            parts["sigma"] = statistics.stdev(logits)
        logit = mean - self.pessimism * parts.get("sigma", 0.0)
        squashed = 1 / (1 + math.exp(-max(-60.0, min(60.0, self.scale * (logit - self.shift)))))
        spread = f" +- {parts['sigma']:.3g}" if "sigma" in parts else ""
        return Score(squashed, parts, reason=f"logit {mean:.4g}{spread}")

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

    def step_logits(self, episode: Episode) -> list[float]:
        """Return what the models say, on average, after each step of the last reply; empty for a reply without any."""
        with self._lock:
            if not self._loaded:
                self._loaded = [_Member.load(path, self.device) for path in self.paths]
            each = [member.ask([self._row(member, episode)])[0] for member in self._loaded]
        return [statistics.fmean(step) for step in zip(*each, strict=True)]

    # --- one member

    def _logits(self, at: int, member: _Member, episodes: Sequence[Episode]) -> list[float]:
        """Return a logit for each episode, in their order; what is remembered is not computed."""
        rows = [self._row(member, episode) for episode in episodes]
        keys = [(at, *row.ids, -1, *row.ends) for row in rows]
        found: dict[tuple[int, ...], tuple[float, ...]] = {
            key: self._known[key] for key in keys if key in self._known
        }
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        for chunk in chunks(list(new), self.batch_size, self.batch_tokens, lambda key: len(new[key].ids)):
            answers = member.ask([new[key] for key in chunk])
            found.update(zip(chunk, map(tuple, answers), strict=True))
        if self.cache:
            for key in keys:
                self._known[key] = found[key]
                self._known.move_to_end(key)
            while len(self._known) > self.cache * len(self.paths):
                self._known.popitem(last=False)
        mean, deviation = member.statistics if self.normalize else (0.0, 1.0)
        return [self._reduced([(v - mean) / deviation for v in found[key]]) for key in keys]

    def _row(self, member: _Member, episode: Episode) -> _Row:
        messages = conversation(episode)
        if not self.steps:
            ids = conversation_ids(member.tokenizer, messages)[-self.max_tokens :]
            return _Row(ids, [len(ids) - 1])
        last = max(
            (at for at, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages) - 1
        )
        steps = steps_of(messages[last]["content"], self.separator) or [self.separator]
        ids, ends = step_ids(member.tokenizer, messages[:last], steps)
        cut = max(len(ids) - self.max_tokens, 0)
        return _Row(ids[cut:], [end - cut for end in ends if end >= cut])

    def _reduced(self, logits: Sequence[float]) -> float:
        if self.steps == "mean":
            return statistics.fmean(logits)
        return min(logits) if self.steps == "minimum" else logits[-1]


@dataclass(frozen=True, slots=True)
class _Row:
    ids: Sequence[int]
    ends: Sequence[int]
    """Where the model is asked: the last token, or the end of each step."""


def chunks(keys: Sequence[Any], rows: int, tokens: int, length: Any) -> list[list[Any]]:
    """Return `keys` in parts of at most `rows`, of at most `tokens` padded tokens, those of like length together."""
    parts: list[list[Any]] = []
    for key in sorted(keys, key=length):
        if parts and len(parts[-1]) < rows and (len(parts[-1]) + 1) * length(key) <= tokens:
            parts[-1].append(key)
        else:
            parts.append([key])
    return parts


@dataclass(frozen=True, slots=True)
class _Member:
    """One model with its tokenizer."""

    model: Any
    tokenizer: Any
    statistics: tuple[float, float]
    """Mean and deviation of its logits on its own rows; (0, 1) where it does not know them."""

    @classmethod
    def load(cls, path: str, device: str) -> _Member:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForSequenceClassification.from_pretrained(path)
        if model.config.num_labels != 1:
            raise ValueError(
                f"{path} has {model.config.num_labels} outputs; a reward model has one (num_labels=1)"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        known = getattr(model.config, "reward_statistics", None) or (0.0, 1.0)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(where).eval(), tokenizer, (float(known[0]), float(known[1])))

    def ask(self, rows: Sequence[_Row]) -> list[list[float]]:
        """Return the logits of each row at its ends."""
        import torch

        longest = max(len(row.ids) for row in rows)
        pad = self.tokenizer.pad_token_id
        device = self.model.device
        ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row.ids))] for row in rows], device=device)
        mask = torch.tensor(
            [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows], device=device
        )
        with torch.inference_mode():
            logits = logits_at(self.model, ids, mask, [row.ends for row in rows])
        values: list[float] = logits.float().cpu().tolist()
        bounds = [sum(len(row.ends) for row in rows[:at]) for at in range(len(rows) + 1)]
        return [values[a:b] for a, b in pairwise(bounds)]


def logits_at(model: Any, ids_BT: Any, mask_BT: Any, ends: Sequence[Sequence[int]]) -> Any:
    """Return the one output of a sequence-classification model after the tokens at `ends` of each row, joined. [N]

    The model's own pooling looks for the last token that is no padding, and takes an end-of-turn token that is also
    the padding for padding; the places are known here. A model without a trunk and a linear head called `score` has
    no output but its own: it is asked for that, which fits rows with one end.
    """
    import torch

    trunk, head = getattr(model, model.base_model_prefix, None), getattr(model, "score", None)
    if trunk is None or head is None:
        return model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, 0]
    hidden = trunk(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
    rows = torch.tensor([row for row, places in enumerate(ends) for _ in places], device=hidden.device)
    places = torch.tensor([place for found in ends for place in found], device=hidden.device)
    return head(hidden[rows, places])[:, 0]


def members_of(path: str) -> list[str]:
    """Return the models in a folder of members `0`, `1` ...; the path itself where it is no such folder."""
    folder = Path(path)
    if not (folder / "0" / "config.json").is_file() or (folder / "config.json").is_file():
        return [path]
    found = sorted(int(one.name) for one in folder.iterdir() if one.name.isdigit())
    return [str(folder / str(number)) for number in found]


def conversation(episode: Episode) -> list[Message]:
    """Return what a reward model reads: the episode's messages, or prompt and reply."""
    if episode.messages:
        return list(episode.messages)
    return [user(episode.task.prompt), episode.reply.as_message()]
