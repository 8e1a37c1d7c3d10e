"""The contract of a tool-call format, and what all of them share: reasoning, JSON, the sentences for the model.

Reading never raises, whatever the text: what cannot be read becomes `Reply.parse_error`, a sentence for the
model. Reading takes time linear in the length of the text.
"""

from __future__ import annotations

import functools
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chat import Message, Reply, ToolCall, ToolResult

if TYPE_CHECKING:
    from ..tool import Tool

MAX_CALLS = 16
"""Calls that one reply may hold unless a format says otherwise."""

Written = tuple[str, Mapping[str, Any]]
"""A call as it was read: the name of the tool and its arguments."""

# No text for the model holds a tag: tokenizers would make special tokens of it.
_UNCLOSED = "Error: the reasoning was not closed. Close it before the answer or a tool call."
_SPECIAL = re.compile(r"<(?=[|/\w])|\[(?=/?[A-Z_]{2,}\])")
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Unreadable(ValueError):  # noqa: N818 - it ends as a sentence for the model, not as an error
    """A call cannot be read. The text says what is wrong with it, as a clause: `its name is missing`."""


class ToolFormat(ABC):
    """One way of writing reasoning and tool calls into text. Subclasses write `read`, `write` and `form`.

    Attributes:
        think: The tags round reasoning.
        native: Whether chat templates of the models that use the format write the tools and their results by
            themselves. If not, a `ToolEnv` puts `instructions` into the system prompt, no schema goes to the chat
            template, and the results come as `observe` writes them.
        max_calls: Calls that one reply may hold; a reply with more has a `parse_error`.
    """

    think: tuple[str, str] = ("<think>", "</think>")
    native: bool = True
    max_calls: int = MAX_CALLS

    @property
    @abstractmethod
    def form(self) -> str:
        """How a call is written, for an error: `Write {"name": ..., "arguments": {...}}.` It holds no special token."""

    @abstractmethod
    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Return the text beside the calls, and the calls in the order written, of a reply without its reasoning.

        `tools` tell the types of arguments where the format does not. Raises `Unreadable`.
        """

    @abstractmethod
    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls of a reply, so that `read` finds them."""

    def parse(self, text: str, first_call: int = 0, tools: Sequence[Tool] = ()) -> Reply:
        """Read what a model wrote. Never raises.

        The calls get the ids `call_N`, N counting up from `first_call`, so that an environment that counts
        its calls has ids that are unique within the episode. A reply with a `parse_error` has no calls: its
        `content` is all of the text outside the reasoning.
        """
        reasoning, outside, closed = split_reasoning(text, self.think)
        if not closed:
            return Reply(text, content=outside.strip(), reasoning=reasoning, parse_error=_UNCLOSED)
        try:
            content, found = self.read(outside, tools)
            if len(found) > self.max_calls:
                raise too_many(self.max_calls)
        except Unreadable as problem:
            return Reply(text, content=outside.strip(), reasoning=reasoning, parse_error=self.sorry(problem))
        calls = [
            ToolCall(f"call_{number}", name, dict(arguments))
            for number, (name, arguments) in enumerate(found, first_call)
        ]
        return Reply(text, content=content, reasoning=reasoning, tool_calls=calls)

    def render(self, content: str, reasoning: str | None = None, calls: Sequence[ToolCall] = ()) -> str:
        """Write a reply; `parse` reads it back (the ids aside, and white space round the parts)."""
        written = self.write(content, calls)
        if reasoning is None:
            return written
        return "\n".join(part for part in (f"{self.think[0]}{reasoning}{self.think[1]}", written) if part)

    def sorry(self, problem: Unreadable) -> str:
        """Return the sentence that tells the model what was wrong and how to write it."""
        harmless = _SPECIAL.sub("(", str(problem))  # what it echoes of the reply becomes no special token
        return f"Error: the tool call could not be read: {harmless}. {self.form}"

    def instructions(self, tools: Sequence[Tool]) -> str:
        """Return what a system prompt says of the tools where no chat template does."""
        listed = "\n".join(json.dumps(tool.schema["function"], ensure_ascii=False) for tool in tools)
        return f"You may call these tools:\n{listed}\n{self.form}"

    def observe(self, results: Sequence[ToolResult]) -> list[Message]:
        """Return the messages that tell the model the results of its calls, in their order."""
        return [result.as_message() for result in results]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def too_many(limit: int) -> Unreadable:
    """Return the problem of a reply with too many calls."""
    return Unreadable(f"there are too many tool calls in one reply, at most {limit} are read")


