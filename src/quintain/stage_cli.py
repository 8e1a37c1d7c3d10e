"""The commands of the post-training stages (`quintain sft`, `quintain dpo` ...): one behaviour for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .rl.config import load_section
from .rl.stages.stage import find_stage
from .rl.stages.stage_config import StageConfig
from .run_folder import make_run_dir, resumed_config
from .tools.errors import UserError

INTERRUPTED = 130


def run(
    name: str,
    config: Path | None,
    overrides: Sequence[str],
    *,
    seed: int | None,
    run_dir: Path | None,
    dry_run: bool,
    resume: Path | None,
) -> None:
    """Run the stage `name` from a config file, or go on with a run; prints the model's folder at the end."""
    stage = find_stage(name)
    options = list(overrides) + ([] if seed is None else [f"--seed={seed}"])
    if config is None and resume is None:
        raise UserError(f"which run? name a config file: quintain {name} CONFIG.toml, or --resume RUN")
    if resume is not None and run_dir is not None:
        raise UserError(f"--resume {resume} continues in that folder: leave --run-dir {run_dir} out")
    given = load_section(stage.config, config, options) if config is not None else None
    chosen = resumed_config(resume, given, options, kind=stage.config) if resume is not None else given
    assert chosen is not None  # one of the two was given
    if dry_run:
        print(chosen.to_toml(), end="")
        return
    from .commands.shared import check_libraries

    check_libraries({"torch": "train", "transformers": "train", "trl": "train"})
    folder = resume if resume is not None else make_run_dir(chosen, run_dir)
    print(_watched(chosen, folder, resume=resume is not None))


def _watched(config: StageConfig, folder: Path, *, resume: bool) -> Path:
    from rich.console import Console

    from .commands.shared import hush_libraries, watched
    from .rl.stages.stage import run_stage

    hush_libraries()
    title = f"{config.name} · {config.stage} · {config.model.path} · seed {config.seed} · {folder}"
    with watched(folder, title, Console(stderr=True), config.stage, resume=resume) as display:
        return run_stage(config, folder, display, resume=resume)
