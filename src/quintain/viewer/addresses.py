"""The addresses of episodes, and reading what stands in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from ..tools.errors import UserError


def link(row: Mapping[str, Any], listed: str = "", view: str = "text") -> str:
    """Return the URL of an episode; `listed` is the query of the table it was found in."""
    query = urlencode(
        {name: value for name, value in (("view", view), ("list", listed)) if value not in ("", "text")}
    )
    path = "/".join(quote(str(row[name]), safe="~") for name in ("run", "stem", "line"))
    return f"/episode/{path}" + (f"?{query}" if query else "")


def lists_of(query: str) -> dict[str, list[str]]:
    """Return a query string as lists of values by name."""
    return parse_qs(query, max_num_fields=200)


def place_of(text: str, count: int) -> tuple[str, ...]:
    """Return the parts of `RUN/FILE` or `RUN/FILE/LINE`. Raises `UserError` for another number of them."""
    parts = tuple(text.split("/"))
    if len(parts) != count:
        raise UserError(f"expected {'/'.join(('RUN', 'FILE', 'LINE')[:count])}, got {text[:80]!r}")
    return parts


def pair(text: str) -> tuple[str, str]:
    """Return the parts of `RUN/FILE`. Raises `UserError` for anything else."""
    run, stem = place_of(text, 2)
    return run, stem


def whole(name: str, text: str) -> int:
    """Return a whole number. Raises `UserError` for anything else."""
    if not text.lstrip("-").isdecimal() or len(text) > 15:
        raise UserError(f"{name} must be a whole number, got {text[:40]!r}")
    return int(text)
