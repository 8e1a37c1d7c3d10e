"""The command `quintain`: what it understands, and how it ends when something is wrong.

Every command imports what it needs when it runs, so that `quintain --help` is quick. Mistakes of the person
end in one message and exit code 2; a traceback means a mistake of ours.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer

from . import sandbox_cli
from .commands import envs, machine, runs, serve, stages, train
from .commands.shared import INTERRUPTED

USAGE = 2
"""The exit code for what the person can put right."""
CONFIGURED = {"train", "sft", "dpo", "reward-model", "pairs", "revise", "feedback", "recipe", "gateway"}
"""The commands whose options with dots are values of the config."""
UNDOTTED = {"--name", "--threads", "--sft", "--rl", "--constitution", "--dir"}
"""Values of the config whose options have no dot."""

app = typer.Typer(
    name="quintain",
    help="Teach language models to solve tasks whose answers can be verified.",
    epilog="First run:  quintain train examples/calculator_agent.toml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for subject in (envs, train, stages, runs, serve, machine):
    for command in subject.commands.registered_commands:
        command.rich_help_panel = subject.PANEL
    app.add_typer(subject.commands)
app.add_typer(serve.mcp, name="mcp", rich_help_panel=serve.PANEL)
app.add_typer(sandbox_cli.app, name="sandbox", rich_help_panel=machine.PANEL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a mistake of the person."""
    try:
        rest, overrides = take_overrides(list(sys.argv[1:] if arguments is None else arguments))
        app(args=rest, prog_name="quintain", obj=overrides)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        message = _told(error)
        if message is None or os.environ.get("QUINTAIN_TRACEBACK"):
            raise
        print(f"error: {message}", file=sys.stderr)
        return USAGE
    return 0


def take_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate `--dotted.options value` of those `CONFIGURED` (and `--name`, `--sft` ...) from the rest."""
    if not arguments or arguments[0] not in CONFIGURED:
        return list(arguments), []
    rest: list[str] = []
    overrides: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, _ = word.partition("=")
        if not name.startswith("--") or not ("." in name or name in UNDOTTED):
            rest.append(word)
            continue
        overrides.append(word)
        if not equals and waiting:
            overrides.append(waiting.pop(0))
    return rest, overrides


def _stops() -> tuple[type[Exception], ...]:
    """Return the errors by which a run says that it must not go on; none where no run was begun."""
    kinds = {
        "rollout": "UngradedError",
        "learner": "NonFiniteError",
        "selfcheck": "SelfCheckError",
        "engines.base": "EngineError",
    }
    rooms = {name: sys.modules.get(f"{__package__}.rl.{name}") for name in kinds}
    found = (getattr(room, kinds[name], None) for name, room in rooms.items())
    return tuple(kind for kind in found if kind is not None)


def _told(error: Exception) -> str | None:
    """Return the one message for what the person can put right; None for a mistake of ours."""
    from .tools.errors import UserError

    if isinstance(error, UserError) or type(error) in _stops():
        return str(error)
    if not isinstance(error, OSError):
        return None
    place = f": {error.filename}" if error.filename else ""
    known = {
        errno.ENOSPC: f"the disk is full{place}; free some space, then continue with --resume",
        errno.EDQUOT: f"the disk quota is used up{place}; free some space, then continue with --resume",
        errno.EROFS: f"the file system is read-only{place}; choose another folder with --run.dir",
        errno.EACCES: f"not allowed{place}; check the permissions",
        errno.ENOENT: f"there is no such file or folder{place}",
        errno.ENOTDIR: f"not a folder{place}",
        errno.EISDIR: f"a folder, not a file{place}",
    }
    return known.get(error.errno or 0)
