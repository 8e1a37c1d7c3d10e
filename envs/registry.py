"""Environments by id: ours, and those of other packages.

Ours are registered with Gymnasium when `quintain.envs` is imported, so `gymnasium.make` knows them. Other packages
name theirs under the entry-point group `quintain.envs`, id to class:

    [project.entry-points."quintain.envs"]
    "acme/Puzzle-v0" = "acme.puzzle:Puzzle"

They are looked up, not imported, when an id is asked for that is not known yet.

Environments of foreign libraries come in families, one namespace each (`reasoning-gym/countdown-v0`). A family is
registered when an id of it is asked for, here or by `list_envs("reasoning-gym")`: that imports the library.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from ..tools.errors import UserError, nearest
from .base import TextEnv
from .written import write_in

GROUP = "quintain.envs"
"""The entry-point group of other packages."""

Factory = str | Callable[..., TextEnv]
"""A class or function that makes the environment, or where to import it from: `module:name`."""

_LIBRARY = {
    "quintain/BFCL-v0": "quintain.envs.library.bfcl:BFCL",
    "quintain/Booking-v0": "quintain.envs.library.booking:Booking",
    "quintain/Calculator-v0": "quintain.envs.library.calculator:Calculator",
    "quintain/Contest-v0": "quintain.envs.library.contest:Contest",
    "quintain/Countdown-v0": "quintain.envs.library.countdown:Countdown",
    "quintain/Extraction-v0": "quintain.envs.library.extraction:Extraction",
    "quintain/Files-v0": "quintain.envs.library.files:Files",
    "quintain/FunctionCalls-v0": "quintain.envs.library.function_calls:FunctionCalls",
    "quintain/GSM8K-v0": "quintain.envs.library.gsm8k:GSM8K",
    "quintain/GuessNumber-v0": "quintain.envs.library.guess_number:GuessNumber",
    "quintain/Hanoi-v0": "quintain.envs.library.hanoi:Hanoi",
    "quintain/HumanEval-v0": "quintain.envs.library.humaneval:HumanEval",
    "quintain/IFEval-v0": "quintain.envs.library.ifeval:IFEval",
    "quintain/Instructions-v0": "quintain.envs.library.instructions:ComposedInstructions",
    "quintain/MBPP-v0": "quintain.envs.library.mbpp:MBPP",
    "quintain/Mastermind-v0": "quintain.envs.library.mastermind:Mastermind",
    "quintain/MathRows-v0": "quintain.envs.library.math_rows:MathRows",
    "quintain/Mixture-v0": "quintain.envs.mixture:MixtureEnv",
    "quintain/Negotiation-v0": "quintain.envs.library.negotiation:Negotiation",
    "quintain/ProgramRepair-v0": "quintain.envs.library.repair:ProgramRepair",
    "quintain/Retrieval-v0": "quintain.envs.library.retrieval:Retrieval",
    "quintain/SQL-v0": "quintain.envs.library.sql:SQL",
    "quintain/Sokoban-v0": "quintain.envs.library.sokoban:Sokoban",
    "quintain/TicTacToe-v0": "quintain.envs.library.tic_tac_toe:TicTacToe",
    "quintain/WordProblems-v0": "quintain.envs.library.word_problems:WordProblems",
    "quintain/Wordle-v0": "quintain.envs.library.wordle:Wordle",
}
_FAMILIES = {
    "gem": "quintain.envs.bridges.gem",
    "reasoning-gym": "quintain.envs.bridges.reasoning_gym",
    "skyrl-gym": "quintain.envs.bridges.skyrl_gym",
    "textarena": "quintain.envs.bridges.textarena",
}
"""Namespaces of foreign libraries, and the module whose `register_family()` registers their ids."""

_known: dict[
    str, Factory
] = {}  # the ids that came through `register`, as Gymnasium's registry holds all kinds


def register(
    id: str,  # noqa: A002 - Gymnasium's name for it
    factory: Factory,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Register an environment, here and with Gymnasium. Registering the same again does nothing.

    Args:
        id: `namespace/Name-vN`.
        factory: Takes keyword arguments of plain JSON data. As a text, `module:name`, it is imported when needed.
        options: Keyword arguments that the id stands for; those given to `make` go over them.

    Raises `UserError` if the id is taken by another environment or cannot be parsed.
    """
    if _known.get(id) == factory:
        return
    if id in gymnasium.registry:
        raise UserError(f"the id {id!r} is taken by {gymnasium.registry[id].entry_point!r}; choose another")
    try:
        gymnasium.register(
            id,
            entry_point=factory,
            vector_entry_point=f"{__package__}.vector:{id}",
            kwargs=dict(options or {}),
        )
    except gymnasium.error.Error as error:
        raise UserError(f"{id!r} is no environment id ({error}); write `namespace/Name-v0`") from error
    _known[id] = factory


