"""What several commands share."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ..display import Display

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def check_libraries(needs: Mapping[str, str]) -> None:
    """Refuse to begin where a library is missing; `needs` says which extra brings each module."""
    from ..tools.errors import UserError

    for module, extra in needs.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f'{module} is not installed: pip install "quintain[{extra}]"')


def hush_libraries() -> None:
    """Keep the progress bars and notices of libraries out of our display."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if importlib.util.find_spec("datasets") is not None:
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|torch)\b")


def write_the_report(folder: Path) -> None:
    """Write the report of a run, and say so where that fails: it is no reason to fail the run."""
    from ..report import write_report

    try:
        write_report(folder)
    except OSError as error:
        print(f"the report could not be written: {error}", file=sys.stderr)


def env_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Read the options of an environment, `key=value`. Raises `UserError` for one that has no `=`."""
    from ..rl.config_file import parse_value
    from ..tools.errors import UserError

    kwargs = {}
    for option in options or ():
        key, equals, text = option.partition("=")
        if not equals or not key:
            raise UserError(f"expected an option of the environment such as split=test, got {option!r}")
        kwargs[key] = parse_value(text)
    return kwargs


@contextlib.contextmanager
def watched(folder: Path, title: str, console: Console, command: str, *, resume: bool) -> Iterator[Display]:
    """Show a run while the body does it, and write its report however it ends.

    After Ctrl-C it says how `command` goes on, and the exit code is `INTERRUPTED`; a run that failed before it wrote
    anything leaves no folder.
    """
    from ..display import Display
    from ..run_folder import discard_unused, records_of

    try:
        with Display(title, console, earlier=records_of(folder)) as display:
            yield display
    except KeyboardInterrupt:
        write_the_report(folder)
        print(f"\nstopped; resume with: quintain {command} --resume {folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        if not resume:
            discard_unused(folder)
        if folder.exists():
            write_the_report(folder)
            print(f"what the run has written is in {folder}", file=sys.stderr)
        raise
    write_the_report(folder)
