"""The runs that a viewer shows: folders named at start, their config, and their metrics as they grow."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..rl.journal import TRAJECTORIES
from ..rl.metrics import Place, Record, keep_latest, read_record
from ..run_folder import CONFIG, METRICS
from ..tools.errors import UserError
from .tokens import Vocabulary, newest_tokenizer, read_vocabulary

SAMPLES = "samples.jsonl"
"""The episodes in a folder of `quintain sample`, which is shown like a run."""


@dataclass
class OpenRun:
    """One run. Pages name it by `key`; no path ever comes from a URL."""

    key: str
    """Its name in URLs: the folder's, made unique."""
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    notes: list[str] = field(default_factory=list)
    """What could not be read, in words for people."""
    version: int = 0
    """Counts up whenever config or metrics changed."""
    _kept: dict[Place, Record] = field(default_factory=dict)
    _offset: int = 0
    _file: tuple[int, int] | None = None
    _config_stamp: tuple[int, int] | None = None
    _broken: int = 0
    _vocabulary: tuple[Path | None, float, Vocabulary | None] | None = None

    @property
    def name(self) -> str:
        """The name in the config, else the folder's; two runs of one config differ in `key`."""
        return str(self.config.get("name") or self.folder.name)

    @property
    def records(self) -> list[Record]:
        """The records of `metrics.jsonl`, as `read_metrics` gives them."""
        return list(self._kept.values())

    def at(self, *place: str) -> Any:
        """Return a value of the config, None where it is not there."""
        value: Any = self.config
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def refresh(self) -> None:
        """Read what was written since the last time."""
        self._read_config()
        self._read_metrics()
        self.notes = []
        if self._config_stamp is not None and not self.config:
            self.notes.append(f"{CONFIG} cannot be read as TOML")
        if self._broken:
            lines = "one line" if self._broken == 1 else f"{self._broken} lines"
            self.notes.append(f"{lines} of {METRICS} cannot be read and are left out")

    def _read_config(self) -> None:
        path = self.folder / CONFIG
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._config_stamp:
                return
            self._config_stamp = stamp
            self.version += 1
            text = path.read_text("utf-8")
            self.config, self.config_text = tomllib.loads(text), text
        except FileNotFoundError:
            self._config_stamp, self.config, self.config_text = None, {}, ""
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            self.config, self.config_text = {}, ""

    def _read_metrics(self) -> None:
        path = self.folder / METRICS
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                same = self._file == (found.st_dev, found.st_ino)
                if not same or found.st_size < self._offset:
                    # another file, or cut by a resumed run
                    self._kept, self._offset, self._broken = {}, 0, 0
                    self._file = (found.st_dev, found.st_ino)
                    self.version += 1
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        end = data.rfind(b"\n") + 1  # what comes after is still being written, or torn
        if end == 0:
            return
        for line in data[:end].split(b"\n"):
            record = read_record(line)
            if record is not None:
                keep_latest(self._kept, record)
            elif line.strip():
                self._broken += 1
        self._offset += end
        self.version += 1

    def vocabulary(self) -> Vocabulary | None:
        """Return the texts of the run's tokens, from its newest checkpoint; None where it has none that can be read."""
        path = newest_tokenizer(self.folder)
        stamp = path.stat().st_mtime if path is not None else 0.0
        if self._vocabulary is None or self._vocabulary[:2] != (path, stamp):
            self._vocabulary = (path, stamp, read_vocabulary(path) if path is not None else None)
        return self._vocabulary[2]


def open_runs(folders: Sequence[Path]) -> list[OpenRun]:
    """Return the runs in `folders`; a folder without a run of its own stands for the runs right inside it.

    Raises `UserError` for a folder that is not there, and for one that holds no run.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.exists():
            raise UserError(f"there is no folder {folder}; name the folder that `quintain train` has made")
        if not folder.is_dir():
            raise UserError(f"{folder} is a file; name the folder that `quintain train` has made")
        inside = [folder] if _is_run(folder) else [path for path in sorted(folder.iterdir()) if _is_run(path)]
        if not inside:
            raise UserError(
                f"{folder} holds no run: neither {CONFIG} nor {METRICS} nor {TRAJECTORIES} is in it, "
                "or in a folder inside it"
            )
        found += [path for path in inside if path.resolve() not in {known.resolve() for known in found}]
    runs: list[OpenRun] = []
    for folder in found:
        base = re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-.") or "run"
        key, number = base, 2
        while any(run.key == key for run in runs):
            key, number = f"{base}~{number}", number + 1
        runs.append(OpenRun(key, folder))
    for run in runs:
        run.refresh()
    return runs


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any(
        (folder / name).exists() for name in (CONFIG, METRICS, TRAJECTORIES, SAMPLES)
    )
