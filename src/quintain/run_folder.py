"""A run's folder: making one without overwriting another, and reading what a run left in it.

Readers take what is there: a run that was killed has torn last lines and lacks files, and is still worth a
report. Nothing here trains.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from .rl.config import Config, load_section
from .rl.journal import TRAJECTORIES
from .rl.metrics import Record, read_metrics
from .rl.stages.stage_config import StageConfig
from .rl.trajectory import Trajectory
from .tools.atomic import write_atomically
from .tools.errors import UserError

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
REPORT = "report.html"

RunLike = Config | StageConfig
"""A config of a run: of `quintain train` or of a stage."""
C = TypeVar("C", Config, StageConfig)


def make_run_dir(config: RunLike, at: Path | None = None) -> Path:
    """Make the folder of a new run with its `config.toml` and return it.

    `at` names the folder itself; otherwise it is the next free `<run.dir>/<name>-seed<seed>-<n>`. Raises
    `UserError` where `at` is taken.
    """
    if at is not None:
        if at.exists() and (not at.is_dir() or any(at.iterdir())):
            raise UserError(
                f"--run-dir {at} is not empty and a run never overwrites: "
                f"name another folder, or continue that run with --resume {at}"
            )
        at.mkdir(parents=True, exist_ok=True)
        folder = at
    else:
        folder = _next_free(config)
    try:
        write_atomically(folder / CONFIG, config.to_toml())
    except OSError:
        folder.rmdir()
        raise
    return folder


def _next_free(config: RunLike) -> Path:
    parent = config.run.dir
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"run.dir = {parent} is a file, not a folder: name a folder with --run.dir FOLDER"
        ) from None
    number = 1
    while True:
        folder = parent / f"{config.name}-seed{config.seed}-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def discard_unused(folder: Path) -> None:
    """Remove the folder of a run that failed before it left anything but its config."""
    left = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 0]
    if left == [folder / CONFIG]:
        shutil.rmtree(folder, ignore_errors=True)


def resumed_config(folder: Path, given: C | None, overrides: Sequence[str] = (), *, kind: type[C]) -> C:
    """Return the config of the run in `folder`, which is of the given kind.

    Raises `UserError` where the folder holds no run, or where `given` (a config file) or the options ask for
    another config than the run began with.
    """
    stored = folder / CONFIG
    if not stored.is_file():
        what = "there is no such folder" if not folder.exists() else f"it has no {CONFIG}"
        raise UserError(f"--resume {folder}: not a run ({what}); name the folder that a run has made")
    config = load_section(kind, stored)
    wanted = load_section(kind, stored, overrides) if given is None else given
    changed = differences(config, wanted)
    if changed:
        raise UserError(
            f"--resume {folder} continues with the config it began with, but you ask for another:\n"
            + "\n".join(f"  {line}" for line in changed)
            + f"\nleave these options out, or start a new run from {stored}"
        )
    return config


def differences(began: BaseModel, wanted: BaseModel) -> list[str]:
    """Return a line for each value that two configs do not share; parts of a list go by their `name` or place."""

    def flat(table: Mapping[str, object], at: str = "") -> Iterator[tuple[str, object]]:
        for key, value in table.items():
            if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
                value = {
                    str(part.get("name", part.get("kind", place))): part
                    for place, part in enumerate(value, 1)
                }
            if isinstance(value, Mapping) and value:
                yield from flat(value, f"{at}{key}.")
            else:
                yield f"{at}{key}", value

    one, other = dict(flat(began.model_dump(mode="json"))), dict(flat(wanted.model_dump(mode="json")))
    return [
        f"{key}: {one.get(key)} in the run, {other.get(key)} now"
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]


@dataclass(frozen=True, slots=True)
class Stages:
    """The held-out evaluations that tell what training did; None where there is none."""

    before: Record | None
    """Before any training."""
    after_sft: Record | None
    """After the warm start, before RL; None where the run has only one phase."""
    after: Record | None
    """The last one of a run that trained."""


def stages(records: Sequence[Record]) -> Stages:
    """Pick the evaluations before, between and after the phases, by their order in the log."""
    before = between = after = None
    trained: set[str] = set()
    for record in records:
        if record.phase in ("sft", "rl"):
            trained.add(record.phase)
        elif record.phase == "eval" and not trained:
            before = record
        elif record.phase == "eval" and "rl" not in trained:
            between = record
        elif record.phase == "eval":
            after = record
    if after is None:
        between, after = None, between
    return Stages(before, between, after)


def headline_metric(records: Sequence[Record]) -> str:
    """Return the name of the success that a run is judged by: greedy where it was measured, else sampled."""
    names = {name for record in records if record.phase == "eval" for name in record.metrics}
    return (
        "success_sampled"
        if "success_sampled" in names and "success_greedy" not in names
        else "success_greedy"
    )


def records_of(folder: Path) -> list[Record]:
    """Return the metrics of the run in `folder`; none where it has not written any."""
    return read_metrics(folder / METRICS)


def trajectory_files(folder: Path) -> list[Path]:
    """Return the files of trajectories in the order of the run."""
    kinds = ["sft", "rl", "eval"]

    def place(path: Path) -> tuple[int, int, str]:
        kind = kind_of(path)
        return step_of(path), kinds.index(kind) if kind in kinds else len(kinds), path.stem

    return sorted((folder / TRAJECTORIES).glob("*.jsonl"), key=place)


def kind_of(path: Path) -> str:
    """Return the kind in the name of a file of trajectories (`eval-during-000020.jsonl` -> `eval`)."""
    return path.stem.partition("-")[0]


def step_of(path: Path) -> int:
    """Return the step in the name of a file of trajectories (`rl-000020.jsonl` -> 20); 0 without one."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else 0


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a file; lines that cannot be read, such as a torn last one, are skipped."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield Trajectory.from_json(line.decode())
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                continue
