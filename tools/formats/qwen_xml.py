"""The XML form of Qwen3-Coder and Qwen3.5: a function tag with a tag for each parameter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..chat import ToolCall
from ..errors import UserError
from .base import ToolFormat, Unreadable, Written, dump_json, joined, skip_space, too_many
from .typed import schema_of, typed

if TYPE_CHECKING:
    from ..tool import Tool

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
_NAME = re.compile(r"([^>\n]{1,200})>")
_END = re.compile(rf"{_PARAMETER_END}(?=[ \t\r\n]*(?:{_PARAMETER}|{_FUNCTION_END}))")
_TAGS = (_OPEN, _CLOSE, _FUNCTION, _FUNCTION_END, _PARAMETER, _PARAMETER_END)


class QwenXml(ToolFormat):
    """The XML form of Qwen3-Coder.

        <tool_call>
        <function=calculator>
        <parameter=expression>
        12*7
        </parameter>
        </function>
        </tool_call>

    A value is bare text; what type it has is told by the schema of the tool, and without it by what it looks like. A
    function tag without the tags round it is read as well. A text that itself holds the tags cannot be written.
    """

    @property
    def form(self) -> str:
        """How a call is written."""
        return (
            "Write <function=NAME>, then for each argument <parameter=NAME>, its value and </parameter>, "
            "then </function>, with the tags of a tool call round it all."
        )

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        between: list[str] = []
        calls: list[Written] = []
        position = 0
        while (start := text.find(_FUNCTION, position)) >= 0:
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            before = text[position:start]
            wrapped = before.rstrip().endswith(_OPEN)
            between.append(before.rstrip().removesuffix(_OPEN) if wrapped else before)
            call, position = _call(text, start + len(_FUNCTION), tools)
            calls.append(call)
            if wrapped:
                position = skip_space(text, position)
                if not text.startswith(_CLOSE, position):
                    more = text.find(_CLOSE, position) >= 0
                    raise Unreadable(
                        "there is text after the function" if more else "its closing tag is missing"
                    )
                position += len(_CLOSE)
        between.append(text[position:])
        if any(tag in part for part in between for tag in _TAGS):
            raise Unreadable("its tags do not match")
        return joined(between), calls

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`. Raises `UserError` for a text that holds the tags."""
        parts = [content] if content else []
        for call in calls:
            lines = [_OPEN, f"{_FUNCTION}{call.name}>"]
            for name, value in call.arguments.items():
                written = value if isinstance(value, str) else dump_json(value, *self.think, *_TAGS)
                if any(tag in written for tag in (*_TAGS, *self.think)):
                    raise UserError(f"the argument {name!r} of {call.name} holds tags of the format QwenXml")
                lines += [f"{_PARAMETER}{name}>", written, _PARAMETER_END]
            parts.append("\n".join([*lines, _FUNCTION_END, _CLOSE]))
        return "\n".join(parts)


def _call(text: str, start: int, tools: Sequence[Tool]) -> tuple[Written, int]:
    """Return the call whose name starts at `start`, and where its function tag is closed."""
    named = _NAME.match(text, start)
    if named is None or not named[1].strip():
        raise Unreadable("the name of the function is missing")
    name = named[1].strip()
    schema = schema_of(name, tools)
    arguments: dict[str, Any] = {}
    position = skip_space(text, named.end())
    while not text.startswith(_FUNCTION_END, position):
        if not text.startswith(_PARAMETER, position):
            missing = position == len(text)
            raise Unreadable(
                "the function is not closed" if missing else "between the parameters there is text"
            )
        key = _NAME.match(text, position + len(_PARAMETER))
        if key is None or not key[1].strip():
            raise Unreadable("the name of a parameter is missing")
        end = _END.search(text, key.end())
        if end is None:
            raise Unreadable(f"the parameter {key[1].strip()[:60]!r} is not closed")
        parameter = key[1].strip()
        if parameter in arguments:
            raise Unreadable(f"the parameter {parameter[:60]!r} is given twice")
        value = text[key.end() : end.start()].removeprefix("\n").removesuffix("\n")
        arguments[parameter] = typed(value, parameter, schema)
        position = skip_space(text, end.end())
    return (name, arguments), position + len(_FUNCTION_END)
