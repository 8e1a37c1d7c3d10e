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
_RNG = "_np_random"
_TARGET = (
    "quintain: environment and generator that a state is put into"  # a key of the memo of `copy.deepcopy`
)
# what the base class keeps apart, or what is no part of an episode
_OWN = frozenset(
    {
        "_books", "_np_random", "_np_random_seed", "_episodes", "_definition", "_opened",
        "observation_space", "action_space", "spec", "render_mode",
    }
)  # fmt: skip
_ATOMS = (str, int, float, bool, bytes, type(None))


class StateError(UserError):
    """A state cannot be captured, or does not belong to this environment."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Stands in a state for an object that is not copied."""

    name: str
    """The attribute of the environment that is meant; empty for the environment itself."""
    index: int | None = None
    """The place in that attribute, if one of its items is meant."""

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        """Return what is meant in the environment that the state is put into; else the reference."""
        if _TARGET not in memo:
            return self
        env, rng = memo[_TARGET]
        if not self.name:
            return env
        if self.name == _RNG:
            return rng
        value = env._definition[self.name]
        return value if self.index is None else value[self.index]


def capture(env: TextEnv) -> dict[str, Any]:
    """Return the state of the episode of `env`; see `TextEnv.get_state`."""
    books, definition = env._books, env._definition
    if books is None or definition is None:
        raise gymnasium.error.ResetNeeded("the episode has not started: call reset() before get_state()")
    memo: dict[Any, Any] = {id(value): Shared(name) for name, value in definition.items() if _is_kept(value)}
    memo.update({id(tool): Shared("tools", i) for i, tool in enumerate(definition["tools"])})
    memo[id(env)] = Shared("")
    memo[id(env.np_random)] = Shared(_RNG)
    attributes = {
        name: _copied(name, value, env, memo)
        for name, value in env.__dict__.items()
        if name not in _OWN and (name not in definition or definition[name] is not value)
    }
    task = {field.name: getattr(books.task, field.name) for field in fields(Task)}
    kept = {"turns": books.turns, "calls": books.calls, "reward": books.reward, "over": books.over}
    return {
        "version": _VERSION,
        "env": _name(env),
        "books": copy.deepcopy({"task": task, "messages": books.messages, **kept}),
        "rng": copy.deepcopy(env.np_random.bit_generator.state),
        "seed": env._np_random_seed,
        "episodes": env._episodes,
        "attributes": attributes,
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
    definition = env._definition
    books = copy.deepcopy(state["books"])
    rng = _generator(state["rng"])
    memo: dict[Any, Any] = {_TARGET: (env, rng)}
    attributes = copy.deepcopy(state["attributes"], memo)  # all that can fail comes before the first change
    for name in [name for name in env.__dict__ if name not in definition and name not in _OWN]:
        del env.__dict__[name]
    env.__dict__.update({name: value for name, value in definition.items() if name not in _OWN})
    env._np_random, env._np_random_seed = rng, state["seed"]
    env._episodes = state["episodes"]
    env._books = Books(**{**books, "task": Task(**books["task"])})
    env.__dict__.update(attributes)


def _copied(name: str, value: Any, env: TextEnv, memo: dict[Any, Any]) -> Any:
    where = (
        f"{type(env).__name__}.get_state: the attribute {name!r} ({type(value).__name__}) cannot be captured"
    )
    way_out = "Write `get_state` and `set_state` for the class, or keep plain data in the attribute"
    is_resource = callable(getattr(value, "close", None)) and not isinstance(value, gymnasium.Env)
    if is_resource and id(value) not in memo:
        raise StateError(f"{where}: it is something open that has to be closed. {way_out}")
    try:
        return copy.deepcopy(value, memo)
    except StateError:
        raise
    except Exception as error:
        raise StateError(f"{where}: {type(error).__name__}: {error}. {way_out}") from error


def _is_kept(value: Any) -> bool:
    """Return whether a value of the definition is referred to; Python has one object for all equal atoms."""
    return not isinstance(value, _ATOMS) and not (isinstance(value, tuple) and not value)


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = copy.deepcopy(dict(state))
    return np.random.Generator(bits)


def _name(env: TextEnv) -> str:
    return f"{type(env).__module__}:{type(env).__qualname__}"
