"""The init process of a box: it starts jobs, holds their deadlines, and leaves nothing alive behind.

It is process 1 of its PID namespace, without capabilities and not traceable, and never reads what a job is
given or writes: descriptors for that are only passed on. A job is over when *every* process it left behind
is dead; only then is the end reported, so whoever reads the job's pipes always meets their end.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable

from . import job as jobs
from . import system

TICK_S = 0.05
"""How often the memory of a box is summed while a job runs."""
IDLE_TICK_S = 0.25
"""The same while only sessions are open and none of them was touched by us."""
FULL_LOOKS = 5
"""Every how many of these looks what a box has on disk is summed, where no file system bounds it."""
PAGE = os.sysconf("SC_PAGE_SIZE")

# a job as the box knows it; a plain list keeps the start of a job cheap
PID, NUMBER, DEADLINE, MEMORY, SESSION, STARTED, STATUS_FD, REASON = range(8)


class Box:
    """The jobs of one box. `report` is called with (number, reason, status, wall, cpu, rss, error text)."""

    def __init__(
        self,
        report: Callable[..., None],
        *,
        base_pages: int,
        sweep: bool,
        alone: bool = True,
        full: Callable[[], bool] | None = None,
    ) -> None:
        self.report = report
        self.alone = alone  # whether /proc shows this box's processes and no others
        self.full = full  # whether the box has too much on disk, where no file system says so
        self.looks = 0
        self.base_pages = (
            base_pages  # private pages every fork of the interpreter has before it does anything
        )
        self.own = str(os.getpid())
        self.sweep = sweep  # whether kill(-1) reaches exactly the processes of this box
        self.running: dict[int, list] = {}  # type: ignore[type-arg]
        self.poller = select.poll()
        self.watched: dict[int, int] = {}  # pidfd -> pid

    def start(self, number: int, kind: str, session: bool, limits: tuple, fds: list[int]) -> None:  # type: ignore[type-arg]
        """Fork a job. `limits` is (wall, cpu, memory, processes, files, file size); `fds` are closed here."""
        status, status_w = os.pipe()
        started = time.monotonic()
        try:
            pid = os.fork()
        except OSError as error:
            for fd in (status, status_w, *fds):
                os.close(fd)
            self.report(number, "failed", 0, 0.0, 0.0, 0, f"fork: {error}")
            return
        if pid == 0:
            jobs.enter(kind, limits, fds, status_w)  # never returns
        for fd in (status_w, *fds):
            os.close(fd)
        watch = os.pidfd_open(pid)
        self.watched[watch] = pid
        self.poller.register(watch, select.POLLIN)
        wall = limits[0]
        deadline = started + wall if wall > 0 else float("inf")
        self.running[pid] = [pid, number, deadline, limits[2], session, started, status, None]

    def wait(self) -> list[int]:
        """Sleep until something happens, see to jobs, and return the other descriptors that are ready."""
        ready = []
        for fd, _ in self.poller.poll(self._patience()):
            pid = self.watched.get(fd)
            if pid is None:
                ready.append(fd)
            else:
                self._ended(fd, pid)
        if self.running:
            self._check()
        return ready

    def _patience(self) -> int | None:
        if not self.running:
            return None
        now = time.monotonic()
        nearest = min(entry[DEADLINE] for entry in self.running.values())
        busy = any(not entry[SESSION] for entry in self.running.values())
        return max(0, int(min(nearest - now, TICK_S if busy else IDLE_TICK_S) * 1000) + 1)

    def _check(self) -> None:
        now = time.monotonic()
        for entry in list(self.running.values()):
            if entry[DEADLINE] <= now:
                self.stop(entry[NUMBER], "timeout")
        if self.running:
            allowed = max(entry[MEMORY] for entry in self.running.values())
            if self.memory() > allowed:
                for entry in list(self.running.values()):
                    self.stop(entry[NUMBER], "memory")
            self.looks += 1
            if self.full is not None and self.looks % FULL_LOOKS == 0 and self.full():
                for entry in list(self.running.values()):
                    self.stop(entry[NUMBER], "cancelled")

    def memory(self) -> int:
        """Bytes of private memory of all processes of the box, except this one."""
        if self.sweep and self.alone:
            names = [n for n in os.listdir("/proc") if n.isdigit() and n not in ("1", self.own)]
        elif self.sweep:
            names = descendants(self.own)
        else:
            names = [str(pid) for entry in self.running.values() for pid in _family(entry[PID])]
        return sum(max(0, system.pages(name)[0] - self.base_pages) for name in names) * PAGE

    def stop(self, number: int, reason: str) -> None:
        """Kill a job and everything it started; the end is reported when it has been reaped."""
        for entry in self.running.values():
            if entry[NUMBER] == number:
                entry[REASON] = entry[REASON] or reason
                self._kill(entry)

    def signal(self, number: int, which: int) -> None:
        """Send a signal to the process group of a session (an interrupt)."""
        for entry in self.running.values():
            if entry[NUMBER] == number:
                try:
                    os.killpg(entry[PID], which)
                except ProcessLookupError:
                    pass

    def _kill(self, entry: list) -> None:  # type: ignore[type-arg]
        if self.sweep and len(self.running) == 1:
            _kill_everything()
            return
        for pid in _family(entry[PID]):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def _ended(self, fd: int, pid: int) -> None:
        self.poller.unregister(fd)
        os.close(fd)
        del self.watched[fd]
        entry = self.running[pid]
        entry_family = [] if self.sweep and len(self.running) == 1 else _family(pid)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _, status, used = os.wait4(pid, 0)
        if self.sweep and len(self.running) == 1:
            _kill_everything()
            _reap_everything()
        else:
            for other in entry_family:
                if other != pid:
                    try:
                        os.kill(other, signal.SIGKILL)
                    except OSError:
                        pass
            _reap_strays(self.running)
        del self.running[pid]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        wall = time.monotonic() - entry[STARTED]
        text = _read_all(entry[STATUS_FD])
        os.close(entry[STATUS_FD])
        reason = "failed" if text else entry[REASON] or "ended"
        self.report(entry[NUMBER], reason, status, wall, cpu, used.ru_maxrss, text)

    def finish(self) -> None:
        """End every job of the box."""
        for entry in list(self.running.values()):
            entry[REASON] = "cancelled"
            if not self.sweep:
                self._kill(entry)
        if self.sweep:
            _kill_everything()


def _kill_everything() -> None:
    """One pass of the kernel over the namespace: a fork bomb cannot outrun it."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reap_everything() -> None:
    """Wait until no other process is left; orphans have become ours."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _reap_strays(running: dict) -> None:  # type: ignore[type-arg]
    """Reap what is dead without touching the jobs that still run (their end is seen through their pidfd)."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in running:
            try:
                os.waitpid(int(name), os.WNOHANG)
            except OSError:
                pass


def _family(pid: int) -> list[int]:
    """The process, its descendants and its session, as far as /proc shows them at this moment."""
    parents: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
                words = os.read(fd, 512).rpartition(b")")[2].split()
                os.close(fd)
                parents[int(name)] = (int(words[1]), int(words[3]))
            except (OSError, IndexError, ValueError):
                continue
    found = {pid}
    grown = True
    while grown:
        grown = False
        for other, (parent, leader) in parents.items():
            if other not in found and (parent in found or leader in found):
                found.add(other)
                grown = True
    return sorted(found)


def descendants(pid: str) -> list[str]:
    """All processes below one, by the kernel's own lists of children."""
    found: list[str] = []
    todo = [pid]
    while todo:
        children = children_of(todo.pop())
        found += children
        todo += children
    return found


def children_of(pid: str) -> list[str]:
    """The children of all threads of a process."""
    found: list[str] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            fd = os.open(f"/proc/{pid}/task/{task}/children", os.O_RDONLY | os.O_CLOEXEC)
            found += os.read(fd, 1 << 16).decode().split()
            os.close(fd)
    except OSError:  # it has ended
        pass
    return found


def _read_all(fd: int) -> str:
    """What a job said about a failure before the program started; empty when all went well."""
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 2000).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
