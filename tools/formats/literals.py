"""Python calls with literal arguments, `f(a=1, b=["x"])`, read by a parser of our own: nothing is evaluated.

`ast` would do, but for its warnings, its recursion and its time on hostile text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .base import Unreadable, skip_space

MAX_DEPTH = 60
"""Lists, dictionaries and signs inside each other."""

_NAME = re.compile(r"[^\W\d][\w.-]*")
_KEYWORD = re.compile(r"[^\W\d]\w*")
_STRING = re.compile(
    r"""(?P<prefix>[rRuU]?)(?:
        \"\"\"(?P<a>(?:[^"\\]|\\.|"(?!""))*)\"\"\" | '''(?P<b>(?:[^'\\]|\\.|'(?!''))*)'''
        | "(?P<c>(?:[^"\\]|\\.)*)" | '(?P<d>(?:[^'\\]|\\.)*)'
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(?:\d[\d_]*)?\.?\d[\d_]*(?:[eE][+-]?\d+)?|\d[\d_]*\.")
_WORD = re.compile(r"\w+")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(?:\n|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"',
    "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": "",
}  # fmt: skip


def read_call(text: str, start: int) -> tuple[str, dict[str, Any], int]:
    """Return the name and the arguments of the call that begins at `start`, and where it ends.

    Arguments have names; those whose name is no Python one come as `**{"odd name": 1}`. Raises `Unreadable`.
    """
    name = _NAME.match(text, start)
    if name is None:
        raise Unreadable(f"a name was expected {_at(text, start)}")
    position = skip_space(text, name.end())
    if not text.startswith("(", position):
        raise Unreadable(f"( was expected {_at(text, position)}")
    position = skip_space(text, position + 1)
    arguments: dict[str, Any] = {}
    while not text.startswith(")", position):
        if text.startswith("**", position):
            more, position = read_literal(text, skip_space(text, position + 2))
            if not isinstance(more, dict):
                raise Unreadable(f"a dictionary was expected {_at(text, position)}")
        else:
            key = _KEYWORD.match(text, position)
            after = skip_space(text, key.end()) if key else position
            if key is None or not text.startswith("=", after):
                raise Unreadable(f"name=value was expected {_at(text, position)}")
            value, position = read_literal(text, skip_space(text, after + 1))
            more = {key[0]: value}
        twice = next((key for key in more if key in arguments), None)
        if twice is not None:
            raise Unreadable(f"the argument {twice[:60]!r} is given twice")
        arguments.update(more)
        position = skip_space(text, position)
        if text.startswith(",", position):
            position = skip_space(text, position + 1)
        elif not text.startswith(")", position):
            raise Unreadable(f", or ) was expected {_at(text, position)}")
    return name[0], arguments, position + 1


def read_literal(text: str, start: int, depth: int = 0) -> tuple[Any, int]:
    """Return the JSON value whose Python literal begins at `start`, and where it ends. Raises `Unreadable`."""
    if depth > MAX_DEPTH:
        raise Unreadable(f"a value is nested more than {MAX_DEPTH} deep")
    first = text[start : start + 1]
    if first in ("[", "("):
        return _list(text, start, depth)
    if first == "{":
        return _dict(text, start, depth)
    if first in ("-", "+"):
        value, end = read_literal(text, skip_space(text, start + 1), depth + 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unreadable(f"a number was expected {_at(text, start + 1)}")
        return (-value if first == "-" else value), end
    if string := _STRING.match(text, start):
        raw = next(string[group] for group in "abcd" if string[group] is not None)
        value = raw if string["prefix"] in ("r", "R") else _unescaped(raw)
        return value, string.end()
    if first.isdigit() or first == ".":
        return _number(text, start)
    word = _WORD.match(text, start)
    if word is not None and word[0] in _WORDS:
        return _WORDS[word[0]], word.end()
    if first and first in "\"'":
        raise Unreadable(f"the text that begins {_at(text, start)} is not closed")
    raise Unreadable(f"a value was expected {_at(text, start)}")


def _list(text: str, start: int, depth: int) -> tuple[list[Any], int]:
    close = "]" if text[start] == "[" else ")"
    values: list[Any] = []
    position = skip_space(text, start + 1)
    comma = False
    while not text.startswith(close, position):
        value, position = read_literal(text, position, depth + 1)
        values.append(value)
        position, comma = _after(text, position, close)
    if close == ")" and len(values) == 1 and not comma:  # (3) is 3
        return values[0], position + 1
    return values, position + 1


def _dict(text: str, start: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    position = skip_space(text, start + 1)
    while not text.startswith("}", position):
        key, after = read_literal(text, position, depth + 1)
        if not isinstance(key, str):
            raise Unreadable(f"a text was expected as key {_at(text, position)}")
        position = skip_space(text, after)
        if not text.startswith(":", position):
            raise Unreadable(f": was expected {_at(text, position)}")
        found[key], position = read_literal(text, skip_space(text, position + 1), depth + 1)
        position, _ = _after(text, position, "}")
    return found, position + 1


def _after(text: str, position: int, close: str) -> tuple[int, bool]:
    """Step over a comma; return where the next item or the closing bracket is, and whether there was a comma."""
    position = skip_space(text, position)
    if text.startswith(",", position):
        return skip_space(text, position + 1), True
    if not text.startswith(close, position):
        raise Unreadable(f", or {close} was expected {_at(text, position)}")
    return position, False


def _number(text: str, start: int) -> tuple[int | float, int]:
    match = _NUMBER.match(text, start)
    if match is None or _WORD.match(text, match.end()):
        raise Unreadable(f"a number was expected {_at(text, start)}")
    try:
        if match[0].replace("_", "").isdecimal():
            return int(match[0]), match.end()
        value = float(match[0])
    except ValueError:  # thousands of digits, or underscores in odd places
        raise Unreadable(f"a number was expected {_at(text, start)}") from None
    if not math.isfinite(value):
        raise Unreadable(f"the number {match[0][:20]} is too large")
    return value, match.end()


def _unescaped(raw: str) -> str:
    if "\\" not in raw:
        return raw
    text = _ESCAPE.sub(_escape, raw)
    try:
        return text.encode("utf-16", "surrogatepass").decode(
            "utf-16"
        )  # \ud83d\ude00, as JSON writes it, is one
    except UnicodeDecodeError:
        raise Unreadable("a \\u escape is half of a surrogate pair") from None


def _escape(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF:
            raise Unreadable("a \\U escape is no character")
        return chr(number)
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ESCAPES.get(code, match[0])  # as in Python: an unknown one stays as it is


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Write a call so that `read_call` reads it."""
    plain = {key: value for key, value in arguments.items() if key.isidentifier() and _KEYWORD.fullmatch(key)}
    odd = {key: value for key, value in arguments.items() if key not in plain}
    parts = [f"{key}={write_literal(value)}" for key, value in plain.items()]
    if odd:
        parts.append(f"**{write_literal(odd)}")
    return f"{name}({', '.join(parts)})"


def write_literal(value: Any) -> str:
    """Write a JSON value as a Python literal."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # all its escapes are Python's too
    if isinstance(value, Mapping):
        inner = ", ".join(f"{write_literal(str(key))}: {write_literal(part)}" for key, part in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_literal(part) for part in value) + "]"
    return repr(value)


def _at(text: str, position: int) -> str:
    rest = text[position : position + 20]
    return f"at character {position}, before {rest!r}" if rest else "at the end"
