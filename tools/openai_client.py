"""An HTTP client of OpenAI-style servers: for judges, for engines, for data. Failures have names, waits have ends.

It speaks to the one server that it was given: no redirects, no proxies of the environment, and the key goes into the
`Authorization` header alone. `aiohttp` is loaded with the first request.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .chat import Message
from .errors import InfrastructureError, UserError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

MAX_BYTES = 64 * 2**20
"""Bytes of one answer that are read: a server that writes without end is cut here."""
CONNECT_S = 10.0
"""Seconds to reach the server."""
IDLE_S = 3.0
"""Seconds that an idle connection is kept: vLLM hangs up after five, and a request must not meet that."""
PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
"""Seconds before the second attempt, doubled for each further one, and the longest pause."""
SHOWN = 200
"""Characters of an answer that an error quotes."""


class EndpointError(InfrastructureError):
    """A server gave no usable answer. It is never the policy's fault: what needed it is ungraded.

    `kind` is one of: `connection` (not reached, or the line broke), `timeout`, `rate_limit` (429), `status` (5xx),
    `auth` (401, 403), `rejected` (any other refusal of the request), `garbage` (no JSON, or of another shape),
    `empty` (an answer without content), `filtered` (the server's content filter cut it).
    """


TRANSIENT = frozenset({"connection", "timeout", "rate_limit", "status", "garbage", "empty"})
"""Kinds that another attempt may not meet again."""


@dataclass(slots=True)
class Usage:
    """What a client has used up."""

    requests: int = 0
    """Answers that were usable."""
    attempts: int = 0
    """Requests that were sent, the failed ones included."""
    prompt_tokens: int = 0
    """Tokens of prompts, as the server counts them."""
    completion_tokens: int = 0
    """Tokens of replies, as the server counts them."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The first choice of a chat completion."""

    content: str
    """The text; empty where the model only called tools."""
    tool_calls: tuple[tuple[str, str], ...]
    """The name and the arguments of each call; the arguments are JSON as the model wrote it, perhaps broken."""
    reasoning: str | None
    """The reasoning, where the server tells it apart."""
    finish: str
    """`stop`, `length`, `tool_calls` ..."""
    tokens: int | None
    """Tokens of the reply, None if the server does not say."""


@dataclass(slots=True)
class OpenAIClient:
    """Requests to one OpenAI-style server, at most `concurrency` at a time. Used from one event loop; close it.

    Raises `UserError` for an address that is none, and numbers out of range.
    """

    base_url: str
    """Such as `http://localhost:8000/v1`."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; none is sent where it is not set."""
    timeout_s: float = 120.0
    """Seconds for one attempt, from the connection to the last byte."""
    max_retries: int = 2
    """Further attempts after a failure that may pass."""
    concurrency: int = 64
    """Requests in flight at the same time; the others wait."""
    usage: Usage = field(default_factory=Usage)
    """What has been used up."""
    _session: aiohttp.ClientSession | None = None
    _gate: asyncio.Semaphore | None = None
    _jitter: random.Random = field(default_factory=random.Random)  # of pauses alone: no result depends on it

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise UserError(f"base_url must begin with http:// or https://, got {self.base_url!r}")
        if not 0 < self.timeout_s < math.inf or self.max_retries < 0 or self.concurrency < 1:
            raise UserError(
                "timeout_s must be above 0, max_retries at least 0 and concurrency at least 1, "
                f"got {self.timeout_s}, {self.max_retries} and {self.concurrency}"
            )

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Send `body` as JSON to `base_url` + `path` and return what `read` makes of the object that is answered.

        `read` raises `EndpointError` for an answer of another shape. A failure that may pass is met with further
        attempts after growing pauses (what `Retry-After` says, where the server says it). A cancellation closes the
        connection, by which servers know. Raises `EndpointError`.
        """
        if self._gate is None:
            self._gate = asyncio.Semaphore(self.concurrency)
        data = json.dumps(body, ensure_ascii=True).encode()
        async with self._gate:
            for attempt in range(self.max_retries + 1):
                self.usage.attempts += 1
                wait_s = None
                try:
                    answer = await self._attempt(path, data)
                    result = read(answer)
                except _FailedError as failure:
                    error = EndpointError(failure.kind, self._told(failure, attempt + 1))
                    wait_s = failure.wait_s
                except EndpointError as failure:
                    error = failure
                else:
                    self._count(answer)
                    return result
                if error.kind not in TRANSIENT or attempt == self.max_retries:
                    raise error
                await asyncio.sleep(self._pause(attempt, wait_s))
        raise AssertionError("the last attempt returns or raises")

    async def chat(self, body: Mapping[str, Any]) -> ChatAnswer:
        """Ask `/chat/completions` and return its first choice. Raises `EndpointError`."""
        return await self.post("/chat/completions", body, lambda answer: read_chat(answer, self.base_url))

    async def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> OpenAIClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Make one attempt that does not count against `concurrency`; an answer without content is `{}`.

        For what steers a server. `timeout_s` replaces the client's own. Raises `EndpointError`.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=True).encode()
        try:
            # A connection of its own: some servers hang up after a failure, and the next call must not meet that.
            raw = await self._exchange(method, path, data, timeout_s or self.timeout_s, keep=False)
            return _as_object(raw) if raw.strip() else {}
        except _FailedError as failure:
            raise EndpointError(failure.kind, self._told(failure, 1)) from None

    async def _attempt(self, path: str, data: bytes) -> dict[str, Any]:
        raw = await self._exchange("POST", path, data, self.timeout_s)
        if not raw.strip():
            raise _FailedError("empty", "the answer is empty")
        answer = _as_object(raw)
        if "choices" in answer and not answer["choices"]:
            raise _FailedError("empty", "the answer has no choices")
        return answer

    async def _exchange(
        self, method: str, path: str, data: bytes | None, timeout_s: float, *, keep: bool = True
    ) -> bytes:
        """Send a request and return what a status of 200 comes with."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
            )
        limit = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        key = os.environ.get(self.api_key_env)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        if not keep:
            headers["Connection"] = "close"
        url = self.base_url.rstrip("/") + path
        try:
            sent = self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False, timeout=limit
            )
            async with sent as got:
                raw = await _read(got.content)
                status, wait = got.status, got.headers.get("Retry-After", "")
        except TimeoutError:
            raise _FailedError("timeout", f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _FailedError("connection", f"{type(error).__name__}: {error}") from None
        if status != 200:
            text = raw.decode("utf-8", "replace")[:SHOWN]
            wait_s = float(wait) if wait.isdecimal() else None
            raise _FailedError(_kind_of(status), f"status {status}: {text}", wait_s)
        return raw

    def _pause(self, attempt: int, asked_s: float | None) -> float:
        if asked_s is not None:
            return min(asked_s, MAX_PAUSE_S)
        pause: float = min(PAUSE_S * 2.0**attempt, MAX_PAUSE_S)
        return pause * self._jitter.uniform(0.75, 1.25)

    def _told(self, failure: _FailedError, attempts: int) -> str:
        more = f", {attempts} attempts" if attempts > 1 else ""
        hint = ""
        if failure.kind == "auth":
            state = "is set" if os.environ.get(self.api_key_env) else "is not set"
            hint = f" (the key is read from the environment variable {self.api_key_env}, which {state})"
        return f"the endpoint {self.base_url} gave no answer: {failure}{more}{hint}"

    def _count(self, answer: Mapping[str, Any]) -> None:
        self.usage.requests += 1
        self.usage.prompt_tokens += _tokens(answer, "prompt_tokens") or 0
        self.usage.completion_tokens += _tokens(answer, "completion_tokens") or 0


class _FailedError(Exception):
    """One attempt failed."""

    def __init__(self, kind: str, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.kind = kind
        self.wait_s = wait_s


def read_chat(answer: Mapping[str, Any], where: str) -> ChatAnswer:
    """Return the first choice of a chat completion. Raises `EndpointError` for another shape."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, reasoning = (
            message.get("content"),
            message.get("reasoning_content", message.get("reasoning")),
        )
        calls = tuple(
            (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        )
        finish = choice.get("finish_reason") or "stop"
    except (LookupError, TypeError, AttributeError):
        raise EndpointError(
            "garbage", f"the endpoint {where} answered no message: {answer!s:.{SHOWN}}"
        ) from None
    texts = [finish, *(text for call in calls for text in call), "" if reasoning is None else reasoning]
    if not all(isinstance(text, str) for text in texts) or not isinstance(content, str | None):
        raise EndpointError(
            "garbage", f"the endpoint's message is no text (from {where}): {message!s:.{SHOWN}}"
        )
    if finish == "content_filter":
        raise EndpointError("filtered", f"the content filter of {where} cut the reply")
    if content is None and not calls and not reasoning:
        if not message.get("refusal"):
            raise EndpointError("empty", f"the endpoint's message is no text but null (from {where})")
        content = str(message["refusal"])
    return ChatAnswer(content or "", calls, reasoning, finish, _tokens(answer, "completion_tokens"))


def as_sent(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as servers want them: arguments as JSON text, no reasoning of earlier turns."""
    sent: list[dict[str, Any]] = []
    for message in messages:
        plain: dict[str, Any] = {k: v for k, v in message.items() if k != "reasoning_content"}
        if message.get("tool_calls"):
            plain["tool_calls"] = [
                {
                    **call,
                    "function": {
                        "name": call["function"]["name"],
                        "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for call in message["tool_calls"]
            ]
        sent.append(plain)
    return sent


def _as_object(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise _FailedError("garbage", f"the answer is no JSON: {raw[:SHOWN]!r}") from None
    if not isinstance(answer, dict):
        raise _FailedError("garbage", f"the answer is no JSON object: {raw[:SHOWN]!r}")
    return answer


async def _read(content: aiohttp.StreamReader) -> bytes:
    raw = bytearray()
    async for piece in content.iter_any():
        raw += piece
        if len(raw) > MAX_BYTES:
            raise _FailedError("garbage", f"the answer is longer than {MAX_BYTES // 2**20} MiB")
    return bytes(raw)


def _tokens(answer: Mapping[str, Any], name: str) -> int | None:
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _kind_of(status: int) -> str:
    if status == 429:
        return "rate_limit"
    if status in (401, 403):
        return "auth"
    return "status" if status >= 500 or status == 408 else "rejected"
