"""The form of Mistral's models: `[TOOL_CALLS]`, then a list of calls, or name and arguments of each."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..chat import Reply, ToolCall
from ..errors import UserError
from .base import (
    ToolFormat,
    Unreadable,
    Written,
    arguments_of,
    call_of,
    dump_json,
    read_json,
    skip_space,
    too_many,
)

if TYPE_CHECKING:
    from ..tool import Tool

_MARK, _ID, _ARGS, _END = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "</s>"
_NAME = re.compile(
    r"\s*([^\s\[\]{}]{1,200})\s*(?:\[CALL_ID\]\s*[^\s\[\]{}]{0,200}\s*)?(?:\[ARGS\])?\s*(?=\{)"
)
_OLD_THINK = ("<think>", "</think>")


class Mistral(ToolFormat):
    """The form of Mistral's models, in its two styles; both are read, `style` is the one that is written.

        [TOOL_CALLS]calculator[ARGS]{"expression": "12*7"}                                 style "args": since 2025
        [TOOL_CALLS] [{"name": "calculator", "arguments": {"expression": "12*7"}}]         style "list"

    Several calls repeat the mark, or are in the one list. Reasoning stands in `[THINK]...[/THINK]`; that in
    `<think>` tags is read as well.
    """

    think = ("[THINK]", "[/THINK]")

    def __init__(self, style: Literal["args", "list"] = "args") -> None:
        if style not in ("args", "list"):
            raise UserError(f"Mistral: style must be 'args' or 'list', got {style!r}")
        self.style = style

    @property
    def form(self) -> str:
        """How a call is written."""
        if self.style == "list":
            return 'Write a list [{"name": ..., "arguments": {...}}] after the mark of tool calls.'
        return (
            "Write the mark of tool calls, the name, the mark of arguments and {...}, and so for each call."
        )

    def parse(self, text: str, first_call: int = 0, tools: Sequence[Tool] = ()) -> Reply:
        """Read a reply; see `ToolFormat`."""
        old = _OLD_THINK[1] in text and self.think[1] not in text
        tags = zip(_OLD_THINK, self.think, strict=True)
        plain = functools.reduce(lambda done, tag: done.replace(*tag), tags, text) if old else text
        found = super().parse(plain, first_call, tools)
        return (
            found
            if plain is text
            else Reply(
                text,
                content=found.content,
                reasoning=found.reasoning,
                tool_calls=found.tool_calls,
                parse_error=found.parse_error,
            )
        )

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        text = text.replace(_END, "")
        content, mark, rest = text.partition(_MARK)
        if not mark:
            if _ARGS in text:
                raise Unreadable("the mark of tool calls is missing")
            return content.strip(), []
        if rest.lstrip().startswith("["):
            value, end = read_json(rest, skip_space(rest, 0))
            if rest[end:].strip():
                raise Unreadable("there is text after the list")
            return content.strip(), [call_of(one, "arguments") for one in value]
        return content.strip(), self._each(rest)

    def _each(self, text: str) -> list[Written]:
        calls: list[Written] = []
        position = 0
        while True:
            start = _NAME.match(text, position)
            if start is None:
                raise Unreadable("after the mark there must be a name and the arguments, an object")
            value, position = read_json(text, start.end())
            calls.append((start[1], arguments_of(value, "the arguments")))
            position = skip_space(text, position)
            if position == len(text):
                return calls
            if not text.startswith(_MARK, position):
                raise Unreadable("there is text after the arguments")
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            position += len(_MARK)

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        marks = (*self.think, *_OLD_THINK, _MARK, _ID, _ARGS, _END)
        if not calls:
            return content
        if self.style == "list":
            listed = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
            return f"{content}{_MARK} {dump_json(listed, *marks)}"
        each = [f"{_MARK}{call.name}{_ARGS}{dump_json(dict(call.arguments), *marks)}" for call in calls]
        return content + "".join(each)
