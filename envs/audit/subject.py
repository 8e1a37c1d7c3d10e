"""The environment under audit: makes copies, plays episodes in bounded time, and keeps what happened."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...tools.errors import UserError
from ...verifiers.base import Task
from ..base import Policy, TextEnv
from ..tasks import TaskSet, item_rng
from .played import Played, Start, Step
from .within import TookTooLong, within

_SEEDS = 2**31
_TRACE = 4_000  # characters of a traceback that are kept


class OutOfTime(Exception):  # noqa: N818 - the name is the sentence
    """The probe has used up its time. The runner says so in the report; a probe need not catch it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How thoroughly to look."""

    tasks: int = 20
    """Tasks, or episodes of an environment without tasks, that the oracle has to solve. All, if there are fewer."""
    seed: int = 0
    """Everything random in the audit follows from it."""
    fuzz: int = 200
    """Random replies that the environment has to survive."""
    long: int = 200_000
    """Characters of the longest replies: more than a policy of today writes."""
    step_s: float = 15.0
    """Seconds of real time after which one `reset` or `step` is given up: a fault."""
    probe_s: float = 300.0
    """Seconds of real time after which a probe is given up and says what it had not done."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name, least in (("tasks", 1), ("fuzz", 0), ("seed", 0), ("long", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("step_s", "probe_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < 1e6:
                raise UserError(f"{name} must be a positive number of seconds, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the environment comes from."""

    name: str
    """For people: the id, or the name of the class."""
    factory: Callable[..., TextEnv] | None
    """Makes one from `kwargs`; None if only an instance was given."""
    kwargs: Mapping[str, Any]
    """Its options."""
    instance: TextEnv | None = None
    """The instance that was given."""

    def make(self, **changed: Any) -> TextEnv:
        """Make a new one, from the factory where there is one."""
        if self.factory is None:
            assert self.instance is not None
            return self.instance.fresh()
        return self.factory(**{**self.kwargs, **changed})


class Subject:
    """What a probe works on.

    `play` is all that most probes need. Whatever the environment does (raise, hang, return nonsense) ends up in the
    `Played` that it returns; only `OutOfTime` is raised, when the probe's time is over.

    Attributes:
        source: Where the environment comes from.
        settings: How thoroughly to look.
        env: One environment to look at (spaces, tools, card); episodes are played on copies of it.
        starts: The episodes that are looked at, `settings.tasks` of them or all there are.
        few: The first of them, at most eight, for what is played many times over.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self.source = source
        self.settings = settings
        self.env = within(max(60.0, settings.step_s), source.make)
        if not isinstance(self.env, TextEnv):
            raise UserError(f"{source.name} makes a {type(self.env).__name__}, which is no TextEnv")
        self.episodes = 0
        self._deadline = float("inf")
        self.starts = self.draw(settings.tasks, "starts")
        self.few = self.starts[:8]

    def close(self) -> None:
        """Close the environment, unless it was given as an instance: that is its owner's."""
        self.env.close()

    # --- what may be used

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return a generator that depends on the audit's seed and `key` alone."""
        return item_rng("audit", self.settings.seed, *key)

    def draw(self, count: int, *key: str | int) -> tuple[Start, ...]:
        """Draw different episodes: at most `count`, all if the environment has no more tasks."""
        rng = self.rng(*key)
        tasks = self.env.tasks
        size = tasks.size if isinstance(tasks, TaskSet) else None
        if not isinstance(tasks, TaskSet):
            return tuple(Start(int(seed)) for seed in rng.choice(_SEEDS, size=count, replace=False))
        if size is not None and size <= count:
            indices: Sequence[int] = range(size)
        else:
            indices = sorted({int(i) for i in rng.choice(size or _SEEDS, size=count, replace=False)})
        return tuple(Start(int(rng.integers(_SEEDS)), index) for index in indices)

    def begin(self, name: str) -> None:
        """Start the time of a probe."""
        self.episodes = 0
        self._deadline = time.monotonic() + self.settings.probe_s

    @property
    def left_s(self) -> float:
        """Seconds that the probe has left. Raises `OutOfTime` if there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"its {self.settings.probe_s:g} s are used up")
        return left

    @contextmanager
    def copy(self) -> Iterator[TextEnv]:
        """Give a copy for one or several episodes and close it."""
        env = self.env.fresh()
        try:
            yield env
        finally:
            with suppress(Exception, TookTooLong):  # the probe `bounded` looks at closing
                within(self.settings.step_s, env.close)

    def play(
        self,
        policy: Policy | Sequence[str] | str,
        start: Start,
        *,
        env: TextEnv | None = None,
        turns: int = 30,
        step_s: float | None = None,
    ) -> Played:
        """Play one episode and return what happened.

        Args:
            policy: Writes the replies; or the replies, the last of them repeated; or one reply for every turn.
            start: Which episode.
            env: Where; None for a copy of its own.
            turns: Replies after which the episode is left if it goes on.
            step_s: Another limit for one step.
        """
        if env is None:
            with self.copy() as mine:
                return self.play(policy, start, env=mine, turns=turns, step_s=step_s)
        self.episodes += 1
        episode = _Episode(self, env, start, self.settings.step_s if step_s is None else step_s)
        return episode.run(_as_policy(policy), turns)

    def oracle(self, start: Start, env: TextEnv | None = None) -> Played | None:
        """Play the episode with the environment's oracle; None if there is no oracle."""
        if self.env.oracle is None:
            return None
        return self.play(self.env.oracle, start, env=env, turns=max(200, self.env.max_turns or 0))

    def task(self, start: Start) -> Task | None:
        """Return the task of an episode; None if it cannot be started."""
        return self.play((), start, turns=0).task


class _Episode:
    """One episode while it is played."""

    def __init__(self, subject: Subject, env: TextEnv, start: Start, step_s: float) -> None:
        self.subject, self.env, self.start, self.step_s = subject, env, start, step_s
        self.opening = ""
        self.info: Mapping[str, Any] = {}
        self.steps: list[Step] = []
        self.rng = subject.rng("policy", start.seed, -1 if start.task is None else start.task)

    def run(self, policy: Policy, turns: int) -> Played:
        try:
            self.opening, self.info = self._bounded(
                self.env.reset, seed=self.start.seed, options=self.start.options
            )
            while len(self.steps) < turns and not self._over():
                self._step(policy)
        except OutOfTime:
            raise
        except TookTooLong:
            what = f"step {len(self.steps)}" if self.steps else "reset"
            return self._played(f"{what} took longer than {self.step_s:g} s and was stopped", late=True)
        except _PolicyError as error:
            return self._played(str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a program of the model's may raise SystemExit into the environment
            trace = traceback.format_exc()[-_TRACE:]
            return self._played(f"raised {type(error).__name__}: {str(error)[:500]}\n{trace}")
        return self._played()

    def _over(self) -> bool:
        return bool(self.steps) and bool(self.steps[-1].terminated or self.steps[-1].truncated)

    def _step(self, policy: Policy) -> None:
        task = self.env.task
        try:
            reply = policy(task or Task("", ""), self.env.messages, self.rng)
        except Exception as error:
            raise _PolicyError(f"the policy raised {type(error).__name__}: {str(error)[:500]}") from error
        began = time.process_time()
        try:
            answer = self._bounded(self.env.step, reply)
        except BaseException:
            self.steps.append(Step(reply, "", 0.0, False, False, {}, time.process_time() - began))
            raise
        observation, reward, terminated, truncated, info = answer
        took = time.process_time() - began
        self.steps.append(Step(reply, observation, reward, terminated, truncated, info, took))

    def _bounded(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        left = self.subject.left_s
        try:
            return within(min(self.step_s, left), function, *args, **kwargs)
        except TookTooLong:
            if left < self.step_s:
                raise OutOfTime(f"its {self.subject.settings.probe_s:g} s are used up") from None
            raise

    def _played(self, error: str = "", *, late: bool = False) -> Played:
        messages = tuple(self.env.messages)
        return Played(
            self.start, self.env.task, self.opening, self.info, messages, tuple(self.steps), error, late
        )


class _PolicyError(Exception):
    """The oracle, not the environment, went wrong."""


def _as_policy(given: Policy | Sequence[str] | str) -> Policy:
    if not isinstance(given, str | Sequence):
        return given
    replies: tuple[str, ...] = (given,) if isinstance(given, str) else tuple(given)

    def scripted(task: Task, messages: Sequence[Any], rng: np.random.Generator) -> str:
        turn = sum(message["role"] == "assistant" for message in messages)
        reply: str = replies[min(turn, len(replies) - 1)]
        return reply

    return scripted
