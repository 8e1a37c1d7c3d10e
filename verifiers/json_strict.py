"""JSON read as the standard has it: no NaN, no duplicate keys, bounded depth and size."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_CHARACTERS = 1_000_000
"""A longer text is refused."""
MAX_DEPTH = 100
"""Deeper nesting is refused."""


class NotJson(ValueError):  # noqa: N818 - the name is the sentence
    """The text is not JSON; the message says why."""


def read_json(text: str) -> Any:
    """Read one JSON value. Raises `NotJson`."""
    if len(text) > MAX_CHARACTERS:
        raise NotJson(f"{len(text):,} characters are too many")
    if _depth(text) > MAX_DEPTH:
        raise NotJson(f"nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_float, parse_int=_int
        )
    except RecursionError:
        raise NotJson("nested too deep") from None
    except NotJson:
        raise
    except ValueError as error:
        raise NotJson(str(error)) from None


def json_in(reply: str) -> str:
    """Return the JSON text of a reply: what is in its only fence, else all of it."""
    fences = re.findall(r"```(?:json)?[ \t]*\n(.*?)```", reply, re.DOTALL | re.IGNORECASE)
    return fences[0].strip() if len(fences) == 1 else reply.strip()


def _depth(text: str) -> int:
    depth = deepest = 0
    inside = False
    for match in re.finditer(r'\\.|["\[\]{}]', text, re.DOTALL):
        token = match.group()
        if token == '"':
            inside = not inside
        elif not inside and token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not inside and token in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotJson(f"the key {double!r:.60} stands twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise NotJson(f"{word} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotJson(f"the number {text[:40]} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > 1000:
        raise NotJson(f"a number of {len(text)} digits")
    return int(text)
