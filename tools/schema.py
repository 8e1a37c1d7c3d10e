"""From a typed function to the JSON schema of its arguments, and the checks that come with it."""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from .errors import UserError, nearest
from .given_schema import problems, type_of

if TYPE_CHECKING:
    import pydantic

Function = Callable[..., Any]

_EXPRESSIBLE = (
    "str, int, float, bool, list, dict, Literal, an Enum, a TypedDict, a dataclass or a pydantic model"
)


class Arguments(Protocol):
    """The arguments of a tool: their schema, and a check that gives what the function is called with."""

    schema: dict[str, Any]
    """JSON schema of an object."""

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked arguments. Raises `ArgumentsError` whose text is for the model."""
        ...


class ArgumentsError(ValueError):
    """What is wrong with the arguments of a call, for the model."""


class GivenArguments:
    """Arguments under a schema that was given: they reach the function as they are."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check them; see `Arguments`."""
        found = problems(arguments, self.schema)
        if found:
            raise ArgumentsError("; ".join(found))
        return dict(arguments)


class TypedArguments:
    """Arguments under the type hints of a function: they reach it as the types that it asks for.

    Raises `UserError` for what no JSON object can be passed to, saying what to write.
    """

    def __init__(self, name: str, function: Function, described: Mapping[str, str]) -> None:
        # The fields are numbered, their aliases are the parameters: pydantic keeps some names for itself.
        self._names = parameters_of(name, function, described)
        self._fields = {f"p{number}": parameter for number, parameter in enumerate(self._names)}
        self._model = _model(name, function, described, self._fields)
        self.schema = _schema_of(name, self._model)

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check them; see `Arguments`."""
        from pydantic import ValidationError  # comes with the first tool, not with the package

        try:
            checked = self._model.model_validate(arguments).__dict__
        except ValidationError as error:
            raise ArgumentsError(_explained(error)) from None
        return {parameter: checked[field] for field, parameter in self._fields.items()}


def is_method(function: Function) -> bool:
    """Return whether this is a method that is not bound to its object yet: its first parameter is a bare `self`."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # a class, a built-in: told later, with the hints
        return False
    return first is not None and first.name == "self" and first.annotation is first.empty


