"""`quintain/SQL-v0`: answer questions about a SQLite database with a query, or change it as asked.

To answer, the model looks round with a tool and hands in a query. The query is run on the database that it has seen
and on others with the same tables and other rows, and must give what our own query gives on each: rows that were
copied out of the database are no answer. To change, the tool may write, and what counts is what the tables hold at the
end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tools.chat import Message, ToolCall
from ...tools.errors import ToolError
from ...tools.formats import Hermes
from ...tools.tool import tool
from ...tools.toolkit import Toolkit
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.code_tests import fenced_blocks
from ...verifiers.code_values import same_value
from ...verifiers.final_answer import without_thinking
from ..card import Card
from ..tasks import item_rng
from ..tool_use import ToolEnv
from .database import Database, SqlError, Tables, create_statement
from .items import Split
from .programs import fenced
from .sources import Drawn, check_choice, check_range, made_tasks, pick
from .sql_questions import CHORES, DOMAINS, QUESTIONS, Question, database

SHOWN_ROWS = 30
"""Rows of a result that the tool shows."""
OTHERS = 2
"""Databases with other rows on which a query is run as well."""
_TOLERANCE = 1e-9  # of averages, whose last digit depends on how they are written

_ANSWER = (
    "Answer with one SQLite query that gives the answer for any rows in these tables. Try queries with the tool; "
    "then reply with the query alone in one ```sql block."
)
_CHANGE = "Change the database as asked, with the tool. When it is done, say so in a reply without a call."


class SqlTool(Toolkit):
    """The tool `sql(statement)` over a database of the episode's own; the setup holds `tables` and `write`."""

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Make the database."""
        self._database = Database(setup["tables"], write=bool(setup.get("write")))

    async def evidence(self) -> Mapping[str, Any]:
        """Return what every table holds."""
        return {"tables": self._database.contents()}

    async def close(self) -> None:
        """Free the database."""
        opened: Database | None = self.__dict__.pop("_database", None)
        if opened is not None:
            opened.close()

    @tool
    def sql(self, statement: str) -> str:
        """Run one SQLite statement and return its rows, at most 30 of them.

        Args:
            statement: One statement. Neither dates of today nor random numbers are there.
        """
        try:
            names, rows, more = self._database.run(statement, SHOWN_ROWS)
        except SqlError as error:
            raise ToolError(str(error)) from error
        if not names:
            return "Done."
        lines = [" | ".join(names), *(" | ".join(map(_cell, row)) for row in rows)]
        return "\n".join(lines) + ("\n[more rows]" if more else "" if rows else "\n[no rows]")


def _cell(value: Any) -> str:
    return "NULL" if value is None else str(value)


@dataclass(frozen=True)
class SameRows(Verifier):
    """Does the query in the reply's last ```sql block give the right rows on every database?

    `task.answer` is `{"databases": [tables, ...], "rows": [the rows of the gold query on each], "ordered": bool}`.
    Names of columns do not matter, the order of rows only if `ordered`.
    """

    def score(self, episode: Episode) -> Score:
        """Run the query on each database and compare its rows."""
        answer = episode.task.answer
        blocks = fenced_blocks(without_thinking(episode.reply), ("sql", "sqlite", ""))
        if not blocks:
            return Score(0.0, reason="no ```sql block in the reply")
        for number, (tables, wanted) in enumerate(zip(answer["databases"], answer["rows"], strict=True), 1):
            try:
                found = rows_of(tables, blocks[-1])
            except SqlError as error:
                return Score(0.0, reason=f"database {number}: {error}")
            if not same_rows(found, wanted, answer["ordered"]):
                return Score(0.0, reason=f"database {number}: {_few(found)} where {_few(wanted)} was wanted")
        return Score(1.0, reason=f"the right rows on {len(answer['databases'])} databases")


def rows_of(tables: Tables, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a fresh database. Raises `SqlError`, also for too many rows."""
    opened = Database(tables)
    try:
        _, rows, more = opened.run(query)
    finally:
        opened.close()
    if more:
        raise SqlError("the query gives too many rows")
    return rows


def same_rows(found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]], ordered: bool) -> bool:
    """Return whether two results are the same, as lists if `ordered` and otherwise as bags."""
    if len(found) != len(wanted):
        return False
    if not ordered:
        found, wanted = (sorted(map(tuple, rows), key=repr) for rows in (found, wanted))
    return all(
        len(one) == len(other) and all(map(_same_cell, one, other))
        for one, other in zip(found, wanted, strict=True)
    )


