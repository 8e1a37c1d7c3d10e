"""Engines behind an OpenAI-style server: one of tokens where it returns token ids, one of chat where it does not.

`OpenAIEngine` sends token ids and takes token ids: what it samples can be trained on. It insists on what that needs
(vLLM's `return_token_ids`; a server that answers without is refused). `OpenAIChatEngine` sends messages and takes
text: its episodes can be evaluated and read, and are marked as not trainable.

Neither can take weights: `load` says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from ...tools.chat import ToolCall
from ...tools.formats import ToolFormat
from ...tools.openai_client import ChatAnswer, EndpointError, OpenAIClient, Usage, as_sent
from ..config import OpenAIConfig
from ..text_codec import BYTES, END, pack
from .answers import as_completion, is_list
from .base import Completion, EngineError, FinishReason, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..stage import Played


UNKNOWN = -1
"""The weight version of what a server sampled: only the server knows."""
_PLACE = {"QXZQ": 0}


class _Served:
    """What both engines share: the client, and no weights."""

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        self.context_length = config.context
        self.version = UNKNOWN
        self.client = OpenAIClient(
            config.base_url, config.api_key_env, config.timeout_s, config.max_retries, config.concurrency
        )

    @property
    def usage(self) -> Usage:
        """Requests and tokens so far, as the server counts them."""
        return self.client.usage

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Raise: the weights of a server are not ours to set."""
        raise EngineError(
            f"the weights of {self.config.base_url} cannot be set from here, so what it samples is not the model "
            "that is trained; use engine.kind = 'transformers' or 'vllm'",
            "weights",
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


class OpenAIEngine(_Served):
    """An `Engine` of tokens on `/completions` of a server that takes and returns token ids, as vLLM does.

    Log-probabilities must be those of the distribution that was sampled from. vLLM gives those before the temperature
    unless it is told otherwise, so a temperature other than 1 (or 0, the most likely token) is refused until
    `logprobs = "processed"` says that the server runs with `--logprobs-mode processed_logprobs`.
    """

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Sample a completion of `ids`. A server that does not return token ids is an `EngineError` that says so."""
        if len(ids) >= self.context_length:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, engine.openai.context is {self.context_length}"
            )
        if self.config.logprobs == "raw" and sampling.temperature not in (0.0, 1.0):
            raise EngineError(
                f"at temperature {sampling.temperature:g} a server's raw log-probabilities are not those it sampled "
                "from: run it with --logprobs-mode processed_logprobs and set engine.openai.logprobs = 'processed'",
                "rejected",
            )
        body = {
            "model": self.config.model,
            "prompt": list(ids),
            "return_token_ids": True,
            **sampling.request(self.context_length - len(ids)),
        }
        try:
            return await self.client.post(
                "/completions", body, lambda answer: self._read(answer, ids, sampling)
            )
        except EndpointError as error:
            raise EngineError(str(error), error.kind) from error

    def _read(self, answer: dict[str, Any], ids: Sequence[int], sampling: Sampling) -> Completion:
        where = self.config.base_url
        try:
            choice = answer["choices"][0]
            sampled: Any = choice.get("token_ids")
            seen: Any = choice.get("prompt_token_ids")
            logprobs: Any = (choice.get("logprobs") or {}).get("token_logprobs")
            reason = choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            raise EndpointError("garbage", f"{where} answered no completion: {answer!s:.200}") from None
        if sampled is None or seen is None:
            raise EndpointError(
                "no_ids",
                f"{where} returns no token ids (return_token_ids), so what it samples cannot be trained on; "
                "use a vLLM server, or OpenAIChatEngine to evaluate it",
            )
        if not is_list(seen, int) or list(seen) != list(ids):
            raise EndpointError(
                "no_ids", f"{where} did not complete the token ids that it was sent but others"
            )
        return as_completion(where, sampled, logprobs, reason, sampling, self.version)

    def release(self, session: str) -> None:
        """The server keeps no sessions."""


class OpenAIChatEngine(_Served):
    """An engine of chat: it is shown the episodes, asks `/chat/completions`, and gives text packed by `text_codec`.

    Use it with `TextCodec`. Tool calls of the answer are written in the environment's own format.
    """

    def __init__(self, config: OpenAIConfig) -> None:
        super().__init__(config)
        self._played: dict[str, Played] = {}

    def look(self, session: str, env: Played) -> None:
        """Take note that `session` is played in `env`, which has just been reset."""
        self._played[session] = env

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Ask for the next reply in the episode `session`; `ids` only count against limits."""
        env = None if session is None else self._played.get(session)
        if env is None:
            raise EngineError(
                "a chat endpoint answers in episodes only: it has to be shown the environment (look)"
            )
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": as_sent(env.messages),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed % 2**31
        if env.schemas:
            body["tools"] = env.schemas
        try:
            answer = await self.client.chat(body)
        except EndpointError as error:
            raise EngineError(str(error), error.kind) from error
        text, most = reply_text(answer, env.format), sampling.max_tokens
        counted = answer.tokens if answer.tokens is not None else -(-len(text.encode()) // BYTES) + 1
        if answer.finish == "length" or (text and most == 1):
            cut = pack(text or " ", min(max(counted, 1), most))
            return Completion(cut, [0.0] * len(cut), FinishReason.LENGTH, self.version)
        written = [*pack(text, min(max(counted, 2), most) - 1), END]
        return Completion(written, [0.0] * len(written), FinishReason.STOP, self.version)

    def release(self, session: str) -> None:
        """Forget the episode."""
        self._played.pop(session, None)


def reply_text(answer: ChatAnswer, form: ToolFormat) -> str:
    """Return an answer as a model would have written it in `form`.

    Arguments that are no JSON object stay as they were written, so that the environment tells the model what is wrong.
    """
    numbers = count()
    calls: list[ToolCall] = []
    broken: list[str] = []
    for name, arguments in answer.tool_calls:
        try:
            value = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            calls.append(ToolCall(f"call_{next(numbers)}", name, value))
        else:
            calls.append(ToolCall(f"call_{next(numbers)}", name, _PLACE))
            broken.append(arguments)
    text = form.render(answer.content, answer.reasoning or None, calls)
    place = json.dumps(_PLACE)
    for arguments in broken:
        text = text.replace(place, arguments, 1) if place in text else f"{text}\n{arguments}"
    return text