def parameters_of(
    name: str, function: Function, described: Mapping[str, str]
) -> dict[str, inspect.Parameter]:
    """Return the parameters of a tool's function by name. Raises `UserError` for those that cannot be passed."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"tool {name!r}: its parameters are not known ({error}); wrap it in a function with type hints"
        ) from None
    found = {}
    for parameter in list(signature.parameters.values())[is_method(function) :]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            shown = str(parameter).partition(":")[0]
            raise UserError(
                f"tool {name!r}: the parameter {shown!r} cannot be passed by name; "
                "write named parameters with type hints"
            )
        found[parameter.name] = parameter
    unknown = sorted(set(described) - set(found))
    if unknown:
        raise UserError(
            f"tool {name!r}: the docstring describes {unknown[0]!r}, which is no parameter; "
            f"{nearest(unknown[0], found)}"
        )
    return found


def _model(
    name: str, function: Function, described: Mapping[str, str], fields: Mapping[str, str]
) -> type[pydantic.BaseModel]:
    import pydantic

    hints = _hints(name, function)
    parameters = parameters_of(name, function, described)
    made: dict[str, Any] = {}
    for field, parameter in fields.items():
        if parameter not in hints:
            raise UserError(
                f"tool {name!r}: the parameter {parameter!r} has no type hint; "
                f"write, for example, `{parameter}: str`"
            )
        default = parameters[parameter].default
        options: dict[str, Any] = {"alias": parameter}
        if about := described.get(parameter) or _annotated(hints[parameter]):
            options["description"] = about
        start = ... if default is inspect.Parameter.empty else default
        made[field] = (_portable(hints[parameter]), pydantic.Field(start, **options))
    config = pydantic.ConfigDict(extra="forbid")
    try:
        return pydantic.create_model(name, __config__=config, **made)
    except Exception as error:  # pydantic has several error classes for types it does not know
        raise UserError(_inexpressible(name, error)) from error


def _hints(name: str, function: Function) -> dict[str, Any]:
    target: Any = function
    while hasattr(target, "func"):  # a partial
        target = target.func
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target).__call__  # an object that can be called
    try:
        return inspect.get_annotations(inspect.unwrap(target), eval_str=True)
    except Exception as error:
        raise UserError(
            f"tool {name!r}: its type hints cannot be evaluated: {error}; "
            "types that hints name must be defined in the module, outside of functions"
        ) from error


def _annotated(hint: Any) -> str | None:
    """Return the text in `Annotated[int, "the text"]`; a pydantic `Field` in there speaks for itself."""
    for note in getattr(hint, "__metadata__", ()):
        text = note if isinstance(note, str) else getattr(note, "documentation", None)
        if isinstance(text, str):
            return text
    return None


def _portable(hint: Any) -> Any:
    """Return the hint with every `typing.TypedDict` made one of `typing_extensions`: pydantic wants it before 3.12."""
    if sys.version_info >= (3, 12):
        return hint
    if type(hint) is typing._TypedDictMeta:  # type: ignore[attr-defined]
        import typing_extensions

        fields: dict[str, Any] = {}
        for key, part in typing.get_type_hints(hint, include_extras=True).items():
            mark = typing.get_origin(part)
            marked = mark in (typing.Required, typing.NotRequired)
            portable = _portable(typing.get_args(part)[0] if marked else part)
            # the class does not know its marks where annotations are text
            optional = mark is typing.NotRequired if marked else key in hint.__optional_keys__
            fields[key] = typing_extensions.NotRequired[portable] if optional else portable
        make: Any = typing_extensions.TypedDict
        made = make(hint.__name__, fields)
        made.__doc__ = hint.__doc__
        return made
    arguments = typing.get_args(hint)
    if not arguments or typing.get_origin(hint) is typing.Literal:
        return hint
    if typing.get_origin(hint) is Annotated:
        return Annotated[(_portable(arguments[0]), *hint.__metadata__)]
    changed = tuple(_portable(part) for part in arguments)
    if changed == arguments:
        return hint
    if isinstance(hint, types.UnionType):
        return typing.Union[changed]  # noqa: UP007 - made at run time
    return hint.copy_with(changed) if hasattr(hint, "copy_with") else typing.get_origin(hint)[changed]


def _explained(error: pydantic.ValidationError) -> str:
    found = []
    for item in error.errors(include_url=False, include_context=False)[:5]:
        where = ".".join(str(part) for part in item["loc"])[:60]
        if item["type"] == "extra_forbidden":
            found.append(f"unknown argument {where!r}")
        elif item["type"] == "missing":
            found.append(f"missing argument {where!r}")
        else:
            found.append(f"argument {where!r}: {item['msg']}, got {short(item['input'])}")
    return "; ".join(found)


def takes(schema: Mapping[str, Any]) -> str:
    """Return the parameters of a tool and their types, for the model: `a (integer), b (string or null)`."""
    named = {name: type_of(part) for name, part in schema["properties"].items()}
    return ", ".join(f"{name} ({kind})" for name, kind in named.items()) or "no arguments"


def short(value: Any) -> str:
    """Return the repr of a value, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _schema_of(name: str, model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of the arguments, without what tells a model nothing. Raises `UserError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default that is no JSON is left out
            schema = model.model_json_schema()
        json.dumps(schema, allow_nan=False)
    except Exception as error:
        raise UserError(_inexpressible(name, error)) from error
    schema.pop("description", None)
    cleaned: dict[str, Any] = _with_enums(_without_titles(schema), schema.get("$defs", {}))
    used = json.dumps({key: part for key, part in cleaned.items() if key != "$defs"}) + json.dumps(
        list(cleaned.get("$defs", {}).values())
    )
    defs = {key: part for key, part in cleaned.pop("$defs", {}).items() if f'"#/$defs/{key}"' in used}
    return {"type": "object", "properties": {}, "required": []} | cleaned | ({"$defs": defs} if defs else {})


def _inexpressible(name: str, error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"tool {name!r}: a parameter has no JSON schema ({first}); use {_EXPRESSIBLE}"


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


def _with_enums(schema: Any, defs: Mapping[str, Any]) -> Any:
    """Return the schema with the choices of an enum where they are used: models read them badly elsewhere."""
    if isinstance(schema, list):
        return [_with_enums(part, defs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    target = schema.get("$ref")
    if isinstance(target, str) and "enum" in (found := defs.get(target.rpartition("/")[2], {})):
        kept = {key: found[key] for key in ("type", "enum") if key in found}
        return {**kept, **{key: part for key, part in schema.items() if key != "$ref"}}
    return {key: part if key in ("default", "const", "enum", "examples") else _with_enums(part, defs)
            for key, part in schema.items()}  # fmt: skip
