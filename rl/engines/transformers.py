"""The embedded engine: a transformers model, continuous batching, caches that outlive the turn.

Every step runs one token of every living session in one batch. A session that continues after the
environment spoke keeps its cache; the environment's few tokens are forced through the same steps, one at a
time, while the others sample. Long stretches (prompts) are prefilled in a wide pass of their own, once for
all sessions that share them.

The engine reads the weights of the model it was given: a learner that trains the same object needs no
weight transfer, `load` only counts the version up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..attention import enable_packing
from ..forward import Finish, plain
from .base import Completion, EngineError, FinishReason, Sampling
from .slots import SlotCache

WIDE = 24
"""Stretches of more new tokens than this are prefilled in a pass of their own; shorter ones are forced
through the running steps, where each costs one row of a batch that runs anyway ..."""
TOGETHER = 96
"""... unless all sessions together have this many to run: then one pass is cheaper than so many rows."""
PREFILL_TOKENS = 8192
"""At most this many (padded) tokens in one wide pass."""


@dataclass(slots=True, eq=False)
class _Session:
    """One living session and the request it is working on, if any."""

    row: int
    ids: list[int] = field(default_factory=list)  # everything the request covers, prompt and samples
    cached: int = 0  # how many leading ids have their keys and values in the row
    sampling: Sampling | None = None
    uniforms: list[float] = field(default_factory=list)  # one number a sampled token
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    future: asyncio.Future[Completion] | None = None


@dataclass(slots=True, eq=False)
class _Request:
    ids: Sequence[int]
    sampling: Sampling
    session: str
    future: asyncio.Future[Completion]


class TransformersEngine:
    """An `Engine` on a transformers causal language model with full attention.

    Args:
        model: any `*ForCausalLM` whose layers attend to all earlier tokens (no sliding windows, no state
            space layers); it is put to use as it is, in its own type and on its own device.
        max_sessions: at most this many sessions hold a row of the cache; more wait in order.

    Raises `EngineError` for a model with other kinds of layers.
    """

    def __init__(self, model: PreTrainedModel, *, max_sessions: int = 256) -> None:
        if max_sessions < 1:
            raise ValueError(f"max_sessions must be at least 1, got {max_sessions}")
        config = model.config.get_text_config()
        _refuse_other_attention(config)
        enable_packing(plain(model))  # for the way in which it attends from one token
        self.model = model
        self.version = 0
        self.context_length = int(config.max_position_embeddings)
        self.max_sessions = max_sessions
        self._head: nn.Linear = model.get_output_embeddings()
        self._finish_logits = Finish(config)
        self._cache = SlotCache(int(config.num_hidden_layers))
        self._sessions: dict[str, _Session] = {}
        self._rows: list[_Session] = []  # by row: the living sessions
        self._waiting: deque[_Request] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._anonymous = 0

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Sample a completion of `ids`; see `Engine.generate`."""
        if not ids:
            raise ValueError("there is nothing to complete: the prompt has no tokens")
        if len(ids) >= self.context_length:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the model's context is {self.context_length}"
            )
        key = session
        if key is None:
            self._anonymous += 1
            key = f"anonymous {self._anonymous}"
        busy = self._sessions.get(key)
        if (busy is not None and busy.future is not None) or any(r.session == key for r in self._waiting):
            raise EngineError(f"session {key!r} has a request running already")
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(ids, sampling, key, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        try:
            return await future
        finally:
            if session is None:
                self.release(key)

    def release(self, session: str) -> None:
        """Free the row of `session`; a request of it that is still running is dropped."""
        for request in self._waiting:
            if request.session == session:
                request.future.cancel()
        gone = self._sessions.pop(session, None)
        if gone is None:
            return
        if gone.future is not None:
            gone.future.cancel()
        last = self._rows.pop()
        if last is not gone:
            self._cache.copy(last.row, gone.row, last.cached)
            last.row = gone.row
            self._rows[gone.row] = last
        if not self._rows:
            self._cache.clear()  # the learner has the memory now, and a resumed run begins with none too

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Sample from `model`'s weights from now on. Caches made by the old weights are dropped."""
        if self._waiting or any(session.future is not None for session in self._rows):
            raise EngineError("weights can only change while no completion is being sampled")
        await self.swap(model, version)

    async def swap(self, model: PreTrainedModel, version: int) -> None:
        """Sample from `model`'s weights from the next token on; see `InFlight.swap`."""
        self.model = model
        if self._pump is not None and not self._pump.done():
            self.model.eval()
        self._head = model.get_output_embeddings()
        self.version = version
        for session in self._rows:
            session.cached = 0

    async def close(self) -> None:
        """Stop, and free the cache."""
        if self._pump is not None:
            self._pump.cancel()
        for future in [s.future for s in self._rows if s.future] + [r.future for r in self._waiting]:
            future.cancel()
        self._sessions.clear()
        self._rows.clear()
        self._waiting.clear()
        self._cache.clear()

    async def _run(self) -> None:
        """Step while there is work. A failure goes to every request that it hits."""
        if self.model.training:
            self.model.eval()
        try:
            while self._waiting or any(session.future is not None for session in self._rows):
                with torch.inference_mode():
                    self._step()
                await asyncio.sleep(0)  # episodes whose reply is ready go on and may join the next step
        except Exception as error:
            failure = EngineError(f"the transformers engine failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            for future in [s.future for s in self._rows if s.future] + [r.future for r in self._waiting]:
                if not future.done():
                    future.set_exception(failure)
            self._waiting.clear()
            for session in self._rows:
                session.future = None
                session.cached = 0

    def _step(self) -> None:
        self._admit()
        for session in self._rows:
            if session.future is not None and session.future.cancelled():
                session.future = None
        busy = [session for session in self._rows if session.future is not None]
        if not busy:
            return
        wide = self._wide(busy)
        if wide:
            self._prefill(wide)
        # The batch is every living row where most of them work, else a gathered copy of those that do.
        dense = 2 * len(busy) >= len(self._rows)
        batch = self._rows if dense else busy
        tokens = [s.ids[s.cached] if s.future is not None else 0 for s in batch]
        starts = [s.cached for s in batch]
        hidden = self._forward(batch, [[t] for t in tokens], starts, dense=dense)
        ready: list[int] = []
        for index, session in enumerate(batch):
            if session.future is not None:
                session.cached += 1
                if session.cached == len(session.ids):
                    ready.append(index)
        if ready:
            self._sample([batch[i] for i in ready], hidden if len(ready) == len(batch) else hidden[ready])

    def _wide(self, busy: list[_Session]) -> list[_Session]:
        """Return the sessions whose new tokens are to run in a pass of their own."""
        new = [session for session in busy if len(session.ids) - session.cached > 1]
        if sum(len(session.ids) - session.cached for session in new) >= TOGETHER:
            return new
        return [session for session in new if len(session.ids) - session.cached > WIDE]

    def _admit(self) -> None:
        """Give waiting requests their session, in order, as far as there are rows."""
        while self._waiting:
            request = self._waiting[0]
            if request.future.cancelled():
                self._waiting.popleft()
                continue
            session = self._sessions.get(request.session)
            if session is None:
                if len(self._rows) >= self.max_sessions:
                    return
                session = _Session(row=len(self._rows))
                self._rows.append(session)
                self._sessions[request.session] = session
            self._waiting.popleft()
            self._begin(session, request)

    def _begin(self, session: _Session, request: _Request) -> None:
        ids = list(request.ids)
        keep = session.cached
        if session.ids[:keep] != ids[:keep]:
            keep = _common(session.ids[:keep], ids)
        session.cached = min(keep, len(ids) - 1)  # the last token must run: its logits are the first sample
        session.ids = ids
        session.sampling = request.sampling
        room = min(request.sampling.max_tokens, self.context_length - len(ids))
        session.uniforms = np.random.default_rng(request.sampling.seed).random(room).tolist()
        session.sampled = []
        session.logprobs = []
        session.versions = []
        session.future = request.future

    def _prefill(self, sessions: list[_Session]) -> None:
        """Run all but the last new token of `sessions`; what several share from the start runs once."""
        todo: list[_Session] = []
        followers: list[tuple[_Session, _Session]] = []
        leaders: dict[tuple[int, ...], _Session] = {}
        for session in sessions:
            prefix = session.ids[:-1]
            leader = self._holder(prefix) if session.cached == 0 else session
            if leader is None:
                leader = leaders.setdefault(tuple(prefix), session)
            if leader is session:
                todo.append(session)
            else:
                followers.append((session, leader))
        todo.sort(key=lambda s: len(s.ids) - s.cached)
        while todo:
            width = len(todo[-1].ids) - 1 - todo[-1].cached
            most, count = PREFILL_TOKENS // width, 1
            while (
                count < min(most, len(todo))
                and 2 * (len(todo[-count - 1].ids) - todo[-count - 1].cached) > width
            ):
                count += 1  # of similar length: at most half of what runs is padding
            chunk, todo = todo[-count:], todo[:-count]
            self._forward(
                chunk, [s.ids[s.cached : -1] for s in chunk], [s.cached for s in chunk], dense=False
            )
            for session in chunk:
                session.cached = len(session.ids) - 1
        if followers:  # their rows may be new, and what is copied into them did not need a pass
            self._cache.reserve(len(self._rows), max(len(session.ids) for session, _ in followers))
        for session, leader in followers:
            length = len(session.ids) - 1
            self._cache.copy(leader.row, session.row, length)
            session.cached = length

    def _holder(self, prefix: list[int]) -> _Session | None:
        """Return a session whose row holds the keys and values of `prefix` already."""
        length = len(prefix)
        for other in self._rows:
            if other.cached >= length and other.ids[:length] == prefix:
                return other
        return None

    def _forward(
        self, batch: list[_Session], tokens: list[list[int]], starts: list[int], *, dense: bool
    ) -> Tensor:
        """Run new tokens of `batch` at `starts`; return the last hidden state of each entry [B, H]."""
        device = self._head.weight.device
        width = max(map(len, tokens))
        high = max(starts) + width
        self._cache.reserve(len(self._rows), high)
        start_B = torch.tensor(starts, device=device)
        positions_BW = start_B[:, None] + torch.arange(width, device=device)
        if width == 1:
            input_BW = torch.tensor(tokens, device=device)
        else:
            input_BW = torch.tensor([t + [0] * (width - len(t)) for t in tokens], device=device)
        rows: Tensor | int = len(batch) if dense else torch.tensor([s.row for s in batch], device=device)
        self._cache.aim(rows, positions_BW, high)
        seen_B1WK = torch.arange(high, device=device) <= positions_BW[:, None, :, None]
        output = plain(self.model).base_model(
            input_ids=input_BW,
            position_ids=positions_BW,
            attention_mask=seen_B1WK,
            past_key_values=self._cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        if width == 1:
            return hidden[:, 0]
        last = torch.tensor([len(t) - 1 for t in tokens], device=device)
        return hidden[torch.arange(len(tokens), device=device), last]

    def _sample(self, sessions: list[_Session], hidden: Tensor) -> None:
        """Draw the next token of each session from its hidden state [B, H], and finish who is done."""
        token_B, logprob_B = self._draw(sessions, self._finish_logits(self._head(hidden)))
        for session, token, logprob in zip(sessions, token_B.tolist(), logprob_B.tolist(), strict=True):
            session.ids.append(token)
            session.sampled.append(token)
            session.logprobs.append(logprob)
            session.versions.append(self.version)
            assert session.sampling is not None
            if token in session.sampling.stop_ids:
                self._finish(session, FinishReason.STOP)
            elif len(session.sampled) == len(session.uniforms):
                self._finish(session, FinishReason.LENGTH)

    def _draw(self, sessions: list[_Session], logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next token of each session, and its log-probability. [B], [B]"""
        samplings = [s.sampling for s in sessions if s.sampling is not None]
        temperature_B = torch.tensor([s.temperature for s in samplings], device=logits_BV.device)
        greedy_B = temperature_B == 0
        logp_BV = torch.log_softmax(logits_BV / torch.where(greedy_B, 1.0, temperature_B)[:, None], dim=-1)
        # Inverse of the cumulative distribution, one number a token: the draw of a session does not depend
        # on who else is in the batch. float64, so that rare tokens keep their share in a large vocabulary.
        uniform_B = torch.tensor([s.uniforms[len(s.sampled)] for s in sessions], dtype=torch.float64)
        cumulative_BV = logp_BV.double().exp().cumsum(-1)
        level_B = uniform_B.to(logits_BV.device) * cumulative_BV[:, -1]
        drawn_B = torch.searchsorted(cumulative_BV, level_B[:, None], right=True)[:, 0]
        drawn_B = drawn_B.clamp(max=logp_BV.shape[-1] - 1)
        token_B = torch.where(greedy_B, logits_BV.argmax(-1), drawn_B)
        return token_B, logp_BV.gather(1, token_B[:, None])[:, 0]

    def _finish(self, session: _Session, reason: FinishReason) -> None:
        if session.future is not None and not session.future.done():
            said = Completion(session.sampled, session.logprobs, reason, self.version, session.versions)
            session.future.set_result(said)
        session.future = None


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common start."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


def _refuse_other_attention(config: object) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if kinds != {"full_attention"} or window:
        what = (
            f"layers of the kinds {sorted(kinds)}" if kinds != {"full_attention"} else f"a window of {window}"
        )
        raise EngineError(
            f"the transformers engine handles full attention only, this model has {what}; use --engine vllm"
        )
