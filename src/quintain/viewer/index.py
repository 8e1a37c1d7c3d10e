"""The trajectories of all runs in one table: what the pages filter, sort and count.

The table is in memory and built as the files grow: of every file the index remembers how far it has read, so a line is
parsed once. What is kept of a trajectory is a few numbers, a line of text, its words for the search, and where it
stands in its file; the rest is read from there when it is looked at. A last line that is still being written waits for
its end. A file that was replaced or cut (a resumed run writes steps again) is read anew.

Work comes in slices of a few milliseconds, so a page never waits for more than one of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rl.trajectory import Trajectory
from ..run_folder import kind_of, step_of, trajectory_files
from .runs import SAMPLES, OpenRun
from .talk import calls_of, verdict_of, when

_SCHEMA = """
CREATE TABLE episode (
    id INTEGER PRIMARY KEY, file INTEGER, run TEXT, stem TEXT, line INTEGER, start INTEGER, size INTEGER,
    name TEXT, task TEXT, prompt TEXT, grp INTEGER, phase TEXT, step INTEGER,
    verdict TEXT, score REAL, reward REAL, stop TEXT, turns INTEGER, tokens INTEGER, length INTEGER,
    calls INTEGER, tool_errors INTEGER, unreadable INTEGER
);
CREATE INDEX by_file ON episode (file, grp);
CREATE INDEX by_task ON episode (task);
CREATE TABLE part (episode INTEGER, name TEXT, value REAL, PRIMARY KEY (name, episode)) WITHOUT ROWID;
"""
_COLUMNS = 23
BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
"""What reading a line raises that is no trajectory."""
PROMPT = 200
"""Characters of a task's text that the table shows."""


@dataclass
class IndexedFile:
    """One file of trajectories, and how far it is read."""

    id: int
    run: str
    path: Path
    inode: tuple[int, int]
    size: int = 0
    """Bytes that it had when it was looked at last."""
    read: int = 0
    """Bytes that are in the table: whole lines."""
    lines: int = 0
    """Lines among them."""
    broken: int = 0
    """Lines among them that could not be read."""
    tried: int = -1
    """The size at which a last line without an end was tried in vain."""
    episodes: int = 0
    """Trajectories in the table."""

    @property
    def stem(self) -> str:
        """Its name in URLs."""
        return self.path.stem

    @property
    def phase(self) -> str:
        """`rl`, `eval`, `sft` ..."""
        return kind_of(self.path)

    @property
    def step(self) -> int:
        """The step in its name."""
        return step_of(self.path)

    @property
    def when(self) -> str:
        """What it holds, for people."""
        return when(self.path)

    @property
    def place(self) -> str:
        """Run and stem, as URLs name it."""
        return f"{self.run}/{self.stem}"

    @property
    def behind(self) -> int:
        """Bytes that are not read yet."""
        return 0 if self.tried == self.size else self.size - self.read


