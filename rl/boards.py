"""Where a run's metrics go besides `metrics.jsonl`, if asked: TensorBoard, Weights & Biases, trackio.

All are off by default. What leaves the machine is decided by the person's own settings of those libraries: W&B sends
where there is a login and `WANDB_MODE` does not say otherwise, trackio where `TRACKIO_SPACE_ID` or
`TRACKIO_SERVER_URL` names a place. They are given the metrics and the config, and nothing of the machine, the code or
the console. A board that fails is given up with a warning: the run goes on, and `metrics.jsonl` has everything.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..tools.atomic import write_atomically
from ..tools.errors import UserError
from .config_types import BoardsConfig
from .metrics import Event, MetricsLog, Watcher

IDENTITY = "boards.json"
"""The file of a run folder that says under which id the boards know it, so that a resumed run goes on there."""

LAST_WAIT_S = 300.0
"""The most seconds that W&B may take to send what is left when the run ends."""


class Board(Protocol):
    """Takes the metrics of a run as they come."""

    def write(self, event: Event) -> None:
        """Take an event that has metrics. A step that a resumed run does again comes again, with the same numbers."""
        ...

    def close(self, *, failed: bool) -> None:
        """Let go; `failed` says that the run ended with an error."""
        ...


class Boards:
    """The boards of a run, none of which can stop it."""

    def __init__(self, boards: Sequence[Board] = ()) -> None:
        self._boards = list(boards)

    def write(self, event: Event) -> None:
        """Hand an event to every board; one that fails is given up with a warning."""
        if not event.metrics:
            return
        for board in list(self._boards):
            try:
                board.write(event)
            except Exception as error:
                self._boards.remove(board)
                _warn(board, error)
                self._close(board, failed=True)

    def close(self, *, failed: bool = False) -> None:
        """Close every board. Closing twice is fine."""
        while self._boards:
            self._close(self._boards.pop(), failed=failed)

    def _close(self, board: Board, *, failed: bool) -> None:
        try:
            board.close(failed=failed)
        except Exception as error:
            _warn(board, error)


def _warn(board: Board, error: Exception) -> None:
    warnings.warn(
        f"{type(board).__name__} takes no more metrics ({type(error).__name__}: {error}); metrics.jsonl has them all",
        RuntimeWarning,
        stacklevel=3,
    )


@contextlib.contextmanager
def recording(
    asked: BoardsConfig,
    settings: Mapping[str, Any],
    folder: Path,
    on_event: Watcher = lambda event: None,
    *,
    position: int | None = None,
) -> Iterator[tuple[MetricsLog, Watcher]]:
    """Give the log of the run in `folder`, and what tells an event to the log, to the boards and to `on_event`.

    Arguments as of `open_boards` and `MetricsLog`. Raises `UserError` as the former does.
    """

    def say(text: str) -> None:
        on_event(Event("prepare", 0, 0, message=text))

    with (
        open_boards(asked, settings, folder, say) as boards,
        MetricsLog(folder / "metrics.jsonl", position=position) as log,
    ):

        def tell(event: Event) -> None:
            log.write(event)
            boards.write(event)
            on_event(event)

        yield log, tell


@contextlib.contextmanager
def open_boards(
    asked: BoardsConfig,
    settings: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Boards]:
    """Give the boards that `asked` names, and close them at the end.

    Args:
        asked: the section `run` of the config.
        settings: the whole config; W&B and trackio show it beside the metrics.
        folder: of the run. A run that was here before goes on under the id that it had.
        say: told, in a sentence for a person, where the metrics go.

    Raises `UserError` for a library that is missing or cannot be started.
    """
    boards: list[Board] = []
    try:
        if asked.tensorboard:
            boards.append(TensorBoard(folder / "tensorboard"))
        if asked.wandb:
            boards.append(WandB(asked.project, settings, folder, say))
        if asked.trackio:
            boards.append(Trackio(asked.project, settings, folder, say))
    except BaseException:
        Boards(boards).close(failed=True)
        raise
    found = Boards(boards)
    try:
        yield found
    except BaseException:
        found.close(failed=True)
        raise
    found.close()


class TensorBoard:
    """Writes event files into a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "TensorBoard", "train", error) from error
        self._writer: Any = SummaryWriter(str(folder))

    def write(self, event: Event) -> None:
        """Add a scalar for each metric, called `phase/name`."""
        for name, value in event.metrics.items():
            self._writer.add_scalar(f"{event.phase}/{name}", value, event.step)

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """Logs to a run of Weights & Biases, kept in the folder `wandb` of the run folder.

    Without a login, or with `WANDB_MODE=offline`, it stays there; `wandb sync` sends it later. Every metric is drawn
    over the step of its own phase.
    """

    def __init__(
        self, project: str, settings: Mapping[str, Any], folder: Path, say: Callable[[str], None]
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", "Weights & Biases", "wandb", error) from error
        try:
            # Where nobody is logged in it would ask for a key and wait.
            quiet = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False)
            self._run: Any = wandb.init(
                project=project,
                name=folder.name,
                id=identity(folder),
                dir=str(folder),
                resume="allow",
                config=dict(settings),
                mode="offline" if quiet else None,
                settings=wandb.Settings(
                    console="off",
                    disable_code=True,
                    disable_git=True,
                    finish_timeout=LAST_WAIT_S,
                    save_code=False,
                    silent=True,
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                ),
            )
        except Exception as error:
            raise UserError(
                f"run.wandb: Weights & Biases could not be started ({_first_line(error)}); set WANDB_MODE=offline to "
                "write to the run folder alone, or leave run.wandb out"
            ) from error
        if self._run.settings.mode == "offline":
            say(f"W&B: nothing is sent; `wandb sync {self._run.settings.sync_dir}` sends it")
        elif self._run.url:
            say(f"W&B: {self._run.url}")
        self._phases: set[str] = set()

    def write(self, event: Event) -> None:
        """Log the metrics as `phase/name`, with the step beside them."""
        if event.phase not in self._phases:
            self._phases.add(event.phase)
            self._run.define_metric(f"{event.phase}/*", step_metric=f"{event.phase}/step")
        # No step of W&B's own: it would drop those that a resumed run does again.
        self._run.log(_named(event) | {f"{event.phase}/step": event.step})

    def close(self, *, failed: bool) -> None:
        """Send what is left, for a limited time."""
        self._run.finish(exit_code=int(failed))


