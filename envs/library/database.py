"""A SQLite database for untrusted SQL: in memory, one for each episode, with every way out closed.

An authorizer lets through reading, a list of functions and, where it is wanted, changes of rows; nothing else of
SQLite: no other files, no pragmas, no new tables, no extensions. Work is counted in steps of SQLite's machine, so that
the same query is stopped at the same place everywhere; text, rows and the size of the database are bounded too.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .sources import several

Tables = Mapping[str, Mapping[str, Any]]
"""By table: `columns`, a list of `[name, type]` in SQL, and `rows`, lists of values. Plain JSON data."""

STEPS = 1_000_000
"""Steps of SQLite's machine that one statement may take: about a tenth of a second."""
ROWS = 5_000
"""Rows that are read of one result."""
TEXT_CHARS = 1_000
"""Characters of one value, or bytes of one row."""
SQL_CHARS = 4_000
"""Characters of one statement."""
PAGES = 1_000
"""Pages of 4 KiB that the database may grow to."""
_WALL_S = 5.0  # a last resort, for steps that turn out to be slow
_TICK = 1_000  # steps between two looks at the count
_PATTERN_CHARS = 100

FUNCTIONS = frozenset(
    several(
        "abs avg coalesce count dense_rank first_value group_concat ifnull iif instr lag last_value lead length like "
        "lower ltrim max min nullif rank replace round row_number rtrim sign substr substring sum total trim "
        "typeof upper"
    )
)
"""What SQL may call. Neither clocks nor random numbers: the same query gives the same rows."""

_READ = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_CHANGE = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: TEXT_CHARS,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: SQL_CHARS,
    sqlite3.SQLITE_LIMIT_COLUMN: 50,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class SqlError(Exception):
    """A statement that is wrong, not allowed, or too much; the text is for whoever wrote it."""


class Database:
    """The tables of an episode. Not for two threads at once.

    Args:
        tables: What it holds at first.
        write: Whether rows may be changed.
    """

    def __init__(self, tables: Tables, write: bool = False) -> None:
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=0
        )
        self._tables = tuple(tables)
        for name, table in tables.items():
            self._connection.execute(create_statement(name, table))
            marks = ", ".join("?" * len(table["columns"]))
            self._connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', table["rows"])
        self._connection.execute(f"PRAGMA max_page_count = {PAGES}")
        for category, limit in _LIMITS.items():
            self._connection.setlimit(category, limit)
        self._connection.create_function("like", 2, _like, deterministic=True)
        self._connection.create_function("like", 3, _no_escape, deterministic=True)
        self._allowed = _READ | (_CHANGE if write else set())
        self._connection.set_authorizer(self._authorize)
        self._connection.set_progress_handler(self._tick, _TICK)
        self._left = 0
        self._deadline = 0.0

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if str(second).lower() in FUNCTIONS else sqlite3.SQLITE_DENY
        if action in _CHANGE and first not in self._tables:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in self._allowed else sqlite3.SQLITE_DENY

    def _tick(self) -> int:
        self._left -= _TICK
        return int(self._left < 0 or time.monotonic() > self._deadline)

    def run(self, sql: str, most: int = ROWS) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        """Run one statement and return the names of its columns, its rows, and whether there are more than `most`.

        Raises `SqlError`; what a statement had changed before it failed is undone.
        """
        self._left, self._deadline = STEPS, time.monotonic() + _WALL_S
        try:
            cursor = self._connection.execute(sql)
            rows = cursor.fetchmany(most + 1)
            names = [column[0] for column in cursor.description or ()]
            cursor.close()
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise SqlError(_explained(error)) from None
        return names, rows[:most], len(rows) > most

    def contents(self) -> dict[str, list[list[Any]]]:
        """Return every row of every table, sorted: two databases are alike if their contents are equal."""
        self._left, self._deadline = 100 * STEPS, time.monotonic() + 10 * _WALL_S
        return {
            name: sorted(
                (list(row) for row in self._connection.execute(f'SELECT * FROM "{name}"')), key=_sort_key
            )
            for name in self._tables
        }

    def close(self) -> None:
        """Free it. Closing twice is fine."""
        self._connection.close()


def create_statement(name: str, table: Mapping[str, Any]) -> str:
    """Return the statement that makes a table."""
    columns = ", ".join(f"{column} {kind}" for column, kind in table["columns"])
    return f"CREATE TABLE {name} ({columns})"


def _explained(error: Exception) -> str:
    text = str(error)
    if "interrupted" in text:
        return "the statement takes too many steps; make it simpler"
    if "not authorized" in text or "prohibited" in text:
        return f"{text}: this is not allowed here"
    if "full" in text:
        return "the database would grow too large"
    return text[:300]


def _sort_key(row: Sequence[Any]) -> list[tuple[str, Any]]:
    # values of several types in one column have no order of their own
    return [("" if value is None else type(value).__name__, "" if value is None else value) for value in row]


def _like(pattern: Any, value: Any) -> bool | None:
    """Do what SQLite's LIKE does, in time linear in the text: its own may take years for `%a%a%a%a`."""
    if pattern is None or value is None:
        return None
    wanted, text = str(pattern).lower(), str(value).lower()
    if len(wanted) > _PATTERN_CHARS:
        raise ValueError("LIKE pattern too long")
    first, *rest = wanted.split("%")
    if not rest:
        return len(text) == len(wanted) and _at(first, text, 0) == 0
    if _at(first, text[: len(first)], 0) != 0:
        return False
    *middle, last = rest
    position = len(first)
    for part in middle:
        found = _at(part, text, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(text) - len(last) >= position and _at(last, text, len(text) - len(last)) >= 0


def _at(part: str, text: str, start: int) -> int:
    """Return where a part, `_` being any character, first stands in a text; -1 if nowhere."""
    if "_" not in part:
        return text.find(part, start)
    found = re.compile("".join("." if c == "_" else re.escape(c) for c in part), re.DOTALL).search(
        text, start
    )
    return -1 if found is None else found.start()


def _no_escape(pattern: Any, value: Any, escape: Any) -> bool | None:
    raise ValueError("LIKE ... ESCAPE is not there")
