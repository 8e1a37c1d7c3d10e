"""What a URL asks of the table of trajectories: which ones, in which order, which page.

All state of a page is in its URL. Everything from there is read into a `Filter`: names are looked up in fixed lists,
values go to SQLite as parameters, and what cannot be read is refused with a message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ..tools.errors import UserError, nearest
from .index import Index, clean

PAGE = 50
"""Rows of a page."""
RANGES = {
    "step": "e.step",
    "score": "e.score",
    "reward": "e.reward",
    "tokens": "e.tokens",
    "turns": "e.turns",
    "errors": "e.tool_errors",
    "part": "p.value",
}
"""Columns that can be bounded, `NAME_min` and `NAME_max`, and sorted by."""
SORTS = RANGES | {name: f"e.{name}" for name in ("task", "verdict", "stop", "calls", "run", "length")}
"""All columns that can be sorted by."""
EXACT = {name: f"e.{name}" for name in ("run", "phase", "verdict", "stop", "task")} | {"file": "e.stem"}
"""Columns that can be asked for one value."""
NEWEST = "e.step DESC, e.phase, e.stem DESC, e.id"


@dataclass(frozen=True)
class Filter:
    """Which trajectories, and in which order."""

    exact: Mapping[str, str] = field(default_factory=dict)
    """Wanted values, by a name of `EXACT`."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """`NAME_min` and `NAME_max`, by a name of `RANGES`."""
    part: str = ""
    """The component of the score that is shown, bounded and sorted by."""
    group: int | None = None
    """Only this group."""
    trouble: str = ""
    """`tools`: a call failed; `unreadable`: a call could not be read; `any`: one of them; `none`."""
    words: str = ""
    """All of these are in the text, each as the beginning of a word."""
    sort: str = ""
    """A name of `SORTS`, with `-` before it for the largest first; empty for the newest first."""
    page: int = 1
    """From 1."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filter:
        """Read a query string. Raises `UserError` for a value that makes no sense; unknown names are left alone."""
        bounds = {}
        for name in RANGES:
            for end in (f"{name}_min", f"{name}_max"):
                if query.get(end, "").strip():
                    bounds[end] = _number(end, query[end])
        sort = query.get("sort", "")
        if sort and sort.removeprefix("-") not in SORTS:
            raise UserError(f"cannot sort by {sort!r}; {nearest(sort.removeprefix('-'), list(SORTS))}")
        trouble = query.get("trouble", "")
        if trouble not in TROUBLES:
            raise UserError(f"trouble must be one of {', '.join(filter(None, TROUBLES))}, got {trouble!r}")
        group = query.get("group", "").strip()
        return cls(
            exact={name: clean(query[name]) for name in EXACT if query.get(name)},
            bounds=bounds,
            part=clean(query.get("part", "")),
            group=int(_number("group", group)) if group else None,
            trouble=trouble,
            words=clean(query.get("q", "")).strip(),
            sort=sort,
            page=max(1, int(_number("page", query.get("page") or "1"))),
        )

    def query(self, **changes: object) -> str:
        """Return the query string of this filter, with some values changed; empty ones are left out."""
        values: dict[str, object] = {
            "q": self.words,
            **self.exact,
            "part": self.part,
            "group": "" if self.group is None else self.group,
            "trouble": self.trouble,
            **{name: _short(value) for name, value in self.bounds.items()},
            "sort": self.sort,
            "page": self.page if self.page > 1 else "",
        }
        values |= changes
        return urlencode({name: value for name, value in values.items() if value not in ("", None)})

    @property
    def active(self) -> int:
        """How many conditions there are."""
        return (
            len(self.exact)
            + len(self.bounds)
            + bool(self.trouble)
            + bool(self.words)
            + (self.group is not None)
        )

    def sql(self, index: Index) -> tuple[str, list[object]]:
        """Return the `FROM ... WHERE ...` of this filter and its values."""
        values: list[object] = []
        source = "FROM episode e"
        if self.part:
            source += " LEFT JOIN part p ON p.episode = e.id AND p.name = ?"
            values.append(self.part)
        wheres = []
        for name, wanted in self.exact.items():
            wheres.append(f"{EXACT[name]} = ?")
            values.append(wanted)
        for name, bound in self.bounds.items():
            column, _, end = name.rpartition("_")
            if column == "part" and not self.part:
                continue
            wheres.append(f"{RANGES[column]} {'>=' if end == 'min' else '<='} ?")
            values.append(bound)
        if self.group is not None:
            wheres.append("e.grp = ?")
            values.append(self.group)
        if self.trouble:
            wheres.append(TROUBLES[self.trouble])
        if index.searchable and (match := _match(self.words)):
            wheres.append("e.id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(match)
        return source + (" WHERE " + " AND ".join(wheres) if wheres else ""), values

    @property
    def order(self) -> str:
        """The `ORDER BY` of this filter."""
        name = self.sort.removeprefix("-")
        if not name or (name == "part" and not self.part):
            return NEWEST
        return f"{SORTS[name]} {'DESC' if self.sort.startswith('-') else 'ASC'} NULLS LAST, {NEWEST}"

    def found(self, index: Index) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the rows of this page, and what all that were found have in common: `count`, `right`, `reward`."""
        source, values = self.sql(index)
        part = "p.value" if self.part else "NULL"
        summary = index.row(
            "SELECT count(*) AS count, sum(e.verdict = 'right') AS right, sum(e.verdict != 'ungraded') AS graded, "
            f"avg(e.reward) AS reward, avg(e.tokens) AS tokens {source}",
            values,
        )
        assert summary is not None
        rows = index.rows(
            f"SELECT e.*, {part} AS part {source} ORDER BY {self.order} LIMIT ? OFFSET ?",
            [*values, PAGE, PAGE * (self.page - 1)],
        )
        return rows, summary

    def neighbours(self, index: Index, episode: int) -> tuple[int, int, int | None, int | None]:
        """Return the place of a row among those found (from 1, or 0), how many there are, and the ids beside it."""
        source, values = self.sql(index)
        ids = index.column(f"SELECT e.id {source} ORDER BY {self.order}", values)
        try:
            at = ids.index(episode)
        except ValueError:
            return 0, len(ids), None, None
        return at + 1, len(ids), ids[at - 1] if at else None, ids[at + 1] if at + 1 < len(ids) else None


TROUBLES = {
    "": "",
    "tools": "e.tool_errors > 0",
    "unreadable": "e.unreadable > 0",
    "any": "(e.tool_errors > 0 OR e.unreadable > 0)",
    "none": "e.tool_errors = 0 AND e.unreadable = 0",
}


def _match(words: str) -> str:
    """Return a full-text query in which nothing is an operator: each word, quoted, as a beginning.

    What has neither letter nor digit is nothing that the index knows, and is left out.
    """
    known = [word for word in words.replace("\0", " ").split() if any(c.isalnum() for c in word)]
    return " ".join('"' + word.replace('"', '""') + '"*' for word in known)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e15:
        raise UserError(f"{name} must be a number, got {text[:40]!r}")
    return value


def _short(value: float) -> str:
    return f"{value:.10g}"
