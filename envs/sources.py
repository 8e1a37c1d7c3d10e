"""What stands behind a task set: a list, a function, a stream, and lazy views of them.

A source gives the task of an index and makes nothing before it is asked. The views keep no tasks, only numbers.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..tools.errors import UserError
from ..verifiers.base import Task

ENDLESS = 2**31
"""Indices that are drawn from an endless set."""

PATIENCE = 10_000
"""Tasks in a row that a filter may refuse before an endless search is given up."""

IN_ORDER = 100_000
"""Tasks of a filtered endless set that stand in the order of the whole one; see `Filtered`."""

_BLOCK = 1 << 20  # indices of the whole set for each later task of a filtered endless one: more than PATIENCE


class Source(Protocol):
    """Gives the task of an index."""

    listed: bool
    """Whether the tasks are there already, so that looking at all of them is cheap."""

    @property
    def endless(self) -> bool:
        """Whether there is no end, or none that is known."""
        ...

    @property
    def size(self) -> int | None:
        """Number of tasks; None if endless."""
        ...

    @property
    def span(self) -> int:
        """Number of indices to draw from."""
        ...

    def get(self, index: int) -> Task:
        """Return a task, `index` being at least 0. Raises `IndexError` where there is none."""
        ...

    def up_to(self, count: int) -> int:
        """Return how many of the first `count` tasks there are, looking no further."""
        ...


class Listed:
    """Tasks in memory. Raises `UserError` for two with the same id."""

    listed = True
    endless = False

    def __init__(self, tasks: Sequence[Task], name: str) -> None:
        refuse_duplicates(tasks, name)
        self._tasks = tasks
        self.size = self.span = len(tasks)

    def get(self, index: int) -> Task:
        """Return the task at a place in the list."""
        return self._tasks[index]

    def up_to(self, count: int) -> int:
        """Return the smaller of `count` and the length."""
        return min(count, self.size)


class Made:
    """Tasks made by a function of the index."""

    listed = False

    def __init__(self, make: Callable[[int], Task], size: int | None) -> None:
        self.get = make
        self.size = size
        self.endless = size is None
        self.span = ENDLESS if size is None else size

    def up_to(self, count: int) -> int:
        """Return the smaller of `count` and the number of tasks."""
        return count if self.size is None else min(count, self.size)


class Stream:
    """Tasks as an iterator gives them, kept once they came. `span` are the first `window`, which a draw waits for."""

    listed = False
    endless = True
    size = None

    def __init__(self, tasks: Iterable[Task], window: int, name: str) -> None:
        self._rest: Iterator[Task] | None = iter(tasks)
        self._window = window
        self._name = name
        self._came: list[Task] = []
        self._places: dict[str, int] = {}

    @property
    def span(self) -> int:
        """Number of tasks to draw from."""
        return self.up_to(self._window)

    def get(self, index: int) -> Task:
        """Return a task, taking as many from the iterator as that needs."""
        if self.up_to(index + 1) <= index:
            raise IndexError(f"there is no task {index} in {self._name}: it ended after {len(self._came)}")
        return self._came[index]

    def up_to(self, count: int) -> int:
        """Take tasks until there are `count`, or no more."""
        while len(self._came) < count and self._rest is not None:
            task = next(self._rest, None)
            if task is None:
                self._rest = None
                break
            if not isinstance(task, Task):
                raise UserError(
                    f"{self._name}: item {len(self._came) + 1} is no Task, got {type(task).__name__}"
                )
            _note(task, len(self._came), self._places, self._name)
            self._came.append(task)
        return min(count, len(self._came))


class Filtered:
    """The tasks that a function accepts, in their order.

    Of an endless set the first 100,000 stand in order; a later index has a block of the whole set to itself and is the
    first accepted task there, so that any index is found quickly and no two share a task.
    """

    def __init__(self, whole: Source, accepts: Callable[[Task], bool], name: str) -> None:
        self.listed = whole.listed
        self.endless = whole.endless
        self._whole = whole
        self._accepts = accepts
        self._name = name
        self._found: list[int] = []
        self._seen = 0  # places of the whole set that were looked at
        self._done = False
        self._window: int | None = None

    @property
    def size(self) -> int | None:
        """Number of accepted tasks, all of which are looked at; None where the whole set has no known end."""
        if self.endless:
            return None
        self._look_for(ENDLESS)
        return len(self._found)

    @property
    def span(self) -> int:
        """Number of indices to draw from; of a stream, the accepted ones within its window."""
        size = self.size
        if size is not None:
            return size
        if self._window is None:
            span = self._whole.span
            made = span >= ENDLESS
            self._window = ENDLESS if made else sum(self._accepts(self._whole.get(i)) for i in range(span))
        return self._window

    def get(self, index: int) -> Task:
        """Return the accepted task of an index. Raises `UserError` if none of 10,000 in a row is accepted."""
        if self.endless and index >= IN_ORDER and self.span >= ENDLESS:
            return self._first(index * _BLOCK)
        self._look_for(index + 1)
        if index >= len(self._found):
            raise IndexError(f"there is no task {index} in {self._name}: {len(self._found)} are accepted")
        return self._whole.get(self._found[index])

    def up_to(self, count: int) -> int:
        """Return how many of the first `count` there are; an endless set is taken at its word."""
        if self.endless and self.span >= ENDLESS:
            return count
        self._look_for(count)
        return min(count, len(self._found))

    def _look_for(self, count: int) -> None:
        """Look until `count` are accepted, or no more come."""
        start = self._seen
        while len(self._found) < count and not self._done:
            if self._whole.up_to(self._seen + 1) <= self._seen:
                self._done = True
                break
            if self.endless and self._seen - start >= PATIENCE:
                raise UserError(_hopeless(self._name))
            if self._accepts(self._whole.get(self._seen)):
                self._found.append(self._seen)
                start = self._seen
            self._seen += 1

    def _first(self, begin: int) -> Task:
        for place in range(begin, begin + PATIENCE):
            task = self._whole.get(place)
            if self._accepts(task):
                return task
        raise UserError(_hopeless(self._name))


class Shuffled:
    """The tasks of a finite source in an order that follows from a generator, drawn when the first is asked for."""

    def __init__(self, whole: Source, rng: np.random.Generator) -> None:
        self.listed = whole.listed
        self.endless = False
        self._whole = whole
        self._rng = rng
        self._order: npt.NDArray[np.int64] | None = None

    @property
    def size(self) -> int | None:
        """Number of tasks."""
        return self._whole.size

    @property
    def span(self) -> int:
        """Number of tasks."""
        return self._whole.span

    def get(self, index: int) -> Task:
        """Return the task that comes at a place."""
        if self._order is None:
            self._order = self._rng.permutation(self._whole.span)
        return self._whole.get(int(self._order[index]))

    def up_to(self, count: int) -> int:
        """Return the smaller of `count` and the number of tasks."""
        return self._whole.up_to(count)


class Taken:
    """The first `count` tasks, or as many as there are."""

    def __init__(self, whole: Source, count: int, name: str) -> None:
        self.listed = whole.listed
        self.endless = False
        self._whole = whole
        self._count = count
        self._name = name

    @property
    def size(self) -> int:
        """Number of tasks."""
        return self._whole.up_to(self._count)

    span = size

    def get(self, index: int) -> Task:
        """Return one of the first tasks."""
        if index >= self._count:
            raise IndexError(f"there is no task {index} in {self._name}: it has the first {self._count}")
        return self._whole.get(index)

    def up_to(self, count: int) -> int:
        """Return the smaller of `count` and the number of tasks."""
        return self._whole.up_to(min(count, self._count))


class Joined:
    """Sources one after the other; only the last may be endless."""

    def __init__(self, parts: Sequence[Source], name: str) -> None:
        self.listed = all(part.listed for part in parts)
        self.endless = parts[-1].endless
        self._parts = parts
        self._name = name
        self._starts: list[int] | None = None

    @property
    def size(self) -> int | None:
        """Number of tasks of all; None if the last is endless."""
        last = self._parts[-1].size
        return None if last is None else self._bounds()[-1] + last

    @property
    def span(self) -> int:
        """Number of indices to draw from."""
        size = self.size
        return self._bounds()[-1] + self._parts[-1].span if size is None else size

    def get(self, index: int) -> Task:
        """Return a task of the part that the index falls into."""
        part = bisect.bisect_right(self._bounds(), index) - 1
        return self._parts[part].get(index - self._bounds()[part])

    def up_to(self, count: int) -> int:
        """Return how many of the first `count` there are."""
        before = self._bounds()[-1]
        return count if count <= before else before + self._parts[-1].up_to(count - before)

    def _bounds(self) -> list[int]:
        if self._starts is None:
            sizes = [part.size or 0 for part in self._parts[:-1]]
            self._starts = [0, *itertools.accumulate(sizes)]
        return self._starts


def refuse_duplicates(tasks: Iterable[Task], name: str) -> None:
    """Raise `UserError` naming the id and both places if two tasks have the same id."""
    places: dict[str, int] = {}
    for place, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise UserError(
                f"{name}: item {place} is no Task, got {type(task).__name__}; write `Task(id, prompt, answer)`, "
                "or make tasks of rows with `TaskSet.from_rows`"
            )
        _note(task, place, places, name)


def _note(task: Task, place: int, places: dict[str, int], name: str) -> None:
    if places.setdefault(task.id, place) != place:
        raise UserError(
            f"{name}: the tasks {places[task.id]} and {place} have the same id {task.id!r}; "
            "an id names one task, as results are kept by it"
        )


def share_of(key: str, seed: int) -> float:
    """Return a number in [0, 1) that follows from a text alone: where it falls when a set is split."""
    digest = hashlib.blake2b(
        f"split\x1f{seed}\x1f{key}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact in a float, never 1.0


def _hopeless(name: str) -> str:
    return f"{name}: none of {PATIENCE} tasks in a row is accepted; make the filter wider, or the tasks to its measure"
