"""What a run tells while it goes on: events for whoever watches, and the lines of `metrics.jsonl`.

A line is one record, written with one system call, so a killed run leaves at most one torn line, at the end;
readers skip it and the next writer takes it away. Where a resumed run wrote a step again, the later record
counts.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

Phase = Literal["prepare", "sft", "eval", "rl", "train", "check", "done"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    phase: Phase
    """Which part of the run: `prepare`, `sft`, `eval`, `rl`, `done`, or in a stage `train` and `check`."""
    step: int
    """How many steps of the phase are done; for `eval` the RL steps done so far."""
    steps: int
    """How many steps the phase will have; 0 where that is not known."""
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Numbers by name; empty for a mere sign of progress, which is shown and not recorded."""
    message: str = ""
    """A few words for a person: what is being prepared, which evaluation this is."""


Watcher = Callable[[Event], None]
"""Who is told what happens."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of `metrics.jsonl`."""

    phase: Phase
    """As in `Event`."""
    step: int
    """As in `Event`."""
    time_s: float
    """Wall-clock seconds since the run began; pauses between a kill and a resume are not counted."""
    metrics: Mapping[str, float]
    """Numbers by name; NaN for what was not finite."""
    message: str = ""
    """As in `Event`."""


class MetricsLog:
    """Appends the events of a run to `metrics.jsonl`; use it as a context manager or call `close`.

    An existing file is continued, after its last whole line or after `position` (what `position` said when
    the checkpoint was made that the run resumes from).
    """

    def __init__(self, path: Path, *, position: int | None = None) -> None:
        _cut(path, position)
        earlier = read_metrics(path)
        before = earlier[-1].time_s if earlier else 0.0
        self._began = time.monotonic() - before
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, event: Event) -> None:
        """Record an event; one without metrics leaves no line."""
        if not event.metrics:
            return
        nonfinite = [name for name, value in event.metrics.items() if not math.isfinite(value)]
        record: dict[str, Any] = {
            "phase": event.phase,
            "step": event.step,
            "time_s": round(time.monotonic() - self._began, 3),
        }
        for name, value in event.metrics.items():
            if name in RESERVED:
                raise ValueError(f"a metric cannot be called {name!r}: the record uses that name")
            record[name] = None if name in nonfinite else _short(value)
        if event.message:
            record["message"] = event.message
        if nonfinite:
            record["nonfinite"] = nonfinite
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        _write_whole(self._file, line.encode())

    @property
    def position(self) -> int:
        """The length of the file in bytes: a checkpoint keeps it, so that a resume drops what came later."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Clock:
    """Measures the parts of a step: `lap` ends one and begins the next."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        """Seconds of wall-clock time, by part."""
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        """Give the time since the last lap to `name`."""
        now = time.monotonic()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._since
        self._since = now


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


RESERVED = frozenset({"phase", "step", "time_s", "message", "nonfinite"})


def read_metrics(path: Path) -> list[Record]:
    """Read the records of a `metrics.jsonl` in the order written; what cannot be read is skipped.

    A file that is not there has no records. A step that was written again comes once, where the later one
    stands; two evaluations of one step differ in their message.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    kept: dict[Place, Record] = {}
    for line in lines:
        if (record := read_record(line)) is not None:
            keep_latest(kept, record)
    return list(kept.values())


Place = tuple[str, int, str]
"""What a record is about: phase, step, and for an evaluation which."""


def keep_latest(kept: dict[Place, Record], record: Record) -> None:
    """Put a record behind those in `kept`; an earlier one of the same place goes."""
    place = (record.phase, record.step, record.message if record.phase == "eval" else "")
    kept.pop(place, None)
    kept[place] = record


def read_record(line: bytes) -> Record | None:
    """Return the record in a line of `metrics.jsonl`; None for a line that is none."""
    try:
        data = json.loads(line)
        phase = data.pop("phase")
        if phase not in PHASES:
            return None
        step, time_s = int(data.pop("step")), float(data.pop("time_s"))
        message = str(data.pop("message", ""))
        data.pop("nonfinite", None)
        metrics = {
            name: math.nan if value is None else float(value)
            for name, value in data.items()
            if value is None or isinstance(value, int | float)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Record(phase, step, time_s, metrics, message)


def _short(value: float) -> float:
    """Keep seven significant digits: all that a float32 has."""
    return value if isinstance(value, int) else float(f"{value:.7g}")


def _cut(path: Path, position: int | None) -> None:
    """Take away what comes after `position`, and a torn last line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        text = file.read(-1 if position is None else position)
        file.truncate(text.rfind(b"\n") + 1)


def _write_whole(file: int, data: bytes) -> None:
    written = os.write(file, data)
    while written < len(data):  # a disk that was full for a moment
        written += os.write(file, data[written:])