def split_reasoning(text: str, think: tuple[str, str]) -> tuple[str | None, str, bool]:
    """Return the text inside the tags (None without one), the text outside, and whether all was closed.

    A closing tag without its opening one closes reasoning that started in the prompt.
    """
    opening, closing = think
    if opening not in text and closing not in text:
        return None, text, True
    inside: list[str] = []
    outside: list[str] = []
    depth = position = 0
    for tag in _tags(think).finditer(text):
        if tag[0] == opening:
            if depth == 0:
                outside.append(text[position : tag.start()])
                position = tag.end()
            depth += 1
        else:
            if depth == 0:  # it began in the prompt: all so far was reasoning
                inside.extend(outside)
                outside.clear()
            if depth <= 1:
                inside.append(text[position : tag.start()])
                position = tag.end()
            depth = max(depth - 1, 0)
    (inside if depth else outside).append(text[position:])
    return ("\n".join(inside).strip() if inside else None), "".join(outside), depth == 0


@functools.cache
def _tags(think: tuple[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, think)))


# --- JSON ---------------------------------------------------------------------------------------------------


def _refuse(token: str) -> Any:
    raise Unreadable(f"{token} is not a JSON value")


def _number(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise Unreadable(f"the number {token[:20]} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_number)


def skip_space(text: str, start: int) -> int:
    """Return where the white space that begins at `start` ends."""
    return _SPACE.match(text, start).end()  # type: ignore[union-attr]  # it matches the empty string too


def read_json(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and where it ends. Raises `Unreadable`."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Unreadable(f"{error.msg} at character {error.pos - start}") from None
    except RecursionError:
        raise Unreadable("the JSON is nested too deeply") from None
    except Unreadable:
        raise
    except ValueError:  # integers of thousands of digits
        raise Unreadable("a number has too many digits") from None
    if _SURROGATE.search(text, start, end) and not _is_unicode(value):
        raise Unreadable("a \\u escape is half of a surrogate pair")
    return value, end


def call_of(value: Any, *keys: str) -> Written:
    """Return the call that a JSON value is: an object with a name, and arguments under one of `keys`."""
    if not isinstance(value, dict):
        raise Unreadable(f"the JSON is not an object but {kind(value)}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise Unreadable('"name" must be the name of a tool')
    key = keys[0]
    if key not in value:
        key = next((other for other in keys if other in value), key)
    return name, arguments_of(value.get(key), f'"{key}"', key in value)


def arguments_of(value: Any, where: str, there: bool = True) -> Mapping[str, Any]:
    """Return the value if it is an object. Raises `Unreadable` saying what it is instead."""
    if not isinstance(value, dict):
        raise Unreadable(f"{where} must be an object, it is {kind(value) if there else 'missing'}")
    return value


def kind(value: Any) -> str:
    """Return what a JSON value is, with its article."""
    if value is None:
        return "null"
    names = {str: "a string", bool: "a boolean", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def dump_json(value: Any, *tags: str) -> str:
    """Write a value as JSON on one line. The first character of each of `tags` is escaped where it is in a text."""
    written = json.dumps(value, ensure_ascii=False)
    for tag in tags:  # only strings can hold a tag; written as an escape it cannot end the call early
        written = written.replace(tag, f"\\u{ord(tag[0]):04x}{tag[1:]}")
    return written


def joined(parts: Sequence[str]) -> str:
    """Return the pieces of text that stand between calls as one."""
    return "\n".join(part.strip() for part in parts if part.strip())


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
