"""Messages as text, and text as messages."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ..tools.chat import Message, user
from ..tools.errors import UserError


def as_messages(said: Any, where: str) -> list[Message]:
    """Return what an environment said as messages: a text is a user message, an empty one none.

    Raises `UserError` naming `where` (`Class.method`) for anything else than a text or messages.
    """
    if isinstance(said, str):
        return [user(said)] if said else []
    if inspect.iscoroutine(said):
        said.close()
        raise UserError(f"{where} is asynchronous: only `arespond`, `aevidence` and `afinish` may be")
    if not isinstance(said, Sequence):
        raise UserError(
            f"{where} must return a text or a list of messages, got {type(said).__name__}; "
            'write, for example, `return "Guess a number."`'
        )
    for message in said:
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("content"), str)
            or "role" not in message
        ):
            raise UserError(f"{where}: a message needs a role and a text as content, got {message!r:.120}")
    return list(said)


def text_of(messages: Sequence[Message]) -> str:
    """Return the observation that stands for the messages: their contents, an empty line between them."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join([message["content"] for message in messages])


def transcribed(message: Message) -> str:
    """Return a message as lines for a person."""
    lines = [f"[{message['role']}]"]
    if "reasoning_content" in message:
        lines.append(f"(thinks) {message['reasoning_content']}")
    if message["content"]:
        lines.append(message["content"])
    lines += [
        f"(calls {part['function']['name']}) {part['function']['arguments']}"
        for part in message.get("tool_calls", [])
    ]
    return "\n".join(lines)
