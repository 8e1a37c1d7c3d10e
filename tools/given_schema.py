"""Arguments checked against a JSON Schema that came from elsewhere: an MCP server, a data set, a file.

It is lenient where a schema is strange: a keyword that is not known here is not checked, as whoever wrote the schema
checks the call again. `pattern` and `format` are among them: a pattern of somebody else, run over the text of a model,
may take for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import UserError

MAX_DEPTH = 40
"""Levels of a schema that are followed into a value; deeper ones are not checked."""
MAX_PROBLEMS = 5
"""Problems that are told to the model at once."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
}
_SIZES: dict[str, tuple[type, bool]] = {
    "minLength": (str, True),
    "maxLength": (str, False),
    "minItems": (list, True),
    "maxItems": (list, False),
    "minProperties": (dict, True),
    "maxProperties": (dict, False),
}


def given(tool: str, parameters: Any) -> dict[str, Any]:
    """Return a copy of the schema of a tool's arguments. Raises `UserError` if it is not one of an object."""
    try:
        schema = json.loads(json.dumps(parameters, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"tool {tool!r}: its parameters are no plain JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise UserError(
            f"tool {tool!r}: its parameters must be the JSON schema of an object, got {parameters!r:.80}; "
            'write {"type": "object", "properties": {...}, "required": [...]}'
        )
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise UserError(f"tool {tool!r}: in its parameters, properties must be an object and required a list")
    return {**schema, "type": "object", "properties": properties, "required": required}


def problems(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments, at most `MAX_PROBLEMS` sentences; empty if they fit the schema."""
    found: list[str] = []
    for problem in _problems(dict(arguments), schema, schema, "", 0):
        found.append(problem)
        if len(found) == MAX_PROBLEMS:
            break
    return found


def _problems(value: Any, schema: Any, root: Mapping[str, Any], path: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH or schema is True:
        return
    if not isinstance(schema, dict):
        if schema is False:
            yield f"unknown argument {path!r}"
        return
    if isinstance(target := schema.get("$ref"), str):
        yield from _problems(value, _at(root, target), root, path, depth + 1)
    where = f"argument {path!r}" if path else "the arguments"
    wanted = _type_names(schema.get("type"))
    if wanted and not any(_is(value, name) for name in wanted):
        yield f"{where} must be {' or '.join(wanted)}, got {_short(value)}"
        return
    if isinstance(choices := schema.get("enum"), list) and not any(_same(value, one) for one in choices):
        yield f"{where} must be one of {_short(choices, 200)}, got {_short(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{where} must be {_short(schema['const'])}, got {_short(value)}"
    yield from _limits(value, schema, where)
    if isinstance(value, dict):
        yield from _members(value, schema, root, path, depth)
    if isinstance(value, list):
        yield from _items(value, schema, root, path, depth)
    for one in _list(schema.get("allOf")):
        yield from _problems(value, one, root, path, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        choices = _list(schema.get(keyword))
        wrong = [next(_problems(value, one, root, path, depth + 1), None) for one in choices]
        if choices and None not in wrong:
            yield str(wrong[0]) if len(wrong) == 1 else f"{where} fits none of what it may be ({wrong[0]})"


def _members(
    value: dict[str, Any], schema: dict[str, Any], root: Mapping[str, Any], path: str, depth: int
) -> Iterator[str]:
    declared = schema.get("properties")
    properties = declared if isinstance(declared, dict) else {}
    prefix = f"{path}." if path else ""
    for name in _list(schema.get("required")):
        if name not in value:
            yield f"missing argument {prefix + str(name)!r}"
    patterned = bool(
        schema.get("patternProperties")
    )  # not looked at, so whatever may match it is let through
    for name, member in value.items():
        if name in properties:
            yield from _problems(member, properties[name], root, f"{prefix}{name}", depth + 1)
        elif schema.get("additionalProperties") is False and not patterned:
            yield f"unknown argument {prefix + name[:60]!r}"
        elif isinstance(more := schema.get("additionalProperties"), dict) and not patterned:
            yield from _problems(member, more, root, f"{prefix}{name}", depth + 1)


def _items(
    value: list[Any], schema: dict[str, Any], root: Mapping[str, Any], path: str, depth: int
) -> Iterator[str]:
    first = _list(schema.get("prefixItems"))
    for index, (item, one) in enumerate(zip(value, first, strict=False)):
        yield from _problems(item, one, root, f"{path}.{index}", depth + 1)
    if isinstance(schema.get("items"), dict | bool):
        for index, item in enumerate(value[len(first) :], len(first)):
            yield from _problems(item, schema["items"], root, f"{path}.{index}", depth + 1)


def _limits(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if _is(value, "number"):
        for keyword, fits in _LIMITS.items():
            limit = schema.get(keyword)
            if _is(limit, "number") and not fits(value, limit):
                yield f"{where} does not fit {keyword} {limit}, got {_short(value)}"
    for keyword, (kind, low) in _SIZES.items():
        limit = schema.get(keyword)
        if isinstance(value, kind) and isinstance(limit, int):
            size = len(value)  # type: ignore[arg-type]
            if size < limit if low else size > limit:
                yield f"{where} does not fit {keyword} {limit}, it has {size}"


def type_of(schema: Any) -> str:
    """Return the type that a schema names, for a person or a model: `integer`, `string or null`, `any`."""
    if not isinstance(schema, dict):
        return "any"
    names = _type_names(schema.get("type"))
    if not names:
        parts = _list(schema.get("anyOf")) or _list(schema.get("oneOf"))
        names = list(dict.fromkeys(type_of(part) for part in parts))
    if not names and "$ref" in schema:
        return "object"
    return " or ".join(names) or "any"


def _type_names(written: Any) -> list[str]:
    names = written if isinstance(written, list) else [written]
    return [name for name in names if isinstance(name, str) and name in _TYPES]


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(value: Any, wanted: Any) -> bool:
    return isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)


def _at(root: Mapping[str, Any], target: str) -> Any:
    found: Any = root
    if not target.startswith("#"):
        return True
    for part in target[1:].strip("/").split("/") if target != "#" else ():
        if not isinstance(found, Mapping) or part not in found:
            return True
        found = found[part]
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
