"""Which weights sample which step: one after the other, or episodes of coming steps while the learner trains.

With `rl.staleness = n`, step k is sampled with the weights of step k - 1 - n (those of the start, where there are none
such), and while step k trains the episodes of up to n later steps are played. Which weights sample which step is a
matter of arithmetic, never of time, so a run can be repeated and resumed. The sampler has a copy of the trained
weights, and the learner computes on a thread of its own. With `rl.in_flight`, weights go to the sampler as soon as
there are new ones, in the middle of an episode too; then a token is at most n steps old, and time decides the rest.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import torch
from transformers import PreTrainedModel

from .config import Config
from .engines.base import InFlight, Sleeper
from .groups import Sampled, chosen, sample
from .metrics import Event
from .models import pick_device
from .prepare import Run
from .rl_config import RlConfig
from .selfcheck import DeliveryCheck
from .task_stream import TaskStream
from .trajectory import Trajectory

P = ParamSpec("P")
Result = TypeVar("Result")


class Pipeline:
    """Gives the episodes of each step, runs the learner's work, and takes the new weights; use it as `async with`.

    Args:
        run: what the stages of a run share.
        rl: the RL section.
        tasks: what the tasks of a step are drawn from.
        done: RL steps that the weights of `run.model` have seen.
        state: what `state` returned, of a run that is resumed.
    """

    def __init__(
        self, run: Run, rl: RlConfig, tasks: TaskStream, *, done: int, state: Mapping[str, Any] | None
    ) -> None:
        self._run, self._rl, self._tasks, self._done = run, rl, tasks, done
        self._delivery = DeliveryCheck(run.engine, run.config.rollout.temperature)
        self._weights: PreTrainedModel | None = None  # of step `_done`; None until they are needed
        self._loaded: int | None = None  # of which step those are that the engine has from here
        self._seen: Sequence[Trajectory] = ()  # the episodes of the newest phase
        self._phases: dict[int, asyncio.Future[Sampled]] = {}
        self._worker = Worker() if rl.staleness else None
        if state is not None:
            tasks.restore(state["tasks"])
            for sampled in _read(state.get("ahead", ()), run.config, rl):
                self._phases[sampled.step], self._seen = _ready(sampled), sampled.batch
        self._tasks_state = tasks.state()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- the three things that the loop does

    async def episodes(self, step: int) -> Sampled:
        """Return the episodes of `step`, waiting for them where needed, and begin those of later steps.

        Raises whatever ended their rollout.
        """
        if not self._rl.staleness:
            sampled = await sample(self._run, self._rl, self._tasks, step, self._progress(step))
            if isinstance(self._run.engine, Sleeper):
                await self._run.engine.sleep()
            return sampled
        if self._weights is None:
            self._weights = await self.compute(copied, self._run.model)
        for later in range(step, min(step + self._rl.staleness, self._rl.steps) + 1):
            if later not in self._phases:
                before = self._phases.get(later - 1)
                self._phases[later] = asyncio.create_task(
                    self._phase(later, before, self._weights, self._done)
                )
        sampled = await self._phases[step]
        del self._phases[step]
        return sampled

    async def compute(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what `work` returns. Where episodes are played meanwhile it runs on the learner's thread.

        A cancellation does not stop it: `close` waits until it is through.
        """
        if self._worker is None:
            return work(*args, **kwargs)
        return await self._worker.run(lambda: work(*args, **kwargs))

    async def trained(self, step: int, batch: Sequence[Trajectory]) -> None:
        """Take the weights of `step`, which has just learned from `batch`; see that they reach the engine."""
        self._done = step
        if not self._rl.staleness:
            await self._hand_over(self._run.model, step, batch)
            return
        later = step + self._rl.staleness < self._rl.steps or self._rl.in_flight
        self._weights = await self.compute(copied, self._run.model) if later else self._run.model
        if self._rl.in_flight:
            assert isinstance(self._run.engine, InFlight)
            await self._run.engine.swap(self._weights, step)
            self._loaded = step

    async def settle(self) -> None:
        """Wait until nothing is being sampled, and have the engine sample with the newest weights.

        So that they can be evaluated, and saved together with the episodes that were played ahead. A rollout that fails
        meanwhile says so in `episodes`.
        """
        if not self._rl.staleness:
            return
        if self._phases:
            await asyncio.wait(self._phases.values())
        weights = self._run.model if self._weights is None else self._weights
        if self._rl.in_flight:
            await self._delivery.after_load(weights, self._seen)
        elif self._loaded != self._done:
            await self._hand_over(weights, self._done, self._seen)

    # --- for checkpoints

    @property
    def sampled(self) -> int:
        """The newest step whose episodes are all there; called when nothing is being sampled."""
        return max((sampled.step for sampled in self._ahead()), default=self._done)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run goes on with; called when nothing is being sampled."""
        tasks = self._tasks_state if self._rl.staleness else self._tasks.state()
        return {"tasks": tasks, "ahead": [_written(sampled) for sampled in self._ahead()]}

    def _ahead(self) -> list[Sampled]:
        done = (phase for _, phase in sorted(self._phases.items()) if phase.done() and not phase.cancelled())
        return [phase.result() for phase in done if phase.exception() is None]

    async def close(self) -> None:
        """Cancel the episodes that are being played and wait for the learner's thread. Closing twice is fine."""
        phases = list(self._phases.values())
        for phase in phases:
            phase.cancel()
        await asyncio.gather(*phases, return_exceptions=True)
        self._phases.clear()
        if self._worker is not None:
            self._worker.close()

    # --- one step ahead

    async def _phase(
        self, step: int, before: asyncio.Future[Sampled] | None, weights: PreTrainedModel, version: int
    ) -> Sampled:
        """Play the episodes of `step` with `weights`, after those of the step before."""
        if before is not None:
            await asyncio.wait({before})
            before.result()  # what ended it ends this one
        if self._loaded is None or (self._loaded != version and not self._rl.in_flight):
            await self._hand_over(weights, version, self._seen)
        sampled = await sample(self._run, self._rl, self._tasks, step, self._progress(step))
        self._tasks_state, self._seen = self._tasks.state(), sampled.batch
        return sampled

    async def _hand_over(self, weights: PreTrainedModel, version: int, batch: Sequence[Trajectory]) -> None:
        await self._run.engine.load(weights, version)
        self._loaded = version
        await self._delivery.after_load(weights, [t for t in batch if t.graded])

    def _progress(self, step: int) -> Callable[[int, int], None]:
        def tell(finished: int, total: int) -> None:
            ahead = "" if step == self._done + 1 else f" of step {step}"
            self._run.tell(
                Event("rl", self._done, self._rl.steps, message=f"rollout {finished}/{total}{ahead}")
            )

        return tell


