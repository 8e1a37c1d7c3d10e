"""The agent of a container: init process, fork server and box in one, over one byte stream.

A container is one box already, so nothing is cloned: jobs are forked from here, and after each the kernel
sweeps everything else that lives in the container. Frames come in on the main process's stdin and go out on its
stdout. When the stream ends (the supervisor is gone) the agent ends, and the container with it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would load enum
import gc
import marshal
import os
import resource
import select
import struct
import sys

from . import box, job, seccomp, system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 1 << 16
FIRST_WORD_S = 60.0
"""A supervisor that has not said a word by then died between making the container and attaching to it."""
OUT, ERR, CHANNEL, DROPPED, DONE, READY, CLOSED = b"O", b"E", b"C", b"X", b"D", b"R", b"c"


class Pump:
    """The descriptors of one job on our side."""

    def __init__(self, number: int, cap: int) -> None:
        self.number = number
        self.cap = cap
        self.left = {OUT: cap, ERR: cap}
        self.dropped = {OUT: 0, ERR: 0}
        self.channel = -1
        self.open: set[int] = set()

    def begin(self) -> None:
        """A new call of a session: the caps start over."""
        self.left = {OUT: self.cap, ERR: self.cap}


class Agent:
    """The loop of the main process."""

    def __init__(self, source: int, sink: int, base_pages: int) -> None:
        self.source = source
        self.sink = sink
        self.box = box.Box(self.report, base_pages=base_pages, sweep=True)
        self.pumps: dict[int, Pump] = {}
        self.by_fd: dict[int, tuple[Pump, bytes]] = {}
        self.held = bytearray()
        self.box.poller.register(source, 1)

    def send(self, kind: bytes, number: int, body: bytes) -> None:
        """Write one frame."""
        data = memoryview(struct.pack("<IcI", len(body), kind, number) + body)
        while data:
            data = data[os.write(self.sink, data) :]

    def report(
        self, number: int, reason: str, status: int, wall: float, cpu: float, rss: int, text: str
    ) -> None:
        """Pass on what is left in the pipes of a job that has ended, then its end."""
        pump = self.pumps.pop(number)
        self.flush(pump)
        if pump.channel >= 0:
            os.set_blocking(pump.channel, False)
            while pump.channel >= 0 and self.forward(pump.channel):
                pass
        for fd in list(pump.open):  # a process of another session may hold the other end
            self.forget(fd)
        line = f"done {number} {reason} {status} {wall:.6f} {cpu:.6f} {rss} {text}"
        self.send(DONE, number, line.encode("utf-8", "replace")[:4000])

    def flush(self, pump: Pump) -> None:
        """Pass on all that a job has written so far, and how much was dropped."""
        for fd in list(pump.open):
            while fd in pump.open and self.by_fd[fd][1] != CHANNEL and self.forward(fd):
                pass
        for kind, count in pump.dropped.items():
            if count:
                self.send(DROPPED, pump.number, kind + struct.pack("<Q", count))
                pump.dropped[kind] = 0

    def forward(self, fd: int) -> bool:
        """Pass on what a job wrote; False when there is no more for now."""
        pump, kind = self.by_fd[fd]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.forget(fd)
            return False
        if kind == CHANNEL:
            self.flush(pump)  # what was written before an answer comes before it
            self.send(CHANNEL, pump.number, data)
            return True
        room = pump.left[kind]
        if room > 0:
            self.send(kind, pump.number, data[:room])
            pump.left[kind] -= min(room, len(data))
        if len(data) > room:
            pump.dropped[kind] += len(data) - max(room, 0)
            if pump.dropped[kind] > 1 << 22:
                self.send(DROPPED, pump.number, kind + struct.pack("<Q", pump.dropped[kind]))
                pump.dropped[kind] = 0
        return True

    def forget(self, fd: int) -> None:
        """Close a descriptor of a job."""
        pump, kind = self.by_fd.pop(fd)
        pump.open.discard(fd)
        self.box.poller.unregister(fd)
        os.close(fd)
        if kind == CHANNEL:
            pump.channel = -1
            self.send(CLOSED, pump.number, b"")

    def watch(self, pump: Pump, fd: int, kind: bytes) -> None:
        """Pass on what appears on a descriptor."""
        pump.open.add(fd)
        self.by_fd[fd] = (pump, kind)
        self.box.poller.register(fd, 1)

    def start(
        self,
        number: int,
        kind: str,
        session: bool,
        limits: tuple[Any, ...],
        cap: int,
        data: bytes,
        stdin: bytes,
    ) -> None:
        """Start a job with descriptors of our making."""
        pump = self.pumps[number] = Pump(number, cap)
        fds = [memory(data), memory(stdin) if stdin else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
        for which in (OUT, ERR):
            read, write = os.pipe()
            os.set_blocking(read, False)
            self.watch(pump, read, which)
            fds.append(write)
        if session:
            import _socket

            ours, theirs = _socket.socketpair()
            fds.append(theirs.detach())
            pump.channel = ours.detach()
            self.watch(pump, pump.channel, CHANNEL)
        self.box.start(number, kind, session, limits, fds)

    def take(self) -> None:
        """Read from the supervisor and do what it says."""
        data = os.read(self.source, 1 << 20)
        if not data:
            os._exit(0)
        self.held += data
        while len(self.held) >= 4:
            (size,) = struct.unpack_from("<I", self.held)
            if len(self.held) < 4 + size:
                return
            message = marshal.loads(bytes(self.held[4 : 4 + size]))
            del self.held[: 4 + size]
            self.obey(*message)

    def obey(self, word: str, number: int, *rest):  # type: ignore[no-untyped-def]
        """Carry out one message."""
        if word == "start":
            self.start(number, *rest)
        elif word == "stop":
            self.box.stop(number, rest[0])
        elif word == "signal":
            self.box.signal(number, rest[0])
        elif word == "data":
            pump = self.pumps.get(number)
            if pump is not None and pump.channel >= 0:
                pump.begin()
                self.write_channel(pump.channel, rest[0])

    def write_channel(self, fd: int, data: bytes) -> None:
        """Give a session its bytes; one that does not read them is not waited for long."""
        view = memoryview(data)
        while view:
            if not select.select([], [fd], [], 5.0)[1]:
                return
            try:
                view = view[os.write(fd, view[:CHUNK]) :]
            except OSError:
                return

    def serve(self) -> None:
        """Go on until the stream ends."""
        if not select.select([self.source], [], [], FIRST_WORD_S)[0]:
            os._exit(1)
        while True:
            for fd in self.box.wait():
                if fd == self.source:
                    self.take()
                elif fd in self.by_fd:
                    self.forward(fd)


def memory(data: bytes) -> int:
    """Put bytes into an anonymous file."""
    fd = os.memfd_create("job", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def main(options: dict) -> None:  # type: ignore[type-arg]
    """Serve as the main process of a container. `options`: preload."""
    source, sink = os.dup(0), os.dup(1)
    for fd in (source, sink):
        os.set_inheritable(fd, False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    for name in options["preload"]:
        __import__(name)
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/work")
    os.environ.clear()
    os.environ.update(options["environment"])
    system.drop_capabilities()
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    system.prctl(system.PR_SET_DUMPABLE, 0)
    system.load_filter(seccomp.build(system.MACHINE, leave_out=("memfd_create",)))
    gc.collect()
    gc.freeze()
    gc.disable()
    private, virtual = system.pages("self")
    job.base_bytes = virtual * box.PAGE
    job.count_processes = False  # the limit of a user's processes would count those of other containers
    job.last_victim = False
    agent = Agent(source, sink, private)
    agent.send(READY, 0, f"{sys.version_info.major}.{sys.version_info.minor}".encode())
    try:
        agent.serve()
    finally:
        os._exit(1)
