"""Rows of data as tasks: which field is what, and the files that rows are read from.

Every error names the source, the row and the field.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tools.errors import UserError, nearest
from ..verifiers.base import Task

Row = Mapping[str, Any]
"""One row of data, by field name."""

Field = str | Callable[[Row], Any]
"""The name of a field, or a function of the row."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the parts of a task stand in a row."""

    prompt: Field = "prompt"
    """The prompt."""
    answer: Field | None = "answer"
    """The answer; None for tasks without one."""
    id: str | None = None
    """A stable id; None for `source-N`, N the number of the row from 1."""
    difficulty: Field | None = None
    """Becomes `Task.info["difficulty"]`, a number or a label; None leaves the row as it is."""

    def tasks(self, rows: Iterable[Row], source: str) -> Iterator[Task]:
        """Make tasks of rows, one at a time. Raises `UserError` for a row that lacks a field or has it empty."""
        used = {
            field for field in (self.prompt, self.answer, self.id, self.difficulty) if isinstance(field, str)
        }
        for number, row in enumerate(rows, 1):
            where = f"{source}, row {number}"
            text = _value(row, self.prompt, "prompt", where)
            if not isinstance(text, str):
                raise UserError(f"{where}: the prompt must be text, got {type(text).__name__}")
            task_id = f"{source}-{number}" if self.id is None else str(_value(row, self.id, "id", where))
            gold = None if self.answer is None else _value(row, self.answer, "answer", where)
            rest = {key: value for key, value in row.items() if key not in used}
            if self.difficulty is not None:
                rest["difficulty"] = _value(row, self.difficulty, "difficulty", where)
            yield Task(task_id, text, gold, rest)


def read(path: Path) -> list[Row]:
    """Return the rows of a `.jsonl`, `.parquet` or `.csv` file.

    Raises `UserError` if the file is missing, empty, torn or of another kind.
    """
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; give the path of a .jsonl, .parquet or .csv file")
    reader = {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}.get(path.suffix.lower())
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
    return rows


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
