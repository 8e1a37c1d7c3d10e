"""`quintain/Mixture-v0`: an environment of environments, each episode played in one of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np

from ..tools.chat import Message, Reply
from ..tools.errors import UserError, nearest
from ..verifiers.base import Episode, Task
from .base import Answer, TextEnv
from .card import Card
from .choice import chosen
from .registry import make
from .sources import ENDLESS
from .state import StateError, generator
from .tasks import TaskSet, item_rng

_DEFAULT = (
    {"id": "quintain/Calculator-v0"},
    {"id": "quintain/Countdown-v0"},
    {"id": "quintain/GuessNumber-v0"},
)
_KEYS = ("id", "env", "weight", "kwargs", "name")
_TAG = "mixture"  # the key of `Task.info` that tells the name of the environment


@dataclass(frozen=True, slots=True)
class Member:
    """One environment of a mixture."""

    name: str
    """What `info["env"]` and the ids of tasks call it."""
    env: TextEnv
    """The definition; episodes are played on `fresh()` ones."""
    share: float
    """Of the episodes; the shares sum to 1."""


class MixtureEnv(TextEnv):
    """Several environments with weights: every episode is one of theirs.

        env = make("quintain/Mixture-v0", envs=[
            {"id": "quintain/Calculator-v0", "weight": 3, "kwargs": {"max_steps": 2}},
            {"id": "quintain/GuessNumber-v0", "weight": 1},
        ])

    `info["env"]` of `reset` and `step` tells which; after `reset`, `tools`, `format`, `max_turns` and the messages are
    those of its environment. The tasks are endless: the task of an index comes from a member drawn with the weights,
    by a generator derived from `seed` and the index, and its id begins with the name of the member.

    Args:
        envs: One mapping for each: `id`; `weight`, default 1; `kwargs`, its options; `name`, default the id (with a
            number if it comes again). Instead of `id`, `env` gives a `TextEnv` that is there already.
        seed: Of the order of tasks.

    Raises `UserError` for an unknown id or key, a name that comes twice, and weights that are not positive numbers.
    """

    card = Card(
        what="Whatever its members ask; each episode is one of theirs.",
        reward="That of the member.",
        difficulty="That of the members, and their weights.",
        oracle="Those of the members, where all have one.",
        source="Those of the members.",
        tags=("mixture",),
    )

    def __init__(
        self, envs: Sequence[Mapping[str, Any]] = _DEFAULT, seed: int = 0, render_mode: str | None = None
    ) -> None:
        self.members = _members(envs)
        super().__init__(tasks=TaskSet(self._task, name="mixture"), render_mode=render_mode)
        self.seed = seed
        self._shares = np.array([member.share for member in self.members])
        self._playing: tuple[Member, TextEnv] | None = None
        self._opened += [member.env for member in self.members]
        if all(member.env.oracle is not None for member in self.members):
            self.oracle = self._oracle
        if all(member.env.demonstrator is not None for member in self.members):
            self.demonstrator = self._demonstrator

    # --- tasks

    def _task(self, index: int) -> Task:
        rng = item_rng("mixture", self.seed, index)
        member = self.members[int(rng.choice(len(self.members), p=self._shares))]
        if member.env.tasks is None:
            return Task(f"{member.name}:{index}", "", None, {_TAG: member.name})
        return _tagged(member.env.tasks.draw(rng), member)

    def member_of(self, task: Task) -> Member:
        """Return the environment that a task belongs to. Raises `UserError` if it belongs to none."""
        return self._named(task.info.get(_TAG), f"the info {_TAG!r} of the task {task.id!r}")

    def _named(self, name: Any, where: str) -> Member:
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(repr(member.name) for member in self.members)
        raise UserError(f"{where} must name an environment of the mixture ({known}), got {name!r}")

    def _oracle(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        policy = self.member_of(task).env.oracle
        assert policy is not None
        return policy(task, messages, rng)

    def _demonstrator(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        policy = self.member_of(task).env.demonstrator
        assert policy is not None
        return policy(task, messages, rng)

    # --- the episode is that of a member

    @property
    def task(self) -> Task | None:
        """The task of the episode; None before the first `reset`."""
        return None if self._playing is None else self._playing[1].task

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, a new list."""
        return [] if self._playing is None else self._playing[1].messages

    @property
    def judged_episode(self) -> Episode | None:
        """The episode as the member's verifier saw it; None if none has judged it (yet)."""
        return None if self._playing is None else self._playing[1].judged_episode

    @property
    def judged_s(self) -> float:
        """Seconds that the member's verifier has taken in this episode."""
        return 0.0 if self._playing is None else self._playing[1].judged_s

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode in one of the environments; see `TextEnv.reset`. The option `env` names the one."""
        gymnasium.Env.reset(self, seed=seed)
        options = dict(options or {})
        name = options.pop("env", None)
        wanted = None if name is None else self._named(name, "the option env")
        tasks = self.tasks if wanted is None else wanted.env.tasks
        task = chosen(options, tasks, self.np_random, type(self).__name__)
        if wanted is not None:
            number = int(self.np_random.integers(ENDLESS))
            task = _tagged(Task(str(number), "") if task is None else task, wanted)
        assert task is not None
        member = self.member_of(task)
        playing = self._enter(member)
        observation, info = playing.reset(seed=int(self.np_random.integers(ENDLESS)), options={"task": task})
        return observation, {**info, "env": member.name}

    def _enter(self, member: Member) -> TextEnv:
        if self._playing is not None:
            self._playing[1].close()
        playing = member.env.fresh()
        playing.render_mode = self.render_mode
        self._playing = member, playing
        self.tools, self.format, self.max_turns = playing.tools, playing.format, playing.max_turns
        return playing

    def step(self, action: str) -> Answer:
        """Do what the environment of the episode does."""
        member, playing = self._playing or self._refuse(action)
        return _told(member, playing.step(action))

    async def astep(self, action: str) -> Answer:
        """Do what the environment of the episode does without blocking the event loop."""
        member, playing = self._playing or self._refuse(action)
        return _told(member, await playing.astep(action))

    def parse(self, text: str) -> Reply:
        """Read a reply as the environment of the episode does."""
        return super().parse(text) if self._playing is None else self._playing[1].parse(text)

    def render(self) -> str | None:
        """Return the conversation so far as text if `render_mode` is "ansi", else None."""
        return None if self._playing is None else self._playing[1].render()

    def fresh(self) -> Self:
        """Return another mixture of the same environments; see `TextEnv.fresh`."""
        other = super().fresh()
        other._playing = None
        other.oracle = None if self.oracle is None else other._oracle
        other.demonstrator = None if self.demonstrator is None else other._demonstrator
        return other

    def get_state(self) -> dict[str, Any]:
        """Return the state of the episode in its environment, and of our generator; see `TextEnv.get_state`."""
        if self._playing is None:
            raise gymnasium.error.ResetNeeded("the episode has not started: call reset() before get_state()")
        member, playing = self._playing
        rng = copy.deepcopy(self.np_random.bit_generator.state)
        return {"rng": rng, "seed": self._np_random_seed, "env": member.name, "episode": playing.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `get_state` was called; see `TextEnv.set_state`."""
        if not isinstance(state, Mapping) or "episode" not in state:
            raise StateError(
                f"{type(self).__name__}.set_state takes what get_state returned, got {state!r:.80}"
            )
        self._enter(self._named(state["env"], "the state")).set_state(state["episode"])
        self._np_random, self._np_random_seed = generator(state["rng"]), state["seed"]

    async def afinish(self) -> None:
        """End an unfinished episode in its environment without blocking the event loop."""
        if self._playing is not None:
            await self._playing[1].afinish()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        if self._playing is not None:
            await self._playing[1].aclose()
        await super().aclose()

    def close(self) -> None:
        """Close the episode, and the environments if this is the definition, not a copy."""
        if self._playing is not None:
            self._playing[1].close()
        super().close()