class Trackio:
    """Logs to a run of trackio: on this machine, unless its environment variables name a space or a server."""

    def __init__(
        self, project: str, settings: Mapping[str, Any], folder: Path, say: Callable[[str], None]
    ) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio", "trackio", "trackio", error) from error
        name = f"{folder.name}-{identity(folder)}"  # trackio knows runs by their names
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._run: Any = trackio.init(
                    project=project,
                    name=name,
                    config=dict(settings),
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        except Exception as error:
            raise UserError(
                f"run.trackio: trackio could not be started ({_first_line(error)}); leave run.trackio out"
            ) from error
        say(f"trackio: run {name}; `trackio show --project {project}` shows it")

    def write(self, event: Event) -> None:
        """Log the metrics as `phase/name` over the step of their phase."""
        self._run.log(_named(event), step=event.step)

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()


def identity(folder: Path) -> str:
    """Return the id under which boards know the run in `folder`: eight hexadecimal digits, drawn once."""
    path = folder / IDENTITY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["id"]
        if isinstance(found, str) and found:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    drawn = secrets.token_hex(4)
    write_atomically(path, json.dumps({"id": drawn}) + "\n")
    return drawn


def _named(event: Event) -> dict[str, float]:
    return {f"{event.phase}/{name}": value for name, value in event.metrics.items()}


def _missing(option: str, name: str, extra: str, error: ImportError) -> UserError:
    return UserError(
        f"run.{option} = true needs {name}, which cannot be imported ({_first_line(error)}): "
        f"pip install 'quintain[{extra}]', or leave run.{option} out"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
