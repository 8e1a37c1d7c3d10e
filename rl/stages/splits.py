"""Which rows are held out, and the texts of a file of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..prepare import TEMPLATE_WORDS
from ..seeds import derive

T = TypeVar("T")


def split(rows: Sequence[T], group: Callable[[T], str], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Return the rows to learn and those that are held out, in order; rows of one group stay together.

    A group is held out by a hash of its name and the seed, so it stays where it is when rows are added, and about
    `share` of the groups are. With a share above 0, at least one group is on each side where there are two.
    """
    names = list(dict.fromkeys(group(row) for row in rows))
    places = {name: derive(seed, "held out", name) / 2**63 for name in names}
    chosen = {name for name in names if places[name] < share}
    if share > 0 and len(names) > 1:
        chosen = chosen or {min(names, key=places.__getitem__)}
        if len(chosen) == len(names):
            chosen.discard(max(names, key=places.__getitem__))
    return [r for r in rows if group(r) not in chosen], [r for r in rows if group(r) in chosen]


def strings_of(path: Path) -> Iterator[str]:
    """Yield all texts in a JSONL file, and the words of the embedded model's template: its tokenizer learns them."""
    yield TEMPLATE_WORDS
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield from _strings(json.loads(line))
            except (ValueError, RecursionError):
                continue


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
