"""The local backend: boxes on this machine, isolated by bubblewrap, without a daemon.

The host's part. What runs inside is in `agent/`: `server` (the fork server of a worker), `box` (the init
process of a box) and `job` (the process that becomes the program).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .base import Capabilities, Limits, LimitsError, SandboxClosed, SandboxUnavailable, Tier, WorkerDied
from .link import Link
from .machine import find_bubblewrap, find_interpreter
from .socket_link import SocketLink
from .worker import Worker, WorkerSpec

LANGUAGES = ("python", "bash")
BOXES_PER_WORKER = 20_000
"""After so many boxes a worker is replaced, whatever its state."""

_WATCHDOG = "memory of a process tree is summed every 50 ms, so a burst can pass the limit for that long"
_EACH = "the working folder, /tmp and /dev/shm have the quota each, not together"
_NOTHING = "opened with unsafe_allow='none': programs run as this user, with all that this user may do"
GAPS: dict[Tier, dict[str, str]] = {
    Tier.FULL: {"aggregate_memory": _WATCHDOG},
    Tier.BWRAP_PER_BOX: {"aggregate_memory": _WATCHDOG, "disk": _EACH},
    Tier.NONE: {"isolation": _NOTHING},
}
"""What each tier does not promise."""


class LocalBackend:
    """Opens boxes on this machine. Its methods belong to the portal's thread.

    `tier` is how they are isolated; `tiers.open_local` chooses the best one that works. `workers` is how many warm
    interpreters serve (one serves some hundred boxes a second), `preload` what they import ahead of programs.
    """

    fixed: tuple[str, ...] = ("disk_mb", "network")

    def __init__(self, *, preload: Sequence[str] = (), workers: int = 1, tier: Tier = Tier.FULL) -> None:
        if workers < 1:
            raise LimitsError(f"workers must be at least 1, got {workers}.")
        self.tier = tier
        self._spec = WorkerSpec(
            bwrap="" if tier is Tier.NONE else find_bubblewrap(),
            python=find_interpreter(),
            preload=tuple(preload),
            single=tier is not Tier.FULL,
            unsafe=tier is Tier.NONE,
        )
        self._wanted = workers
        self._workers: list[Worker] = []
        self._starting = asyncio.Lock()
        self._closed = False
        if tier is Tier.NONE:
            warnings.warn(
                "This sandbox has no isolation (unsafe_allow='none'): programs can read, change and send whatever "
                "you can. Use it only inside a machine that you would throw away.",
                RuntimeWarning,
                stacklevel=2,
            )

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the boxes have."""
        isolated = self.tier is not Tier.NONE
        return Capabilities(
            backend="local",
            tier=self.tier,
            isolated=isolated,
            aggregate_memory="watchdog",
            seccomp=isolated,
            languages=LANGUAGES,
            gaps=GAPS[self.tier],
        )

    async def open_box(self, limits: Limits) -> Link:
        """Open a box: in the least used worker, or in one of its own where the tier wants that."""
        if limits.network:
            raise LimitsError(
                "The local sandbox has no network. Limits(network=True) needs open_sandbox('docker')."
            )
        if self._closed:
            raise SandboxClosed("This backend is closed.")
        if self.tier is not Tier.FULL:
            return await self._open_single(limits)
        for _ in range(3):
            worker = await self._worker()
            try:
                return worker.open_box(limits)
            except WorkerDied:
                self._retire(worker)
        raise WorkerDied("Three workers in a row died before a box could be opened.")

    async def _open_single(self, limits: Limits) -> SocketLink:
        folder = ""
        if self._spec.unsafe:
            folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="quintain-unsafe-")
            for name in ("work", "tmp"):
                Path(folder, name).mkdir()
        worker = await Worker.start(replace(self._spec, disk_mb=limits.disk_mb, folder=folder))
        link = worker.open_box(limits)
        self._workers.append(worker)

        def close() -> None:
            self._retire(worker)
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

        link.on_close(close)
        if self._closed:
            link.close()
        return link

    async def _worker(self) -> Worker:
        for worker in list(self._workers):
            if not worker.alive or not (usable(worker) or worker.boxes):
                self._retire(worker)
        fresh = [w for w in self._workers if usable(w)]
        if len(fresh) < self._wanted:
            async with self._starting:
                fresh = [w for w in self._workers if usable(w)]
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


def usable(worker: Worker) -> bool:
    """Whether a worker may get another box: none of its boxes was lost, and it is not worn out."""
    return not worker.suspect and worker.opened < BOXES_PER_WORKER


def unavailable(reasons: dict[Tier, SandboxUnavailable], min_tier: Tier) -> SandboxUnavailable:
    """Say why no tier of at least `min_tier` works here, with the ways out."""
    said = " ".join(f"{tier}: {error}" for tier, error in reasons.items())
    return SandboxUnavailable(
        f"No local sandbox of tier {min_tier} or better can be opened on this machine. {said} "
        "Either let unprivileged user namespaces work (install the distribution's bubblewrap, whose AppArmor "
        "profile allows them; `quintain doctor` says more), or use Docker: open_sandbox('docker'). Inside a machine "
        "that you would throw away, unsafe_allow='none' runs programs without isolation."
    )
