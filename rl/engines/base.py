"""What an engine is: token ids in, sampled token ids with their log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EngineError(RuntimeError):
    """The engine failed: ours, never the policy's. The affected episodes are ungraded.

    `kind` names what failed: `engine`, `dead` (it failed before and does not come back), `setup` (it cannot do what the
    config asks for), `weights` (they did not reach it), `timeout`, or for a server one of
    `tools.openai_client.EndpointError`.
    """

    def __init__(self, message: str, kind: str = "engine") -> None:
        super().__init__(message)
        self.kind = kind


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The model sampled one of the stop ids; it is the last of `Completion.ids`."""
    LENGTH = "length"
    """`max_tokens` or the context was used up."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one completion.

    There is no top-k or top-p: the policy gradient needs the log-probabilities of the distribution that
    was sampled from, and that is the temperature-scaled softmax over the whole vocabulary.
    """

    max_tokens: int
    """At most this many tokens, the stop token included; at least 1."""
    stop_ids: tuple[int, ...]
    """Any of these token ids ends the completion and is part of it."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token."""
    seed: int | None = None
    """Seeds this completion alone; None draws from the operating system's randomness."""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and not negative, got {self.temperature}")

    def request(self, room: int) -> dict[str, Any]:
        """Return the sampling fields of a request to a server of vLLM, for a prompt that leaves `room` tokens.

        A model's own generation config may set a penalty or a cut; then the log-probabilities would be of something
        else, so all of them are switched off by name.
        """
        return {
            "max_tokens": min(self.max_tokens, room),
            "temperature": self.temperature,
            "seed": None if self.seed is None else self.seed % 2**31,
            "stop_token_ids": list(self.stop_ids),
            "ignore_eos": True,  # the stop ids are ours alone
            "logprobs": 0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled."""

    ids: Sequence[int]
    """The sampled token ids, the stop token included. [N]"""
    logprobs: Sequence[float]
    """The log-probability (nats) of each under the distribution it was drawn from. [N]"""
    finish: FinishReason
    """Why it ended."""
    version: int
    """The version of the weights that sampled it; of its last token, where they changed meanwhile."""
    versions: Sequence[int] = ()
    """The version of each token, where new weights may come in the middle; empty where `version` is that of all. [N]"""


class Engine(Protocol):
    """Samples completions. All calls of one engine come from one event loop."""

    context_length: int
    """The most tokens (prompt and completion) that one request may have."""
    version: int
    """The version of the weights in use; `load` sets it."""

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Sample a completion of `ids`.

        Requests of one `session` extend each other: an engine that keeps caches reuses what it has.
        Raises `EngineError` if the engine fails, `ValueError` if `ids` fill the context.
        """
        ...

    def release(self, session: str) -> None:
        """Say that no more requests of `session` will come."""
        ...

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Take over the weights of `model` as `version`; what is sampled from now on uses them."""
        ...

    async def close(self) -> None:
        """Free what the engine holds. Closing twice is fine."""
        ...


@runtime_checkable
class InFlight(Protocol):
    """An engine that takes new weights while completions are being sampled (`rl.in_flight`)."""

    async def swap(self, model: PreTrainedModel, version: int) -> None:
        """Take over the weights of `model` as `version`: the next token of every completion is sampled with them.

        What was cached with the old weights is computed again, so a token's log-probability is that of its version
        given everything before it; `Completion.versions` says which that is.
        """
        ...


@runtime_checkable
class Sleeper(Protocol):
    """An engine that may share its device with the learner, and frees it while the learner works."""

    async def sleep(self) -> None:
        """Free what is held on the device until the next request or `load`, if the config asks for it."""
        ...


def check_request(ids: Sequence[int], sampling: Sampling, context: int, vocabulary: int) -> None:
    """Refuse what would bring an engine down, or what it would quietly do another way.

    Raises `ValueError` for a prompt without tokens or one that fills the context, `EngineError` of the kind `setup`
    for ids that are not in the model's vocabulary of `vocabulary` tokens.
    """
    if not ids:
        raise ValueError("there is nothing to complete: the prompt has no tokens")
    if len(ids) >= context:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {context}")
    for what, tokens in (("the prompt", ids), ("the stop tokens", sampling.stop_ids)):
        if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary:
            odd = min(tokens) if min(tokens) < 0 else max(tokens)
            raise EngineError(
                f"token {odd} among {what} is not in the model's vocabulary of {vocabulary}: the tokenizer is another "
                "model's, or has tokens that the model lacks",
                "setup",
            )
