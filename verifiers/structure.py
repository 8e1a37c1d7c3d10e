"""Structured replies: JSON by schema or by fields, and XML-like tags."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .base import Episode, Score, Task, Verifier
from .code_values import same_value
from .final_answer import without_thinking
from .json_schema import Check, SchemaError, compiled
from .json_strict import NotJson, json_in, read_json


@lru_cache(maxsize=500)
def _schema(text: str) -> Check:
    return compiled(json.loads(text))


@dataclass(frozen=True)
class JsonSchema(Verifier):
    """Is the reply JSON that fits a schema? `schema`, or the task's answer where it is None.

    Read strictly: no NaN, no duplicate keys, bounded depth and size. A keyword that is not supported is an
    error at load, never a check left out.
    """

    schema: Mapping[str, Any] | None = None
    """The schema of every task; None: each task's answer is one."""

    def score(self, episode: Episode) -> Score:
        """Read the reply and check it; the reason has the path of what is wrong."""
        check = self._check(episode.task)
        try:
            value = read_json(json_in(without_thinking(episode.reply)))
        except NotJson as error:
            return Score(0.0, reason=f"not JSON: {error}")
        wrong = check(value, "$")
        return Score(float(not wrong), reason=wrong or "fits the schema")

    def _check(self, task: Task) -> Check:
        schema = task.answer if self.schema is None else self.schema
        try:
            return _schema(json.dumps(schema))
        except (SchemaError, TypeError) as error:
            raise ValueError(f"task {task.id!r}: {error}") from None

    def check(self, task: Task) -> None:
        """Refuse a task without a schema that can be checked."""
        self._check(task)


@dataclass(frozen=True)
class JsonFields(Verifier):
    """Does the reply's JSON object have the values of the task's answer, field by field?"""

    partial: bool = True
    """Whether the value is the share of right fields; else 1 for all of them and 0 otherwise."""
    extra: bool = False
    """Whether fields that were not asked for are forgiven."""
    tolerance: float = 0.0
    """Relative difference between numbers that still counts as equal."""

    def score(self, episode: Episode) -> Score:
        """Compare each field; the parts are 1 or 0 by field."""
        wanted = self._wanted(episode.task)
        try:
            value = read_json(json_in(without_thinking(episode.reply)))
        except NotJson as error:
            return Score(0.0, reason=f"not JSON: {error}")
        if not isinstance(value, dict):
            return Score(0.0, reason=f"not an object: {value!r:.60}")
        parts = {
            key: float(key in value and same_value(value[key], v, self.tolerance))
            for key, v in wanted.items()
        }
        unasked = [] if self.extra else sorted(set(value) - set(wanted))
        share = sum(parts.values()) / (len(wanted) + len(unasked))
        wrong = [key for key, good in parts.items() if not good]
        reason = "; ".join(
            [f"{key} is {value.get(key, 'missing')!r:.60}, wanted {wanted[key]!r:.60}" for key in wrong[:5]]
            + [f"{key} was not asked for" for key in unasked[:5]]
        )
        return Score(
            share if self.partial else float(share == 1), parts, reason=reason or "all fields are right"
        )

    def _wanted(self, task: Task) -> Mapping[str, Any]:
        if not isinstance(task.answer, Mapping) or not task.answer:
            raise ValueError(
                f"task {task.id!r}: the answer must be an object with fields, got {task.answer!r:.100}"
            )
        return task.answer

    def check(self, task: Task) -> None:
        """Refuse a task without fields."""
        self._wanted(task)


@dataclass(frozen=True)
class Tags(Verifier):
    """Does the reply consist of the given tags, each once, in order, closed, with something in it?

    For formats such as `<think>...</think><answer>...</answer>`; text outside the tags is wrong unless `outside`.
    """

    names: tuple[str, ...] = ("think", "answer")
    """The tags, in order."""
    outside: bool = False
    """Whether text may stand outside the tags."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or not all(re.fullmatch(r"\w+", name) for name in self.names):
            raise ValueError(f"names must be one tag name or more, got {self.names!r}")

    def score(self, episode: Episode) -> Score:
        """Check the tags one after the other; the reason names the first that is wrong."""
        text = str(episode.reply)
        position = 0
        for name in self.names:
            if text.count(f"<{name}>") != 1 or text.count(f"</{name}>") != 1:
                return Score(0.0, reason=f"<{name}> must be opened and closed once")
            opened, closed = text.index(f"<{name}>"), text.index(f"</{name}>")
            if opened < position or closed < opened:
                return Score(0.0, reason=f"<{name}> stands in the wrong place")
            if not self.outside and text[position:opened].strip():
                return Score(0.0, reason=f"text stands before <{name}>")
            if not text[opened + len(name) + 2 : closed].strip():
                return Score(0.0, reason=f"<{name}> is empty")
            position = closed + len(name) + 3
        if not self.outside and text[position:].strip():
            return Score(0.0, reason="text stands after the last tag")
        return Score(1.0, reason="all tags are there")
