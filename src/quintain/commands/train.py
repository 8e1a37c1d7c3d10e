"""`quintain train`, and `quintain options`, which lists what it can be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shared import check_libraries, hush_libraries, watched

if TYPE_CHECKING:
    from rich.console import Console

    from ..rl.config import Config

commands = typer.Typer()
PANEL = "Train"
"""Where `quintain --help` shows them."""


@commands.command(
    epilog="Any value of the config can be set as an option with dots: --rl.lr 1e-5, --env.kwargs.split test, "
    "--rl.stop_at none. `quintain options` lists them all."
)
def train(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="The TOML file that describes the run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random in the run follows from it.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="What samples the rollouts: transformers, vllm or vllm-server.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Where environments and verifiers run: local or ray.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of this run; by default a new one in `run.dir`. Never overwritten."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder where it stopped.")
    ] = None,
) -> None:
    """Train a model on an environment, as a config file says.

    Writes a run folder with the config, metrics, trajectories, checkpoints and `report.html`. Ctrl-C leaves a
    usable run; --resume continues it.
    """
    from rich.console import Console

    from ..rl.config import Config, load_config
    from ..run_folder import make_run_dir, resumed_config
    from ..tools.errors import UserError

    overrides = list(ctx.obj or ())
    if seed is not None:
        overrides.append(f"--seed={seed}")
    if engine is not None:
        overrides.append(f"--engine.kind={engine}")
    if workers is not None:
        overrides.append(f"--workers.kind={workers}")
    if config is None and resume is None:
        raise UserError("which run? name a config file: quintain train CONFIG.toml, or --resume RUN")
    if resume is not None and run_dir is not None:
        raise UserError(f"--resume {resume} continues in that folder: leave --run-dir {run_dir} out")

    given = load_config(config, overrides) if config is not None else None
    chosen = resumed_config(resume, given, overrides, kind=Config) if resume is not None else given
    assert chosen is not None  # one of the two was given
    if chosen.sft is None and chosen.rl is None:
        raise UserError(f"{config or resume}: nothing to train: add a section [sft], [rl] or both")
    _check_env(chosen)
    if dry_run:
        print(chosen.to_toml(), end="")
        return
    _check_libraries(chosen)
    if _follows():
        from ..rl.train import train as train_run

        hush_libraries()
        train_run(chosen, Path(os.devnull))
        return
    folder = resume if resume is not None else make_run_dir(chosen, run_dir)
    _run(chosen, folder, Console(), resume=resume is not None)


def _follows() -> bool:
    """Whether torchrun started this process to share the work of another, which has the run folder and the display."""
    from ..rl.ranks import rank_here

    return bool(rank_here())


def _check_env(config: Config) -> None:
    """Refuse an environment that is not there, and name the nearest."""
    from ..envs.registry import list_envs
    from ..tools.errors import UserError, nearest

    known = list_envs()
    if config.env.id not in known:
        raise UserError(f"env.id: there is no environment {config.env.id!r}; {nearest(config.env.id, known)}")


def _check_libraries(config: Config) -> None:
    """Refuse to begin where a library that the run needs is missing."""
    needs = {"torch": "train", "transformers": "train", "trl": "train"}
    if config.engine.kind == "vllm" or (config.engine.kind == "vllm-server" and config.engine.server.start):
        needs["vllm"] = "vllm"
    if config.workers.kind == "ray":
        needs["ray"] = "ray"
    check_libraries(needs)


def _run(config: Config, folder: Path, console: Console, *, resume: bool) -> None:
    from ..display import print_summary
    from ..rl.train import train as train_run
    from ..run_folder import records_of

    hush_libraries()
    title = f"{config.name} · {config.env.id} · seed {config.seed} · {folder}"
    with watched(folder, title, console, "train", resume=resume) as display:
        train_run(config, folder, display, resume=resume)
    print_summary(console, folder, records_of(folder))


@commands.command("options")
def list_options(
    command: Annotated[
        str, typer.Argument(help="Of which command: train, or a stage such as sft or dpo.")
    ] = "train",
) -> None:
    """List every value of the config, with its default and what it means."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..rl.config import Config
    from ..rl.config_file import leaves
    from ..rl.stages.stage import find_stage

    kind = Config if command == "train" else find_stage(command).config
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("option", "default", "meaning"):
        table.add_column(title, no_wrap=title != "meaning")
    for place, section in leaves(kind):
        field = section.model_fields[place[-1]]
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else default
        table.add_row(Text(f"--{'.'.join(place)}", "bold"), Text(str(shown)), Text(field.description or ""))
    Console().print(table)
