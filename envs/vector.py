"""Many episodes of one text environment at once: `TextVectorEnv`, what `gymnasium.make_vec` makes of our ids.

The members live in this process and are stepped at the same time on one event loop, so that tools, sandboxes and
judges of different episodes overlap. For work that keeps the processor busy take `vectorization_mode="async"`, which
is Gymnasium's vector environment of processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..tools.errors import UserError
from .base import Answer, TextEnv

T = TypeVar("T")
Batch = tuple[
    tuple[str, ...], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]
]
"""What `step` returns: observations, rewards, terminations, truncations, infos."""


class TextVectorEnv(VectorEnv[tuple[str, ...], Sequence[str | None], npt.NDArray[Any]]):
    """`num_envs` episodes of one definition, stepped concurrently; a finished one waits until it is reset.

        envs = gymnasium.make_vec("quintain/Calculator-v0", num_envs=8)
        observations, infos = envs.reset(seed=1)
        while envs.live.any():
            observations, rewards, terminations, truncations, infos = envs.step(policy(observations))
        envs.reset(options={"reset_mask": ~envs.live})

    Only live members are stepped: the action of a finished one is ignored, and so is None, which lets a live one
    wait. A member that was not stepped has an empty observation and reward 0.0, keeps its flags, and is absent from
    `infos`; `infos["_task_id"]` is the mask of those that were. Observations are a tuple of texts.

    Args:
        env: The definition; each member is a `fresh()` one. It is closed with the vector environment.
        num_envs: Number of members.
    """

    env: TextEnv | None = None
    """The definition."""

    envs: tuple[TextEnv, ...] = ()
    """The members."""

    _runner: asyncio.Runner | None = None

    def __init__(self, env: TextEnv, num_envs: int = 1) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs!r}")
        if not isinstance(env, TextEnv):
            raise UserError(f"TextVectorEnv needs a TextEnv, got {type(env).__name__}; pass `env.unwrapped`")
        self.env = env
        self.envs = tuple(env.fresh() for _ in range(num_envs))
        self.num_envs = num_envs
        self.spec = env.spec
        self.render_mode = env.render_mode
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self._started = np.zeros(num_envs, dtype=np.bool_)
        self._terminations = np.zeros(num_envs, dtype=np.bool_)
        self._truncations = np.zeros(num_envs, dtype=np.bool_)

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """Which members are in an episode, shape (num_envs,)."""
        return self._started & ~self._terminations & ~self._truncations

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start an episode in every member, or in those of a mask.

        Args:
            seed: One for each member; a whole number means what it means in Gymnasium's vector environments, that
                number for the first member and the following ones for the others.
            options: `reset_mask`, an array of booleans of shape (num_envs,): the members to reset; the others go
                on and have an empty observation. All else goes to `TextEnv.reset`; a list or tuple gives each
                member its own value: `{"task": [3, 3, 7, 7]}`.
        """
        seeds = self._seeds(seed)
        options = dict(options or {})  # the caller's stay as they are
        mask = self._mask(options.pop("reset_mask", None))
        own = [self._own_options(options, i) for i in range(self.num_envs)]
        observations = [""] * self.num_envs
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        self._finish([env for env, chosen in zip(self.envs, mask, strict=True) if chosen])
        for i in map(int, np.flatnonzero(mask)):
            self._started[i] = False  # if the next line raises, the member is in no episode
            observations[i], infos[i] = self.envs[i].reset(seed=seeds[i], options=own[i])
        self._started |= mask
        self._terminations[mask] = self._truncations[mask] = False
        return tuple(observations), batched(infos)

    def step(self, actions: Sequence[str | None]) -> Batch:
        """Give every live member its reply, all at the same time; see the class.

        Raises `gymnasium.error.ResetNeeded` if no member is live, and `UserError` for a wrong number of actions or
        one that is no text.
        """
        chosen = self._chosen(actions)
        return self._gathered(chosen, self._run(lambda: self._step(chosen, actions)))

    async def astep(self, actions: Sequence[str | None]) -> Batch:
        """Do what `step` does on the event loop that is running."""
        chosen = self._chosen(actions)
        return self._gathered(chosen, await self._step(chosen, actions))

    def render(self) -> tuple[Any, ...]:
        """Return what each member renders."""
        return tuple(env.render() for env in self.envs)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every member, or return an attribute of each."""
        found = [getattr(env, name) for env in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of every member."""
        return tuple(getattr(env, name) for env in self.envs)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every member: one value each from a list or tuple, or the same for all."""
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        for env, value in zip(self.envs, values, strict=True):
            setattr(env, name, value)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the members and the definition."""
        self._finish(self.envs)
        for env in self.envs:
            env.close()
        if self.env is not None:
            self.env.close()
        if self._runner is not None:
            off_loop(self._runner.close)

    async def aclose(self) -> None:
        """Do what `close` does on the event loop that is running, where `astep` was awaited."""
        for env in self.envs:
            await env.aclose()
        self.close()

    # --- inside

    def _finish(self, envs: Sequence[TextEnv]) -> None:
        """End unfinished episodes on the loop that they live on: what their tools hold may be bound to it."""
        if self._runner is None or type(self.envs[0]).afinish is TextEnv.afinish:
            return

        async def finish() -> list[Answer]:
            await asyncio.gather(*[env.afinish() for env in envs])
            return []

        self._run(finish)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise UserError(f"there are {self.num_envs} environments and {len(seed)} seeds")
        return seed

    def _mask(self, mask: Any) -> npt.NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise UserError(
                f"reset_mask must be an array of booleans of shape ({self.num_envs},), got {mask!r:.120}; "
                "write, for example, `~envs.live`"
            )
        if not mask.any():
            raise UserError("reset_mask must name at least one environment, all are False")
        return mask

    def _own_options(self, options: dict[str, Any], place: int) -> dict[str, Any]:
        own = {}
        for name, value in options.items():
            if isinstance(value, list | tuple):
                if len(value) != self.num_envs:
                    raise UserError(
                        f"the option {name!r} has {len(value)} values for {self.num_envs} environments; "
                        "give one for each, or one that is no list"
                    )
                value = value[place]
            own[name] = value
        return own

    def _chosen(self, actions: Sequence[str | None]) -> list[int]:
        if isinstance(actions, str) or len(actions) != self.num_envs:
            got = "one text" if isinstance(actions, str) else f"{len(actions)}"
            raise UserError(f"step needs {self.num_envs} actions, one for each environment, got {got}")
        live = [int(i) for i in np.flatnonzero(self.live)]
        if not live:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset() before step()")
        chosen = [i for i in live if actions[i] is not None]
        for i in chosen:
            if not isinstance(actions[i], str):
                raise UserError(
                    f"action {i} must be text (str), or None to wait, got {type(actions[i]).__name__}"
                )
        return chosen

    async def _step(self, chosen: Sequence[int], actions: Sequence[str | None]) -> list[Answer]:
        """Step the chosen members at the same time; the first exception is raised when all have ended."""
        steps = [self.envs[i].astep(str_of(actions[i])) for i in chosen]
        answers: list[Answer] = []
        for outcome in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            answers.append(outcome)
        return answers

    def _gathered(self, chosen: Sequence[int], answers: Sequence[Answer]) -> Batch:
        observations = [""] * self.num_envs
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        for i, (observation, reward, terminated, truncated, info) in zip(chosen, answers, strict=True):
            observations[i], rewards[i], infos[i] = observation, reward, info
            self._terminations[i], self._truncations[i] = terminated, truncated
        ended = self._terminations.copy(), self._truncations.copy()
        return tuple(observations), rewards, *ended, batched(infos)

    def _run(self, work: Callable[[], Coroutine[Any, Any, list[Answer]]]) -> list[Answer]:
        """Run on one loop for the life of the object, as tools keep what belongs to a loop between steps."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        runner = self._runner
        return off_loop(lambda: runner.run(work()))


def off_loop(work: Callable[[], T]) -> T:
    """Call `work`, which runs an event loop: here, or in another thread if this one has a loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="quintain-loop")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def str_of(action: str | None) -> str:
    """Return a chosen action, which is never None."""
    assert action is not None
    return action


