"""A chat completion from any OpenAI-style endpoint, for judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..tools.chat import Message
from ..tools.openai_client import EndpointError, OpenAIClient, as_sent


class Completer(Protocol):
    """Anything that answers a conversation with text: an endpoint, an engine, a script in a test."""

    async def complete(self, messages: Sequence[Message]) -> str:
        """Return the next message's text. May raise: the score is then ungraded."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-style `/chat/completions`."""

    url: str
    """The base, such as `http://localhost:8000/v1`."""
    model: str
    """The model's name there."""
    api_key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; not sent where it is not set."""
    temperature: float = 0.0
    """Sampling temperature."""
    max_tokens: int = 1024
    """Tokens of one answer."""
    timeout_s: float = 120.0
    """Seconds for one attempt."""
    attempts: int = 3
    """Attempts before the failure is raised."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of the request."""

    async def complete(self, messages: Sequence[Message]) -> str:
        """Ask, and again after a failure of the line, a 429, a 5xx or an unreadable answer, with growing pauses.

        Raises `EndpointError` with the last failure.
        """
        body = {
            "model": self.model,
            "messages": as_sent(messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **self.extra,
        }
        # A client of its own: judges are asked from several event loops, and a client belongs to one.
        async with OpenAIClient(
            self.url, self.api_key_variable, self.timeout_s, max_retries=self.attempts - 1
        ) as client:
            answer = await client.chat(body)
        if not answer.content:
            raise EndpointError("empty", f"the endpoint {self.url} answered without a text")
        return answer.content
