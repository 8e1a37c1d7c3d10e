"""A box over one byte stream: the host's end of `agent/stream.py`. The docker backend uses it."""

from __future__ import annotations

import asyncio
import marshal
import struct
from collections.abc import Callable
from typing import Any

from .base import Limits, SandboxUnavailable, WorkerDied
from .link import Job, parse_end
from .socket_link import agent_limits

MAX_FRAME = 1 << 21
"""An agent's frame is never larger; one that says so is not our agent's."""


class FrameChannel:
    """A session's bytes, in frames of the common stream."""

    def __init__(self, send: Callable[[bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(limit=1 << 26, loop=loop)
        self._send = send

    async def send(self, data: bytes) -> None:
        """Send to the session."""
        self._send(data)


class StreamLink:
    """A box behind a reader and a writer."""

    def __init__(self, writer: Callable[[bytes], None]) -> None:
        self.alive = True
        self.once = False
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[str] = self._loop.create_future()
        self._write = writer
        self._closing: list[Callable[[], None]] = []
        self._jobs: dict[int, Job] = {}
        self._numbers = 0
        self._held = bytearray()

    def start(
        self, kind: str, limits: Limits, payload: bytes, stdin: bytes = b"", *, session: bool = False
    ) -> Job:
        """Start a job; see `Link.start`."""
        if not self.alive:
            raise WorkerDied("The container is gone.")
        self._numbers += 1
        job = Job(self._numbers, limits, self._loop)
        number = job.number
        self._jobs[number] = job
        if session:
            job.channel = FrameChannel(lambda data: self._tell("data", number, data), self._loop)
        own = agent_limits(limits, session)
        self._tell("start", number, kind, session, own, limits.output_bytes, payload, stdin)
        return job

    def stop(self, job: Job, reason: str = "cancelled") -> None:
        """Kill a job and all it started."""
        self._tell("stop", job.number, reason)

    def signal(self, job: Job, which: int) -> None:
        """Send a signal to a session's process group."""
        self._tell("signal", job.number, int(which))

    def _tell(self, *message: Any) -> None:
        if self.alive:
            data = marshal.dumps(message, 2)
            self._write(struct.pack("<I", len(data)) + data)

    def feed(self, data: bytes) -> None:
        """Take bytes of the agent."""
        self._held += data
        while len(self._held) >= 9:
            size, kind, number = struct.unpack_from("<IcI", self._held)
            if size > MAX_FRAME:
                self.lose("The container sent something that is no frame.")
                return
            if len(self._held) < 9 + size:
                return
            body = bytes(self._held[9 : 9 + size])
            del self._held[: 9 + size]
            self._frame(kind, number, body)

    def _frame(self, kind: bytes, number: int, body: bytes) -> None:
        if kind == b"R":
            if not self.ready.done():
                self.ready.set_result(body.decode("ascii", "replace"))
                self._tell("hello", 0)
            return
        job = self._jobs.get(number)
        if job is None:
            return
        if kind in (b"O", b"E"):
            if job.wrote(0 if kind == b"O" else 1, body):
                self.stop(job)
        elif kind == b"X":
            if job.dropped(0 if body[:1] == b"O" else 1, struct.unpack("<Q", body[1:])[0]):
                self.stop(job)
        elif kind == b"C" and job.channel is not None:
            job.channel.reader.feed_data(body)
        elif kind == b"c" and job.channel is not None:
            job.channel.reader.feed_eof()
        elif kind == b"D":
            del self._jobs[number]
            _, end = parse_end(body.decode("utf-8", "replace"))
            if not job.end.done():
                job.end.set_result(end)
            for which in (0, 1):
                job.closed(which)

    def lose(self, why: str) -> None:
        """The stream has ended."""
        if not self.ready.done():
            self.ready.set_exception(SandboxUnavailable(why))
            self.ready.exception()
        jobs = list(self._jobs.values())
        self._jobs.clear()
        self.close()
        for job in jobs:
            job.lose(WorkerDied(why))

    def close(self) -> None:
        """End the container and all in it."""
        if self.alive:
            self.alive = False
            for job in list(self._jobs.values()):
                job.lose(WorkerDied("The box was closed while a program ran."))
            self._jobs.clear()
            for work in self._closing:
                work()

    def on_close(self, work: Callable[[], None]) -> None:
        """Have something done when the box is closed or lost."""
        self._closing.append(work)
