"""Gymnasium environments that are not ours: those that speak text as they are, others with two functions.

    env = GymnasiumText("babyai-text/Go-v0")                      # text in, text out
    env = GymnasiumText("FrozenLake-v1", observe=str, act=int)    # the rest needs telling how

Gymnasium gives `reset` one seed and one generator to an environment, so nothing more is needed for reproducibility;
those that draw from the generators of the process are kept apart as well (see `foreign`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

from ...tools.errors import UserError
from ...verifiers.base import Task
from ..base import TextEnv
from ..card import Card
from ..spaces import TextSpace
from .foreign import ForeignEnv, Randomness, Said, construction, seeds_as_tasks

LIBRARY = "gymnasium"


class GymnasiumText(ForeignEnv):
    """A Gymnasium environment as a `TextEnv`.

    Args:
        id: Its Gymnasium id, `module:id` included.
        observe: Makes text of an observation; None for one that is text.
        act: Makes an action of a reply. What it raises as `ValueError` is shown to the model, which tries again
            (that costs a turn). None hands over the text.
        prompt: What the model is told before the first observation.
        config: Keyword arguments of the environment.
        split: "train", "validation" or "test"; no seed of one belongs to another.
        seed: Other seeds give other episodes.
        scale: The return that is worth 0, and the one that is worth 1.
        max_turns: Replies until we end the episode; None leaves that to the environment's own limit.
        render_mode: None or "ansi", for the conversation; give the environment's own in `config`.

    Raises `UserError` if there is no such environment, or if it does not speak text and is not told how to.
    """

    library = LIBRARY

    def __init__(
        self,
        id: str,  # noqa: A002 - Gymnasium's name for it
        *,
        observe: Callable[[Any], str] | None = None,
        act: Callable[[str], Any] | None = None,
        prompt: str = "",
        config: Mapping[str, Any] | None = None,
        split: str = "train",
        seed: int = 0,
        scale: Sequence[float] = (0.0, 1.0),
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.id = id
        self.config = dict(config or {})
        self.observe = observe
        self.act = act
        self.prompt = prompt
        with construction(LIBRARY, id), Randomness(0).installed():
            env = self._made()
            env.close()
        if isinstance(env.unwrapped, TextEnv):
            raise UserError(f"{id} is a TextEnv already: `quintain.make({id!r})`")
        if observe is None and not _is_text(env.observation_space):
            raise UserError(
                f"the observations of {id} are no text but {env.observation_space}: give observe=, a function that "
                "makes text of one"
            )
        if act is None and not _is_text(env.action_space):
            raise UserError(
                f"the actions of {id} are no text but {env.action_space}: give act=, a function that makes one of "
                "the model's reply and raises ValueError, saying what is wanted, where it cannot"
            )
        tasks = seeds_as_tasks(f"{LIBRARY}-{id}", split, seed)
        super().__init__(scale=scale, tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.card = Card(
            what=f"The Gymnasium environment {id}.",
            reward=f"Its rewards, summed and mapped from {self.low:g}..{self.high:g} to 0..1.",
            difficulty="The arguments in `config`.",
            oracle="None.",
            source=id,
            tags=(LIBRARY,),
        )

    def open(self, task: Task, seed: int) -> tuple[Any, str]:
        """Make the environment and reset it."""
        env = self._made()
        observation, _ = env.reset(seed=seed)
        text = self._text(observation)
        return env, f"{self.prompt}\n\n{text}" if self.prompt else text

    def play(self, env: Any, action: str) -> Said:
        """Step; a reply that is no action of the environment is answered without one."""
        made: Any = action
        if self.act is not None:
            try:
                made = self.act(action)
            except ValueError as error:
                return Said(f"Error: {error}")
        if not env.action_space.contains(made):
            return Said(
                f"Error: that is no action of this environment; the actions are {_named(env.action_space)}."
            )
        observation, reward, terminated, truncated, _ = env.step(made)
        return Said(self._text(observation), reward, bool(terminated or truncated))

    def _made(self) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(self.id, disable_env_checker=True, **self.config)

    def _text(self, observation: Any) -> str:
        text = observation if self.observe is None else self.observe(observation)
        if not isinstance(text, str):
            raise TypeError(f"the observation is no text but {type(text).__name__}")
        return text


def _is_text(space: Any) -> bool:
    return isinstance(space, spaces.Text | TextSpace)


def _named(space: Any) -> str:
    if isinstance(space, spaces.Text):
        letters = "".join(space.character_list)
        return f"texts of {space.min_length} to {space.max_length} characters out of {letters!r:.100}"
    return repr(space)[:200]
