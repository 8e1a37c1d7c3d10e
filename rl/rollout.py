"""Rollouts: many episodes at once, each to its end or to a limit, and each accounted for exactly once.

One coroutine plays one episode; hundreds run at once and the engine batches what they ask for, so a slow tool
keeps only its own episode waiting. Whatever goes wrong on our side ends that episode alone: it is played again
where that may help, and ungraded where it does not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..envs.base import TextEnv
from .chat import ChatCodec
from .config import RolloutConfig
from .engines.base import Engine
from .episode import Start, play_episode
from .journal import Journal
from .stage import Stage
from .trajectory import Timing, Trajectory

__all__ = ["FINAL", "Start", "UngradedError", "play_episode", "raise_if_ungraded", "rollout"]

FINAL = frozenset(
    {"prompt", "setup", "environment", "verifier", "time", "auth", "rejected", "no_ids", "filtered", "dead"}
)
"""Kinds of failure that another try would meet again; all others (a sandbox, a server that is away) may be gone."""
PAUSE_S = 0.25
"""How long the first retry waits; each further one twice as long as the one before."""
BREAKER = 16
"""Fewer finished episodes than this are no reason to break a phase off."""
GRACE_S = 60.0
"""How long cancelled episodes may take to close what they hold."""


class UngradedError(RuntimeError):
    """More episodes of a step could not be graded than `rollout.max_ungraded` allows."""


class _EnoughError(Exception):
    """The episodes that are done are enough."""


async def rollout(
    env: TextEnv,
    engine: Engine,
    codec: ChatCodec,
    starts: Sequence[Start],
    limits: RolloutConfig,
    *,
    temperature: float = 1.0,
    on_finish: Callable[[Trajectory], None] | None = None,
    journal: Journal | None = None,
    breaker: bool = False,
    enough: Callable[[Sequence[Trajectory]], bool] | None = None,
    stage: Callable[[], Stage] | None = None,
) -> list[Trajectory]:
    """Play one episode for every start and return them in that order.

    `env` is the definition; every episode plays on a `fresh()` one of its own. At most `limits.concurrency`
    run at a time.

    Args:
        on_finish: sees each trajectory as soon as it is done.
        journal: gets each trajectory before anybody else, and gives back those that it has already.
        breaker: raise `UngradedError` as soon as more than `limits.max_ungraded` of all episodes are ungraded,
            instead of playing the rest.
        enough: ends the phase early. It is asked about the episodes of the first group, of the first two groups, and
            so on in the order of `starts`, as soon as these are all done; with the first True they are what is
            returned, and later groups are cancelled or dropped. Only the order of the draw decides, never
            the time that an episode took, so quick episodes are not preferred.
        stage: makes the place that an episode is played in, for environments of the same definition elsewhere
            (`RayWorkers.stage`).

    Whatever ends it (an error, a cancellation), all environments are closed before it returns.
    """
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(limits.concurrency)
    deadline = None if limits.phase_s is None else loop.time() + limits.phase_s
    stored = journal.finished(starts) if journal is not None else {}
    make = env.fresh if stage is None else stage
    watch = _Watch(starts, limits.max_ungraded if breaker else None, enough)

    async def one(start: Start) -> Trajectory:
        trajectory = stored.get(start.id)
        if trajectory is None:
            async with gate:
                trajectory = await _tried(make, engine, codec, start, limits, temperature, deadline)
            if journal is not None:
                journal.add(trajectory)
        if on_finish is not None:
            on_finish(trajectory)
        watch.see(trajectory)
        return trajectory

    tasks = [loop.create_task(one(start)) for start in starts]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _cancelled([task for task in tasks if not task.done()])
    failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for failure in failures:
        if failure is not None and not isinstance(failure, _EnoughError):
            raise failure
    if watch.needed is not None:
        return watch.needed
    return [task.result() for task in tasks]


async def _tried(
    make: Callable[[], TextEnv | Stage],
    engine: Engine,
    codec: ChatCodec,
    start: Start,
    limits: RolloutConfig,
    temperature: float,
    deadline: float | None,
) -> Trajectory:
    """Play an episode, and again from its beginning where something of ours failed that may be gone.

    A retry has the same seed, so it meets the same randomness: trying again prefers no outcome.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limits.episode_s
    spent = Timing(attempts=0)
    while True:
        trajectory = await play_episode(
            make(), engine, codec, start, limits, temperature=temperature, deadline=deadline
        )
        spent = Timing(
            spent.engine_s + trajectory.timing.engine_s,
            spent.environment_s + trajectory.timing.environment_s,
            spent.attempts + 1,
            spent.verifier_s + trajectory.timing.verifier_s,
        )
        pause = PAUSE_S * 2 ** (spent.attempts - 1)
        again = loop.time() + pause
        if (
            trajectory.graded
            or trajectory.info.get("kind") in FINAL
            or spent.attempts > limits.retries
            or again >= until
            or (deadline is not None and again >= deadline)
        ):
            return trajectory if spent.attempts == 1 else replace(trajectory, timing=spent)
        await asyncio.sleep(pause)


