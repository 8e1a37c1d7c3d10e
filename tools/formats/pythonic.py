"""The pythonic form of Llama 3.2 and 4 and others: a list of Python calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..chat import ToolCall
from .base import ToolFormat, Unreadable, Written, skip_space, too_many
from .literals import read_call, write_call

if TYPE_CHECKING:
    from ..tool import Tool

_START = re.compile(r"^[ \t]*\[[ \t]*(?=[^\W\d][\w.-]*[ \t]*\()", re.MULTILINE)
_MARKS = ("<|python_start|>", "<|python_end|>", "<|eot|>", "<|eom|>")


class Pythonic(ToolFormat):
    """The pythonic form: a list of calls with literal arguments, at the beginning of a line and up to the end.

        [calculator(expression="12*7"), search(query="pens", top=3)]

    It is read by a parser, nothing is evaluated. `<|python_start|>` and `<|python_end|>` round it are skipped.
    """

    @property
    def form(self) -> str:
        """How a call is written."""
        return "Write [name(argument=value, ...), ...] with literal values, as the last thing of the reply."

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        marked = _MARKS[0] in text
        for mark in _MARKS:
            text = text.replace(mark, "\n" if mark == _MARKS[0] else "")
        start = _START.search(text)
        if start is None:
            if marked:
                raise Unreadable("after the mark there must be a list of calls")
            return text.strip(), []
        content, position = text[: start.start()].strip(), start.end()
        calls: list[Written] = []
        while True:
            if len(calls) == self.max_calls:
                raise too_many(self.max_calls)
            name, arguments, position = read_call(text, position)
            calls.append((name, arguments))
            position = skip_space(text, position)
            comma = text.startswith(",", position)
            if comma:
                position = skip_space(text, position + 1)
            if text.startswith("]", position):
                break
            if not comma:
                raise Unreadable("the list of calls is not closed")
        if text[position + 1 :].strip():
            raise Unreadable("there is text after the list of calls")
        return content, calls

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        written = ", ".join(write_call(call.name, call.arguments) for call in calls)
        for mark in (*_MARKS, *self.think):
            written = written.replace(mark, f"\\x3c{mark[1:]}")
        return "\n".join(part for part in (content, f"[{written}]" if calls else "") if part)
