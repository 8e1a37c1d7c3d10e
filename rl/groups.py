"""The groups of a step: tasks are drawn, their episodes played, and those chosen that are learned from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .journal import Journal, journal_of
from .prepare import Run
from .rewarded import set_step
from .rl_config import RlConfig
from .rollout import Start, rollout
from .seeds import derive
from .task_stream import TaskStream
from .trajectory import Trajectory

Progress = Callable[[int, int], None]
"""Is told how many of how many episodes are finished."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The episodes of a step."""

    step: int
    """The RL step that is to learn from them."""
    batch: Sequence[Trajectory]
    """Those to learn from."""
    everything: Sequence[Trajectory]
    """All that were played."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """What the log shows of the tasks drawn."""
    seconds: float = 0.0
    """Wall clock from the first draw to the last episode."""


async def sample(run: Run, rl: RlConfig, tasks: TaskStream, step: int, progress: Progress) -> Sampled:
    """Play the groups of a step with whatever weights the engine has.

    With `resample_rounds`, groups in which all rewards agree are replaced by groups of other tasks (dynamic
    sampling; DAPO, arXiv 2503.14476, section 3.2); with `rollout.oversample`, groups to replace them with are played
    at the same time. Every group up to the last one that is needed, in the order of the draw, is played to its end
    before any is chosen, so quick episodes are not preferred. A step in which no group at all says anything keeps
    them.
    """
    began = time.monotonic()
    set_step(run.env, step)
    extra = math.ceil(rl.groups * run.config.rollout.oversample)
    with journal_of(run.folder, "rl", step) as journal:
        play = _Play(run, rl, tasks, step, journal, progress)
        everything = await play.groups(first=0, count=rl.groups, extra=extra)
        for _ in range(rl.resample_rounds):
            missing = rl.groups - len(_informative(everything))
            if missing <= 0:
                break
            first = max(t.group for t in everything) + 1
            everything += await play.groups(first=first, count=missing)
    batch = chosen(everything, rl, oversample=run.config.rollout.oversample)
    return Sampled(step, batch, everything, tasks.summary(), time.monotonic() - began)


def chosen(everything: Sequence[Trajectory], rl: RlConfig, *, oversample: float) -> Sequence[Trajectory]:
    """Return the episodes of a step that are learned from, see `sample`."""
    if not rl.resample_rounds and not oversample:
        return everything
    groups = set(_informative(everything)[: rl.groups])
    return [t for t in everything if t.group in groups] if groups else everything


@dataclass(frozen=True, slots=True)
class _Play:
    run: Run
    rl: RlConfig
    tasks: TaskStream
    step: int
    journal: Journal
    progress: Progress

    async def groups(self, *, first: int, count: int, extra: int = 0) -> list[Trajectory]:
        """Play `count` groups, of which the first has the number `first`, and up to `extra` more in their place."""
        config, rl, step = self.run.config, self.rl, self.step
        indices = self.tasks.next(step, first, count)
        if extra:
            indices += self.tasks.next(step, first + count, extra)
        starts = [
            Start(
                id=f"rl-{step}-{group}-{member}",
                group=group,
                seed=derive(config.seed, "rl", step, group),
                task=task,
                sampler_seed=derive(config.seed, "rl", step, group, member),
            )
            for group, task in enumerate(indices, first)
            for member in range(rl.group_size)
        ]
        finished = 0

        def on_finish(trajectory: Trajectory) -> None:
            nonlocal finished
            finished += 1
            self.progress(finished, len(starts))

        batch = await rollout(
            self.run.env,
            self.run.engine,
            self.run.codec,
            starts,
            config.rollout,
            temperature=config.rollout.temperature,
            on_finish=on_finish,
            journal=self.journal,
            breaker=True,
            enough=(lambda done: len(_informative(done)) >= rl.groups) if extra else None,
            stage=self.run.stage(self.run.env, step),
        )
        played = {t.group for t in batch}
        learned = {group: task for group, task in enumerate(indices, first) if group in played}
        self.tasks.learn(learned, batch)
        return batch


def _informative(batch: Sequence[Trajectory]) -> list[int]:
    """Return the groups whose graded episodes differ in reward, in order."""
    rewards: dict[int, set[float]] = {}
    for trajectory in batch:
        rewards.setdefault(trajectory.group, set())
        if trajectory.graded:
            rewards[trajectory.group].add(trajectory.reward)
    return [group for group, found in rewards.items() if len(found) > 1]