class _Watch:
    """Looks at the episodes as they finish: too many ungraded, or enough of them?"""

    def __init__(
        self,
        starts: Sequence[Start],
        max_ungraded: float | None,
        enough: Callable[[Sequence[Trajectory]], bool] | None,
    ) -> None:
        self.needed: list[Trajectory] | None = None
        self._starts, self._limit, self._enough = starts, max_ungraded, enough
        self._finished: list[Trajectory] = []
        self._ungraded = 0
        self._by_id: dict[str, Trajectory] = {}
        self._front: list[Trajectory] = []  # the episodes up to the first group that is not done

    def see(self, trajectory: Trajectory) -> None:
        """Take note of an episode. Raises `UngradedError`, and `_EnoughError` where the phase is over."""
        if self._limit is not None:
            self._finished.append(trajectory)
            self._ungraded += not trajectory.graded
            if self._ungraded > self._limit * len(self._starts) and len(self._finished) >= BREAKER:
                raise_if_ungraded(self._finished, self._limit, of=len(self._starts))
        if self._enough is not None and self.needed is None:
            self._by_id[trajectory.id] = trajectory
            self._advance(self._enough)

    def _advance(self, enough: Callable[[Sequence[Trajectory]], bool]) -> None:
        while len(self._front) < len(self._starts):
            at = len(self._front)
            group = self._starts[at].group
            members = []
            while at < len(self._starts) and self._starts[at].group == group:
                members.append(self._starts[at].id)
                at += 1
            if any(member not in self._by_id for member in members):
                return
            self._front += [self._by_id[member] for member in members]
            if enough(self._front):
                self.needed = list(self._front)
                raise _EnoughError


async def _cancelled(tasks: Sequence[asyncio.Task[Trajectory]]) -> None:
    """Cancel episodes and wait until they have closed what they hold."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE_S)


def raise_if_ungraded(batch: Sequence[Trajectory], limit: float, *, of: int | None = None) -> None:
    """Stop a run whose episodes cannot be graded: what is left would be a biased sample.

    `of` is how many episodes there are to be, where `batch` are those that have finished.
    """
    ungraded = [t for t in batch if not t.graded]
    total = len(batch) if of is None else of
    if len(ungraded) <= limit * total:
        return
    first = ungraded[0]
    kinds: Mapping[str, int] = Counter(str(t.info.get("kind", "unknown")) for t in ungraded)
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    early = "" if of is None else f", and {total - len(batch)} were not played any more"
    raise UngradedError(
        f"{len(ungraded)} of {total} episodes could not be graded (rollout.max_ungraded = {limit}){early}. "
        f"By kind: {by_kind}. "
        f"The first, {first.id}: {first.score.reason}\n{first.info.get('traceback', '')}".rstrip()
    )
