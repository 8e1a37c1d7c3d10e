"""Task sets: where the problems of an environment come from.

A `TaskSet` gives a `Task` for an index. It may be a list, a file, a data set of the Hugging Face hub, an iterator, or
a function that makes the task of an index from a generator of its own; the last two may be endless. Every operation
on a set gives another, lazily.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tools.errors import UserError
from ..verifiers.base import Task, Verifier
from .rows import Fields, read
from .rows import Row as Row
from .sources import (
    Filtered,
    Joined,
    Listed,
    Made,
    Shuffled,
    Source,
    Stream,
    Taken,
    refuse_duplicates,
    share_of,
)

Maker = Callable[[np.random.Generator, int], Task]
"""Makes the task of an index; all randomness comes from the generator."""

_CHECKED = 20_000  # tasks that are looked at when an environment is made
_WINDOW = 1_000  # tasks of a stream that are drawn from


class TaskSet:
    """Problems by index, from 0, each with an id of its own.

        tasks = TaskSet.from_file("problems.jsonl", prompt="question", answer="answer")
        train, test = tasks.filter(lambda task: len(task.prompt) < 2000).split(0.9)
        first = train.shuffle(seed=1).take(500)

    Make one of a list of tasks, an iterator of tasks, or a function of the index (with the number of tasks as `size`,
    None if there is no end), or by `from_rows`, `from_file`, `from_hub`, `from_stream` or `generated`.

    Raises `UserError` for an empty list, two tasks with the same id, and anything that is no `Task`.
    """

    def __init__(
        self,
        tasks: Sequence[Task] | Iterable[Task] | Callable[[int], Task],
        size: int | None = None,
        name: str = "tasks",
    ) -> None:
        self.name = name
        """What error messages call the set."""
        self._source: Source
        if callable(tasks):
            self._source = Made(tasks, size)
        elif isinstance(tasks, Sequence) and not isinstance(tasks, str):
            self._source = Listed(tasks, name)
        elif isinstance(tasks, Iterable) and not isinstance(tasks, str | Mapping):
            self._source = Stream(tasks, _WINDOW, name)
        else:
            raise UserError(
                f"{name}: a task set is made of tasks, or of a function of the index, got {type(tasks).__name__}; "
                "for a file write `TaskSet.from_file(path)`"
            )
        if not isinstance(self._source, Stream) and self._source.size == 0:
            raise UserError(f"{name} holds no tasks; an environment needs at least one")
        self._by_difficulty: Mapping[Any, Sequence[int]] | None = None

    @classmethod
    def _view(cls, source: Source, name: str) -> TaskSet:
        view = cls.__new__(cls)
        view.name, view._source, view._by_difficulty = name, source, None
        return view

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row],
        *,
        prompt: str | Callable[[Row], str] = "prompt",
        answer: str | Callable[[Row], Any] | None = "answer",
        id: str | None = None,  # noqa: A002 - the field of `Task`
        difficulty: str | Callable[[Row], Any] | None = None,
        name: str = "rows",
        limit: int | None = None,
    ) -> TaskSet:
        """Make tasks of rows. Every row is read now, so that a bad one is found before training.

        Args:
            rows: Mappings of plain JSON data.
            prompt: The field that holds the prompt, or a function of the row that makes it.
            answer: The same for the answer; None for tasks without one.
            id: The field that holds a stable id; otherwise ids are `name-N`, N the number of the row from 1.
            difficulty: The same for `info["difficulty"]`, a number or a label.
            name: What errors and ids call the source.
            limit: Use only the first so many rows.

        Raises `UserError` naming the source, the row and the field if a field is missing or empty, and for two
        rows with the same id.
        """
        _check_limit(limit, name)
        fields = Fields(prompt, answer, id, difficulty)
        return cls(list(fields.tasks(itertools.islice(rows, limit), name)), name=name)

    @classmethod
    def from_file(cls, path: str | Path, **fields: Any) -> TaskSet:
        """Make tasks of a file of rows: `.jsonl`, `.parquet` or `.csv`. For `fields` see `from_rows`.

        Raises `UserError` if the file is missing, empty, torn or of another kind.
        """
        path = Path(path)
        return cls.from_rows(read(path), **{"name": path.stem, **fields})

    @classmethod
    def from_hub(
        cls,
        dataset: str,
        *,
        split: str = "train",
        subset: str | None = None,
        limit: int | None = None,
        streaming: bool = False,
        **fields: Any,
    ) -> TaskSet:
        """Make tasks of a data set of the Hugging Face hub, for example `openai/gsm8k` with `subset="main"`.

        Needs the package `datasets` (`pip install quintain[train]`). For `fields` see `from_rows`; with
        `streaming` rows come as they are needed, see `from_stream`.
        """
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"the data set {dataset!r} needs `pip install quintain[train]`") from error
        _check_limit(limit, dataset)
        try:
            way = {"streaming": True} if streaming else {}
            rows = datasets.load_dataset(dataset, subset, split=split, **way)
        except (
            Exception
        ) as error:  # the hub raises a dozen classes: not found, gated, offline, wrong split ...
            first = str(error).partition("\n")[0]
            raise UserError(
                f"the data set {dataset!r} (split {split!r}) cannot be loaded: {first}"
            ) from error
        fields = {"name": dataset.replace("/", "-"), **fields}
        if streaming:
            return cls.from_stream(itertools.islice(rows, limit), **fields)
        count = len(rows) if limit is None else min(limit, len(rows))
        return cls.from_rows(rows.select(range(count)), **fields)

    @classmethod
    def from_stream(
        cls,
        items: Iterable[Task] | Iterable[Row] | Callable[[], Iterable[Task] | Iterable[Row]],
        *,
        name: str = "stream",
        window: int = _WINDOW,
        **fields: Any,
    ) -> TaskSet:
        """Make tasks of an iterator, or of a generator function, as they are asked for; it need not end.

        Items that came are kept, so that an index always means the same task. Its `size` is None, also where it
        ends; `take` gives a set of known size.

        Args:
            items: Tasks, or rows, for which see `from_rows`.
            name: What errors and ids call the source.
            window: A draw is from the first so many tasks.
            fields: Of rows: `prompt`, `answer`, `id`, `difficulty`.
        """
        if window < 1:
            raise UserError(f"{name}: window must be at least 1, got {window}")
        try:
            places = Fields(**fields)
        except TypeError as error:
            raise UserError(f"{name}: {error}; the fields are prompt, answer, id and difficulty") from error
        return cls._view(Stream(_as_tasks(items, places, name), window, name), name)

    @classmethod
    def generated(
        cls, make: Maker, *, name: str, split: str = "train", seed: int = 0, size: int | None = None
    ) -> TaskSet:
        """Make tasks by a function, each from a generator of its own; endless unless `size` says otherwise.

        The generator of a task is derived from name, split, seed and index by hashing, so that no two sets share
        a sequence, whatever their seeds. A task that `make` gives an empty id gets `name-split-seed-index`.
        """

        def get(index: int) -> Task:
            task = make(item_rng(name, split, seed, index), index)
            if task.id:
                return task
            return Task(f"{name}-{split}-{seed}-{index}", task.prompt, task.answer, task.info)

        return cls(get, size, f"{name}-{split}")

    # --- other sets of this one, all lazy

    def filter(self, accepts: Callable[[Task], bool]) -> TaskSet:
        """Return the set of the tasks that `accepts` returns true for, in their order.

        Of an endless set the first 100,000 stand in order, and later indices find theirs by themselves; a filter
        that refuses 10,000 tasks in a row there is given up with a `UserError`.
        """
        name = f"{self.name}, filtered"

        def checked(task: Task) -> bool:
            try:
                return bool(accepts(task))
            except Exception as error:
                raise UserError(
                    f"{self.name}: the filter failed on the task {task.id!r}: {type(error).__name__}: {error}"
                ) from error

        return self._view(Filtered(self._source, checked, name), name)

    def split(
        self, *shares: float, seed: int = 0, by: Callable[[Task], str] | None = None
    ) -> tuple[TaskSet, ...]:
        """Return disjoint sets with about these shares of the tasks; what is missing to 1 makes one more.

            train, test = tasks.split(0.9)
            train, dev, test = tasks.split(0.8, 0.1)

        Where a task falls follows from a hash of its id and `seed` alone: other tasks, and their order, do not
        matter. `by` gives another text to hash, such as the prompt: tasks with the same one stay together.
        """
        total = sum(shares)
        if not shares or not all(0 < share < 1 for share in shares) or total > 1 + 1e-9:
            raise UserError(
                f"{self.name}: shares must lie between 0 and 1 and sum to at most 1, got {shares}; "
                "write, for example, `train, test = tasks.split(0.9)`"
            )
        ends = [*itertools.accumulate(shares)]
        ends = [*ends[:-1], 1.0] if total > 1 - 1e-9 else [*ends, 1.0]
        key = by or (lambda task: task.id)

        def part(low: float, high: float) -> Callable[[Task], bool]:
            return lambda task: low <= share_of(key(task), seed) < high

        return tuple(self.filter(part(low, high)) for low, high in zip([0.0, *ends], ends, strict=False))

    def shuffle(self, seed: int = 0) -> TaskSet:
        """Return the tasks in another order, which follows from `seed`.

        Raises `UserError` for an endless set: `take` some first, or draw.
        """
        self._must_end("shuffled")
        return self._view(Shuffled(self._source, item_rng("shuffle", seed)), f"{self.name}, shuffled")

    def take(self, count: int) -> TaskSet:
        """Return the set of the first `count` tasks, or of all if there are fewer."""
        if isinstance(count, bool) or count < 1:
            raise UserError(f"{self.name}: take needs at least 1, got {count}")
        name = f"{self.name}, the first {count}"
        return self._view(Taken(self._source, count, name), name)

    def concat(self, *others: TaskSet) -> TaskSet:
        """Return the tasks of this set and then of the others; `a + b` for short.

        Raises `UserError` if a set that is not the last is endless, and if two tasks have the same id (lists are
        checked now, other sets when an environment is made of them).
        """
        parts = (self, *others)
        for part in parts[:-1]:
            part._must_end("put before others")
        name = " + ".join(part.name for part in parts)
        joined = self._view(Joined([part._source for part in parts], name), name)
        if all(isinstance(part._source, Listed) for part in parts):
            refuse_duplicates(joined, name)
        return joined

    __add__ = concat

    def _must_end(self, what: str) -> None:
        if self._source.endless:
            raise UserError(f"{self.name} has no known end, it cannot be {what}: use `take(n)` first")

    # --- what environments and trainers ask

    @property
    def size(self) -> int | None:
        """Number of tasks; None if endless. Of a filtered set, all tasks are looked at to know it."""
        return self._source.size

    @property
    def span(self) -> int:
        """Number of indices that tasks are drawn from: `size`; 2**31 of an endless set; the window of a stream."""
        span = self._source.span
        if span == 0:
            raise UserError(f"{self.name} holds no tasks; an environment needs at least one")
        return span

    def check(self, verifier: Verifier | None = None) -> None:
        """Look at the tasks before anything is trained: for ids that come twice, and whether they can be judged.

        Tasks that are made or come as they are asked for are left to their maker; so are those after the first
        20,000. Raises `UserError` for an empty set, a duplicate id and a task that the verifier could not judge.
        """
        if not self._source.listed:
            return
        _ = self.span  # raises if there is none
        seen = list(itertools.islice(self, _CHECKED))
        if not isinstance(self._source, Listed):
            refuse_duplicates(seen, self.name)
        if verifier is None or type(verifier).check is Verifier.check:
            return
        for task in seen:
            try:
                verifier.check(task)
            except ValueError as error:
                raise UserError(f"{self.name}: {error}") from error

    def draw(self, rng: np.random.Generator) -> Task:
        """Draw a task, each with equal chance."""
        return self[int(rng.integers(self.span))]

    def by_difficulty(self) -> Mapping[Any, Sequence[int]]:
        """Return the indices of the tasks of each `info["difficulty"]` (None for tasks without one).

        All tasks are looked at, once. Raises `UserError` for an endless set.
        """
        if self._by_difficulty is None:
            self._must_end("sorted by difficulty")
            found: dict[Any, list[int]] = {}
            for index, task in enumerate(self):
                found.setdefault(task.info.get("difficulty"), []).append(index)
            self._by_difficulty = found
        return self._by_difficulty

    def __getitem__(self, index: int) -> Task:
        """Return the task of an index. Raises `IndexError` if there is none."""
        if index < 0 or self._source.up_to(index + 1) <= index:
            size = self._source.size
            bounds = "start at 0" if size is None else f"are 0 to {size - 1}"
            raise IndexError(f"there is no task {index} in {self.name}: the indices {bounds}")
        return self._source.get(index)

    def __len__(self) -> int:
        size = self.size
        if size is None:
            raise TypeError(f"the task set {self.name} is endless: ask for its `size`, which is None")
        return size

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Task]:
        for index in itertools.count():
            if self._source.up_to(index + 1) <= index:
                return
            yield self._source.get(index)

    def __repr__(self) -> str:
        size = "lazy" if isinstance(self._source, Filtered | Joined | Shuffled | Taken) else self.size
        return f"TaskSet({self.name!r}, size={size})"


def item_rng(*key: str | int) -> np.random.Generator:
    """Return a generator derived from `key` by hashing: neighbouring keys share nothing, nothing global is seeded."""
    text = "\x1f".join(str(part) for part in key)
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()))


def _as_tasks(
    items: Iterable[Any] | Callable[[], Iterable[Any]], fields: Fields, name: str
) -> Iterator[Task]:
    """Yield tasks as they are, and rows as tasks; the first item tells which they are."""
    stream = iter(items() if callable(items) else items)
    for first in stream:
        whole = itertools.chain([first], stream)
        yield from whole if isinstance(first, Task) else fields.tasks(whole, name)


def _check_limit(limit: int | None, name: str) -> None:
    if limit is not None and limit < 1:
        raise UserError(f"{name}: limit must be at least 1, got {limit}")
