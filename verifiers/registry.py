"""Verifiers as plain JSON: a spec names a verifier by its id and gives its options; a config holds specs.

{"id": "weighted_sum", "terms": {"right": {"weight": 0.8, "verifier": {"id": "math"}},
                                 "brief": {"weight": 0.2, "verifier": {"id": "function", "path": "my.rules:brief"}}}}
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import entry_points
from typing import Any

from .base import FunctionVerifier, Verifier
from .mix import WeightedSum

_BUILT_IN = {
    "final_number": "numbers:FinalNumber",
    "math": "math:MathAnswer",
    "math_verify": "math_peer:MathVerify",
    "code": "code:CodeTests",
    "instructions": "instructions:Instructions",
    "tool_calls": "tool_calls:ToolCalls",
    "choice": "text_match:Choice",
    "exact_match": "text_match:ExactMatch",
    "fuzzy_match": "text_match:FuzzyMatch",
    "word_overlap": "text_match:WordOverlap",
    "regex": "text_match:RegexMatch",
    "json_schema": "structure:JsonSchema",
    "json_fields": "structure:JsonFields",
    "tags": "structure:Tags",
    "judge": "judge:Judge",
    "endpoint": "endpoint:Endpoint",
    "reward_model": "reward_model:RewardModel",
    "weighted_sum": "mix:WeightedSum",
    "scheduled_sum": "schedule:ScheduledSum",
    "gate": "mix:Gate",
    "minimum": "mix:Minimum",
    "first_graded": "mix:FirstGraded",
}
_registered: dict[str, type[Any]] = {}
ENTRY_POINTS = "quintain.verifiers"
"""The entry-point group through which other packages add theirs."""


class SpecError(ValueError):
    """A spec does not describe a verifier, or a verifier cannot be written as one; the text says why."""


def register(name: str, made: type[Any]) -> None:
    """Give a verifier class an id. It must be a dataclass whose fields are its options.

    Raises `SpecError` for an id that is taken by another class, and for a class that is no dataclass.
    """
    if not is_dataclass(made):
        raise SpecError(f"{made.__name__} must be a dataclass: its fields are the options of its spec")
    if name in _BUILT_IN or _registered.get(name, made) is not made:
        raise SpecError(f"the id {name!r} is taken")
    _registered[name] = made


def known_ids() -> list[str]:
    """Return every id that a spec may name."""
    return sorted({*_BUILT_IN, *_registered, "function", *(e.name for e in entry_points(group=ENTRY_POINTS))})


def _class(name: str) -> type[Any]:
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found: type[Any] = getattr(importlib.import_module(f".{module}", __package__), attribute)
        return found
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        loaded: type[Any] = entry.load()
        return loaded
    near = difflib.get_close_matches(name, known_ids(), 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"there is no verifier {name!r}.{hint} The ids are: {', '.join(known_ids())}")


def _id_of(made: type[Any]) -> str:
    for name, other in _registered.items():
        if other is made:
            return name
    for name, path in _BUILT_IN.items():
        module, _, attribute = path.partition(":")
        if made.__module__ == f"{__package__}.{module}" and made.__name__ == attribute:
            return name
    for entry in entry_points(group=ENTRY_POINTS):
        if f"{made.__module__}:{made.__qualname__}" == entry.value:
            return entry.name
    raise SpecError(f"{made.__name__} has no id: register it, or use a verifier that has one")


def to_spec(verifier: Any) -> dict[str, Any]:
    """Return the spec of a verifier: its id and the options that are not their defaults, as plain JSON.

    Raises `SpecError` for a verifier without an id, a function that cannot be imported, or an option that is no JSON.
    """
    if isinstance(verifier, FunctionVerifier):
        return {"id": "function", "path": _path(verifier)}
    if isinstance(verifier, WeightedSum):
        terms = {n: {"weight": w, "verifier": to_spec(v)} for n, (w, v) in verifier.terms.items()}
        return {"id": "weighted_sum", "terms": terms}
    spec: dict[str, Any] = {"id": _id_of(type(verifier))}
    for option in fields(verifier):
        if not option.init or option.metadata.get("spec") is False:
            continue
        value = getattr(verifier, option.name)
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        if value != default:
            spec[option.name] = _plain(value, f"{spec['id']}.{option.name}")
    return spec


def _path(verifier: FunctionVerifier) -> str:
    function = verifier.function
    path = f"{function.__module__}:{function.__qualname__}"
    if "<" in path or function.__module__ == "__main__":
        raise SpecError(
            f"the function {path} cannot be imported elsewhere: put it into a module, at its top level"
        )
    return path


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, where) for v in value]
    if is_dataclass(value) or isinstance(value, Verifier):
        return to_spec(value)
    raise SpecError(f"{where} cannot be written as JSON: {value!r:.80}")


def from_spec(spec: Mapping[str, Any] | str) -> Verifier:
    """Make a verifier from its spec, or from a bare id.

    Raises `SpecError` naming what is wrong: an unknown id, an unknown or missing option, a bad value.
    """
    made = _made(spec)
    if not isinstance(made, Verifier):
        raise SpecError(f"{spec!r:.80} describes no verifier")
    return made


def _made(spec: Mapping[str, Any] | str) -> Any:
    given = {"id": spec} if isinstance(spec, str) else dict(spec)
    name = given.pop("id", None)
    if not isinstance(name, str):
        raise SpecError(f"a spec is an object with an 'id', got {spec!r:.80}")
    if name == "function":
        return _function(given)
    options = {key: _value(value) for key, value in given.items()}
    made = _class(name)
    if made is WeightedSum:
        return _weighted_sum(options)
    known = [f.name for f in fields(made) if f.init and f.metadata.get("spec") is not False]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise SpecError(
                f"{name} has no option {key!r}.{hint} The options are: {', '.join(known) or 'none'}"
            )
    try:
        return made(**options)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{name}: {error}") from error


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _made(value) if isinstance(value.get("id"), str) else {k: _value(v) for k, v in value.items()}
    return [_value(v) for v in value] if isinstance(value, list) else value


def _weighted_sum(options: Mapping[str, Any]) -> WeightedSum:
    terms = options.get("terms")
    if not isinstance(terms, Mapping) or set(options) != {"terms"}:
        raise SpecError("weighted_sum has one option, 'terms': an object of {'weight', 'verifier'}")
    try:
        return WeightedSum({name: (float(t["weight"]), t["verifier"]) for name, t in terms.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"weighted_sum: {error!r}") from error


def _function(options: Mapping[str, Any]) -> FunctionVerifier:
    path = options.get("path")
    if not isinstance(path, str) or ":" not in path or set(options) != {"path"}:
        raise SpecError(
            f"function has one option, 'path', such as 'my.rules:brief'; got {dict(options)!r:.80}"
        )
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{path!r} cannot be imported: {error}") from error
    return found if isinstance(found, FunctionVerifier) else FunctionVerifier(found)
