"""Arguments that were written as bare text, given the types that the tool's schema wants.

A value that does not fit stays a text: the check of the arguments then tells the model what was wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import Unreadable, read_json, skip_space
from .literals import read_literal

if TYPE_CHECKING:
    from ..tool import Tool


def schema_of(name: str, tools: Sequence[Tool]) -> Mapping[str, Any]:
    """Return the schema of the arguments of the tool `name`; an empty one if there is none of that name."""
    return next((tool.parameters for tool in tools if tool.name == name), {})


def typed(text: str, name: str, schema: Mapping[str, Any]) -> Any:
    """Return the value of the argument `name` that is written as `text`.

    A text stays a text where the schema wants one. Anything else is read as JSON, or as a Python literal. Without a
    schema that says more, what is JSON is taken for it.
    """
    properties = schema.get("properties", {})
    wanted = types_in(properties.get(name, {}), schema) if isinstance(properties, Mapping) else set()
    if wanted == {"string"}:
        return text
    try:
        value = _value(text)
    except Unreadable:
        return text
    if not wanted or fits(value, wanted):
        return value
    return text


def types_in(schema: Any, root: Mapping[str, Any], depth: int = 0) -> set[str]:
    """Return the JSON types that a schema names; an empty set if it allows any or cannot be told."""
    if not isinstance(schema, Mapping) or depth > 8:
        return set()
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {one for one in named if isinstance(one, str)}
    if isinstance(choices := schema.get("enum"), list):
        return {_kind(one) for one in choices}
    for keyword in ("anyOf", "oneOf"):
        if isinstance(parts := schema.get(keyword), list):
            found = [types_in(part, root, depth + 1) for part in parts]
            return set().union(*found) if all(found) else set()
    target = schema.get("$ref")
    if isinstance(target, str) and isinstance(defs := root.get("$defs"), Mapping):
        return types_in(defs.get(target.rpartition("/")[2]), root, depth + 1)
    return set()


def fits(value: Any, wanted: set[str]) -> bool:
    """Return whether a value is of one of the types."""
    kind = _kind(value)
    if kind in wanted or (kind == "integer" and "number" in wanted):
        return True
    return "integer" in wanted and isinstance(value, float) and value.is_integer()


def _value(text: str) -> Any:
    for read in (read_json, read_literal):
        try:
            value, end = read(text, skip_space(text, 0))
        except Unreadable:
            continue
        if skip_space(text, end) == len(text):
            return value
    raise Unreadable("no value")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {str: "string", bool: "boolean", list: "array", dict: "object", int: "integer"}
    return names.get(type(value), "number")
