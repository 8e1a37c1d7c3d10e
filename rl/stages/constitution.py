"""A constitution: principles by which a model criticises, revises and compares answers (arXiv 2212.08073).

A TOML or JSON file:

    [[principle]]
    name = "kind"
    critique = "Say how the answer mocks the person who asks."
    revision = "Write the answer again without anything that mocks."
    compare = "Prefer the answer that mocks less."        # left out: follows from the critique
    pattern = '\\b(fool|silly)\\b'                          # left out: a rule that needs no model, see `RuleSpeaker`
    replace = ""
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tools.chat import Message, user
from ...tools.errors import UserError, nearest

_FIELDS = ("name", "critique", "revision", "compare", "pattern", "replace")
_CRITIQUE = "Criticise your last answer. {text}"
_REVISION = "{text} Reply with the whole new answer and nothing else."


@dataclass(frozen=True, slots=True)
class Principle:
    """One thing that answers are held to."""

    name: str
    """Unique in the constitution."""
    critique: str
    """The critique that is asked for."""
    revision: str
    """The revision that is asked for."""
    compare: str
    """By what two answers are compared."""
    pattern: str = ""
    """A regular expression that finds what is wrong, for `RuleSpeaker`; matched without case."""
    replace: str = ""
    """What a rule puts in the place of what it finds."""

    def ask_critique(self) -> Message:
        """Return the message that asks for a critique of the answer before it."""
        return user(_CRITIQUE.format(text=self.critique))

    def ask_revision(self) -> Message:
        """Return the message that asks for a revision after the critique."""
        return user(_REVISION.format(text=self.revision))

    def broken_by(self, answer: str) -> list[str]:
        """Return what the pattern finds in an answer."""
        if not self.pattern:
            return []
        return [match[0] for match in re.finditer(self.pattern, answer, re.IGNORECASE)]


def read_constitution(path: Path) -> tuple[Principle, ...]:
    """Read a constitution. Raises `UserError` that names the principle and what is wrong with it."""
    try:
        text = path.read_text("utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"constitution: there is no file {path}") from None
    except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, of TOML
        raise UserError(f"constitution: {path} cannot be read: {error}") from None
    given = data.get("principle") if isinstance(data, dict) else data
    if not isinstance(given, list) or not given:
        raise UserError(
            f"constitution: {path} has no principles; write [[principle]] with critique and revision"
        )
    found: list[Principle] = []
    for number, table in enumerate(given, 1):
        one = _principle(table, number, f"constitution: {path}: principle {number}")
        if one.name in {other.name for other in found}:
            raise UserError(
                f"constitution: {path}: principle {number}: there are two with the name {one.name!r}"
            )
        found.append(one)
    return tuple(found)


def _principle(table: Any, number: int, at: str) -> Principle:
    if not isinstance(table, Mapping):
        raise UserError(f"{at} is not a table, got {table!r:.60}")
    for key, value in table.items():
        if key not in _FIELDS:
            raise UserError(f"{at}: no such key {key!r}; {nearest(str(key), _FIELDS)}")
        if not isinstance(value, str) or (key != "replace" and not value.strip()):
            raise UserError(f"{at}: {key} must be a text that says something, got {value!r:.60}")
    missing = [key for key in ("critique", "revision") if key not in table]
    if missing:
        raise UserError(f"{at}: {' and '.join(missing)} is missing")
    try:
        re.compile(table.get("pattern", ""))
    except re.error as error:
        raise UserError(f"{at}: pattern is not a regular expression: {error}") from None
    return Principle(
        name=table.get("name", f"principle-{number}"),
        critique=table["critique"],
        revision=table["revision"],
        compare=table.get("compare", f"Prefer the answer with less to criticise. {table['critique']}"),
        pattern=table.get("pattern", ""),
        replace=table.get("replace", ""),
    )


@dataclass(frozen=True, slots=True)
class RuleSpeaker:
    """A critic, reviser and judge that is no model: it goes by the patterns of the constitution, always alike.

    It answers exactly the messages that a model would be asked with, so it stands in for one in tests, and where what
    is wrong with an answer can be told by a rule. Anything else gets an empty answer.
    """

    principles: Sequence[Principle]

    async def say(self, messages: Sequence[Message], *, draw: int = 0) -> str:
        """Answer a critique, a revision or a comparison."""
        asked = messages[-1]["content"]
        for one in self.principles:
            if messages[-1] == one.ask_critique():
                found = one.broken_by(messages[-2]["content"])
                return f"It says: {', '.join(found)}." if found else "There is nothing to criticise."
            if messages[-1] == one.ask_revision():
                answer = messages[-4]["content"]
                if not one.broken_by(answer):
                    return answer
                return " ".join(re.sub(one.pattern, one.replace, answer, flags=re.IGNORECASE).split())
            if messages[0]["role"] == "system" and one.compare in messages[0]["content"]:
                return _verdict(one, messages[0]["content"], asked)
        return ""

    async def complete(self, messages: Sequence[Message]) -> str:
        """Answer as a judge's `Completer`."""
        return await self.say(messages)


def _verdict(principle: Principle, instructions: str, shown: str) -> str:
    """Return the verdict on two submissions: the one that breaks the principle less often."""
    mark = re.search(r"VERDICT (\w+): TIE", instructions)
    if mark is None:
        return ""
    broken = []
    for side in "AB":
        found = re.search(
            rf"<submission-{side}-{mark[1]}>\n(.*?)\n</submission-{side}-{mark[1]}>", shown, re.DOTALL
        )
        broken.append(len(principle.broken_by(found[1])) if found else 0)
    said = "TIE" if broken[0] == broken[1] else "A" if broken[0] < broken[1] else "B"
    return f"A breaks it {broken[0]} times, B {broken[1]} times.\nVERDICT {mark[1]}: {said}"