def _told(member: Member, answer: Answer) -> Answer:
    observation, reward, terminated, truncated, info = answer
    return observation, reward, terminated, truncated, {**info, "env": member.name}


def _tagged(task: Task, member: Member) -> Task:
    return Task(f"{member.name}:{task.id}", task.prompt, task.answer, {**task.info, _TAG: member.name})


def _members(envs: Any) -> tuple[Member, ...]:
    if isinstance(envs, str | Mapping) or not isinstance(envs, Sequence) or not envs:
        raise UserError(
            'a mixture needs environments: envs=[{"id": "quintain/Calculator-v0", "weight": 2}, ...], '
            f"got {envs!r:.80}"
        )
    found: dict[str, tuple[TextEnv, float]] = {}
    for place, given in enumerate(envs):
        name, env, weight = _read({"id": given} if isinstance(given, str) else given, f"envs[{place}]")
        if name in found:
            if "name" in given:
                raise UserError(f"envs[{place}]: the name {name!r} comes twice")
            name = next(
                f"{name}#{number}" for number in range(2, len(envs) + 2) if f"{name}#{number}" not in found
            )
        found[name] = env, weight
    total = sum(weight for _, weight in found.values())
    return tuple(Member(name, env, weight / total) for name, (env, weight) in found.items())


def _read(entry: Any, where: str) -> tuple[str, TextEnv, float]:
    """Return name, environment and weight of one entry."""
    if not isinstance(entry, Mapping):
        raise UserError(f'{where} must be a mapping such as {{"id": ..., "weight": 1}}, got {entry!r:.80}')
    for key in entry:
        if key not in _KEYS:
            raise UserError(f"{where} has no key {key!r}; {nearest(str(key), _KEYS)}")
    if ("id" in entry) == ("env" in entry):
        raise UserError(f"{where} needs an id, or an env that is there already, and not both")
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise UserError(f"{where}: the weight must be a positive number, got {weight!r}")
    if "env" in entry:
        env, name = entry["env"], type(entry["env"]).__name__
        if not isinstance(env, TextEnv) or "kwargs" in entry:
            raise UserError(f"{where}: env must be a TextEnv, without kwargs, got {type(env).__name__}")
    else:
        name = entry["id"]
        kwargs = entry.get("kwargs", {})
        if not isinstance(kwargs, Mapping):
            raise UserError(f"{where}: kwargs must be the options of {name}, by name, got {kwargs!r:.80}")
        try:
            env = make(name, **kwargs)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    if isinstance(env, MixtureEnv):
        raise UserError(
            f"{where}: a mixture in a mixture; list the environments of the inner one with their weights"
        )
    return str(entry.get("name", name)), env, float(weight)