class Worker:
    """The learner's thread: it computes while the event loop plays episodes (torch lets go of the interpreter)."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "quintain-learner")
        if torch.cuda.is_available():  # which device is current is a matter of each thread
            self._thread.submit(torch.cuda.set_device, torch.cuda.current_device()).result()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises. A cancellation does not stop it."""
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        running.add_done_callback(_looked_at)
        await asyncio.wait({running})
        return running.result()

    def close(self) -> None:
        """Wait until it is through."""
        self._thread.shutdown(wait=True)


def copied(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of `model` to sample from; weights that are not trained (under an adapter) are shared."""
    frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
    twin: PreTrainedModel = copy.deepcopy(model, frozen)
    return twin.eval()


def shared_threads(config: Config) -> int | None:
    """Return the threads of torch where sampler and learner share the cores of a CPU: half for each; else None."""
    ahead = config.rl is not None and config.rl.staleness > 0
    if not ahead or pick_device(config.model.device).type != "cpu":
        return None
    return max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // 2))


def _looked_at(running: asyncio.Future[Any]) -> None:
    """Look at what went wrong, for whom nobody waits any more after a cancellation."""
    if not running.cancelled():
        running.exception()


def _ready(sampled: Sampled) -> asyncio.Future[Sampled]:
    future: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
    future.set_result(sampled)
    return future


def _written(sampled: Sampled) -> dict[str, Any]:
    return {
        "step": sampled.step,
        "summary": dict(sampled.summary),
        "seconds": sampled.seconds,
        "everything": [trajectory.to_json(exact=True) for trajectory in sampled.everything],
    }


def _read(ahead: Sequence[Mapping[str, Any]], config: Config, rl: RlConfig) -> list[Sampled]:
    found = []
    for stored in ahead:
        everything = [Trajectory.from_json(line) for line in stored["everything"]]
        batch = chosen(everything, rl, oversample=config.rollout.oversample)
        found.append(Sampled(stored["step"], batch, everything, stored["summary"], stored["seconds"]))
    return found