def batched(infos: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Return the infos of the members as Gymnasium's vector environments do: an array and a mask for each key.

    Values that all are of one kind of number make an array of that kind, dictionaries a dictionary of arrays, and
    everything else an array of objects, None where a member has no value.
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos if info is not None for key in info):
        has = np.array([info is not None and key in info for info in infos], dtype=np.bool_)
        values = [info[key] if info is not None and key in info else None for info in infos]
        kinds = {type(value) for value, here in zip(values, has, strict=True) if here}
        kind = kinds.pop() if len(kinds) == 1 else object
        array: Any
        if kind is dict:
            array = batched(values)
        elif kind in (float, bool) or issubclass(kind, np.number) or (kind is int and _fit(values)):
            array = np.zeros(len(infos), dtype=kind)
            array[has] = [value for value, here in zip(values, has, strict=True) if here]
        else:
            array = np.full(len(infos), None, dtype=object)
            for i in np.flatnonzero(has):
                array[i] = values[i]
        result[key], result[f"_{key}"] = array, has
    return result


def _fit(values: Sequence[int | None]) -> bool:
    """Return whether whole numbers of Python fit into those of NumPy."""
    return all(value is None or -(2**63) <= value < 2**63 for value in values)


def make_vector(id: str, num_envs: int = 1, **kwargs: Any) -> TextVectorEnv:  # noqa: A002 - Gymnasium's name
    """Make a vector environment by id: what `gymnasium.make_vec(id, num_envs, **kwargs)` does by default."""
    from .registry import make

    return TextVectorEnv(make(id, **kwargs), num_envs)


def __getattr__(name: str) -> Any:
    """Return the vector entry point of an id: specs go through JSON, so they name it, `quintain.envs.vector:ID`."""
    if "/" in name:
        return partial(make_vector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
