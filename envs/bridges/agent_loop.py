"""Our environments in a plain agent loop: messages and tools in the OpenAI shape, whoever completes them.

    complete = openai_chat("http://localhost:8000/v1", "my-model")
    played = await run_episode(env, complete, seed=1)

`complete(messages, tools)` is any asynchronous function that returns the assistant's message; one around an SDK of
your choice is as good as `openai_chat`.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from ...tools.chat import Message, Reply, ToolCall
from ...tools.errors import InfrastructureError
from ...verifiers.base import Score, Task
from ..base import TextEnv

Complete = Callable[[list[dict[str, Any]], list[dict[str, Any]]], Awaitable[Any]]
"""Takes messages and tools, returns the assistant's message: a dictionary in the OpenAI shape, or an SDK's object of
it. A whole choice (`{"message": ..., "finish_reason": ...}`) is fine too: it tells when a reply was cut."""


@dataclass(frozen=True, slots=True)
class Played:
    """One episode."""

    task: Task
    """What it was about."""
    messages: tuple[Message, ...]
    """The whole conversation."""
    score: Score
    """What it was worth; ungraded after a failure of ours, of the server's included."""
    reward: float
    """The sum of the rewards; 0.0 if ungraded."""
    turns: int
    """Replies."""
    stop: str
    """Why it ended: `terminated`, `truncated` (the turn limit), `length` (a reply that was cut) or `error`."""


async def run_episode(
    env: TextEnv,
    complete: Complete,
    *,
    seed: int | None = None,
    task: int | Task | None = None,
    timeout_s: float = 600.0,
) -> Played:
    """Play one episode of `env` (on a `fresh()` one, so that many can run at once) and return what happened.

    Args:
        env: The definition.
        complete: Writes the replies. What it raises ends the episode ungraded.
        seed: Of the episode.
        task: The index of its task, or a task; None lets the environment draw one.
        timeout_s: Seconds that a reply may take.

    A reply that was cut by a length limit is no answer: the episode ends with the rewards it has collected.
    """
    env = env.fresh()
    try:
        _, info = env.reset(seed=seed, options=None if task is None else {"task": task})
        assert env.task is not None
        tools = [dict(tool.schema) for tool in env.tools] if env.format.native else []
        total, turns, stop = 0.0, 0, ""
        score: Score | None = None
        while not stop:
            wire = [as_openai(message) for message in env.messages]
            try:
                message, finish = _message(await asyncio.wait_for(complete(wire, tools), timeout_s))
                reply = reply_of(env, message)
            except Exception as error:
                what = "".join(traceback.format_exception_only(error)).strip()
                score, stop = Score.ungraded(f"the completion failed: {what}"), "error"
                break
            turns += 1
            if finish == "length":
                score = Score(min(max(total, 0.0), 1.0), reason="cut by a length limit of the server")
                stop = "length"
                break
            _, reward, terminated, truncated, info = await env.astep(reply)
            total += reward
            if terminated or truncated:
                score = info["score"]
                stop = ("terminated" if terminated else "truncated") if info["score"].graded else "error"
        assert score is not None
        return Played(env.task, tuple(env.messages), score, total if score.graded else 0.0, turns, stop)
    finally:
        env.close()


def as_openai(message: Message) -> dict[str, Any]:
    """Return a message as it goes over the wire: the arguments of calls as JSON text, no reasoning, no empty text."""
    wire: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    calls = message.get("tool_calls")
    if calls:
        wire["content"] = message["content"] or None
        wire["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for call in calls
        ]
    if "tool_call_id" in message:
        wire["tool_call_id"] = message["tool_call_id"]
    return wire


def reply_of(env: TextEnv, message: Mapping[str, Any]) -> Reply:
    """Return an assistant's message in the OpenAI shape as the reply that `env.step` takes.

    Text without calls is read in the environment's own format, so that a server which leaves calls in the text does
    too. Calls whose arguments are no JSON object become a `parse_error`, a sentence for the model.
    """
    content = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    parts = message.get("tool_calls") or ()
    if not parts:
        read = env.parse(content)
        if reasoning is None:
            return read
        return Reply(
            read,
            content=read.content,
            reasoning=reasoning,
            tool_calls=read.tool_calls,
            parse_error=read.parse_error,
        )
    calls: list[ToolCall] = []
    problem: str | None = None
    for number, part in enumerate(parts):
        function = part["function"]
        arguments = _arguments(function.get("arguments"))
        if arguments is None:
            problem = f"Error: the arguments of {str(function['name'])[:64]!r} must be a JSON object."
            break
        calls.append(ToolCall(str(part.get("id") or f"call_{number}"), str(function["name"]), arguments))
    text = env.format.render(content, reasoning, () if problem else calls)
    return Reply(
        text, content=content, reasoning=reasoning, tool_calls=() if problem else calls, parse_error=problem
    )


def openai_chat(
    base_url: str,
    model: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 600.0,
    session: aiohttp.ClientSession | None = None,
    **options: Any,
) -> Complete:
    """Return a `complete` that asks an OpenAI-compatible server.

    Args:
        base_url: Up to and with `/v1`.
        model: The model's name there.
        api_key: Sent as a bearer token.
        timeout_s: Seconds that an answer may take.
        session: A session to share; None opens one for each request.
        options: More fields of the request (`temperature`, `max_tokens` ...).

    What it returns raises `InfrastructureError` for a server that cannot be reached, refuses or answers nonsense.
    """
    url = f"{base_url.rstrip('/')}/chat/completions"
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def ask(with_session: aiohttp.ClientSession, body: dict[str, Any]) -> Any:
        async with with_session.post(url, json=body, headers=headers, timeout=timeout) as response:
            text = await response.text()
            if response.status != 200:
                raise InfrastructureError("server", f"{url} answered {response.status}: {text[:500]}")
            return json.loads(text)["choices"][0]

    async def complete(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        body = {"model": model, "messages": messages, **options}
        if tools:
            body["tools"] = tools
        try:
            if session is not None:
                return await ask(session, body)
            async with aiohttp.ClientSession() as own:
                return await ask(own, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise InfrastructureError("server", f"{url}: {type(error).__name__}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InfrastructureError("server", f"{url} gave no chat completion: {error!r}") from error

    return complete


def _message(completed: Any) -> tuple[Mapping[str, Any], str | None]:
    """Return the message of what `complete` gave, and why it ended if that was told."""
    if hasattr(completed, "model_dump"):
        completed = completed.model_dump()
    if not isinstance(completed, Mapping):
        raise TypeError(f"complete must return an assistant's message, got {type(completed).__name__}")
    if "choices" in completed:
        completed = completed["choices"][0]
    if "message" in completed:
        return completed["message"], completed.get("finish_reason")
    if not {"content", "tool_calls"} & set(completed):
        raise TypeError(
            f"complete must return a message with content or tool_calls, got {str(completed)[:200]}"
        )
    return completed, None


def _arguments(written: Any) -> dict[str, Any] | None:
    if isinstance(written, str):
        try:
            written = json.loads(written or "{}")
        except ValueError:
            return None
    return dict(written) if isinstance(written, Mapping) else None
