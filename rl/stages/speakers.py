"""Who answers, criticises and judges in a stage: a model on any engine, a server, or the rules of a constitution."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.endpoint import Endpoint
from ...verifiers.final_answer import without_thinking
from ..chat import ChatCodec
from ..engines import Engine, Sampling, make_engine
from ..models import TINY, load_model, read_template
from ..seeds import derive
from .constitution import Principle, RuleSpeaker
from .constitution_config import SpeakerConfig
from .fit import Trainee, load_trainee
from .stage import StageRun


class Speaker(Protocol):
    """Continues conversations."""

    async def say(self, messages: Sequence[Message], *, draw: int = 0) -> str:
        """Return the next message's text; another `draw` is another sample. Raises what the engine raises."""

    async def complete(self, messages: Sequence[Message]) -> str:
        """The same for a `Judge`, which asks once."""


@dataclass(frozen=True, slots=True)
class ModelSpeaker:
    """A model on one of our engines. What it says depends on the seed and the conversation alone."""

    engine: Engine
    codec: ChatCodec
    config: SpeakerConfig
    seed: int

    async def say(self, messages: Sequence[Message], *, draw: int = 0) -> str:
        """Sample a reply, without its thinking. Raises `ValueError` for a conversation that fills the context."""
        ids = self.codec.prompt(messages)
        room = self.engine.context_length - len(ids)
        if room < 1:
            raise ValueError(
                f"the conversation has {len(ids)} tokens, the model sees {self.engine.context_length}"
            )
        sampling = Sampling(
            min(self.config.max_tokens, room),
            tuple(self.codec.stop_ids),
            self.config.temperature,
            derive(self.seed, "speaker", json.dumps(list(messages)), draw),
        )
        found = await self.engine.generate(ids, sampling)
        return without_thinking(self.codec.decode_reply(found.ids)).strip()

    async def complete(self, messages: Sequence[Message]) -> str:
        """Sample one reply."""
        return await self.say(messages)


@dataclass(frozen=True, slots=True)
class ServerSpeaker:
    """A model behind an OpenAI-style server."""

    endpoint: Endpoint

    async def say(self, messages: Sequence[Message], *, draw: int = 0) -> str:
        """Ask the server. Raises `EndpointError`."""
        return without_thinking(await self.endpoint.complete(messages)).strip()

    async def complete(self, messages: Sequence[Message]) -> str:
        """Ask the server once."""
        return await self.say(messages)


class Speakers:
    """Opens the speakers of a stage; the stage's own model is loaded once, and only where one of them is it."""

    def __init__(self, run: StageRun[Any], principles: Sequence[Principle]) -> None:
        self._run = run
        self._principles = principles
        self._own: Trainee | None = None

    @contextlib.asynccontextmanager
    async def open(self, config: SpeakerConfig, part: str) -> AsyncIterator[Speaker]:
        """Open the speaker of a `part` of the stage. Raises `UserError` for a model that cannot be had."""
        seed = derive(self._run.config.seed, part)
        if config.rules:
            yield RuleSpeaker(self._principles)
            return
        if config.engine.kind == "openai":
            server = config.engine.openai
            yield ServerSpeaker(
                Endpoint(
                    server.base_url, server.model, server.api_key_env, config.temperature, config.max_tokens,
                    server.timeout_s, server.max_retries + 1,
                )
            )  # fmt: skip
            return
        if config.model is not None:
            model, tokenizer = load_model(config.model, seed=self._run.config.seed)
            codec = ChatCodec(tokenizer, read_template(config.model))
        else:
            own = self._own = self._own or self._load()
            model, tokenizer, codec = own.model, own.tokenizer, own.codec
        model.eval()
        engine = make_engine(config.engine, model, tokenizer, seed=seed)
        try:
            await engine.load(model, 0)
            yield ModelSpeaker(engine, codec, config, seed)
        finally:
            await engine.close()

    def _load(self) -> Trainee:
        if self._run.config.model.path == TINY:
            raise UserError(
                "model.path = 'tiny' knows no words before it was trained: name the folder of a model"
            )
        return load_trainee(self._run.config)
