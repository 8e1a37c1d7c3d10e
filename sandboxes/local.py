"""The local backend: warm bubblewrap workers on this machine, and boxes inside them.

The host's part. What runs inside is in `agent/`: `server` (the fork server of a worker), `box` (the init
process of a box) and `job` (the process that becomes the program).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .base import Capabilities, Limits, LimitsError, SandboxClosed, SandboxUnavailable, Tier, WorkerDied
from .link import Link
from .machine import find_bubblewrap, find_interpreter
from .worker import Worker, WorkerSpec

LANGUAGES = ("python", "bash")
BOXES_PER_WORKER = 20_000
"""After so many boxes a worker is replaced, whatever its state."""

_WATCHDOG = "memory of a process tree is summed every 50 ms, so a burst can pass the limit for that long"


class LocalBackend:
    """Opens boxes on this machine. Its methods belong to the portal's thread."""

    fixed: tuple[str, ...] = ("disk_mb", "network")

    def __init__(self, *, preload: Sequence[str] = (), workers: int = 1, tier: Tier = Tier.FULL) -> None:
        if workers < 1:
            raise LimitsError(f"workers must be at least 1, got {workers}.")
        self.tier = tier
        self._spec = WorkerSpec(
            bwrap=find_bubblewrap(),
            python=find_interpreter(),
            preload=tuple(preload),
        )
        self._wanted = workers
        self._workers: list[Worker] = []
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the boxes have."""
        return Capabilities(
            backend="local",
            tier=self.tier,
            isolated=True,
            aggregate_memory="watchdog",
            seccomp=True,
            languages=LANGUAGES,
            gaps={"aggregate_memory": _WATCHDOG},
        )

    async def open_box(self, limits: Limits) -> Link:
        """Open a box in the least used worker, starting one where that is due."""
        if limits.network:
            raise LimitsError(
                "The local sandbox has no network. Limits(network=True) needs open_sandbox('docker')."
            )
        if self._closed:
            raise SandboxClosed("This backend is closed.")
        for _ in range(3):
            worker = await self._worker(limits)
            try:
                return worker.open_box(limits)
            except WorkerDied:
                self._retire(worker)
        raise WorkerDied("Three workers in a row died before a box could be opened.")

    async def _worker(self, limits: Limits) -> Worker:
        for worker in list(self._workers):
            if not worker.alive or (worker.opened >= BOXES_PER_WORKER and not worker.boxes):
                self._retire(worker)
        fresh = [w for w in self._workers if w.opened < BOXES_PER_WORKER]
        if len(fresh) < self._wanted:
            async with self._starting:
                fresh = [w for w in self._workers if w.opened < BOXES_PER_WORKER]
                if len(fresh) < self._wanted:
                    worker = await Worker.start(self._spec)
                    if self._closed:
                        worker.close()
                        raise SandboxClosed("This backend is closed.")
                    self._workers.append(worker)
                    fresh.append(worker)
        return min(fresh, key=lambda w: len(w.boxes))

    def _retire(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        worker.close()

    async def aclose(self) -> None:
        """Kill every worker and all that is in it."""
        self._closed = True
        for worker in list(self._workers):
            self._retire(worker)


def unavailable(error: Exception) -> SandboxUnavailable:
    """Say what is missing for the local sandbox, with the two ways out."""
    return SandboxUnavailable(
        f"The local sandbox cannot be opened on this machine: {error} "
        "Either let unprivileged user namespaces work (install the distribution's bubblewrap, whose AppArmor "
        "profile allows them; `quintain doctor` tells more), or use Docker: open_sandbox('docker')."
    )
