"""An environment in another tool-call format: how its replies are read, and how its oracle writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..tools.chat import Message, Reply, ToolCall, ToolResult
from ..tools.formats import ToolFormat, format_named
from ..verifiers.base import Task

if TYPE_CHECKING:
    from .base import Policy, TextEnv


def write_in(env: TextEnv, name: str | ToolFormat) -> None:
    """Let `env` read replies in the format of that name; before its first `reset`.

    Its oracle and demonstrator write in it from now on. What they write that cannot be read in the old format, such as
    a call that is broken on purpose, stays as it is. Raises `UserError` for an unknown name.
    """
    old, new = env.format, format_named(name)
    env.format = new
    if env.tools and not new.native:  # no chat template tells the model of its tools
        env.system_prompt = "\n\n".join(filter(None, [env.system_prompt, new.instructions(env.tools)]))
    if env.oracle is not None:
        env.oracle = _translated(env.oracle, old, new, env)
    if env.demonstrator is not None:
        env.demonstrator = _translated(env.demonstrator, old, new, env)


def _translated(policy: Policy, old: ToolFormat, new: ToolFormat, env: TextEnv) -> Policy:
    tools = env.tools

    def translated(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        written = policy(task, messages if new.native else _natively(messages, new, env), rng)
        reply = old.parse(written, 0, tools)
        if reply.parse_error or not (reply.tool_calls or reply.reasoning is not None or not new.native):
            return written
        return new.render(reply.content, reply.reasoning, reply.tool_calls)

    return translated


def _natively(messages: Sequence[Message], format: ToolFormat, env: TextEnv) -> list[Message]:  # noqa: A002
    """Return a conversation whose calls and results are text, as it would be with calls and tool messages."""
    found: list[Message] = []
    calls: Sequence[ToolCall] = ()
    count = 0
    for message in messages:
        if message["role"] == "assistant":
            reply = format.parse(message["content"], count, env.tools)
            calls, count = reply.tool_calls, count + len(reply.tool_calls)
            plain = Reply("", content=reply.content, reasoning=reply.reasoning, tool_calls=calls)
            found.append(plain.as_message())
        elif message["role"] == "user" and calls:
            said = f"\n{message['content']}".split("\nObservation: ", len(calls))[1:]
            found += [
                ToolResult(call.id, call.name, text).as_message()
                for call, text in zip(calls, said, strict=False)
            ]
            calls = ()
        else:
            found.append(message)
    return found
