"""`ToolCalls`: did the reply make the calls that were wanted? Compared by schema type, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..tools.chat import ToolCall
from .base import Episode, Score, Task, Verifier
from .tool_call_text import calls_of

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "float": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "tuple": (list, tuple),
    "dict": (dict,),
    "object": (dict,),
    "null": (type(None),),
}
OPTIONAL = ""
"""Among the alternatives of an argument: it may be left out (the Berkeley Function Calling format)."""


@dataclass(frozen=True, slots=True)
class WantedCall:
    """One call that is wanted."""

    name: str
    """The function's name."""
    arguments: Mapping[str, tuple[Any, ...]]
    """The alternatives of each argument; `OPTIONAL` among them if it may be left out."""
    alternatives: bool
    """Whether objects inside the values list alternatives too."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The JSON schema of the parameters, where the task gives one."""


@dataclass(frozen=True)
class ToolCalls(Verifier):
    """Are the calls of the reply the ones that were wanted?

    `task.answer` is a list of calls, `[{"name": "add", "arguments": {"a": 1}}]`, or the Berkeley format with
    alternatives, `[{"add": {"a": [1], "note": ["x", ""]}}]`; an empty list or None means that no call may be
    made. Schemas are read from `task.info["functions"]`, in the Berkeley or the OpenAI shape: types are checked
    and defaults filled in on both sides. Several calls match in any order unless `ordered`.
    """

    ordered: bool = False
    """Whether the order of several calls matters."""
    partial: bool = False
    """Whether the value is the share of right calls (over the larger number of calls); else 1 or 0."""
    exact_strings: bool = False
    """Whether strings must be equal; else case, spaces and the signs `,./-_*^` do not matter."""

    def score(self, episode: Episode) -> Score:
        """Match the reply's calls with the wanted ones; the reason names the argument that differs."""
        wanted = wanted_calls(episode.task)
        if episode.reply.parse_error:
            return Score(0.0, reason=f"a call could not be read: {episode.reply.parse_error}")
        made = calls_of(episode.reply)
        if not wanted:
            return Score(float(not made), reason=f"no call wanted, {len(made)} made")
        pairs = self._matched(wanted, made)
        share = len(pairs) / max(len(wanted), len(made))
        reasons = [
            self._why(call, [c for i, c in enumerate(made) if i not in pairs.values()])
            for index, call in enumerate(wanted)
            if index not in pairs
        ]
        if len(made) != len(wanted):
            reasons.append(f"{len(made)} calls made, {len(wanted)} wanted")
        return Score(
            share if self.partial else float(share == 1), reason="; ".join(reasons) or "all calls match"
        )

    def _matched(self, wanted: Sequence[WantedCall], made: Sequence[ToolCall]) -> dict[int, int]:
        """Return the index of the made call for each wanted one, as many as can be matched."""
        fits = [
            [
                j
                for j, call in enumerate(made)
                if not self.difference(want, call) and (not self.ordered or i == j)
            ]
            for i, want in enumerate(wanted)
        ]
        owner: dict[int, int] = {}

        def assign(index: int, seen: set[int]) -> bool:
            for candidate in fits[index]:
                if candidate in seen:
                    continue
                seen.add(candidate)
                if candidate not in owner or assign(owner[candidate], seen):
                    owner[candidate] = index
                    return True
            return False

        for index in range(len(wanted)):
            assign(index, set())
        return {index: candidate for candidate, index in owner.items()}

    def _why(self, wanted: WantedCall, unmatched: Sequence[ToolCall]) -> str:
        same_name = [call for call in unmatched if same_name_as(wanted.name, call.name)]
        if same_name:
            return f"{wanted.name}: {self.difference(wanted, same_name[0])}"
        return f"{wanted.name} was not called" + (f" ({unmatched[0].name} was)" if unmatched else "")

    def difference(self, wanted: WantedCall, call: ToolCall) -> str:
        """Return what differs between a wanted call and a made one; empty if nothing does."""
        if not same_name_as(wanted.name, call.name):
            return f"{call.name} was called"
        properties = wanted.schema.get("properties") or {}
        for name, alternatives in wanted.arguments.items():
            own = properties.get(name) or {}
            if name not in call.arguments:
                if OPTIONAL in alternatives or (
                    "default" in own and self._any(own["default"], alternatives, {}, wanted)
                ):
                    continue
                return f"the argument {name!r} is missing"
            value = call.arguments[name]
            if any(type(value) is type(a) and value == a != OPTIONAL for a in alternatives):
                continue  # as the author wrote it, even against the schema
            if wrong := _wrong_type(value, own):
                return f"the argument {name!r} must be {wrong}"
            if not self._any(value, alternatives, own, wanted):
                listed = " or ".join(repr(a)[:60] for a in alternatives if a != OPTIONAL) or "left out"
                return f"the argument {name!r} is {value!r:.60}, wanted {listed}"
        for name, value in call.arguments.items():
            if name not in wanted.arguments:
                default = (properties.get(name) or {}).get("default", _NOTHING)
                if default is _NOTHING or not self._same(value, default, False):
                    return f"the argument {name!r} was not wanted"
        return ""

    def _any(
        self, value: Any, alternatives: Sequence[Any], schema: Mapping[str, Any], wanted: WantedCall
    ) -> bool:
        return any(
            self._same(value, alternative, wanted.alternatives)
            for alternative in alternatives
            if alternative != OPTIONAL or schema.get("type", "string") == "string"
        )

    def _same(self, value: Any, wanted: Any, alternatives: bool, depth: int = 0) -> bool:
        if depth > 30:
            return False
        if isinstance(wanted, Mapping):
            return isinstance(value, Mapping) and self._same_object(value, wanted, alternatives, depth)
        if isinstance(wanted, list | tuple):
            return (
                isinstance(value, list | tuple)
                and len(value) == len(wanted)
                and all(self._same(a, b, alternatives, depth + 1) for a, b in zip(value, wanted, strict=True))
            )
        if isinstance(wanted, bool) or isinstance(value, bool):
            return value is wanted
        if isinstance(wanted, int | float):
            return isinstance(value, int | float) and value == wanted and math.isfinite(value)
        if isinstance(wanted, str):
            return isinstance(value, str) and (
                value == wanted or (not self.exact_strings and _plain(value) == _plain(wanted))
            )
        return type(value) is type(wanted) and value == wanted

    def _same_object(
        self, value: Mapping[str, Any], wanted: Mapping[str, Any], alternatives: bool, depth: int
    ) -> bool:
        if not alternatives or not all(isinstance(v, list) for v in wanted.values()):
            return set(value) == set(wanted) and all(
                self._same(value[k], v, False, depth + 1) for k, v in wanted.items()
            )
        for key, choices in wanted.items():
            if key not in value:
                if OPTIONAL not in choices:
                    return False
            elif not any(self._same(value[key], choice, True, depth + 1) for choice in choices):
                return False
        return set(value) <= set(wanted)

    def check(self, task: Task) -> None:
        """Refuse a task whose wanted calls cannot be read."""
        wanted_calls(task)