class Index:
    """The table. `scan` looks for files, `work` reads what they hold; both are called again and again."""

    def __init__(self, runs: Sequence[OpenRun]) -> None:
        self.runs = runs
        self.files: dict[tuple[str, str], IndexedFile] = {}
        """By run and stem."""
        self.version = 0
        """Counts up whenever the table changed."""
        self._db = sqlite3.connect(":memory:")
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        self.searchable = _made(self._db, "CREATE VIRTUAL TABLE words USING fts5(said, content='')")
        """Whether this Python's SQLite has full-text search."""
        self._files = self._episodes = 0
        self._cached: tuple[int, dict[str, Any]] = (-1, {})

    def close(self) -> None:
        """Let go of the table."""
        self._db.close()

    # --- Building ---------------------------------------------------------------------------------------------

    def scan(self) -> None:
        """Look which files there are, and how long they are now."""
        seen = set()
        for run in self.runs:
            for path in [*trajectory_files(run.folder), *run.folder.glob(SAMPLES)]:
                try:
                    found = path.stat()
                except OSError:
                    continue
                place, inode = (run.key, path.stem), (found.st_dev, found.st_ino)
                seen.add(place)
                known = self.files.get(place)
                if known is not None and (known.inode != inode or found.st_size < known.read):
                    self._forget(known)
                    known = None
                if known is None:
                    self._files += 1
                    known = self.files[place] = IndexedFile(self._files, run.key, path, inode)
                known.size = found.st_size
        for place in [place for place in self.files if place not in seen]:
            self._forget(self.files.pop(place))

    def _forget(self, file: IndexedFile) -> None:
        self._db.execute(
            "DELETE FROM part WHERE episode IN (SELECT id FROM episode WHERE file = ?)", [file.id]
        )
        self._db.execute("DELETE FROM episode WHERE file = ?", [file.id])
        self.version += 1

    @property
    def behind(self) -> tuple[int, int]:
        """Bytes that are read, and bytes that there are."""
        total = sum(file.size for file in self.files.values())
        return total - sum(file.behind for file in self.files.values()), total

    def work(self, seconds: float) -> bool:
        """Read for about `seconds`, the newest files first. Return whether there is more to read."""
        until = time.perf_counter() + seconds
        waiting = [file for file in self.files.values() if file.behind]
        for file in sorted(waiting, key=lambda file: -file.id):
            while file.behind and time.perf_counter() < until:
                self._read(file, until)
            if time.perf_counter() >= until:
                break
        return any(file.behind for file in self.files.values())

    def hurry(self, run: str, stem: str, seconds: float) -> None:
        """Read one file before the others, for at most `seconds`."""
        file, until = self.files.get((run, stem)), time.perf_counter() + seconds
        while file is not None and file.behind and time.perf_counter() < until:
            self._read(file, until)

    def _read(self, file: IndexedFile, until: float) -> None:
        try:
            handle = file.path.open("rb")
        except OSError:
            file.size = file.read
            return
        with handle:
            found = os.fstat(handle.fileno())
            if (found.st_dev, found.st_ino) != file.inode:
                file.tried = file.size  # replaced since: the next scan sees it
                return
            handle.seek(file.read)
            for line in handle:
                whole = line.endswith(b"\n")
                added = self._add(file, line)
                if not whole and not added:
                    file.tried = file.size
                    return
                file.broken += not added and bool(line.strip())
                file.lines += 1
                file.read += len(line)
                file.size = max(file.size, file.read)
                if time.perf_counter() >= until:
                    return
            file.size = file.read

    def _add(self, file: IndexedFile, line: bytes) -> bool:
        try:
            trajectory = Trajectory.from_json(line.decode())
            row, words = _row(trajectory)
        except BROKEN:
            return False
        self._episodes += 1
        head = (self._episodes, file.id, file.run, file.stem, file.lines, file.read, len(line))
        self._db.execute(
            f"INSERT INTO episode VALUES ({','.join('?' * _COLUMNS)})",
            (*head, *row[:4], file.phase, file.step, *row[4:]),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?)",
            [(self._episodes, clean(name), float(value)) for name, value in trajectory.score.parts.items()],
        )
        if self.searchable:
            self._db.execute("INSERT INTO words (rowid, said) VALUES (?, ?)", (self._episodes, words))
        file.episodes += 1
        self.version += 1
        return True

    # --- Asking -----------------------------------------------------------------------------------------------

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return what a query gives, as dictionaries. `sql` is never made of text from outside."""
        return [dict(row) for row in self._db.execute(sql, values)]

    def row(self, sql: str, values: Sequence[object] = ()) -> dict[str, Any] | None:
        """Return the first row of what a query gives."""
        found = self._db.execute(sql, values).fetchone()
        return None if found is None else dict(found)

    def column(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the first value of each row."""
        return [row[0] for row in self._db.execute(sql, values)]

    def choices(self) -> Mapping[str, Any]:
        """Return what there is to choose from: runs, phases, ends and components, and the range of steps."""
        if self._cached[0] != self.version:
            found = {
                "phases": self.column("SELECT DISTINCT phase FROM episode ORDER BY phase"),
                "stops": self.column("SELECT DISTINCT stop FROM episode ORDER BY stop"),
                "parts": self.column("SELECT DISTINCT name FROM part ORDER BY name LIMIT 200"),
                "count": self.column("SELECT count(*) FROM episode")[0],
            }
            self._cached = (self.version, found)
        return self._cached[1]

    def sets(self) -> list[IndexedFile]:
        """Return the files that hold trajectories, evaluations and the newest step first: any two can be compared."""
        found = [file for file in self.files.values() if file.episodes]
        return sorted(found, key=lambda f: (f.phase != "eval", f.run, -f.step, f.stem))

    def load(self, row: Mapping[str, Any]) -> Trajectory | None:
        """Read the trajectory of a row from its file; None where the file has changed since."""
        file = self.files.get((row["run"], row["stem"]))
        if file is None:
            return None
        try:
            with file.path.open("rb") as handle:
                handle.seek(row["start"])
                trajectory = Trajectory.from_json(handle.read(row["size"]).decode())
        except (OSError, *BROKEN):
            return None
        return trajectory if clean(trajectory.id) == row["name"] else None


def clean(text: str) -> str:
    """Return the text without what no UTF-8 page can hold: halves of characters."""
    return text.encode("utf-8", "replace").decode()


def _made(db: sqlite3.Connection, sql: str) -> bool:
    try:
        db.execute(sql)
    except sqlite3.OperationalError:
        return False
    return True


def _row(trajectory: Trajectory) -> tuple[tuple[Any, ...], str]:
    """Return the columns of a trajectory from `name` on, and the words to find it by."""
    task = next((str(m["content"]) for m in trajectory.messages if m["role"] == "user"), "")
    turns = trajectory.turns
    row = (
        clean(trajectory.id),
        clean(trajectory.task_id),
        clean(" ".join(task[: 4 * PROMPT].split())[:PROMPT]),
        int(trajectory.group),
        verdict_of(trajectory),
        trajectory.score.value if trajectory.graded else None,
        float(trajectory.reward) if trajectory.graded else None,
        str(trajectory.stop),
        len(turns),
        trajectory.sampled_tokens,
        len(trajectory.ids),
        sum(turn.tool_calls for turn in turns),
        sum(turn.tool_errors for turn in turns),
        sum(bool(turn.parse_error) for turn in turns),
    )
    return row, clean("\n".join(_words(trajectory)))


def _words(trajectory: Trajectory) -> Iterable[str]:
    """Yield all that the search looks at: everything but the system messages, which are alike in all."""
    yield trajectory.id
    yield trajectory.task_id
    yield trajectory.score.reason
    yield json.dumps(trajectory.info, ensure_ascii=False)
    for message in trajectory.messages:
        if message["role"] != "system":
            yield str(message.get("content") or "")
            yield str(message.get("reasoning_content") or "")
            for name, arguments in calls_of(message):
                yield f"{name} {arguments}"
