"""The JSON form of Llama 3.1 to 3.3: the reply is the call, or several with semicolons between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..chat import ToolCall
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
from .literals import read_call

if TYPE_CHECKING:
    from ..tool import Tool

_TAG = "<|python_tag|>"
_ENDS = ("<|eom_id|>", "<|eot_id|>")
_LIKE_A_CALL = re.compile(r'\[?\s*\{\s*"(?:name|type|function)"\s*:')
_FUNCTION = re.compile(r"<function=([^>\n]{1,200})>")
_FUNCTION_END = "</function>"


class Llama3(ToolFormat):
    """The JSON form of Llama 3.

        {"name": "calculator", "parameters": {"expression": "12*7"}}

    Several calls stand one after the other, with `;` or white space between them, or in a list. With text before it the
    first is marked by `<|python_tag|>`. Read as well: `arguments` for `parameters`, a `"type": "function"`,
    `<function=name>{...}</function>`, and the built-in tools' `brave_search.call(query="...")` after the tag.

    A reply that begins with JSON which names no tool is an answer, not a call.
    """

    @property
    def form(self) -> str:
        """How a call is written."""
        return 'Write {"name": ..., "parameters": {...}} and nothing else; put ; between several.'

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        for mark in _ENDS:
            text = text.replace(mark, "")
        content, tag, rest = text.partition(_TAG)
        if not tag:
            content, rest = "", text
        if _FUNCTION.match(rest.lstrip()):
            return content.strip(), self._functions(rest)
        if tag and not rest.lstrip().startswith(("{", "[")):
            name, arguments, end = read_call(rest, skip_space(rest, 0))
            if rest[end:].strip():
                raise Unreadable("there is text after the call")
            return content.strip(), [(name.removesuffix(".call"), arguments)]
        if not tag and not _LIKE_A_CALL.match(rest.lstrip()):
            return rest.strip(), []
        return content.strip(), self._objects(rest)

    def _objects(self, text: str) -> list[Written]:
        calls: list[Written] = []
        position = skip_space(text, 0)
        while position < len(text):
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            value, position = read_json(text, position)
            calls += [_call(one) for one in (value if isinstance(value, list) else [value])]
            position = skip_space(text, position)
            if text[position : position + 1] in (";", ","):
                position = skip_space(text, position + 1)
            elif position < len(text) and text[position] != "{":
                raise Unreadable("there is text after the JSON")
        if not calls:
            raise Unreadable("there is nothing after the tag")
        return calls

    def _functions(self, text: str) -> list[Written]:
        calls: list[Written] = []
        position = skip_space(text, 0)
        while position < len(text):
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            start = _FUNCTION.match(text, position)
            if start is None:
                raise Unreadable("there is text after the call")
            value, position = read_json(text, skip_space(text, start.end()))
            position = skip_space(text, position)
            if not text.startswith(_FUNCTION_END, position):
                raise Unreadable("its closing tag is missing")
            calls.append((start[1].strip(), arguments_of(value, "what stands between the tags")))
            position = skip_space(text, position + len(_FUNCTION_END))
        return calls

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        written = "; ".join(
            dump_json({"name": call.name, "parameters": dict(call.arguments)}, *self.think, _TAG, *_ENDS)
            for call in calls
        )
        if not calls or not content:
            return content + written
        return f"{content}\n{_TAG}{written}"


def _call(value: Any) -> Written:
    inner = value.get("function") if isinstance(value, dict) else None
    return call_of(inner if isinstance(inner, dict) else value, "parameters", "arguments")
