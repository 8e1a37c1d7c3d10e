"""A chat completion from any OpenAI-style endpoint, for judges. The only room here that opens a connection."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..tools.chat import Message


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
        """Ask once, and again after a failure of the line, a 429 or a 5xx, with growing pauses.

        Raises `RuntimeError` with the last failure.
        """
        import aiohttp

        key = os.environ.get(self.api_key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **self.extra,
        }
        failure = "no attempt was made"
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for attempt in range(self.attempts):
                if attempt:
                    await asyncio.sleep(min(2.0**attempt, 30))
                try:
                    async with session.post(
                        f"{self.url.rstrip('/')}/chat/completions", json=body, headers=headers
                    ) as got:
                        text = await got.text()
                        if got.status == 200:
                            return _content(text)
                        failure = f"status {got.status}: {text[:200]}"
                        if got.status != 429 and got.status < 500:
                            break
                except (aiohttp.ClientError, TimeoutError) as error:
                    failure = f"{type(error).__name__}: {error}"
        raise RuntimeError(f"the endpoint {self.url} gave no answer: {failure}")


def _content(text: str) -> str:
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise RuntimeError(f"the endpoint's answer has no message: {text[:200]}") from None
    if not isinstance(content, str):
        raise RuntimeError(f"the endpoint's message is no text: {content!r:.200}")
    return content
