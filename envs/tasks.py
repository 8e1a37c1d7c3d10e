"""Task sets: where the problems of an environment come from.

A `TaskSet` gives a `Task` for an index. It may be a list, a file, a data set of the Hugging Face hub, or a
function that makes the task of an index from a generator of its own; the last may be endless.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tools.errors import UserError, nearest
from ..verifiers.base import Task, Verifier

Row = Mapping[str, Any]
"""One row of data, by field name."""

Maker = Callable[[np.random.Generator, int], Task]
"""Makes the task of an index; all randomness comes from the generator."""

_ENDLESS = 2**31  # indices that are drawn from an endless set
_CHECKED = 20_000  # tasks that a verifier looks at when an environment is made


class TaskSet:
    """Problems by index, from 0. `size` is their number, or None for an endless set, where any index will do.

    Make one from a list of tasks, or by `from_rows`, `from_file`, `from_hub` or `generated`.
    """

    def __init__(
        self, tasks: Sequence[Task] | Callable[[int], Task], size: int | None = None, name: str = "tasks"
    ) -> None:
        self.name = name
        """What error messages call the set."""
        self.size = size if callable(tasks) else len(tasks)
        """Number of tasks; None if endless."""
        self._get = tasks if callable(tasks) else tasks.__getitem__
        self._checkable = not callable(tasks)
        if self.size == 0:
            raise UserError(f"{name} holds no tasks; an environment needs at least one")

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Row],
        *,
        prompt: str | Callable[[Row], str] = "prompt",
        answer: str | Callable[[Row], Any] | None = "answer",
        id: str | None = None,  # noqa: A002 - the field of `Task`
        name: str = "rows",
        limit: int | None = None,
    ) -> TaskSet:
        """Make tasks of rows. Every row is read now, so that a bad one is found before training.

        Args:
            rows: Mappings of plain JSON data.
            prompt: The field that holds the prompt, or a function of the row that makes it.
            answer: The same for the answer; None for tasks without one.
            id: The field that holds a stable id; otherwise ids are `name-N`, N the number of the row from 1.
            name: What errors and ids call the source.
            limit: Use only the first so many rows.

        Raises `UserError` naming the source, the row and the field if a field is missing or empty.
        """
        if limit is not None and limit < 1:
            raise UserError(f"{name}: limit must be at least 1, got {limit}")
        used = [field for field in (prompt, answer, id) if isinstance(field, str)]
        made = []
        for number, row in enumerate(itertools.islice(rows, limit), 1):
            where = f"{name}, row {number}"
            text = _value(row, prompt, "prompt", where)
            if not isinstance(text, str):
                raise UserError(f"{where}: the prompt must be text, got {type(text).__name__}")
            task_id = f"{name}-{number}" if id is None else str(_value(row, id, "id", where))
            gold = None if answer is None else _value(row, answer, "answer", where)
            rest = {key: value for key, value in row.items() if key not in used}
            made.append(Task(task_id, text, gold, rest))
        return cls(made, name=name)

    @classmethod
    def from_file(cls, path: str | Path, **fields: Any) -> TaskSet:
        """Make tasks of a file of rows: `.jsonl`, `.parquet` or `.csv`. For `fields` see `from_rows`.

        Raises `UserError` if the file is missing, empty, torn or of another kind.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"there is no file {str(path)!r}; give the path of a .jsonl, .parquet or .csv file"
            )
        readers = {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise UserError(
                f"{path.name}: rows are read from .jsonl, .parquet and .csv files, not {path.suffix!r}"
            )
        try:
            rows = reader(path)
        except OSError as error:
            raise UserError(f"{path.name} cannot be read: {error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path.name} is not UTF-8 text: {error}") from error
        if not rows:
            raise UserError(f"{path.name} holds no rows")
        return cls.from_rows(rows, **{"name": path.stem, **fields})

    @classmethod
    def from_hub(
        cls,
        dataset: str,
        *,
        split: str = "train",
        subset: str | None = None,
        limit: int | None = None,
        **fields: Any,
    ) -> TaskSet:
        """Make tasks of a data set of the Hugging Face hub, for example `openai/gsm8k` with `subset="main"`.

        Needs the package `datasets` (`pip install quintain[train]`). For `fields` see `from_rows`.
        """
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"the data set {dataset!r} needs `pip install quintain[train]`") from error
        try:
            rows = datasets.load_dataset(dataset, subset, split=split)
        except (
            Exception
        ) as error:  # the hub raises a dozen classes: not found, gated, offline, wrong split ...
            first = str(error).partition("\n")[0]
            raise UserError(
                f"the data set {dataset!r} (split {split!r}) cannot be loaded: {first}"
            ) from error
        count = len(rows) if limit is None else min(limit, len(rows))
        return cls.from_rows(rows.select(range(count)), **{"name": dataset.replace("/", "-"), **fields})

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

    def check(self, verifier: Verifier) -> None:
        """Let a verifier look at the tasks, before anything is trained; generated ones are left to their maker.

        Raises `UserError` for a task that it could not judge.
        """
        if not self._checkable or type(verifier).check is Verifier.check:
            return
        for task in itertools.islice(self, _CHECKED):
            try:
                verifier.check(task)
            except ValueError as error:
                raise UserError(f"{self.name}: {error}") from error

    def draw(self, rng: np.random.Generator) -> Task:
        """Draw a task, each with equal chance."""
        return self[int(rng.integers(_ENDLESS if self.size is None else self.size))]

    def __getitem__(self, index: int) -> Task:
        """Return the task of an index. Raises `IndexError` if there is none."""
        if index < 0 or (self.size is not None and index >= self.size):
            bounds = "start at 0" if self.size is None else f"are 0 to {self.size - 1}"
            raise IndexError(f"there is no task {index} in {self.name}: the indices {bounds}")
        return self._get(index)

    def __len__(self) -> int:
        if self.size is None:
            raise TypeError(f"the task set {self.name} is endless: ask for its `size`, which is None")
        return self.size

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Task]:
        indices: Iterable[int] = itertools.count() if self.size is None else range(self.size)
        return map(self.__getitem__, indices)

    def __repr__(self) -> str:
        return f"TaskSet({self.name!r}, size={self.size})"


