"""The frame of every stage: a config in, a run folder, a model or a file of rows out; killed at any moment, resumed.

    RUN/config.toml, metrics.jsonl, checkpoints/, report.html    as `quintain train` makes them
    RUN/model                                                    what the next stage takes as `model.path`
    RUN/pairs.jsonl, RUN/rows.jsonl                              or as `data.path`, where the stage makes rows

What comes out appears whole, at the end; a run that has it is through.
"""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ...tools.errors import UserError, nearest
from ..boards import recording
from ..checkpoint import STATE, Checkpoint, checkpoints
from ..metrics import Event, MetricsLog, Watcher
from .stage_config import StageConfig

MODEL = "model"
"""The folder of a run that holds the finished model."""

C = TypeVar("C", bound=StageConfig)


@dataclass(frozen=True, slots=True)
class Stage(Generic[C]):
    """A stage by name: what configures it and what runs it."""

    name: str
    """The command: `sft`, `dpo`, `reward-model` ..."""
    config: type[C]
    """Its config; `config.stage` is the name."""
    room: str
    """The module with `run_stage(StageRun)`, imported when the stage runs: it may need torch and TRL."""
    makes: str = MODEL
    """What comes out, in the run's folder: the model, or a file of rows that the stage writes whole or not at all."""


@dataclass(slots=True)
class StageRun(Generic[C]):
    """What a stage works with. It writes checkpoints into `folder`, the newest of which becomes the model, or rows."""

    config: C
    folder: Path
    log: MetricsLog
    tell: Watcher
    """Takes the events: `prepare` while things are made, `train` for each step, `check` for evaluations on rows that
    are held out, `eval` for those on an environment."""
    resumed: Checkpoint | None
    """Where a run goes on that was stopped; None at its beginning."""
    show: Watcher = lambda event: None
    """Takes events for whoever watches alone, past the run's own metrics."""
    done: int = 0
    """The steps of the whole training, once it is through."""


def stages() -> dict[str, Stage[Any]]:
    """Return all stages by name."""
    from .catalogue import STAGES

    return STAGES


def find_stage(name: str) -> Stage[Any]:
    """Return a stage. Raises `UserError` that names the nearest for a name that is none."""
    known = stages()
    if name not in known:
        raise UserError(f"there is no stage {name!r}; {nearest(name, known)}")
    return known[name]


def run_stage(
    config: StageConfig, folder: Path, on_event: Watcher = lambda event: None, *, resume: bool = False
) -> Path:
    """Run the stage of `config` in `folder` and return what came out: the folder of a model, or a file of rows.

    With `resume` it goes on from the newest checkpoint, one without any starts over, and one that is through is left
    as it is. Raises `UserError` for what the config asks for and cannot be had, `NonFiniteError` for a loss that is
    not finite; what was written until then stays.
    """
    stage = find_stage(config.stage)
    target = folder / stage.makes
    if resume and target.exists():
        return target
    import torch

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRACKIO_DISABLE_TELEMETRY", "1")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    found = checkpoints(folder) if resume else []
    last = found[-1] if found else None
    position = None if not resume else 0 if last is None else last.state().get("metrics_position", 0)
    settings = config.model_dump(mode="json")
    with recording(config.run, settings, folder, on_event, position=position) as (log, tell):
        room = importlib.import_module(stage.room, __package__)
        room.run_stage(StageRun(config, folder, log, tell, last, on_event))
        saved = checkpoints(folder)
        if stage.makes != MODEL or (not saved and target.exists()):  # the stage has made it itself
            tell(Event("done", 0, 0, message=str(target)))
            return target
        if not saved:
            raise RuntimeError(f"the stage {config.stage} has left no checkpoint in {folder}")
        publish(saved[-1], target)
        tell(Event("done", saved[-1].step, saved[-1].step, {"steps": saved[-1].step}, message=str(target)))
    return target


def publish(checkpoint: Checkpoint, target: Path) -> None:
    """Make `target` out of a checkpoint: a plain model folder, whole or not at all, sharing files where it can."""
    work = target.with_name(f".{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(
        checkpoint.path,
        work,
        copy_function=linked,
        ignore=lambda _, names: [name for name in names if name in (STATE, "shards")],
    )
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def linked(source: str, target: str) -> None:
    """Make `target` the file `source`, sharing it where the file system can."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
