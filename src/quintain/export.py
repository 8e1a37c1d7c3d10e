"""A checkpoint of a run as a plain Hugging Face folder with a model card: what one keeps, or gives to others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .rl.checkpoint import STATE, Checkpoint, best_step, checkpoints
from .rl.config import Config, load_config
from .rl.metrics import Record, read_metrics
from .run_folder import CONFIG, METRICS
from .tools.errors import UserError

LEFT_BEHIND = (STATE, "shards")
"""What a checkpoint holds for `--resume` alone."""


def export(run: Path, target: Path, which: str = "best") -> Path:
    """Copy a checkpoint of `run` to `target`, with a README.md that says what it is, and return `target`.

    Args:
        run: The folder of a run.
        target: A folder that does not exist yet, or is empty.
        which: `best` (by held-out success; the newest where no evaluation chose one), `last`, or an RL step.

    Raises `UserError` for a folder without checkpoints, a step that was not kept and a target that is taken.
    """
    if not (run / CONFIG).is_file():
        raise UserError(f"{run} is not a run: it has no {CONFIG}")
    kept = checkpoints(run)
    if not kept:
        raise UserError(f"{run} has no checkpoint yet")
    chosen = _choose(run, kept, which)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty: name another folder, nothing is overwritten")
    work = target.with_name(f".{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(chosen.path, work, ignore=lambda _, names: [n for n in names if n in LEFT_BEHIND])
        card = model_card(load_config(run / CONFIG), chosen.step, read_metrics(run / METRICS))
        (work / "README.md").write_text(card, encoding="utf-8")
        if target.exists():
            target.rmdir()
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return target


def _choose(run: Path, kept: Sequence[Checkpoint], which: str) -> Checkpoint:
    steps = {checkpoint.step: checkpoint for checkpoint in kept}
    if which == "last":
        return kept[-1]
    if which == "best":
        best = best_step(run)
        return steps.get(kept[-1].step if best is None else best, kept[-1])
    if which.isdecimal() and int(which) in steps:
        return steps[int(which)]
    raise UserError(
        f"{run} has no checkpoint {which!r}: the choices are best, last, {', '.join(map(str, steps))}"
    )


def model_card(config: Config, step: int, records: Sequence[Record]) -> str:
    """Return the model card: Hugging Face's metadata, what the model was trained on and how, and what it scored."""
    how = []
    if config.sft is not None:
        how.append(f"a warm start of {config.sft.steps} steps on demonstrations")
    if config.rl is not None and step:
        name = config.rl.algorithm or f"{config.rl.loss} loss, {config.rl.advantage} advantages"
        how.append(f"{step} steps of reinforcement learning ({name})")
    found = [r for r in records if r.phase == "eval" and r.step == step]
    rows = [
        f"| {name} | {100 * value:.1f} % |"
        for name, value in sorted(found[-1].metrics.items() if found else [])
        if name.startswith(("success", "pass@", "ci_"))
    ]
    options = json.dumps(config.env.kwargs, ensure_ascii=False)
    held_out = json.dumps(config.env.held_out_kwargs, ensure_ascii=False)
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- quintain\n"
        "- reinforcement-learning\n---",
        f"# {config.name}",
        f"Starts from `{config.model.path}`; trained with Quintain {__version__} on `{config.env.id}` with the options "
        f"`{options}`, seed {config.seed}: {', then '.join(how) or 'not trained yet'}.",
    ]
    if rows:
        table = "\n".join(["| held-out problems | |", "|---|---|", *rows])
        parts.append(f"Evaluated with the options `{held_out}`:\n\n{table}")
    parts.append("`chat_template.jinja` is the template that it was trained with.")
    return "\n\n".join(parts) + "\n"
