"""Where the library's tasks come from: rows of a file or of a hub, and parts of a set that share nothing.

A problem belongs to "train" or "test" by a hash of what it is about, so that no problem stands in both, whatever
the seeds, the order of the rows and the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...tools.errors import UserError
from ...verifiers.base import Task
from ..tasks import TaskSet
from .items import Split, check_split, in_split

Part = Literal["all", "train", "test"]
"""Which rows of a file: all of them, or four in five, or the fifth that is left."""

_MAX_DRAWS = 10_000  # a generator that finds nothing in so many draws never will


def several(text: str, between: str | None = None) -> tuple[str, ...]:
    """Return the words of a text, or what stands between its commas: a long list that is easy to read."""
    return tuple(part.strip() for part in text.split(between))


def pick(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    """Return one of several, each with equal chance."""
    return choices[int(rng.integers(len(choices)))]


def some(rng: np.random.Generator, choices: Sequence[Any], count: int) -> list[Any]:
    """Return `count` different ones of several, in random order."""
    return [choices[int(index)] for index in rng.choice(len(choices), size=count, replace=False)]


def check_choice(env: str, option: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `UserError` if an option is none of its choices; the text lists them."""
    if value not in choices:
        raise UserError(f"{env}: {option} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_range(env: str, option: str, value: object, low: int, high: int) -> None:
    """Raise `UserError` if an option is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"{env}: {option} must be a whole number from {low} to {high}, got {value!r}")


def check_limit(env: str, limit: object) -> None:
    """Raise `UserError` if a number of rows is neither None nor a whole number of at least 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UserError(f"{env}: limit must be at least 1 or None, got {limit!r}")


def row_tasks(
    env: str,
    path: str | None,
    *,
    part: Part = "all",
    limit: int | None = None,
    hub: Mapping[str, Any] | None = None,
    **fields: Any,
) -> TaskSet:
    """Return the tasks of a file of rows, or of a data set of the hub where there is no path.

    Args:
        env: What error messages call the environment.
        path: A `.jsonl`, `.parquet` or `.csv` file; None takes the data set of `hub`.
        part: "all" rows, or "train" or "test", which a hash of the task's id tells apart.
        limit: Use only the first so many rows of the part.
        hub: Arguments of `TaskSet.from_hub`.
        fields: What holds prompt, answer and id; see `TaskSet.from_rows`.

    Raises `UserError` for a file that cannot be read, and for a part that is empty.
    """
    check_choice(env, "split", part, ("all", "train", "test"))
    check_limit(env, limit)
    if path is None and hub is None:
        raise UserError(f"{env} needs the option path: a .jsonl, .parquet or .csv file of its rows")
    tasks = TaskSet.from_file(Path(path), **fields) if path is not None else TaskSet.from_hub(**hub, **fields)  # type: ignore[arg-type]
    if part == "all" and limit is None:
        return tasks
    chosen = [task for task in tasks if part == "all" or in_split(part, task.id)][:limit]
    if not chosen:
        raise UserError(f"{env}: {tasks.name} has too few rows for a {part!r} part; take split='all'")
    return TaskSet(chosen, name=tasks.name)


Drawn = tuple[str, Task | Callable[[], Task | None]]
"""What a problem is about, and the problem, or how to make it where that costs something."""


def made_tasks(
    env: str,
    make: Callable[[np.random.Generator], Drawn | None],
    *,
    split: Split,
    seed: int,
    variant: str = "",
) -> TaskSet:
    """Return the endless set of problems that `make` draws, kept apart by split.

    What a problem is about decides its split: the same never stands in both. A draw may come to nothing (None) and is
    done again. `variant` tells sets of other options apart.
    """
    check_split(env, split)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"{env}: seed must be a whole number, got {seed!r}")

    def problem(rng: np.random.Generator, index: int) -> Task:
        for _ in range(_MAX_DRAWS):
            drawn = make(rng)
            if drawn is None or not in_split(split, drawn[0]):
                continue
            task = drawn[1] if isinstance(drawn[1], Task) else drawn[1]()
            if task is not None:
                return task
        raise UserError(f"{env}: these options leave no problem for the {split!r} split; make them wider")

    name = f"{env.lower()}-{variant}" if variant else env.lower()
    return TaskSet.generated(problem, name=name, split=split, seed=seed)
