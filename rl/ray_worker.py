"""What runs in a Ray actor: environments of a few definitions, and many episodes in them at once.

It imports neither Ray nor anything heavy: the class is plain, and `ray_workers` makes an actor of it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..envs import registry
from ..envs.base import TextEnv
from ..tools.formats import ToolFormat
from ..verifiers.base import Task
from .rewarded import reward_of, set_step
from .stage import Answered, LocalStage, Opening, failure_kind


@dataclass(frozen=True, slots=True)
class Definition:
    """An environment, told so that another process can make it."""

    id: str
    """A registered id."""
    kwargs: Mapping[str, Any]
    """What it is made with."""
    reward: Mapping[str, Any] | None
    """What takes the place of its verifier (`env.verifier` of the config)."""
    brought: Mapping[str, bytes]
    """Ids that somebody registered here and it needs, each with the pickled factory and options."""


@dataclass(frozen=True, slots=True)
class Home:
    """What a worker takes over from the process that leads it; no variables of its environment."""

    folder: str
    """The working directory: relative paths mean the same, where the folder exists."""
    paths: tuple[str, ...]
    """Folders to import from; those that exist and are not known yet are put last."""

    @classmethod
    def here(cls) -> Home:
        """Return that of this process."""
        return cls(os.getcwd(), tuple(os.path.abspath(path or ".") for path in sys.path))  # noqa: PTH100, PTH109


@dataclass(frozen=True, slots=True)
class Facts:
    """What a worker is."""

    version: str
    """Of Quintain."""
    python: str
    """Of Python, without the last number."""
    host: str
    """The name of its machine."""
    pid: int
    """Its process."""
    failure: str | None
    """Why it cannot work; None if it can."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an environment raised; becomes a `StageError`."""

    kind: str
    """As `failure_kind` says."""
    reason: str
    """The name and the text of the exception."""
    trace: str
    """Its traceback."""
    task_id: str | None
    """As far as the episode had one."""
    judged_s: float
    """Seconds that the verifier had taken."""


LOST = "the worker was started again since"
"""What is told of an episode that a worker does not know: it died with the one before."""


class Worker:
    """Plays episodes for another process. All that it is asked comes back as plain data, failures too."""

    def __init__(self, definitions: Mapping[str, Definition], home: Home) -> None:
        self._envs: dict[str, TextEnv] = {}
        self._stages: dict[int, LocalStage] = {}
        self._running: dict[int, asyncio.Task[Answered]] = {}
        self._closed: set[int] = set()  # before they were opened
        self._failure: str | None = None
        try:
            _move_in(home)
            for name, definition in definitions.items():
                self._envs[name] = _made(definition)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"

    async def facts(self) -> Facts:
        """Return what this worker is."""
        python = ".".join(platform.python_version_tuple()[:2])
        return Facts(__version__, python, platform.node(), os.getpid(), self._failure)

    async def open(
        self, key: int, name: str, seed: int, task: int | None, shown: bool, step: int | None
    ) -> tuple[Opening, Task | None, ToolFormat | None] | Failure:
        """Begin the episode `key`; task and format are told where an engine is to be shown them.

        `step` is the RL step that schedules in the reward stand at.
        """
        if key in self._closed:
            self._closed.discard(key)
            return Failure("environment", "the episode was closed", "", None, 0.0)
        env = self._envs[name].fresh()
        if step is not None:
            set_step(env, step)
        stage = self._stages[key] = LocalStage(env)
        try:
            opening = await stage.areset(seed, task)
        except BaseException as error:
            return _told(error, stage)
        return opening, stage.env.task if shown else None, stage.env.format if shown else None

    async def step(self, key: int, text: str) -> Answered | Failure:
        """Give the episode a reply."""
        stage = self._stages.get(key)
        if stage is None:
            return Failure("worker", LOST, "", None, 0.0)
        running = self._running[key] = asyncio.ensure_future(stage.astep(text))
        try:
            await asyncio.wait({running})
            return running.result()
        except BaseException as error:
            return _told(error, stage)
        finally:
            self._running.pop(key, None)

    async def close(self, key: int) -> str | None:
        """End the episode, a step that is under way too. Return why that failed, None if it did not."""
        stage = self._stages.pop(key, None)
        if stage is None:
            self._closed.add(key)
            return None
        running = self._running.get(key)
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
        try:
            await stage.aclose()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def end(self) -> None:
        """Close everything."""
        for key in list(self._stages):
            await self.close(key)
        for env in self._envs.values():
            await env.aclose()


def _move_in(home: Home) -> None:
    if os.path.isdir(home.folder):  # noqa: PTH112
        os.chdir(home.folder)
    sys.path += [path for path in home.paths if path not in sys.path and os.path.exists(path)]  # noqa: PTH110


def _made(definition: Definition) -> TextEnv:
    for env_id, parcel in definition.brought.items():
        try:
            factory, options = pickle.loads(parcel)
        except ImportError as error:
            raise ImportError(
                f"the environment {env_id} cannot be imported ({error}): install what it comes from there too, or keep "
                "its code in the script that is started, which is sent along"
            ) from error
        registry.register(env_id, factory, options)
    env = registry.make(definition.id, **definition.kwargs)
    if definition.reward is not None:
        env.verifier = reward_of(env, definition.reward)
    return env


def _told(error: BaseException, stage: LocalStage) -> Failure:
    return Failure(
        failure_kind(error),
        f"{type(error).__name__}: {error}",
        "".join(traceback.format_exception(error)),
        stage.task_id,
        stage.judged_s,
    )
