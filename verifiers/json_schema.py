"""A JSON Schema, compiled once into checks. What it does not know it refuses, instead of letting it pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .code_values import same_value
from .patterns import search_safely, simple_pattern

Check = Callable[[Any, str], str]
"""Takes a value and its path; returns what is wrong, or the empty string."""

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: (
        (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and v.is_integer())
    ),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_NOTES = frozenset(
    ("title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$defs", "definitions", "format",  # noqa: E501
     "deprecated", "readOnly", "writeOnly")
)  # fmt: skip


class SchemaError(ValueError):
    """The schema is not one that can be checked here; the text says where and why."""


def compiled(schema: Any) -> Check:
    """Compile a schema. Raises `SchemaError` for an unknown keyword, a wrong value, an unsafe pattern."""
    return _compile(schema, schema, "schema", {})


def _compile(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    if schema is True:
        return lambda value, path: ""
    if schema is False:
        return lambda value, path: f"{path} may not be there"
    if not isinstance(schema, Mapping):
        raise SchemaError(f"{where} must be an object or a boolean, got {schema!r:.60}")
    checks: list[Check] = []
    for keyword in schema:
        if keyword in _NOTES or keyword in {"then", "else"}:
            continue
        make = _KEYWORDS.get(keyword)
        if make is None:
            raise SchemaError(
                f"{where}: the keyword {keyword!r} is not supported; known are {', '.join(sorted(_KEYWORDS))}"
            )
        checks.append(make(schema, root, f"{where}.{keyword}", known))

    def check(value: Any, path: str) -> str:
        return next((wrong for one in checks if (wrong := one(value, path))), "")

    return check


def _type(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    for name in names:
        if name not in _TYPES:
            raise SchemaError(f"{where}: there is no type {name!r}; the types are {', '.join(_TYPES)}")
    return lambda value, path: (
        ""
        if any(_TYPES[n](value) for n in names)
        else f"{path} must be {' or '.join(names)}, got {value!r:.60}"
    )


def _enum(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    choices = schema["enum"] if "enum" in schema else [schema["const"]]
    if "const" in schema and where.endswith("const"):
        choices = [schema["const"]]
    return lambda value, path: (
        ""
        if any(_equal(value, c) for c in choices)
        else f"{path} must be one of {choices!r:.80}, got {value!r:.60}"
    )


def _equal(value: Any, wanted: Any) -> bool:
    return isinstance(value, bool) is isinstance(wanted, bool) and same_value(value, wanted)


def _properties(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    inner = {key: _compile(s, root, f"{where}.{key}", known) for key, s in schema["properties"].items()}

    def check(value: Any, path: str) -> str:
        if not isinstance(value, dict):
            return ""
        return next((w for k, c in inner.items() if k in value and (w := c(value[k], f"{path}.{k}"))), "")

    return check


def _required(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    names = list(schema["required"])
    return lambda value, path: (
        next((f"{path}.{n} is missing" for n in names if n not in value), "")
        if isinstance(value, dict)
        else ""
    )


def _additional(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    declared = set(schema.get("properties") or ())
    inner = _compile(schema["additionalProperties"], root, where, known)

    def check(value: Any, path: str) -> str:
        if not isinstance(value, dict):
            return ""
        return next((w for k in value if k not in declared and (w := inner(value[k], f"{path}.{k}"))), "")

    return check


def _items(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    inner = _compile(schema["items"], root, where, known)

    def check(value: Any, path: str) -> str:
        if not isinstance(value, list):
            return ""
        return next((w for i, v in enumerate(value) if (w := inner(v, f"{path}[{i}]"))), "")

    return check


def _bound(
    kind: str, low: bool, size: Callable[[Any], Any], applies: Callable[[Any], bool], strict: bool = False
) -> Any:
    def make(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
        limit = schema[kind]
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise SchemaError(f"{where} must be a number, got {limit!r:.60}")

        def check(value: Any, path: str) -> str:
            if not applies(value):
                return ""
            measured = size(value)
            fits = (
                (measured > limit if strict else measured >= limit)
                if low
                else (measured < limit if strict else measured <= limit)
            )
            return "" if fits else f"{path} does not fit {kind} {limit}: {value!r:.60}"

        return check

    return make


def _pattern(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    pattern = schema["pattern"]
    try:
        simple_pattern(pattern)
    except (re.error, TypeError) as error:
        raise SchemaError(f"{where}: {pattern!r:.60} is no valid pattern: {error}") from None
    return lambda value, path: (
        f"{path} does not match {pattern!r:.60}: {value!r:.60}"
        if isinstance(value, str) and not search_safely(pattern, value[:20_000])
        else ""
    )


def _unique(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    def check(value: Any, path: str) -> str:
        if not schema["uniqueItems"] or not isinstance(value, list):
            return ""
        if len(value) > 2000:
            return f"{path} has too many entries"
        double = any(_equal(a, b) for i, a in enumerate(value) for b in value[:i])
        return f"{path} has equal entries" if double else ""

    return check


def _several(kind: str) -> Any:
    def make(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
        inner = [_compile(s, root, f"{where}[{i}]", known) for i, s in enumerate(schema[kind])]

        def check(value: Any, path: str) -> str:
            wrong = [w for c in inner if (w := c(value, path))]
            if kind == "allOf":
                return wrong[0] if wrong else ""
            fits = len(inner) - len(wrong)
            if kind == "anyOf":
                return "" if fits else f"{path} fits none of {len(inner)} schemas ({wrong[0]})"
            return "" if fits == 1 else f"{path} fits {fits} of {len(inner)} schemas, must fit one"

        return check

    return make


def _not(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    inner = _compile(schema["not"], root, where, known)
    return lambda value, path: "" if inner(value, path) else f"{path} fits what it may not: {value!r:.60}"


def _reference(schema: Any, root: Any, where: str, known: dict[str, Check]) -> Check:
    target = schema["$ref"]
    if not isinstance(target, str) or not target.startswith("#"):
        raise SchemaError(
            f"{where}: only references inside the schema ('#/$defs/name') are followed, got {target!r:.60}"
        )
    if target not in known:
        found = root
        for part in target.lstrip("#").strip("/").split("/") if target != "#" else ():
            if not isinstance(found, Mapping) or part not in found:
                raise SchemaError(f"{where}: nothing stands at {target!r:.60}")
            found = found[part]
        known[target] = lambda value, path: ""  # a reference to itself ends here while it is being compiled
        later: list[Check] = []
        known[target] = lambda value, path: later[0](value, path)
        later.append(_compile(found, root, target, known))
    return known[target]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _itself(value: Any) -> Any:
    return value


_KEYWORDS: dict[str, Callable[[Any, Any, str, dict[str, Check]], Check]] = {
    "type": _type, "enum": _enum, "const": _enum, "properties": _properties, "required": _required,
    "additionalProperties": _additional, "items": _items, "pattern": _pattern, "uniqueItems": _unique,
    "allOf": _several("allOf"), "anyOf": _several("anyOf"), "oneOf": _several("oneOf"), "not": _not, "$ref": _reference,
    "minimum": _bound("minimum", True, _itself, _number), "maximum": _bound("maximum", False, _itself, _number),
    "exclusiveMinimum": _bound("exclusiveMinimum", True, _itself, _number, True),
    "exclusiveMaximum": _bound("exclusiveMaximum", False, _itself, _number, True),
    "minLength": _bound("minLength", True, len, _is_text), "maxLength": _bound("maxLength", False, len, _is_text),
    "minItems": _bound("minItems", True, len, _is_list), "maxItems": _bound("maxItems", False, len, _is_list),
    "minProperties": _bound("minProperties", True, len, _is_object),
    "maxProperties": _bound("maxProperties", False, len, _is_object),
}  # fmt: skip
