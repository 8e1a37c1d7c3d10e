"""Environments: `quintain envs`, `play`, `audit`, `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import env_options

commands = typer.Typer()
PANEL = "Environments"
"""Where `quintain --help` shows them."""


@commands.command("envs", epilog="Example:  quintain envs quintain/Calculator-v0")
def list_environments(
    env_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Say all about this one.")] = None,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag, such as math or game.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the environments that can be trained on and played, or describe one."""
    from rich.console import Console

    from ..envs_cli import show_list, show_one
    from ..tools.errors import UserError

    if env_id is None:
        show_list(Console(), tag, as_json=as_json)
        return
    if tag is not None:
        raise UserError(f"--tag {tag} is for the list: leave it out, or the id {env_id}")
    show_one(Console(), env_id, env_options(options), as_json=as_json)


@commands.command(epilog="Example:  quintain play quintain/Calculator-v0 --seed 3 split=test")
def play(
    env_id: Annotated[str, typer.Argument(help="The environment; `quintain envs` lists them.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which episode; a new one each time by default.")] = None,
) -> None:
    """Be the policy yourself: play an episode in the terminal."""
    from ..play import play as play_episode

    play_episode(env_id, env_options(options), seed)


@commands.command(
    epilog="Example:  quintain audit quintain/Countdown-v0 numbers=3 --tasks 50. Exit code: 0 sound, 1 not."
)
def audit(
    env_id: Annotated[
        str | None, typer.Argument(metavar="ENV", help="The environment; `quintain envs` lists them.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    tasks: Annotated[int, typer.Option(help="Tasks that the oracle has to solve.")] = 20,
    seed: Annotated[int, typer.Option(help="Everything random in the audit follows from it.")] = 0,
    fuzz: Annotated[int, typer.Option(help="Random replies that it has to survive.")] = 200,
    probe: Annotated[list[str] | None, typer.Option(help="Run only this probe; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this probe out; may be repeated.")] = None,
    json_to: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report as JSON; - for standard output."),
    ] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the episodes that prove the findings to this folder."),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Characters of each text of the episodes shown; 0 shows none.")
    ] = 240,
    step_s: Annotated[
        float, typer.Option("--step-seconds", help="Time for one step, then it has failed.")
    ] = 15.0,
    probe_s: Annotated[
        float, typer.Option("--probe-seconds", help="Time for one probe, then it is cut.")
    ] = 300.0,
    probes: Annotated[bool, typer.Option("--probes", help="List the probes and stop.")] = False,
) -> None:
    """Say whether the reward of an environment can be trusted, before anything is trained. Needs no model."""
    from rich.console import Console

    from ..audit_cli import list_probes, run
    from ..tools.errors import UserError

    if probes:
        list_probes(Console())
        return
    if env_id is None:
        raise UserError("which environment? for example: quintain audit quintain/Countdown-v0")
    code = run(
        env_id,
        env_options(options),
        only=probe or (),
        skip=skip or (),
        json_to=json_to,
        transcripts=transcripts,
        show=show,
        tasks=tasks,
        seed=seed,
        fuzz=fuzz,
        step_s=step_s,
        probe_s=probe_s,
    )
    raise typer.Exit(code)


@commands.command(epilog="Example:  quintain new word-chains --kind game")
def new(
    name: Annotated[
        str, typer.Argument(help="Of the project and its folder: lower case, such as word-chains.")
    ],
    kind: Annotated[str, typer.Option(help="single-turn, tool or game.")] = "single-turn",
    parent: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Where; by default here.")
    ] = None,
) -> None:
    """Make an environment package to start from, with tests, that passes its own audit."""
    from ..scaffold import env_id_of, module_of, scaffold

    folder = scaffold(name, kind, parent)
    module = module_of(name)
    print(f"{folder} holds a {kind} environment that works: change it step by step.\n")
    print(f"  cd {folder}")
    print('  pip install -e ".[dev]"')
    print(f"  $EDITOR src/{module}/environment.py")
    print("  pytest")
    print(f"  quintain audit {env_id_of(module)}")
    print("  quintain train train.toml")
