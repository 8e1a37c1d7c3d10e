"""The local backend: boxes on this machine, isolated by bubblewrap, without a daemon.

The host's part. What runs inside is in `agent/`: `server` (the fork server of a worker), `box` (the init
process of a box) and `job` (the process that becomes the program).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .agent.files import remove
from .base import Capabilities, Limits, LimitsError, SandboxClosed, SandboxUnavailable, Tier, WorkerDied
from .link import Link
from .machine import WORKER_UID, find_bubblewrap, find_interpreter
from .socket_link import SocketLink
from .worker import Worker, WorkerSpec, box_folder

LANGUAGES = ("python", "bash")
BOXES = "quintain-boxes-"
"""How the folders of boxes are named where they have no file system of their own, before the supervisor's number."""
EMPTY_S = 1.0
"""How long after a box's end its folder is removed: its init ends the processes first."""
BOXES_PER_WORKER = 20_000
"""After so many boxes a worker is replaced, whatever its state."""

_WATCHDOG = "memory of a process tree is summed every 50 ms, so a burst can pass the limit for that long"
_EACH = "the working folder, /tmp and /dev/shm have the quota each, not together; files are counted four times a second"
_NOTHING = "opened with unsafe_allow='none': programs run as this user, with all that this user may do"
GAPS: dict[Tier, dict[str, str]] = {
    Tier.FULL: {"aggregate_memory": _WATCHDOG},
    Tier.BWRAP_PER_BOX: {"aggregate_memory": _WATCHDOG, "disk": _EACH},
    Tier.LANDLOCK: {
        "aggregate_memory": _WATCHDOG,
        "disk": "a file is bounded by the kernel; those of a box, unless deleted, are summed four times a second",
        "processes": "counted with all others of the user: a box has its share beside what ran when it was opened",
        "paths": "there are no /work, /tmp and /dev/shm of its own: a box lives in a folder of this machine's",
        "proc": "/proc is closed, also to programs that want to see themselves (ps, process substitution in bash)",
        "metadata": "that a file of this machine exists, its size and its times can be seen; no modes can be changed",
    },
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
            bwrap="" if tier in (Tier.NONE, Tier.LANDLOCK) else find_bubblewrap(),
            python=find_interpreter(),
            preload=tuple(preload),
            single=tier in (Tier.BWRAP_PER_BOX, Tier.NONE),
            unsafe=tier is Tier.NONE,
            landlock=tier is Tier.LANDLOCK,
            folder=boxes_folder() if tier is Tier.LANDLOCK else "",
        )
        self._folders = 0
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
        if self._spec.single:
            return await self._open_single(limits)
        for _ in range(3):
            worker = await self._worker()
            try:
                if self.tier is Tier.LANDLOCK:
                    return self._open_in_folder(worker, limits)
                return worker.open_box(limits)
            except WorkerDied:
                self._retire(worker)
        raise WorkerDied("Three workers in a row died before a box could be opened.")

    def _open_in_folder(self, worker: Worker, limits: Limits) -> SocketLink:
        self._folders += 1
        name = f"box-{self._folders}"
        for part in ("", "work", "tmp"):
            made = Path(self._spec.folder, name, part)
            made.mkdir()
            if os.geteuid() == 0:
                os.chown(made, WORKER_UID, WORKER_UID)
        loop = asyncio.get_running_loop()
        link = worker.open_box(limits, box_folder(self._spec, name))

        def close() -> None:  # a thread's work: a program may have left a million files
            loop.call_later(EMPTY_S, loop.run_in_executor, None, empty, f"{self._spec.folder}/{name}")

        link.on_close(close)
        return link

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
        if self.tier is Tier.LANDLOCK:
            await asyncio.to_thread(empty, self._spec.folder)


def boxes_folder() -> str:
    """Make a folder for boxes; those of supervisors that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{BOXES}*"):
        pid = left.name.removeprefix(BOXES).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            empty(str(left))
    made = tempfile.mkdtemp(prefix=f"{BOXES}{os.getpid()}-")
    Path(made).chmod(0o711)  # a box's own user walks through; nobody lists it
    return os.path.realpath(made)


def empty(folder: str) -> None:
    """Remove a folder of a box whose processes have ended, whatever modes its files have."""
    with suppress(OSError):
        remove(folder)


def usable(worker: Worker) -> bool:
    """Whether a worker may get another box: none of its boxes was lost, and it is not worn out."""
    return not worker.suspect and worker.opened < BOXES_PER_WORKER


def unavailable(reasons: dict[Tier, SandboxUnavailable], min_tier: Tier) -> SandboxUnavailable:
    """Say why no tier of at least `min_tier` works here, with the ways out."""
    said = " ".join(f"{tier}: {error}" for tier, error in reasons.items())
    return SandboxUnavailable(
        f"No local sandbox of tier {min_tier} or better can be opened on this machine. {said} "
        "Either let unprivileged user namespaces work (install the distribution's bubblewrap, whose AppArmor "
        "profile allows them; `quintain doctor` says more), or use Docker: open_sandbox('docker'). "
        "min_tier='landlock' allows a tier that needs no namespaces and declares its gaps. Inside a machine that "
        "you would throw away, unsafe_allow='none' runs programs without isolation."
    )