_NOTHING = object()


def same_name_as(wanted: str, called: str) -> bool:
    """Return whether two function names are the same; a model that may not write dots writes underscores."""
    return wanted == called or wanted.replace(".", "_") == called


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def _wrong_type(value: Any, schema: Mapping[str, Any]) -> str:
    """Return what the type must be if the value has another one, by the schema; else the empty string."""
    kind = schema.get("type")
    expected = _TYPES.get(kind) if isinstance(kind, str) else None
    if expected is None:
        return ""
    if isinstance(value, bool) and kind != "boolean":
        return f"of type {kind}, got boolean"
    if not isinstance(value, expected):
        return f"of type {kind}, got {type(value).__name__}"
    items = schema.get("items")
    if isinstance(items, Mapping) and isinstance(value, list | tuple):
        return next((f"of items {wrong}" for item in value[:100] if (wrong := _wrong_type(item, items))), "")
    return ""


def wanted_calls(task: Task) -> list[WantedCall]:
    """Return the calls that a task wants.

    Raises `ValueError` naming the task where they cannot be read.
    """
    answer = task.answer
    if answer is None:
        return []
    if not isinstance(answer, list):
        raise ValueError(f"task {task.id!r}: the answer must be a list of calls or None, got {answer!r:.100}")
    schemas = _schemas(task)
    calls: list[WantedCall] = []
    for item in answer:
        if not isinstance(item, Mapping):
            raise ValueError(f"task {task.id!r}: a call must be an object, got {item!r:.100}")
        if isinstance(item.get("name"), str) and isinstance(item.get("arguments", {}), Mapping):
            name = item["name"]
            arguments = {key: (value,) for key, value in (item.get("arguments") or {}).items()}
            calls.append(WantedCall(name, arguments, False, schemas.get(name, {})))
        elif len(item) == 1 and isinstance(inner := next(iter(item.values())), Mapping):
            name = str(next(iter(item)))
            wrong = [key for key, value in inner.items() if not isinstance(value, list)]
            if wrong:
                raise ValueError(f"task {task.id!r}: {name}.{wrong[0]} must list its alternatives")
            arguments = {key: tuple(value) for key, value in inner.items()}
            calls.append(WantedCall(name, arguments, True, schemas.get(name, {})))
        else:
            raise ValueError(
                f"task {task.id!r}: a call must be {{'name', 'arguments'}} or {{name: {{argument: [alternatives]}}}}, "
                f"got {item!r:.100}"
            )
    return calls


def _schemas(task: Task) -> dict[str, Mapping[str, Any]]:
    listed = task.info.get("functions") or task.info.get("function") or task.info.get("tools") or []
    schemas: dict[str, Mapping[str, Any]] = {}
    for entry in listed if isinstance(listed, list) else [listed]:
        function = entry.get("function", entry) if isinstance(entry, Mapping) else {}
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            schemas[function["name"]] = function.get("parameters") or {}
    return schemas