def item_rng(*key: str | int) -> np.random.Generator:
    """Return a generator derived from `key` by hashing: neighbouring keys share nothing, nothing global is seeded."""
    text = "\x1f".join(str(part) for part in key)
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()))


def _value(row: Row, field: str | Callable[[Row], Any], what: str, where: str) -> Any:
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a row must be an object with fields, got {type(row).__name__}")
    if callable(field):
        try:
            return field(row)
        except KeyError as error:
            raise UserError(f"{where} has no field {error}; it has: {', '.join(map(str, row))}") from error
        except Exception as error:
            raise UserError(f"{where}: the {what} cannot be made: {type(error).__name__}: {error}") from error
    if field not in row:
        raise UserError(
            f"{where} has no field {field!r} for the {what}; it has: {', '.join(map(str, row)) or 'none'}. "
            f"Name another with {what}=; {nearest(field, map(str, row))}"
        )
    value = row[field]
    if value is None or value == "":
        raise UserError(f"{where}: the field {field!r} (the {what}) is empty")
    return value


# --- files ------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path.name}, line {number} is not JSON ({error}); is the file complete?"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{path.name}, line {number} must be a JSON object, got {type(row).__name__}")
            rows.append(row)
    return rows


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, restval=None, restkey="\0")
        rows: list[Row] = []
        try:
            for row in reader:
                if "\0" in row or None in row.values():
                    raise UserError(
                        f"{path.name}, line {reader.line_num}: the row and the header differ in length"
                    )
                rows.append(row)
        except csv.Error as error:
            raise UserError(f"{path.name}, line {reader.line_num} cannot be read: {error}") from error
    return rows


def _read_parquet(path: Path) -> list[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path.name}: Parquet files need `pip install quintain[train]`") from error
    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path.name} is no readable Parquet file: {error}") from error
    return rows
