"""From a TOML file and options of the command line to a checked model, and what is said when that fails.

This knows nothing of training: it works for any pydantic model whose sections are models too.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..tools.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str, ...]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises `UserError` where there is none or its text is not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}{_neighbours(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name the TOML file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def _neighbours(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.4)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def build(model: type[Model], table: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> Model:
    """Make a `model` of a table and dotted overrides; `source` names the table in messages.

    Raises `UserError` with one line for each thing that is wrong.
    """
    merged = _copied(table)
    overridden = set()
    for place, text in split_overrides(overrides):
        _put(merged, place, parse_value(text, _annotation(model, place)))
        overridden.add(place)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        lines = [_explain(model, detail, overridden, source) for detail in error.errors(include_url=False)]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def split_overrides(arguments: Sequence[str]) -> list[tuple[Place, str]]:
    """Split `["--rl.lr", "1e-5", "--seed=2"]` into places and texts of values.

    Raises `UserError` for an option without a value or a value without an option.
    """
    pairs: list[tuple[Place, str]] = []
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        name, equals, text = option.partition("=")
        place = tuple(name.removeprefix("--").replace("-", "_").split("."))
        if not name.startswith("--") or not all(place):
            raise UserError(f"expected an option such as --rl.lr 1e-5, got {option!r}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{name} needs a value: {name} VALUE")
            text = rest.pop(0)
        pairs.append((place, text))
    return pairs


def leaves(model: type[BaseModel], at: Place = ()) -> Iterator[tuple[Place, type[BaseModel]]]:
    """Yield the place of every value that is not itself a section, with the section that declares it."""
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        if section is None:
            yield (*at, name), model
        else:
            yield from leaves(section, (*at, name))


def _copied(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in table.items()}


def _put(table: dict[str, Any], place: Place, value: Any) -> None:
    *above, last = place
    for depth, key in enumerate(above, start=1):
        below: Any = table.setdefault(key, {})
        if not isinstance(below, dict):
            option, parent = ".".join(place), ".".join(place[:depth])
            raise UserError(f"--{option} cannot be set: {parent} is {_shown(below)}, not a section")
        table = below
    table[last] = value


def parse_value(text: str, annotation: Any = None) -> Any:
    """Read a value of the command line: a TOML literal, else the text as it stands.

    Where `annotation` allows None, `none` is None; where it wants text, `2024` is text.
    """
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    kinds = _kinds(annotation)
    if text == "none" and type(None) in kinds:
        return None
    if not isinstance(value, str) and kinds & {str, Path} and type(value) not in kinds:
        return text
    return value


def _kinds(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    if origin is Literal:
        return {type(choice) for choice in get_args(annotation)}
    return {origin or annotation}


def _section(annotation: Any) -> type[BaseModel] | None:
    models = [kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if models else None


def _annotation(model: type[BaseModel], place: Place) -> Any:
    """Return the type of the value at `place`; None where there is none or it is inside free data."""
    for depth, key in enumerate(place):
        info = model.model_fields.get(key)
        if info is None:
            return None
        section = _section(info.annotation)
        if depth == len(place) - 1:
            return info.annotation
        if section is None:
            return None
        model = section
    return None


def _explain(model: type[BaseModel], detail: Any, overridden: set[Place], source: str) -> str:
    place = tuple(str(part) for part in detail["loc"])
    known = _known(model, place)
    where = _where(known, place, overridden, source)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"{where}: no such {'section' if isinstance(value, dict) else 'key'}{_nearest(model, place)}"
    if kind == "missing":
        return f"{where} is missing: {_description(model, known) or 'it has no default'}"
    message = detail["msg"]
    if kind == "value_error":
        text = str(detail["ctx"]["error"])
        got = "" if "got" in text or isinstance(value, Mapping) else f", got {_shown(value)}"
        return f"{where}: {text}{got}"
    if kind == "string_pattern_mismatch":
        message = "must have another form"
    elif kind in ("model_type", "dict_type"):
        message = "must be a section"
    message = message.replace("Input should be", "must be").replace("Input should", "must")
    message = message.replace("valid integer", "whole number").replace("a valid ", "a ")
    meaning = _description(model, known)
    return f"{where}: {message}, got {_shown(value)}" + (f"; meaning: {meaning}" if meaning else "")


def _known(model: type[BaseModel], place: Place) -> Place:
    """Return the part of pydantic's location that names keys (it adds the member of a union and such)."""
    known: Place = ()
    section: type[BaseModel] | None = model
    for key in place:
        if section is None:
            break
        known = (*known, key)
        info = section.model_fields.get(key)
        section = _section(info.annotation) if info is not None else None
    return known


def _where(known: Place, place: Place, overridden: set[Place], source: str) -> str:
    name = ".".join(known)
    if any(option[: len(known)] == known or known[: len(option)] == option for option in overridden if known):
        return f"--{name}"
    return f"{source}: {name}" if name else source


def _nearest(model: type[BaseModel], place: Place) -> str:
    *above, key = place
    section: type[BaseModel] = model
    for part in above:
        section = _section(section.model_fields[part].annotation) or section
    near = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {'.'.join((*above, near[0]))}?"
    places = [".".join(leaf) for leaf, _ in leaves(model)]
    elsewhere = [name for name in places if name.rpartition(".")[2] == key]
    elsewhere = elsewhere or difflib.get_close_matches(".".join(place), places, n=1, cutoff=0.6)
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return f"; there are {', '.join(section.model_fields)}"


def _description(model: type[BaseModel], place: Place) -> str:
    text = None
    for key in place:
        info = model.model_fields.get(key)
        if info is None:
            return ""
        text = info.description
        model = _section(info.annotation) or model
    return (text or "").strip().rstrip(".").replace("\n", " ")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, str):
        return f"the text {_cut(repr(value))}"
    if isinstance(value, Mapping):
        return "a section"
    return _cut(str(value))


def _cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
