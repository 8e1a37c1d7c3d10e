"""Checkpoints: Hugging Face folders with what a resumed run needs beside the weights, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tools.atomic import write_atomically
from ..tools.errors import UserError
from .adapters import has_adapter, load_adapter, save_whole

FOLDER = "checkpoints"
STATE = "trainer.pt"
BEST = "best.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    """A folder that `AutoModelForCausalLM.from_pretrained` and the tokenizer's counterpart load."""
    step: int
    """RL steps done; 0 after the warm start."""

    def state(self) -> dict[str, Any]:
        """Return what was saved beside the weights."""
        state: dict[str, Any] = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
        return state


def save_checkpoint(
    run_dir: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str,
    state: dict[str, Any],
    *,
    keep: int,
    best: float | None = None,
    shards: Callable[[Path], None] | None = None,
) -> Checkpoint:
    """Save a checkpoint and remove all but the newest `keep` and the best.

    With `best`, the held-out success that makes it so, this one becomes the best: it stays until another does.

    `shards` writes what other ranks have to add into the folder it is given.

    It is written under another name and renamed when it is whole, so a run that is killed, or a disk that is full,
    leaves the earlier ones as they were. Raises `OSError` as the system reports it.
    """
    target = run_dir / FOLDER / f"step-{step:06d}"
    work = target.with_name(f".{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        save_whole(model, work)
        tokenizer.save_pretrained(work)
        (work / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
        if shards is not None:
            shards(work)
        torch.save(state, work / STATE)
        _sync(work)
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if best is not None:
        _mark_best(run_dir, step, best)
    kept = best_step(run_dir)
    for old in checkpoints(run_dir)[:-keep]:
        if old.step != kept:
            shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(target, step)


def best_step(run_dir: Path) -> int | None:
    """Return the step of the best checkpoint, None where no evaluation has chosen one."""
    try:
        return int(json.loads((run_dir / FOLDER / BEST).read_text("utf-8"))["step"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _mark_best(run_dir: Path, step: int, success: float) -> None:
    write_atomically(run_dir / FOLDER / BEST, json.dumps({"step": step, "success": success}) + "\n")


def checkpoints(run_dir: Path) -> list[Checkpoint]:
    """Return the whole checkpoints of a run, oldest first."""
    found = [
        Checkpoint(path, int(match[1]))
        for path in (run_dir / FOLDER).glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / STATE).is_file()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def load_weights(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    """Load a checkpoint's weights into `model`. Raises `UserError` if they are those of another shape."""
    if has_adapter(model):
        load_adapter(model, checkpoint.path)
        return
    saved = type(model).from_pretrained(checkpoint.path, dtype=model.dtype)
    try:
        model.load_state_dict(saved.state_dict())
    except RuntimeError as error:
        raise UserError(f"the checkpoint {checkpoint.path} does not fit the model: {error}") from error


def _sync(folder: Path) -> None:
    """Make sure that the files are on the disk before the rename says so."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
