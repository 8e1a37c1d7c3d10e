"""This machine and this installation: `quintain doctor`, `version`."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__

commands = typer.Typer()
PANEL = "This machine"
"""Where `quintain --help` shows them."""


@commands.command()
def doctor(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say why a sandbox does not promise something.")
    ] = False,
) -> None:
    """Say what this machine can do: training, engines, sandboxes; what is missing, and what to install for it.

    The exit code is 1 where no sandbox works: programs of a model cannot be run safely there.
    """
    from ..doctor import examine

    raise typer.Exit(0 if examine(print, verbose=verbose) else 1)


@commands.command()
def version() -> None:
    """Print the version."""
    print(f"quintain {__version__}")
