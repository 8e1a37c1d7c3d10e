"""`quintain recipe`: the stages of a recipe one after another; what is through is not done again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import typer

from .commands.shared import INTERRUPTED
from .rl.config import Config
from .rl.stages.recipe import Planned, RecipeConfig, RecipeKind, load_recipe, plan, run_planned
from .rl.stages.stage import find_stage
from .run_folder import CONFIG, differences, make_run_dir, records_of, resumed_config
from .tools.atomic import write_atomically
from .tools.errors import UserError

RECIPE = "recipe.toml"


def run(
    words: Sequence[str],
    overrides: Sequence[str],
    *,
    seed: int | None,
    run_dir: Path | None,
    dry_run: bool,
    resume: Path | None,
) -> None:
    """Run `[KIND] FILE`, or go on with the recipe in a folder; prints what the last stage made."""
    kind, file = _words(words, resume)
    options = list(overrides) + ([] if seed is None else [f"--seed={seed}"])
    if resume is not None and run_dir is not None:
        raise UserError(f"--resume {resume} continues in that folder: leave --run-dir {run_dir} out")
    given = load_recipe(file, options, kind=kind) if file is not None else None
    recipe = _resumed(resume, given, options, kind) if resume is not None else given
    assert recipe is not None  # one of the two was given
    folder = resume or run_dir or _next_free(recipe)
    planned = plan(recipe, folder, str(file or folder / RECIPE))
    if dry_run:
        print(*(f"# {stage.folder}\n{stage.config.to_toml()}" for stage in planned), sep="\n", end="")
        return
    from .commands.shared import check_libraries, hush_libraries

    check_libraries({"torch": "train", "transformers": "train", "trl": "train"})
    hush_libraries()
    if resume is None:
        _claim(recipe, folder)
    for stage in planned:
        _check_unchanged(stage)
    for number, stage in enumerate(planned, 1):
        _one(stage, f"stage {number} of {len(planned)} ({stage.name})", folder)
    print(planned[-1].makes)


def _words(words: Sequence[str], resume: Path | None) -> tuple[str | None, Path | None]:
    *kinds, file = words or [""]
    if len(kinds) > 1:
        raise UserError(f"expected quintain recipe [KIND] FILE.toml, got {' '.join(words)}")
    if file in get_args(RecipeKind) and not Path(file).exists():
        raise UserError(f"which file? quintain recipe {file} FILE.toml, such as examples/recipes/{file}.toml")
    if not file and resume is None:
        raise UserError("which recipe? name a file: quintain recipe FILE.toml, or --resume FOLDER")
    return (kinds[0] if kinds else None), (Path(file) if file else None)


def _resumed(
    folder: Path, given: RecipeConfig | None, options: Sequence[str], kind: str | None
) -> RecipeConfig:
    stored = folder / RECIPE
    if not stored.is_file():
        what = "there is no such folder" if not folder.exists() else f"it has no {RECIPE}"
        raise UserError(f"--resume {folder}: not a recipe's folder ({what})")
    began = load_recipe(stored, kind=kind)
    wanted = load_recipe(stored, options) if given is None else given
    changed = differences(began, wanted)
    if changed:
        raise UserError(
            f"--resume {folder} continues with the recipe it began with, but you ask for another:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\nleave these changes out, or start the recipe anew in another folder"
        )
    return began


def _next_free(recipe: RecipeConfig) -> Path:
    number = 1
    while (folder := recipe.dir / f"{recipe.name}-seed{recipe.seed}-{number}").exists():
        number += 1
    return folder


def _claim(recipe: RecipeConfig, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--run-dir {folder} is not empty and a recipe never overwrites: "
            f"name another folder, or continue with --resume {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} cannot be made: a part of it is a file; name another with --dir") from None
    write_atomically(folder / RECIPE, recipe.to_toml())


def _check_unchanged(stage: Planned) -> None:
    """Refuse a stage that has begun with another config, naming what differs."""
    if not (stage.folder / CONFIG).is_file():
        return
    if isinstance(stage.config, Config):
        resumed_config(stage.folder, stage.config, kind=Config)
    else:
        resumed_config(stage.folder, stage.config, kind=find_stage(stage.kind).config)


def _one(stage: Planned, at: str, folder: Path) -> None:
    """Run a stage under its own display, or say that it is through."""
    from rich.console import Console

    from .commands.shared import write_the_report
    from .display import Display

    if stage.done:
        print(f"{at}: through, {stage.makes}", file=sys.stderr)
        return
    began = (stage.folder / CONFIG).is_file()
    if not began:
        if stage.folder.is_dir():  # killed before its config was whole
            for left in stage.folder.glob(f".{CONFIG}.*.tmp"):
                left.unlink()
        make_run_dir(stage.config, stage.folder)
    try:
        title = f"{at} · {stage.config.model.path} · seed {stage.config.seed} · {stage.folder}"
        with Display(title, Console(stderr=True), earlier=records_of(stage.folder)) as display:
            run_planned(stage, display, resume=began)
    except KeyboardInterrupt:
        write_the_report(stage.folder)
        print(f"\nstopped in {at}; resume with: quintain recipe --resume {folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        write_the_report(stage.folder)
        print(f"{at} failed; go on with: quintain recipe --resume {folder}", file=sys.stderr)
        if isinstance(error, UserError):
            raise UserError(f"{at}: {error}") from error
        raise
    write_the_report(stage.folder)
