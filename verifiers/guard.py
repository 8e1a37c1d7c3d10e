"""A pool of processes for work that could hang or grow: hard kill, memory limit, restart, back-pressure.

Workers are forked from one template process that has imported what they need (SymPy) once, so a killed
worker is replaced in milliseconds. Nothing relies on signals or timers inside the caller's process: it
works from any thread, in asyncio, pytest and Jupyter. The work is our own code on untrusted data; for
untrusted *code* use a sandbox.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, Self


class GuardError(Exception):
    """The work could not be done; the text says why. A verdict built on it is ungraded."""


class GuardTimeout(GuardError):  # noqa: N818 - the name is the sentence
    """The work took longer than its wall time and was killed."""


class GuardMemory(GuardError):  # noqa: N818
    """The work needed more memory than its limit."""


class GuardDied(GuardError):  # noqa: N818
    """The worker died twice over the same work, or could not be started."""


class GuardClosed(GuardError):  # noqa: N818
    """The guard was used after `close`."""


class GuardRaised(GuardError):  # noqa: N818
    """The work raised; the text is its traceback."""


class _Worker:
    """One forked process and the socket to it."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self.link = link
        self.descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def kill(self) -> None:
        with suppress(OSError):
            if self.descriptor is not None:
                signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)
        self.link.close()
        if self.descriptor is not None:
            with suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = None


class Guard:
    """Runs importable functions in killable processes.

    with Guard(workers=2, preload=["sympy"]) as guard:
        guard.call(math.factorial, 10)  # 3628800

    At most `workers` calls run at once; more callers wait their turn. A worker that dies is replaced and its
    call is done once more; a call beyond its time or memory raises. Safe to use from any thread.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        preload: Sequence[str] = (),
        wall_s: float = 10.0,
        memory_mb: int = 1024,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a guard needs at least one worker, got {workers}")
        self.workers = workers
        self.preload = tuple(preload)
        self.wall_s = wall_s
        self.memory_mb = memory_mb
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._queue: deque[object] = deque()
        self._busy = 0
        self._idle: list[_Worker] = []
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    # --- calls

    def call(self, function: Callable[..., Any], *args: Any, wall_s: float | None = None) -> Any:
        """Run `function(*args)` in a worker and return what it returns.

        Raises `GuardTimeout`, `GuardMemory`, `GuardDied`, `GuardRaised` or `GuardClosed`.
        """
        if os.getpid() != self._owner:  # a forked copy: the sockets are the parent's
            self._reset()
        request = pickle.dumps((function, args))
        self._enter()
        try:
            for attempt in (1, 2):
                worker = self._worker(fresh=attempt > 1)
                try:
                    answer = _exchange(worker.link, request, self.wall_s if wall_s is None else wall_s)
                except TimeoutError:
                    worker.kill()
                    limit = self.wall_s if wall_s is None else wall_s
                    raise GuardTimeout(f"the work was stopped after {limit:g} s") from None
                except (OSError, EOFError):
                    worker.kill()
                    if attempt == 2:
                        raise GuardDied("the worker died twice over the same work") from None
                    continue
                with self._lock:
                    if len(self._idle) < self.workers:
                        self._idle.append(worker)
                    else:
                        worker.kill()
                return _unpacked(answer)
            raise AssertionError("unreachable")
        finally:
            self._leave()

    async def acall(self, function: Callable[..., Any], *args: Any, wall_s: float | None = None) -> Any:
        """Run `function(*args)` in a worker without blocking the event loop."""
        if os.getpid() != self._owner:
            self._reset()
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="guard")
            threads = self._threads
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: self.call(function, *args, wall_s=wall_s))

    def _enter(self) -> None:
        """Wait for a free place, first come first served."""
        ticket = object()
        with self._turn:
            self._queue.append(ticket)
            while not self._closed and (self._busy >= self.workers or self._queue[0] is not ticket):
                self._turn.wait()
            self._queue.remove(ticket)
            if self._closed:
                self._turn.notify_all()
                raise GuardClosed("this guard has been closed")
            self._busy += 1
            self._turn.notify_all()

    def _leave(self) -> None:
        with self._turn:
            self._busy -= 1
            self._turn.notify_all()

    # --- processes

    def _worker(self, fresh: bool) -> _Worker:
        """Take an idle worker, or a new one: an idle one may have died without having been noticed."""
        with self._lock:
            while self._idle and not fresh:
                worker = self._idle.pop()
                if not select.select([worker.link], [], [], 0)[0]:  # readable while idle means: it has died
                    return worker
                worker.kill()
            for _ in range(3):
                try:
                    return self._forked()
                except (OSError, EOFError):  # the template died, perhaps while it answered
                    self._end_template()
            raise GuardDied("no worker could be started: is the machine out of memory or processes?")

    def _forked(self) -> _Worker:
        """Ask the template for a fork; the caller holds the lock."""
        if self._template is None or self._template.poll() is not None:
            self._start_template()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"w"], [theirs.fileno()])
        reply = _receive(self._control, 4, time.monotonic() + 60)
        return _Worker(struct.unpack("!I", reply)[0], ours)

    def _start_template(self) -> None:
        self._end_template()
        ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from quintain.verifiers.guard_worker import template; "
            f"template({theirs.fileno()}, {self.preload!r}, {self.memory_mb!r})"
        )
        self._template = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._control = ours

    def _end_template(self) -> None:
        for worker in self._idle:
            worker.kill()
        self._idle.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._template is not None:
            with suppress(OSError):
                self._template.kill()
            self._template.wait()
            self._template = None

    def pids(self) -> list[int]:
        """Return the process ids of the idle workers, for tests and monitoring."""
        with self._lock:
            return [worker.pid for worker in self._idle]

    def close(self) -> None:
        """Kill every process; waiting and later calls raise `GuardClosed`."""
        if os.getpid() != self._owner:
            return
        with self._turn:
            self._closed = True
            self._end_template()
            self._turn.notify_all()
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@lru_cache(maxsize=1)
def shared_guard() -> Guard:
    """Return the guard that verifiers share by default: one worker with SymPy, started at its first use."""
    guard = Guard(1, preload=("sympy", "quintain.verifiers.math_symbolic"))
    atexit.register(guard.close)
    return guard


# --- the wire: a length, then a pickle


def _exchange(link: socket.socket, request: bytes, wall_s: float) -> bytes:
    deadline = time.monotonic() + wall_s
    link.settimeout(max(wall_s, 0.001))
    link.sendall(struct.pack("!Q", len(request)) + request)
    size = struct.unpack("!Q", _receive(link, 8, deadline))[0]
    return _receive(link, size, deadline)


def _receive(link: socket.socket, size: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([link], [], [], left)[0]:
            raise TimeoutError
        part = link.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _unpacked(answer: bytes) -> Any:
    kind, value = pickle.loads(answer)
    if kind == "returned":
        return value
    if kind == "memory":
        raise GuardMemory(value)
    raise GuardRaised(value)
