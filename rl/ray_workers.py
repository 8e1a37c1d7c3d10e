"""Environments, their sandboxes and their verifiers on many machines: actors of a Ray cluster play the episodes.

The engine, the tokens and the books stay here; a reply goes out as text and plain data comes back. Where actors run,
and that one that died is started again, is Ray's work. An episode whose worker is gone fails with the kind `worker`,
which the rollout plays again from its beginning on another, so that it is in the journal once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..envs import registry
from ..envs.parcel import Unable, packed
from ..tools.chat import Message
from ..tools.errors import InfrastructureError, UserError
from ..tools.formats import ToolFormat
from ..verifiers.base import Task
from .ray_cluster import Cluster
from .ray_worker import Definition, Facts, Failure, Home, Worker
from .stage import Answered, Opening, Played, Stage, StageError
from .workers_config import WorkersConfig

CLOSE_S = 20.0
"""How long a worker may take to close an episode; one that does not answer is ended and started again. It is less than
`episode.CLOSE_S`."""
AGAIN_S = 0.5
"""How long to wait before a worker that is being started again is asked whether it is there."""
END_S = 10.0
"""How long a worker may take to close everything at the end."""


def define(
    id: str,  # noqa: A002 - Gymnasium's name for it
    kwargs: Mapping[str, Any],
    *,
    reward: Mapping[str, Any] | None = None,
) -> Definition:
    """Return what another process needs to make the environment, the code of registered ones included.

    `reward` describes what takes the place of its verifier, as `env.verifier` of the config does.

    Raises `UserError` for code that cannot be sent.
    """
    sent: dict[str, bytes] = {}
    for name in dict.fromkeys([id, *_texts(kwargs)]):  # a mixture names its members in its options
        found = registry.brought(name)
        if found is None:
            continue
        home = str(getattr(found[0], "__module__", ""))
        try:
            sent[name] = packed(found, home)
        except Unable as why:
            raise UserError(
                f"workers.kind = 'ray' needs to send the environment {name} along: {why}"
            ) from why
    return Definition(id, dict(kwargs), reward, sent)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, Sequence):
        return [text for item in value for text in _texts(item)]
    return []


@dataclass(slots=True, eq=False)
class _Slot:
    """One actor, whichever process it is now."""

    actor: Any
    up: bool = False
    """Whether it has started and not died since."""
    episodes: int = 0
    trouble: str = ""
    """Why it is not up."""
    back: asyncio.Task[None] | None = None
    """Waits for it to be there again."""


class RayWorkers:
    """Workers for the environments of one run. Open them in the event loop that plays, and close them.

        async with RayWorkers(config.workers, {"train": define("quintain/Calculator-v0", {})}) as workers:
            await rollout(env, engine, codec, starts, limits, stage=workers.stage("train"))

    Args:
        config: Which cluster, and how many workers of what size.
        definitions: The environments that every worker makes, by name.
        at_once: Episodes that one worker may have at the same time.
    """

    def __init__(
        self, config: WorkersConfig, definitions: Mapping[str, Definition], *, at_once: int = 1000
    ) -> None:
        self.config = config
        self._definitions = dict(definitions)
        self._at_once = at_once
        self._cluster = Cluster(config)
        self._slots: list[_Slot] = []
        self._keys = itertools.count()
        self._came = asyncio.Event()

    async def open(self) -> None:
        """Connect and start the workers. Raises `UserError` for what the person can put right."""
        try:
            await self._cluster.connect()
            count = self._cluster.room() if self.config.count is None else self.config.count
            self._cluster.check(count)
            self._slots = [
                _Slot(self._cluster.actor(Worker, self._at_once, self._definitions, Home.here()))
                for _ in range(count)
            ]
            await self._all_start()
        except BaseException:
            await self.aclose()
            raise

    async def _all_start(self) -> None:
        waiting = [asyncio.ensure_future(self._start(slot)) for slot in self._slots]
        try:
            done, late = await asyncio.wait(waiting, timeout=self.config.start_s)
        finally:  # interrupted too
            for task in waiting:
                task.cancel()
            found = await asyncio.gather(*waiting, return_exceptions=True)
        for facts in found:
            if isinstance(facts, asyncio.CancelledError):
                continue
            if isinstance(facts, BaseException):
                raise UserError(f"the workers could not be started: {_first_lines(facts)}") from facts
            self._cluster.refuse_others(facts)
        if late:
            raise UserError(
                f"only {len(done)} of {len(waiting)} workers started within workers.start_s = "
                f"{self.config.start_s:g} s. {self._cluster.told()}: lower workers.count or workers.cpus, or add "
                "machines"
            )

    async def _start(self, slot: _Slot) -> Facts:
        facts = await self._facts(slot)
        slot.up = True
        return facts

    async def _facts(self, slot: _Slot) -> Facts:
        while True:  # Ray would try again by itself, but tells of each try
            try:
                facts: Facts = await slot.actor.facts.remote()
                return facts
            except self._cluster.errors.ActorUnavailableError:  # being started again
                await asyncio.sleep(AGAIN_S)

    def stage(self, name: str, step: int | None = None) -> Callable[[], Stage]:
        """Return what makes a place for an episode in the environment of that name; `step` as in `Run.stage`."""
        if name not in self._definitions:
            raise KeyError(f"there is no environment {name!r} among {sorted(self._definitions)}")
        return lambda: RemoteStage(self, name, step)

    async def facts(self) -> list[Facts]:
        """Return what the workers are now, each within `start_s`."""
        return await asyncio.wait_for(
            asyncio.gather(*(self._facts(slot) for slot in self._slots)), self.config.start_s
        )

    async def aclose(self) -> None:
        """End the workers, and Ray if it was started here. Closing twice is fine."""
        slots, self._slots = self._slots, []
        for slot in slots:
            if slot.back is not None:
                slot.back.cancel()
        ending = [asyncio.ensure_future(_of(slot.actor.end.remote())) for slot in slots if slot.up]
        try:
            if ending:
                await asyncio.wait(ending, timeout=END_S)
        finally:
            for task in ending:
                task.cancel()
            for slot in slots:
                self._cluster.kill(slot.actor, again=False)
            self._cluster.disconnect()
        await asyncio.gather(*ending, return_exceptions=True)

    async def __aenter__(self) -> RayWorkers:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- for the stages

    async def take(self) -> _Slot:
        """Return the worker with the fewest episodes, and count one more. Waits where all are gone.

        Raises `InfrastructureError` where none has come back within `start_s`.
        """
        until = asyncio.get_running_loop().time() + self.config.start_s
        while not (up := [slot for slot in self._slots if slot.up]):
            self._came.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._came.wait()
            except TimeoutError:
                why = "; ".join(dict.fromkeys(slot.trouble for slot in self._slots))
                raise InfrastructureError(
                    "worker",
                    f"none of {len(self._slots)} workers came back within workers.start_s = "
                    f"{self.config.start_s:g} s: {why}",
                ) from None
        slot = min(up, key=lambda slot: slot.episodes)
        slot.episodes += 1
        return slot

    async def ask(self, slot: _Slot, method: str, *arguments: Any) -> Any:
        """Call a method of a worker.

        Raises `InfrastructureError` if it is gone, `StageError` for an answer that cannot be sent.
        """
        errors = self._cluster.errors
        try:
            return await getattr(slot.actor, method).remote(*arguments)
        except errors.RayTaskError as error:
            raise StageError("environment", _first_lines(error), str(error)) from error
        except errors.RayError as error:
            self._lost(slot, error)
            raise InfrastructureError("worker", f"it is gone: {_first_lines(error)}") from error

    def restart(self, slot: _Slot) -> None:
        """End a worker that does not answer; Ray starts it again."""
        self._cluster.kill(slot.actor, again=True)
        self._lost(slot, RuntimeError("it did not answer and was ended"))

    def key(self) -> int:
        """Return a number for an episode that none has had."""
        return next(self._keys)

    def _lost(self, slot: _Slot, error: Exception) -> None:
        if slot.up and slot in self._slots:
            slot.up, slot.trouble = False, _first_lines(error)
            slot.back = asyncio.ensure_future(self._wait_for(slot))

    async def _wait_for(self, slot: _Slot) -> None:
        try:
            facts = await self._facts(slot)
        except self._cluster.errors.RayError as error:  # for good
            slot.trouble = _first_lines(error)
            return
        if facts.failure is not None:
            slot.trouble = f"{facts.host}: {facts.failure}"
            return
        slot.up = True
        self._came.set()


@dataclass(slots=True)
class _Shown:
    """An episode elsewhere, for an engine that is shown it."""

    task: Task | None
    format: ToolFormat
    schemas: list[dict[str, Any]]
    messages: list[Message] = field(default_factory=list)


class RemoteStage:
    """An episode in a worker; see `Stage`."""

    def __init__(self, workers: RayWorkers, name: str, step: int | None = None) -> None:
        self._workers, self._name, self._step = workers, name, step
        self._key = workers.key()
        self._slot: _Slot | None = None
        self._shown: _Shown | None = None
        self.task_id: str | None = None
        """The id of the task; None while there is none."""
        self.judged_s = 0.0
        """Seconds that the verifier has taken."""

    @property
    def played(self) -> Played:
        """The episode, where it was begun with `shown`."""
        assert self._shown is not None
        return self._shown

    async def areset(self, seed: int, task: int | None, *, shown: bool = False) -> Opening:
        """Begin on the worker with the fewest episodes."""
        self._slot = await self._workers.take()
        got = await self._ask("open", self._name, seed, task, shown, self._step)
        opening: Opening = got[0]
        self.task_id = opening.task_id
        if shown:
            self._shown = _Shown(got[1], got[2], opening.schemas, list(opening.messages))
        return opening

    async def astep(self, text: str) -> Answered:
        """Give the environment a reply."""
        answer: Answered = await self._ask("step", text)
        self.judged_s = answer.judged_s
        if self._shown is not None:
            self._shown.messages += [answer.reply, *answer.messages]
        return answer

    async def aclose(self) -> None:
        """Close the episode; what its worker's end has closed needs none. Closing twice is fine."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        slot.episodes -= 1
        if not slot.up:
            return
        with suppress(InfrastructureError):
            try:
                failure = await asyncio.wait_for(self._workers.ask(slot, "close", self._key), CLOSE_S)
            except TimeoutError:
                self._workers.restart(slot)
                raise RuntimeError(f"its worker did not answer within {CLOSE_S:g} s and was ended") from None
            if failure is not None:
                raise RuntimeError(failure)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        assert self._slot is not None
        got = await self._workers.ask(self._slot, method, self._key, *arguments)
        if isinstance(got, Failure):
            self.task_id = got.task_id or self.task_id
            self.judged_s = max(self.judged_s, got.judged_s)
            raise StageError(got.kind, got.reason, got.trace)
        return got


async def _of(answer: Any) -> Any:
    return await answer


def _first_lines(error: BaseException, limit: int = 600) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."
