"""Environments of GEM (`gem-llm`): `gem/game.GuessTheNumber-v0-easy` is its `game:GuessTheNumber-v0-easy`.

A colon has another meaning in a Gymnasium id, so it is written as a dot. Those of GEM's environments that read a data
set of the hub (`math`, `code`, `qa`, `eval`, `logic`) or a word list need a connection when they are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...tools.errors import UserError, nearest
from ...verifiers.base import Task
from ..card import Card
from ..registry import register
from .foreign import ForeignEnv, Randomness, Said, construction, env_id, need, seeds_as_tasks

LIBRARY = "gem"


class Gem(ForeignEnv):
    """One environment of GEM, with its rewards as it pays them (see `foreign`).

    Args:
        name: GEM's own id, for example "game:GuessTheNumber-v0-easy".
        split: "train", "validation" or "test"; no seed of one belongs to another.
        seed: Other seeds give other episodes.
        config: Keyword arguments of the environment.
        scale: The return that is worth 0, and the one that is worth 1.
        max_turns: Replies until we end the episode; None leaves that to GEM.
        render_mode: None or "ansi".

    Raises `UserError` if the library is missing, has no such environment, or cannot make it.
    """

    library = LIBRARY

    def __init__(
        self,
        name: str,
        *,
        split: str = "train",
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        scale: Sequence[float] = (0.0, 1.0),
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        need("gem")
        known = _registry()
        if name not in known:
            raise UserError(f"{LIBRARY} has no environment {name!r}; {nearest(name, known)}")
        self.name = name
        self.config = dict(config or {})
        with construction(LIBRARY, name), Randomness(0).installed():
            need("gem").make(name, **self.config)
        tasks = seeds_as_tasks(f"{LIBRARY}-{name}", split, seed)
        super().__init__(scale=scale, tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.card = Card(
            what=f"GEM's {name}.",
            reward=f"GEM's rewards, summed and mapped from {self.low:g}..{self.high:g} to 0..1.",
            difficulty="The variants of the name and the arguments in `config`.",
            oracle="None: the library has none.",
            source="gem-llm, Apache-2.0",
            tags=(LIBRARY,),
        )

    def open(self, task: Task, seed: int) -> tuple[Any, str]:
        """Make the environment and reset it."""
        env = need("gem").make(self.name, **self.config)
        observation, info = env.reset(seed=seed)
        return env, _text(observation, info)

    def play(self, env: Any, action: str) -> Said:
        """Step."""
        observation, reward, terminated, truncated, info = env.step(action)
        done = bool(terminated or truncated)
        return Said(str(observation) if done else _text(observation, info), reward, done)


def _text(observation: Any, info: Mapping[str, Any]) -> str:
    """Return an observation with the line that GEM's own wrappers put after it."""
    if not isinstance(observation, str):
        raise TypeError(f"the observation is no text but {type(observation).__name__}")
    suffix = info.get("suffix")
    return f"{observation.rstrip()}\n{suffix}" if suffix else observation


def _registry() -> Mapping[str, Any]:
    from gem.envs.registration import ENV_REGISTRY

    registry: Mapping[str, Any] = ENV_REGISTRY
    return registry


def register_family() -> None:
    """Register every environment of GEM. Raises `UserError` if the library is missing."""
    need("gem")
    for name in _registry():
        register(env_id(LIBRARY, name), "quintain.envs.bridges.gem:Gem", {"name": name})
