"""The state of an episode as plain data: taken at any moment, and put into any environment of the same definition.

What belongs to an episode is what differs from the definition, which is every attribute as it was when the first
`reset` was called. Objects of the definition (tasks, tools, the verifier), the environment itself and its generator
are kept as references by name, wherever the attributes of the episode hold them: they are never copied, and in the
environment that goes on they mean its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from ..tools.errors import UserError
from ..verifiers.base import Task

if TYPE_CHECKING:
    from .base import TextEnv

_VERSION = 1
_ENV, _RNG = "", "_np_random"  # names of what is shared and no attribute of the definition
_TARGET = "quintain: what is shared, by name"  # a key of the memo of `copy.deepcopy`
_ATOMS = (str, int, float, bool, bytes, type(None))


class StateError(UserError):
    """A state cannot be captured, or does not belong to this environment."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Stands in a state for an object that is not copied."""

    name: str
    """The attribute of the definition that is meant; empty for the environment itself."""
    index: int | None = None
    """The place in that attribute, if one of its items is meant."""

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        """Return what is meant where the state is put; elsewhere the reference."""
        if _TARGET not in memo:
            return self
        value = memo[_TARGET][self.name]
        return value if self.index is None else value[self.index]


def capture(env: TextEnv) -> dict[str, Any]:
    """Return the state of the episode of `env`; see `TextEnv.get_state`."""
    books, definition = env._books, env._definition
    if books is None or definition is None:
        raise gymnasium.error.ResetNeeded("the episode has not started: call reset() before get_state()")
    task = {field.name: getattr(books.task, field.name) for field in fields(Task)}
    kept = {"turns": books.turns, "calls": books.calls, "reward": books.reward, "over": books.over}
    return {
        "version": _VERSION,
        "env": _name(env),
        "books": copy.deepcopy({"task": task, "messages": books.messages, **kept}),
        "rng": copy.deepcopy(env.np_random.bit_generator.state),
        "seed": env._np_random_seed,
        "episodes": env._episodes,
        "attributes": captured(env, definition, env._apart, {_ENV: env, _RNG: env.np_random}),
    }


def restore(env: TextEnv, state: Mapping[str, Any]) -> None:
    """Put a state into `env`; see `TextEnv.set_state`."""
    if not isinstance(state, Mapping) or state.get("version") != _VERSION:
        raise StateError(f"{type(env).__name__}.set_state takes what get_state returned, got {state!r:.80}")
    if state["env"] != _name(env):
        raise StateError(f"this is the state of {state['env']}, and the environment is {_name(env)}")
    from .base import Books

    if env._definition is None:
        env._definition = dict(env.__dict__)
    books = copy.deepcopy(state["books"])
    rng = generator(state["rng"])
    shared = {_ENV: env, _RNG: rng}
    put(env, state["attributes"], env._definition, env._apart, shared)  # nothing after this can fail
    env._np_random, env._np_random_seed = rng, state["seed"]
    env._episodes = state["episodes"]
    env._books = Books(Task(**books.pop("task")), books.pop("messages"), **books)


def captured(
    owner: object, definition: Mapping[str, Any], apart: frozenset[str], shared: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a copy of the attributes in which `owner` differs from its definition.

    Args:
        owner: An environment, or something else that has a state of its own.
        definition: Its attributes before the episode; they are referred to, not copied.
        apart: Names of attributes that are left out.
        shared: More objects that are referred to, by name.

    Raises `StateError` naming the attribute that cannot be copied.
    """
    memo: dict[Any, Any] = {
        id(value): Shared(name) for name, value in definition.items() if _is_referred(value)
    }
    tools = definition.get("tools", ())
    memo.update({id(tool): Shared("tools", i) for i, tool in enumerate(tools)})
    memo.update({id(value): Shared(name) for name, value in shared.items()})
    return {
        name: _copied(name, value, owner, memo)
        for name, value in vars(owner).items()
        if name not in apart and (name not in definition or definition[name] is not value)
    }


def put(
    owner: object,
    attributes: Mapping[str, Any],
    definition: Mapping[str, Any],
    apart: frozenset[str],
    shared: Mapping[str, Any],
) -> None:
    """Give `owner` the attributes of its definition, and a copy of captured ones on top."""
    memo: dict[Any, Any] = {_TARGET: {**definition, **shared}}
    copied = copy.deepcopy(dict(attributes), memo)  # all that can fail comes before the first change
    own = vars(owner)
    for name in [name for name in own if name not in definition and name not in apart]:
        del own[name]
    own.update({name: value for name, value in definition.items() if name not in apart})
    own.update(copied)


def _copied(name: str, value: Any, owner: object, memo: dict[Any, Any]) -> Any:
    where = f"{type(owner).__name__}: the attribute {name!r} ({type(value).__name__}) cannot be captured"
    way_out = "Write `get_state` and `set_state` for the environment, or keep plain data in the attribute"
    is_resource = callable(getattr(value, "close", None)) and not isinstance(value, gymnasium.Env)
    if is_resource and id(value) not in memo:
        raise StateError(f"{where}: it is something open that has to be closed. {way_out}")
    try:
        return copy.deepcopy(value, memo)
    except StateError:
        raise
    except Exception as error:
        raise StateError(f"{where}: {type(error).__name__}: {error}. {way_out}") from error


def _is_referred(value: Any) -> bool:
    """Return whether a value of the definition is referred to; Python has one object for all equal atoms."""
    return not isinstance(value, _ATOMS) and not (isinstance(value, tuple) and not value)


def generator(state: Mapping[str, Any]) -> np.random.Generator:
    """Return a new generator in the state of a bit generator."""
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = copy.deepcopy(dict(state))
    return np.random.Generator(bits)


def _name(env: TextEnv) -> str:
    return f"{type(env).__module__}:{type(env).__qualname__}"
