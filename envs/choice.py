"""Which task an episode is about: the options of `reset`, and draws by difficulty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tools.errors import UserError
from ..verifiers.base import Task
from .sources import PATIENCE
from .tasks import TaskSet

Difficulty = float | str | Sequence[float]
"""A difficulty, a number or a label, or the lowest and highest number of a range."""

_OPTIONS = ("task", "difficulty")


def chosen(
    options: Mapping[str, Any], tasks: TaskSet | None, rng: np.random.Generator, name: str
) -> Task | None:
    """Return the task that the options of `reset` ask for, or a drawn one; None where there are no tasks.

    Raises `UserError`, naming the environment by `name`, for an unknown option, and a task or a difficulty that does
    not exist.
    """
    for option in options:
        if option not in _OPTIONS:
            raise UserError(f"{name}.reset has no option {option!r}; there are 'task' and 'difficulty'")
    wanted, difficulty = options.get("task"), options.get("difficulty")
    if wanted is not None and difficulty is not None:
        raise UserError(f"{name}.reset takes a task or a difficulty, got both")
    if isinstance(wanted, Task):
        return wanted
    if tasks is None:
        for option, value in (("task", wanted), ("difficulty", difficulty)):
            if value is not None:
                raise UserError(
                    f"{name} has no tasks to choose from, got the option {option}={value!r}; use a seed"
                )
        return None
    if difficulty is not None:
        return drawn(tasks, rng, difficulty)
    if wanted is None:
        return tasks.draw(rng)
    if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer):
        raise UserError(f"{name}.reset: the option task must be an index or a Task, got {wanted!r}")
    try:
        return tasks[int(wanted)]
    except IndexError as error:
        raise UserError(f"{name}.reset: {error}") from None


def drawn(tasks: TaskSet, rng: np.random.Generator, difficulty: Difficulty) -> Task:
    """Draw a task of a difficulty, each with equal chance. The difficulty of a task is `info["difficulty"]`.

    Raises `UserError` if no task has the one asked for, or none of 10,000 that were drawn from an endless set.
    """
    wanted = _checked(difficulty)
    if tasks.size is not None:
        by_difficulty = tasks.by_difficulty()
        indices = [i for at, places in by_difficulty.items() if _matches(at, wanted) for i in places]
        if not indices:
            raise UserError(_none_of(tasks, difficulty, by_difficulty))
        return tasks[indices[int(rng.integers(len(indices)))]]
    seen = set()
    for _ in range(PATIENCE):
        task = tasks.draw(rng)
        at = task.info.get("difficulty")
        if _matches(at, wanted):
            return task
        seen.add(at)
    raise UserError(_none_of(tasks, difficulty, seen))


def _checked(wanted: Any) -> float | str | tuple[float, float]:
    if isinstance(wanted, str | int | float):
        return wanted
    ends = tuple(wanted) if isinstance(wanted, list | tuple) else ()
    if len(ends) == 2 and all(isinstance(end, int | float) for end in ends):
        return ends
    raise UserError(f"a difficulty is a number, a label or [lowest, highest], got {wanted!r}")


def _matches(at: Any, wanted: float | str | tuple[float, float]) -> bool:
    if isinstance(wanted, tuple):
        return isinstance(at, int | float) and wanted[0] <= at <= wanted[1]
    return bool(at == wanted)


def _none_of(tasks: TaskSet, difficulty: Difficulty, seen: Iterable[Any]) -> str:
    there = sorted({str(at) for at in seen if at is not None})
    known = f"there are: {', '.join(there[:20])}" if there else 'no task has `info["difficulty"]`'
    return f"{tasks.name} has no task of difficulty {difficulty!r}; {known}"