def _same_cell(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return same_value(one, other, _TOLERANCE)


def _few(rows: Sequence[Sequence[Any]]) -> str:
    text = repr(list(rows[:3]))
    return (text if len(text) < 120 else text[:117] + "...") + (
        f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    )


@dataclass(frozen=True)
class SameTables(Verifier):
    """Do the tables hold at the end what the task's answer says? `{"tables": {name: rows}}`, read by us, sorted."""

    def score(self, episode: Episode) -> Score:
        """Compare every table."""
        found, wanted = episode.evidence.get("tables"), episode.task.answer["tables"]
        if found is None:
            return Score.ungraded("the tables were not read")
        for name, rows in wanted.items():
            if found.get(name) != rows:
                extra = [row for row in found.get(name, ()) if row not in rows]
                missing = [row for row in rows if row not in found.get(name, ())]
                return Score(
                    0.0, reason=f"{name}: {len(extra)} rows that are wrong, {len(missing)} that are missing"
                )
        return Score(1.0, reason="the tables are as they should be")


class SQL(ToolEnv):
    """Answer questions about a database, or change it; see the module.

    Args:
        split: "train" or "test": disjoint by question, domain and the values in it.
        mode: "read" (hand in a query) or "write" (change the rows).
        difficulty: 1 (one table), 2 (joins and groups) or 3 (nested queries, several statements).
        max_turns: Replies until the episode is truncated.
        seed: Of the problem set.
    """

    card = Card(
        what="Look round in a SQLite database with a tool, then hand in a query that answers a question, or change the "
        "rows as asked.",
        reward="Reading: 1 if the query gives the right rows on the database that was seen and on two others with the "
        "same tables. Writing: 1 if the tables hold what they should at the end. Otherwise 0.",
        difficulty="`difficulty` 1 to 3: one table, joins and groups, nested queries or several statements.",
        oracle="The query, or the statements, from which the expected rows come.",
        tags=("tools", "sql", "multi-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        mode: str = "read",
        difficulty: int = 2,
        max_turns: int = 8,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_choice("SQL", "mode", mode, ("read", "write"))
        check_range("SQL", "difficulty", difficulty, 1, 3)
        questions = [one for one in (QUESTIONS if mode == "read" else CHORES) if one.level == difficulty]

        def draw(rng: np.random.Generator) -> Drawn:
            question, domain = pick(rng, questions), pick(rng, DOMAINS)
            text, statements = question.fill(domain, rng)
            rows = int(rng.integers(2**62))  # the rows may be drawn anew, the question stays
            make = _reading if mode == "read" else _writing
            return text, lambda: make(question, text, statements, [
                database(domain, item_rng("sql", rows, number)) for number in range(1 + OTHERS * (mode == "read"))
            ])  # fmt: skip

        super().__init__(
            made_tasks("SQL", draw, split=split, seed=seed, variant=f"{mode}-{difficulty}"),
            [SqlTool()],
            SameRows() if mode == "read" else SameTables(),
            max_turns=max_turns,
            system_prompt=_ANSWER if mode == "read" else _CHANGE,
            render_mode=render_mode,
        )
        self.oracle = _answering if mode == "read" else _changing

    def setup(self, task: Task) -> Mapping[str, Any]:
        """Return the tables: nothing else of the task reaches the tool."""
        opened_with: Mapping[str, Any] = task.info["database"]
        return opened_with

    def evidence(self) -> Mapping[str, Any]:
        """Return what the tables hold where they may be changed; a question is answered by the reply alone."""
        return super().evidence() if isinstance(self.verifier, SameTables) else {}

    async def aevidence(self) -> Mapping[str, Any]:
        """Return the same without blocking the event loop."""
        return await super().aevidence() if isinstance(self.verifier, SameTables) else {}


def _prompt(tables: Tables, text: str) -> str:
    lines = []
    for name, table in tables.items():
        first = ", ".join(f"({', '.join(map(repr, row))})" for row in table["rows"][:2])
        lines.append(
            f"{create_statement(name, table)};\n-- {len(table['rows'])} rows, the first of them {first}"
        )
    return "\n".join(lines) + f"\n\n{text}"


def _reading(question: Question, text: str, statements: list[str], tables: list[Tables]) -> Task | None:
    results = [rows_of(each, statements[0]) for each in tables]
    empty = any(not rows or any(value is None for row in rows for value in row) for rows in results)
    if empty or len(set(map(repr, results))) < len(results):
        return None  # rows by heart would do
    rows = [[list(row) for row in result] for result in results]
    answer = {"databases": tables, "rows": rows, "ordered": question.ordered}
    info = {"database": {"tables": tables[0], "write": False}, "statements": statements}
    return Task("", _prompt(tables[0], text), answer, info)


def _writing(question: Question, text: str, statements: list[str], tables: list[Tables]) -> Task | None:
    opened = Database(tables[0], write=True)
    before = opened.contents()
    for statement in statements:
        opened.run(statement)
    after = opened.contents()
    opened.close()
    if sum(before[name] != after[name] for name in before) == 0 or not all(after.values()):
        return None  # nothing to do, or simply everything
    info = {"database": {"tables": tables[0], "write": True}, "statements": statements}
    return Task("", _prompt(tables[0], text), {"tables": after}, info)


def _answering(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return fenced(task.info["statements"][0], "sql")


def _changing(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    done = sum(message["role"] == "tool" for message in messages)
    statements = task.info["statements"]
    if done >= len(statements):
        return "Done."
    return Hermes().render("", calls=[ToolCall(f"call_{done}", "sql", {"statement": statements[done]})])
