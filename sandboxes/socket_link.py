"""A box of a local worker: jobs are started by passing file descriptors to the box's init process.

The init never looks at what a job is given or writes. The payload and the input are sealed anonymous files, the
output comes through pipes whose other end only the job holds.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import marshal
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .base import Limits, SandboxError, SandboxUnavailable, WorkerDied
from .link import Job, parse_end

if TYPE_CHECKING:
    from .worker import Worker

_READ = 1 << 16
LOOK_S = 0.02
"""When to begin watching a program's output. Most are over by then, and read at their end in one go; a pipe holds
64 KiB, so one that writes more at once waits for this long at most."""


def memory_file(data: bytes) -> int:
    """Put bytes into an anonymous file that nobody can change any more, and return its descriptor."""
    fd = os.memfd_create("quintain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0xF)  # seal, shrink, grow, write
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def send(sock: socket.socket, message: tuple[Any, ...], fds: list[int]) -> None:
    """Send one message with descriptors."""
    sock.sendmsg([marshal.dumps(message, 2)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


class SocketChannel:
    """A session's bytes over a socket pair."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(limit=1 << 26, loop=loop)
        self._sock = sock
        self._loop = loop
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.reader.feed_data(data)
        else:
            self._loop.remove_reader(self._sock.fileno())
            self.reader.feed_eof()

    async def send(self, data: bytes) -> None:
        """Send to the session."""
        await self._loop.sock_sendall(self._sock, data)

    def close(self) -> None:
        """Let go of the socket."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self.reader.feed_eof()


class SocketLink:
    """A box of a worker, reached through a socket of its own."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        self.alive = True
        self.worker = worker
        self._sock = sock
        self._loop = loop
        self._jobs: dict[int, Job] = {}
        self.once = False
        """Whether the box is to end with its next job: nobody will use it again."""
        self._numbers = 0
        self._closing: list[Callable[[], None]] = []
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def on_close(self, work: Callable[[], None]) -> None:
        """Have something done when the box is closed or lost."""
        self._closing.append(work)

    def start(
        self, kind: str, limits: Limits, payload: bytes, stdin: bytes = b"", *, session: bool = False
    ) -> Job:
        """Start a job; see `Link.start`."""
        if not self.alive:
            raise WorkerDied("The box is gone.")
        self._numbers += 1
        job = Job(self._numbers, limits, self._loop)
        inside: list[int] = []  # descriptors for the job
        ours: list[int] = []
        pair: socket.socket | None = None
        try:
            inside.append(memory_file(payload))
            inside.append(memory_file(stdin) if stdin else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            for _ in range(2):
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.append(read)
                inside.append(write)
                os.set_blocking(read, False)
            if session:
                pair, theirs = socket.socketpair()
                inside.append(theirs.detach())
            own = agent_limits(limits, session)
            send(self._sock, ("start", job.number, kind, session, own, self.once), inside)
        except OSError as error:
            for fd in ours:
                os.close(fd)
            if pair is not None:
                pair.close()
            if isinstance(error, (BrokenPipeError, ConnectionError)):
                self.worker.suspect = True
                self.close()
                raise WorkerDied("The box was gone before a program could be started.") from error
            raise SandboxError(f"Could not start a program: {error}.") from error
        finally:
            for fd in inside:
                os.close(fd)
        self._jobs[job.number] = job
        channel = SocketChannel(pair, self._loop) if pair is not None else None
        job.channel = channel
        open_fds = dict(enumerate(ours))

        def watch() -> None:
            for which, fd in open_fds.items():
                self._loop.add_reader(fd, self._output, job, which, fd, open_fds)

        watching = self._loop.call_later(LOOK_S, watch)
        job.drain = lambda: self._drain(job, open_fds)

        def loosen() -> None:
            watching.cancel()
            for fd in open_fds.values():
                self._loop.remove_reader(fd)
                os.close(fd)
            open_fds.clear()
            if channel is not None:
                channel.close()

        job.loosen = loosen
        return job

    def _output(self, job: Job, which: int, fd: int, open_fds: dict[int, int]) -> bool:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            if job.wrote(which, data):
                self.stop(job)
            return True
        self._loop.remove_reader(fd)
        os.close(fd)
        open_fds.pop(which, None)
        job.closed(which)
        return False

    def _drain(self, job: Job, open_fds: dict[int, int]) -> None:
        for which, fd in list(open_fds.items()):
            while self._output(job, which, fd, open_fds) and not job.flooded:
                pass

    def _readable(self) -> None:
        try:
            data = self._sock.recv(1 << 13)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        line = data.decode("utf-8", "replace")
        if not line.startswith("done "):
            self._lost(line)
            return
        number, end = parse_end(line)
        if self.once:
            self._loop.remove_reader(self._sock.fileno())  # its end is no loss
        job = self._jobs.pop(number, None)
        if job is not None and not job.end.done():
            job.end.set_result(end)
            job.drain()  # all that it started is dead, so this meets the end
            for output in job.outputs:
                output.ended = (
                    True  # unless a process of another job holds its pipes, which is not waited for
                )
            job.settle()

    def _lost(self, why: str = "") -> None:
        jobs = list(self._jobs.values())
        refused = why.startswith("refused ")
        self.worker.suspect = True
        self.close()
        for job in jobs:
            if refused:
                job.lose(SandboxUnavailable(f"A box could not be opened: {why.removeprefix('refused ')}"))
            else:
                job.lose(WorkerDied(f"The box was lost while a program ran. {why}".strip()))

    def stop(self, job: Job, reason: str = "cancelled") -> None:
        """Kill a job and all it started; `reason` comes back in its end."""
        self._tell("stop", job.number, reason)

    def signal(self, job: Job, which: int) -> None:
        """Send a signal to a session's process group."""
        self._tell("signal", job.number, int(which))

    def _tell(self, *message: object) -> None:
        if self.alive:
            try:
                send(self._sock, message, [])
            except OSError:
                self._lost()

    def forget(self) -> None:
        """Let go of the socket in a fork of the supervisor; the box is the supervisor's."""
        self.alive = False
        self._sock.close()

    def close(self) -> None:
        """Kill everything in the box: its init ends with its socket, and the kernel ends the rest."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self.worker.boxes.discard(self)
        for job in list(self._jobs.values()):
            job.lose(WorkerDied("The box was closed while a program ran."))
        self._jobs.clear()
        for work in self._closing:
            work()


def agent_limits(limits: Limits, session: bool) -> tuple[float, float, int, int, int, int]:
    """Return the limits in the order and units the agent knows."""
    disk = limits.disk_mb << 20
    wall = 0.0 if session else limits.wall_s
    memory = limits.memory_mb << 20
    return (wall, limits.cpu_s or 0.0, memory, limits.processes, limits.open_files, disk)
