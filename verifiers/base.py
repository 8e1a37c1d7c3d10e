"""What every verifier takes and gives: `Task` and `Episode` in, `Score` out.

A verifier judges; it never trains, samples or formats. A failure of ours is `ungraded` with a reason; only
the work of the policy can earn a 0.
"""

from __future__ import annotations

import inspect
import math
import re
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..tools.chat import Message, Reply
from ..tools.errors import InfrastructureError


@dataclass(frozen=True, slots=True)
class Task:
    """One problem. Only `prompt` is for the model; `answer` and `info` never leave the environment."""

    id: str
    """Stable across runs and processes."""
    prompt: str
    """What the model is asked."""
    answer: Any = None
    """Whatever the verifier needs, in plain JSON data."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the row, in plain JSON data (tags, difficulty, tests ...)."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished or partial episode, as a verifier sees it."""

    task: Task
    """The problem."""
    reply: Reply
    """What the model wrote last; empty if it wrote nothing."""
    messages: Sequence[Message] = ()
    """The whole conversation, the system message first; empty for a bare (reply, task) pair."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the environment itself read of the world at the end (files, rows, a board), in plain JSON data."""


class Status(StrEnum):
    """Whether a score is a judgement."""

    GRADED = "graded"
    """`value` is the worth of the work."""
    UNGRADED = "ungraded"
    """The work could not be judged for a reason of ours; it must not count as wrong."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a piece of work is worth. Every score passes through this constructor, so none is out of range.

    Raises `ValueError` for a `value` that is not a finite number in [0, 1] or a part that is not finite.
    """

    value: float
    """In [0, 1]; 0.0 for an ungraded score, where it means nothing."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named components; finite, any range."""
    status: Status = Status.GRADED
    """Graded or not."""
    reason: str = ""
    """Why this value: what was extracted, what was compared, what failed."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number in range."""
        value = self.value
        if isinstance(value, bool):
            object.__setattr__(self, "value", float(value))
        elif not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
            raise ValueError(f"a score must be a finite number in [0, 1], got {value!r}; scale it first")
        for name, part in self.parts.items():
            if not isinstance(part, int | float) or not math.isfinite(part):
                raise ValueError(f"the part {name!r} of a score must be a finite number, got {part!r}")

    @property
    def graded(self) -> bool:
        """Whether the value is a judgement of the work."""
        return self.status is Status.GRADED

    @classmethod
    def ungraded(cls, reason: str) -> Score:
        """Return the score that says "we could not judge this", with the reason."""
        return cls(0.0, status=Status.UNGRADED, reason=reason)


class Verifier(ABC):
    """Judges an episode. Subclasses write `score` (or `ascore` where judging waits for something).

    Call the verifier, not the method: `verifier(episode)` or `verifier(reply, task)` turns anything that
    `score` raises into an ungraded score with a reason: the words of an `InfrastructureError`, else the traceback.

        class EndsWell(Verifier):
            def score(self, episode):
                return Score(float(episode.reply.endswith(".")))
    """

    @abstractmethod
    def score(self, episode: Episode) -> Score:
        """Judge one episode. May raise: the caller turns that into an ungraded score."""

    async def ascore(self, episode: Episode) -> Score:
        """Judge one episode without blocking the event loop; as it stands, `score` inline."""
        return self.score(episode)

    def check(self, task: Task) -> None:
        """Raise `ValueError` if `task` cannot be judged (a missing or unreadable answer). Called at load."""

    def at_step(self, step: int) -> Verifier:
        """Return the verifier as it is at an RL step; itself, unless it has a schedule or holds one that has."""
        return self

    @property
    def name(self) -> str:
        """What this verifier is called among the parts of a composition: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def __mul__(self, weight: float) -> Verifier:
        """Return this verifier scaled by a weight in [0, 1]: `0.8 * math + 0.2 * style`."""
        from .mix import WeightedSum

        return WeightedSum({self.name: (weight, self)})

    __rmul__ = __mul__

    def __add__(self, other: Verifier) -> Verifier:
        """Return the sum of two weighted verifiers; the weights must not exceed 1 together."""
        from .mix import WeightedSum

        return WeightedSum.joined(self, other)

    def __call__(self, work: Episode | str, task: Task | None = None) -> Score:
        """Judge an episode, or a (reply, task) pair; never raises for what the policy did."""
        episode = as_episode(work, task)
        try:
            return _checked(self.score(episode), self)
        except Exception as error:
            return _failed(self, error)

    async def acall(self, work: Episode | str, task: Task | None = None) -> Score:
        """Asynchronous `__call__`."""
        episode = as_episode(work, task)
        try:
            return _checked(await self.ascore(episode), self)
        except Exception as error:
            return _failed(self, error)


def as_episode(work: Episode | str, task: Task | None) -> Episode:
    """Return `work` as an episode; a plain reply needs its task.

    Raises `TypeError` for a reply without a task.
    """
    if isinstance(work, Episode):
        return work
    if task is None:
        raise TypeError("a bare reply needs its task: verifier(reply, task)")
    return Episode(task, work if isinstance(work, Reply) else Reply(work))


def _checked(score: Score, verifier: Verifier) -> Score:
    if not isinstance(score, Score):
        raise TypeError(f"{type(verifier).__name__}.score must return a Score, got {type(score).__name__}")
    return score


def _failed(verifier: Verifier, error: Exception) -> Score:
    """Say why nothing was judged: a failure that was foreseen in its words, a fault with the place it is at."""
    if isinstance(error, InfrastructureError):
        return Score.ungraded(f"{type(verifier).__name__}: {error}")
    return Score.ungraded(f"{type(verifier).__name__} raised:\n{traceback.format_exc()}")


Judgement = Score | float | bool


class FunctionVerifier(Verifier):
    """A verifier made out of a function `(reply, task) -> Score | float | bool`, plain or asynchronous.

    Raises `TypeError` for a function that cannot be called with these two.
    """

    def __init__(self, function: Callable[[Reply, Task], Judgement | Awaitable[Judgement]]) -> None:
        _check_arguments(function)
        self.function = function
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def score(self, episode: Episode) -> Score:
        """Call the function; an asynchronous one must be awaited through `acall`."""
        judgement = self.function(episode.reply, episode.task)
        if inspect.isawaitable(judgement):
            close = getattr(judgement, "close", None)
            if close is not None:
                close()
            raise TypeError(f"{self.name} is asynchronous: use `await verifier.acall(...)`")
        return self._as_score(judgement)

    async def ascore(self, episode: Episode) -> Score:
        """Call the function and await it if it is asynchronous."""
        judgement = self.function(episode.reply, episode.task)
        if inspect.isawaitable(judgement):
            judgement = await judgement
        return self._as_score(judgement)

    def _as_score(self, judgement: Judgement) -> Score:
        if isinstance(judgement, Score):
            return judgement
        return Score(judgement, parts={self.name: float(judgement)})

    def __repr__(self) -> str:
        return f"verifier({self.name})"


def _check_arguments(function: Callable[..., Any]) -> None:
    """Refuse now what would make every episode ungraded."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in that does not say
        return
    try:
        signature.bind(None, None)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"a verifier made of a function is called with (reply, task), got {name}{signature}; to judge messages "
            "or evidence, write a subclass of Verifier with `score(self, episode)`"
        ) from None


def verifier(function: Callable[[Reply, Task], Judgement | Awaitable[Judgement]]) -> FunctionVerifier:
    """Make a verifier out of a function:

        @verifier
        def polite(reply, task):
            return "please" in reply

    The function may be asynchronous.
    """
    return FunctionVerifier(function)
