"""The Hermes and Qwen form: calls as JSON in tags of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..chat import Reply, ToolCall
from .base import (
    MAX_CALLS,
    ToolFormat,
    Unreadable,
    Written,
    call_of,
    dump_json,
    joined,
    read_json,
    skip_space,
    too_many,
)

if TYPE_CHECKING:
    from ..tool import Tool

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class Hermes(ToolFormat):
    """The Hermes and Qwen form: `<think>...</think>`, then text, then calls as JSON in tags of their own.

        <think>12 boxes of 7</think>
        <tool_call>
        {"name": "calculator", "arguments": {"expression": "12*7"}}
        </tool_call>

    Calls inside the reasoning do not count. A `</think>` without its opening tag closes reasoning that
    started in the prompt.
    """

    max_calls: int = MAX_CALLS
    """Calls that one reply may hold; a reply with more has a `parse_error`."""

    @property
    def form(self) -> str:
        """How a call is written."""
        return 'Write {"name": ..., "arguments": {...}}.'

    def parse(self, text: str, first_call: int = 0, tools: Sequence[Tool] = ()) -> Reply:
        """Read a reply; see `ToolFormat`."""
        if "<" not in text:
            return Reply.plain(text)
        return ToolFormat.parse(self, text, first_call, tools)

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        between: list[str] = []
        calls: list[Written] = []
        position = 0
        while (start := text.find(_OPEN, position)) >= 0:
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            between.append(text[position:start])
            call, position = _call(text, start + len(_OPEN))
            calls.append(call)
        between.append(text[position:])
        if any(_CLOSE in part for part in between):
            raise Unreadable("its opening tag is missing")
        return joined(between), calls

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        parts = [content] if content else []
        for call in calls:
            written = dump_json(
                {"name": call.name, "arguments": dict(call.arguments)}, "<think>", "</think>", _OPEN, _CLOSE
            )
            parts.append(f"{_OPEN}\n{written}\n{_CLOSE}")
        return "\n".join(parts)


def _call(text: str, start: int) -> tuple[Written, int]:
    """Return the call whose JSON starts at `start`, and where its closing tag ends."""
    value, end = read_json(text, skip_space(text, start))
    if not isinstance(value, dict):
        return call_of(value, "arguments"), end
    end = skip_space(text, end)
    if not text.startswith(_CLOSE, end):
        more = text.find(_CLOSE, end) >= 0
        raise Unreadable("there is text after the JSON" if more else "its closing tag is missing")
    return call_of(value, "arguments"), end + len(_CLOSE)
