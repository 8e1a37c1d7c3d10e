"""The journal: every finished trajectory is on disk before anybody uses it.

A rollout phase that is killed goes on where it stopped: episodes that are in its journal are not played again.
A line is one trajectory, exact to the last digit, written with one system call; a torn last line is taken away
by the next writer. The files are for the run itself (`journal/rl-000012.jsonl`) and go when a checkpoint holds
what was learned from them; what people read is `trajectories/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..tools.atomic import write_lines
from .trajectory import Trajectory

FOLDER = "journal"
TRAJECTORIES = "trajectories"
"""The folder of what people read: a file for each phase and step."""
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)
"""What reading a line raises that is no trajectory."""


class Started(Protocol):
    """What an episode begins with, as far as the journal compares it (`episode.Start`)."""

    @property
    def id(self) -> str:
        """`Trajectory.id`."""
        ...

    @property
    def group(self) -> int:
        """`Trajectory.group`."""
        ...

    @property
    def seed(self) -> int:
        """`Trajectory.seed`."""
        ...

    @property
    def task(self) -> int | None:
        """`Trajectory.task`."""
        ...


class Journal:
    """The trajectories of one phase, in a file that grows; use it as a context manager or call `close`.

    An existing file is continued. Its folder is made when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def finished(self, starts: Sequence[Started]) -> dict[str, Trajectory]:
        """Return the graded trajectories of `starts` that are here, by id.

        One that begins otherwise (another seed or task) belongs to an earlier run of other settings and does not
        count; neither does an ungraded one: what failed may work now.
        """
        wanted = {start.id: start for start in starts}
        found = {}
        for trajectory in read(self.path):
            start = wanted.get(trajectory.id)
            if (
                start is not None
                and trajectory.graded
                and (trajectory.group, trajectory.seed, trajectory.task)
                == (start.group, start.seed, start.task)
            ):
                found[trajectory.id] = trajectory
        return found

    def add(self, trajectory: Trajectory) -> None:
        """Write a trajectory. Raises `OSError` as the system reports it."""
        if self._file < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        data = memoryview((trajectory.to_json(exact=True) + "\n").encode("utf-8", "replace"))
        while data:  # more than once on a disk that was full for a moment
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Bring what was written to the disk itself and close the file. Closing twice is fine."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def journal_of(run_dir: Path, phase: str, step: int) -> Journal:
    """Return the journal of a phase of a run, such as `rl` in step 12."""
    return Journal(run_dir / FOLDER / f"{phase}-{step:06d}.jsonl")


def clear(run_dir: Path, *, later: int | None = None) -> None:
    """Remove the journals of a run: a checkpoint has been written since.

    Those of RL steps after `later`, which the checkpoint does not hold, stay.
    """
    folder = run_dir / FOLDER
    for path in folder.glob("*.jsonl"):
        phase, _, number = path.stem.rpartition("-")
        if later is None or phase != "rl" or int(number) <= later:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def read(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a file, journal or not; a line that cannot be read, such as a torn one, is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                yield Trajectory.from_json(line.decode())
            except UNREADABLE:
                continue


def _cut_torn_line(path: Path) -> None:
    """Take away a last line without an end."""
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            at = size
            while at > 0:  # backwards, a block at a time: a journal may be large
                begin = max(0, at - 65536)
                file.seek(begin)
                newline = file.read(at - begin).rfind(b"\n")
                if newline >= 0:
                    at = begin + newline + 1
                    break
                at = begin
            if at < size:
                file.truncate(at)
    except FileNotFoundError:
        pass


def write_trajectories(run_dir: Path, phase: str, step: int, batch: Iterable[Trajectory]) -> None:
    """Write what people read of a step, whole or not at all. Raises `OSError` as the system reports it."""
    path = run_dir / TRAJECTORIES / f"{phase}-{step:06d}.jsonl"
    write_lines(path, (trajectory.to_json() for trajectory in batch))
