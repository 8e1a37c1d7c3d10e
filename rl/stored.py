"""A run that is over, read back: its environments, its tokenizer, its trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..envs import registry
from ..envs.base import TextEnv
from ..tools.chat import Reply
from ..tools.errors import UserError, nearest
from ..verifiers.base import Task
from .chat import ChatCodec
from .checkpoint import checkpoints
from .config import Config, load_config
from .journal import FOLDER as JOURNAL
from .journal import TRAJECTORIES, read
from .rewarded import reward_of
from .trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class StoredRun:
    """What judging or playing a run's episodes again needs. Close it when done."""

    folder: Path
    config: Config
    env: TextEnv
    """What was trained on."""
    held_out: TextEnv
    """What evaluations were played on."""
    codec: ChatCodec
    """The tokenizer and the chat template of the newest checkpoint."""

    def env_of(self, trajectory: Trajectory) -> TextEnv:
        """Return the environment that the episode was played on."""
        return self.held_out if trajectory.id.startswith("eval-") else self.env

    def task_of(self, trajectory: Trajectory) -> Task:
        """Return the task of the episode, its answer included.

        Raises `UserError` if the environment has another task in its place now.
        """
        env = self.env_of(trajectory)
        if env.tasks is None or trajectory.task is None:
            prompt = next((m["content"] for m in trajectory.messages if m["role"] == "user"), "")
            return Task(trajectory.task_id, prompt)
        try:
            task = env.tasks[trajectory.task]
        except (IndexError, KeyError):
            task = None
        if task is None or task.id != trajectory.task_id:
            got = "no task" if task is None else f"the task {task.id!r}"
            raise UserError(
                f"{trajectory.id} was about the task {trajectory.task_id!r}, but {self.config.env.id} has {got} "
                f"at place {trajectory.task} now: the environment or its data have changed since the run"
            )
        return task

    def replies(self, trajectory: Trajectory) -> list[str]:
        """Return what the model wrote, turn by turn, as the environment got it."""
        return [self.codec.decode_reply(list(trajectory.ids[t.start : t.end])) for t in trajectory.turns]

    def last_reply(self, trajectory: Trajectory) -> Reply:
        """Return the reply that the verifier judged."""
        if "judged" in trajectory.info:
            return Reply(str(trajectory.info["judged"]))
        env, replies = self.env_of(trajectory), self.replies(trajectory)
        return env.format.parse(replies[-1] if replies else "", 0, env.tools)

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
        self.held_out.close()


def open_run(folder: Path) -> StoredRun:
    """Read back the run in `folder`. Raises `UserError` for a folder that holds none, or none with a checkpoint."""
    if not (folder / "config.toml").is_file():
        what = "there is no such folder" if not folder.exists() else "it has no config.toml"
        raise UserError(f"{folder} is not a run ({what}); name the folder that `quintain train` has made")
    saved = checkpoints(folder)
    if not saved:
        raise UserError(
            f"{folder} has no checkpoint, so its tokenizer is not known and its replies cannot be read; "
            f"let the run come to its first one: quintain train --resume {folder}"
        )
    from transformers import AutoTokenizer

    config = load_config(folder / "config.toml")
    path = saved[-1].path
    template = (path / "chat_template.jinja").read_text(encoding="utf-8")
    codec = ChatCodec(AutoTokenizer.from_pretrained(path), template)
    env = registry.make(config.env.id, **config.env.kwargs)
    if config.env.verifier is not None:
        env.verifier = reward_of(env, config.env.verifier)
    held_out = registry.make(config.env.id, **config.env.held_out_kwargs)
    return StoredRun(folder, config, env, held_out, codec)


def stored_trajectories(folder: Path, kind: str | None = None) -> Iterator[tuple[Path, Trajectory]]:
    """Yield the trajectories of a run with the file each is in, demonstrations last.

    `kind` is the first part of the files' names (`rl`, `eval`, `sft`); None takes all. Episodes of a step that is
    not through are in its journal.
    """
    files = [*(folder / TRAJECTORIES).glob("*.jsonl"), *(folder / JOURNAL).glob("*.jsonl")]
    for path in sorted(files, key=lambda p: (p.stem.startswith("sft"), p.stem.rpartition("-")[2], p.stem)):
        if kind is None or path.stem.partition("-")[0] == kind:
            for trajectory in read(path):
                yield path, trajectory


def find_trajectory(folder: Path, name: str, file: str | None = None) -> Trajectory:
    """Return the trajectory with the id `name`; with `file`, the one in the file of that name.

    Raises `UserError` if there is none, naming the nearest, or if there are several that differ.
    """
    known: list[str] = []
    found: dict[Path, Trajectory] = {}
    for path, trajectory in stored_trajectories(folder):
        if file is not None and file not in (path.name, path.stem):
            continue
        known.append(trajectory.id)
        if trajectory.id == name:
            found[path] = trajectory
    if not found:
        where = folder if file is None else f"{folder}, file {file}"
        near = (
            nearest(name, known) if len(known) <= 20 or _near(name, known) else f"the first is {known[0]!r}"
        )
        raise UserError(f"{where} has no trajectory {name!r}; {near}")
    first, *others = found.values()
    if any(other != first for other in others):
        names = ", ".join(path.stem for path in found)
        raise UserError(f"{folder} has several trajectories {name!r}: choose with --file one of {names}")
    return first


def _near(name: str, known: list[str]) -> bool:
    return nearest(name, known).startswith("did you mean")
