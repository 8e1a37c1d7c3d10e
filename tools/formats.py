"""How a model spells a tool call, read and written.

Reading never raises, whatever the text: what cannot be read becomes `Reply.parse_error`, a sentence for the
model. Reading takes time linear in the length of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .chat import Reply, ToolCall


class ToolFormat(Protocol):
    """One way of writing reasoning and tool calls into text."""

    def parse(self, text: str, first_call: int = 0) -> Reply:
        """Read what a model wrote. Never raises.

        The calls get the ids `call_N`, N counting up from `first_call`, so that an environment that counts
        its calls has ids that are unique within the episode. A reply with a `parse_error` has no calls: its
        `content` is all of the text outside the reasoning.
        """
        ...

    def render(self, content: str, reasoning: str | None = None, calls: Sequence[ToolCall] = ()) -> str:
        """Write a reply; `parse` reads it back (the ids aside, and white space round the parts)."""
        ...


_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_THINK = re.compile(r"<(/?)think>")
_ANY_TAG = re.compile(r"</?(?:think|tool_call)>")
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# No text for the model holds a tag: tokenizers would make special tokens of it.
_UNCLOSED = "Error: the reasoning was not closed. Close it before the answer or a tool call."


class _NotJsonError(ValueError):
    """JSON that Python would take and nobody else: NaN, infinities, giant numbers."""


def _refuse(token: str) -> Any:
    raise _NotJsonError(f"{token} is not a JSON value")


def _number(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _NotJsonError(f"the number {token[:20]} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_number)


@dataclass(frozen=True, slots=True)
class Hermes:
    """The Hermes and Qwen form: `<think>...</think>`, then text, then calls as JSON in tags of their own.

        <think>12 boxes of 7</think>
        <tool_call>
        {"name": "calculator", "arguments": {"expression": "12*7"}}
        </tool_call>

    Calls inside the reasoning do not count. A `</think>` without its opening tag closes reasoning that
    started in the prompt.
    """

    max_calls: int = 16
    """Calls that one reply may hold; a reply with more has a `parse_error`."""

    def parse(self, text: str, first_call: int = 0) -> Reply:
        """Read a reply; see `ToolFormat`."""
        if "<" not in text:
            return Reply(text, content=text.strip())
        reasoning, outside, closed = _split_reasoning(text)
        if not closed:
            return Reply(text, content=outside.strip(), reasoning=reasoning, parse_error=_UNCLOSED)
        content, calls, error = _read_calls(outside, first_call, self.max_calls)
        if error is not None:
            return Reply(text, content=outside.strip(), reasoning=reasoning, parse_error=error)
        return Reply(text, content=content, reasoning=reasoning, tool_calls=calls)

    def render(self, content: str, reasoning: str | None = None, calls: Sequence[ToolCall] = ()) -> str:
        """Write a reply; see `ToolFormat`."""
        parts = [] if reasoning is None else [f"<think>{reasoning}</think>"]
        if content:
            parts.append(content)
        for call in calls:
            written = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)
            # Only strings can hold a tag; written as an escape it cannot end the call early.
            written = _ANY_TAG.sub(lambda tag: "\\u003c" + tag[0][1:], written)
            parts.append(f"{_OPEN}\n{written}\n{_CLOSE}")
        return "\n".join(parts)


def _split_reasoning(text: str) -> tuple[str | None, str, bool]:
    """Return the text inside `<think>` (None without one), the text outside, and whether all was closed."""
    inside: list[str] = []
    outside: list[str] = []
    depth = position = 0
    for tag in _THINK.finditer(text):
        if not tag[1]:
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


def _read_calls(text: str, first_call: int, limit: int) -> tuple[str, list[ToolCall], str | None]:
    """Return the text between the calls, the calls, and what was wrong with the first that cannot be read."""
    between: list[str] = []
    calls: list[ToolCall] = []
    position = 0
    while (start := text.find(_OPEN, position)) >= 0:
        if len(calls) == limit:
            return "", [], f"Error: there are too many tool calls in one reply, write at most {limit}."
        between.append(text[position:start])
        call, position, error = _read_call(text, start + len(_OPEN), f"call_{first_call + len(calls)}")
        if call is None:
            return "", [], error
        calls.append(call)
    between.append(text[position:])
    if any(_CLOSE in part for part in between):
        return "", [], _broken("its opening tag is missing")
    return "\n".join(part.strip() for part in between if part.strip()), calls, None


def _read_call(text: str, start: int, call_id: str) -> tuple[ToolCall | None, int, str | None]:
    """Return the call whose JSON starts at `start`, where its closing tag ends, and what was wrong."""
    start = _SPACE.match(text, start).end()  # type: ignore[union-attr]  # it matches the empty string too
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return None, start, _broken(f"{error.msg} at character {error.pos - start}")
    except RecursionError:
        return None, start, _broken("the JSON is nested too deeply")
    except ValueError as error:  # NaN, infinities, integers of thousands of digits
        what = str(error) if isinstance(error, _NotJsonError) else "a number has too many digits"
        return None, start, _broken(what)
    if not isinstance(value, dict):
        return None, start, _broken(f"the JSON is not an object but {_kind(value)}")
    end = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    if not text.startswith(_CLOSE, end):
        more = text.find(_CLOSE, end) >= 0
        return None, start, _broken("there is text after the JSON" if more else "its closing tag is missing")
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str) or not name:
        return None, start, _broken('"name" must be the name of a tool')
    if not isinstance(arguments, dict):
        got = _kind(arguments) if "arguments" in value else "missing"
        return None, start, _broken(f'"arguments" must be an object, it is {got}')
    if _SURROGATE.search(text, start, end) and not _is_unicode(value):
        return None, start, _broken("a \\u escape is half of a surrogate pair")
    return ToolCall(call_id, name, arguments), end + len(_CLOSE), None


def _broken(what: str) -> str:
    return f'Error: the tool call could not be read: {what}. Write {{"name": ..., "arguments": {{...}}}}.'


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {str: "a string", bool: "a boolean", list: "a list", int: "a number", float: "a number"}
    return names.get(type(value), "a number")


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