def make(id: str, **kwargs: Any) -> TextEnv:  # noqa: A002 - Gymnasium's name for it
    """Make an environment for rollouts: what `gymnasium.make` makes, without its wrappers.

    Every environment has the option `format`, the name of a tool-call format (see `tools.formats`).

    Raises `UserError` for an unknown id (naming the nearest), an option the environment does not have, or options
    that are not plain JSON data.
    """
    factory = load(id)
    try:
        json.dumps(kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{id}: options must be plain JSON data: {error}") from error
    written = None if _takes_format(factory) else kwargs.pop("format", None)
    _check_options(id, factory, {**gymnasium.registry[id].kwargs, **kwargs})
    env = gymnasium.make(id, disable_env_checker=True, **kwargs).unwrapped
    if not isinstance(env, TextEnv):
        raise UserError(f"{id} is no TextEnv but a {type(env).__name__}; register a subclass of TextEnv")
    if written is not None:
        write_in(env, written)
    return env


def list_envs(family: str | None = None) -> tuple[str, ...]:
    """Return the ids that `make` knows, sorted: ours, registered ones and those of other packages.

    The environments of foreign libraries (`families`) are a list of their own: `list_envs("reasoning-gym")`, which
    imports the library. Raises `UserError` for an unknown family and for one whose library is not installed.
    """
    if family is None:
        _find_plugins()
        return tuple(sorted(env_id for env_id in _known if env_id.partition("/")[0] not in _FAMILIES))
    if family not in _FAMILIES:
        raise UserError(f"there is no family of environments {family!r}; {nearest(family, _FAMILIES)}")
    _find_family(family)
    return tuple(sorted(env_id for env_id in _known if env_id.startswith(f"{family}/")))


def families() -> tuple[str, ...]:
    """Return the namespaces of the foreign libraries there is a bridge to, installed or not."""
    return tuple(_FAMILIES)


def load(id: str) -> Callable[..., TextEnv]:  # noqa: A002
    """Return the class or function behind an id, with the options that the id stands for.

    Raises `UserError` if there is none (naming the nearest id) or if it cannot be imported.
    """
    family = id.partition("/")[0]
    if id not in _known and family in _FAMILIES:
        _find_family(family)
    if id not in _known:
        _find_plugins()
    if id not in _known:
        near = (
            [known for known in _known if known.startswith(f"{family}/")] if family in _FAMILIES else _known
        )
        raise UserError(f"there is no environment {id!r}; {nearest(id, near)}")
    factory = _known[id]
    if not isinstance(factory, str):
        return factory
    module, _, name = factory.partition(":")
    try:
        made: Callable[..., TextEnv] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the environment {id} cannot be imported from {factory!r}: {error}") from error
    options = gymnasium.registry[id].kwargs
    return _filled(made, options) if options else made


def brought(id: str) -> tuple[Factory, dict[str, Any]] | None:  # noqa: A002
    """Return factory and options of an id that came through `register` in this process.

    None for those of the library, of foreign libraries, and for what is no id: another process finds them by itself,
    or not at all.
    """
    if id not in _known or id in _LIBRARY or id.partition("/")[0] in _FAMILIES:
        return None
    return _known[id], dict(gymnasium.registry[id].kwargs)


def _filled(made: Callable[..., TextEnv], options: Mapping[str, Any]) -> Callable[..., TextEnv]:
    filled = functools.partial(made, **options)
    for name in ("__doc__", "__module__", "__name__", "__qualname__"):
        setattr(filled, name, getattr(made, name))
    return filled


def _takes_format(factory: Callable[..., TextEnv]) -> bool:
    parameters = inspect.signature(factory).parameters
    return "format" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _check_options(env_id: str, factory: Callable[..., TextEnv], options: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            raise UserError(f"{env_id} has no option {name!r}; {nearest(name, parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise UserError(f"{env_id} needs the option {name!r}")


def _find_plugins() -> None:
    from importlib import metadata  # it loads the email package; most processes never get here

    for point in metadata.entry_points(group=GROUP):
        if point.name not in _known and point.name not in gymnasium.registry:
            register(point.name, point.value)


def _find_family(family: str) -> None:
    importlib.import_module(_FAMILIES[family]).register_family()


def register_library() -> None:
    """Register the environments that come with Quintain."""
    for env_id, factory in _LIBRARY.items():
        register(env_id, factory)
