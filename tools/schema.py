"""From a typed function to the JSON schema of its arguments, and the checks that come with it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import UserError, nearest

if TYPE_CHECKING:
    import pydantic

Function = Callable[..., Any]

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Return|Raises|Yields|Examples?|Notes?):\s*")


def is_method(function: Function) -> bool:
    """Return whether this is a method that is not bound to its object yet: its first parameter is a bare `self`."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # a class, a built-in: told later, with the hints
        return False
    return first is not None and first.name == "self" and first.annotation is first.empty


def arguments_model(name: str, function: Function, described: Mapping[str, str]) -> type[pydantic.BaseModel]:
    """Return the model that checks the arguments of the tool `name`; `described` holds its parameters' texts.

    Raises `UserError` for what no JSON object can be passed to, saying what to write.
    """
    import pydantic

    try:
        hints = inspect.get_annotations(function, eval_str=True)
    except Exception as error:
        raise UserError(f"tool {name!r}: its type hints cannot be evaluated: {error}") from error
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[is_method(function) :]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            shown = str(parameter).partition(":")[0]
            raise UserError(
                f"tool {name!r}: the parameter {shown!r} cannot be passed by name; "
                "write named parameters with type hints"
            )
        if parameter.name not in hints:
            raise UserError(
                f"tool {name!r}: the parameter {parameter.name!r} has no type hint; "
                f"write, for example, `{parameter.name}: str`"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        about = described.get(parameter.name)
        fields[parameter.name] = (hints[parameter.name], pydantic.Field(default, description=about))
    unknown = sorted(set(described) - set(fields))
    if unknown:
        raise UserError(
            f"tool {name!r}: the docstring describes {unknown[0]!r}, which is no parameter; "
            f"{nearest(unknown[0], fields)}"
        )
    config = pydantic.ConfigDict(extra="forbid", protected_namespaces=())
    try:
        return pydantic.create_model(name, __config__=config, **fields)
    except Exception as error:  # pydantic has several error classes for types it does not know
        raise UserError(_inexpressible(name, error)) from error


def schema_of(name: str, model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of the arguments, without what tells a model nothing. Raises `UserError`."""
    try:
        schema = model.model_json_schema()
        json.dumps(schema, allow_nan=False)
    except Exception as error:
        raise UserError(_inexpressible(name, error)) from error
    schema.pop("description", None)
    return {"type": "object", "properties": {}, "required": []} | _without_titles(schema)


def _inexpressible(name: str, error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"tool {name!r}: a parameter has no JSON schema ({first}); "
        "use str, int, float, bool, list, dict, Literal, an Enum, or a pydantic model"
    )


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    # pydantic gives every schema a title made of its name: tokens that tell the model nothing.
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            cleaned[key] = {name: _without_titles(part) for name, part in value.items()}
        elif key == "title" and isinstance(value, str):
            continue
        elif key in ("default", "const", "enum", "examples"):
            cleaned[key] = value
        elif isinstance(value, dict):
            cleaned[key] = _without_titles(value)
        elif isinstance(value, list):
            cleaned[key] = [_without_titles(item) if isinstance(item, dict) else item for item in value]
        else:
            cleaned[key] = value
    return cleaned


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the text before the first section, and what `Args:` says of each parameter."""
    summary: list[str] = []
    described: dict[str, str] = {}
    section = ""
    indent = 0
    parameter = ""
    for line in text.splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            section, indent = heading.group(1), 0
        elif not section:
            summary.append(line)
        elif section in ("Args", "Arguments", "Parameters") and line.strip():
            depth = len(line) - len(line.lstrip())
            indent = indent or depth
            entry = re.match(r"\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)", line)
            if depth == indent and entry:
                parameter = entry.group(1)
                described[parameter] = entry.group(2).strip()
            elif parameter:
                described[parameter] = f"{described[parameter]} {line.strip()}".strip()
    return " ".join(" ".join(summary).split()), described
