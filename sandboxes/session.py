"""A stateful interpreter in a box, seen from the host: one round trip per call, interruptible, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import signal
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .base import Limits, LimitsError, Reason, Result, SandboxClosed, SandboxError, Usage, WorkerDied
from .closing import Closing
from .link import GRACE_S, Job, Link, to_result
from .portal import Portal

HEED_S = 1.0
"""Seconds an interpreter has to come back after an interrupt before it is killed."""
START_S = 20.0
"""Seconds an interpreter has to start."""


class BoxSession(Closing):
    """A Python or bash that stays; see `base.Session` for what each method promises."""

    def __init__(
        self, kind: str, limits: Limits, portal: Portal, open_link: Callable[[], Awaitable[Link]]
    ) -> None:
        self.kind = kind
        self.limits = limits
        self.alive = True
        self._portal = portal
        self._open_link = open_link
        self._link: Link | None = None
        self._job: Job | None = None
        self._turn = asyncio.Lock()
        self._busy = False

    async def begin(self) -> None:
        """Start the interpreter and wait until it answers."""
        link = self._link = await self._open_link()
        payload = marshal.dumps((self.kind, {}), 2)
        job = self._job = link.start("repl", self.limits, payload, session=True)
        await self._send(job, "set +H; exec 2>&2" if self.kind == "bash" else "")
        first: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._status(job)), job.finished}
        done, _ = await asyncio.wait(first, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if job.end.done():
            to_result(job)  # raises what went wrong, if it says
            raise WorkerDied(f"A {self.kind} session ended before its first call.")
        if not done:
            await self._kill(link, job)
            raise WorkerDied(f"A {self.kind} session did not answer within {START_S:g} s of its start.")
        job.drain()
        for output in job.outputs:
            output.take()  # what an interactive shell says about having no terminal

    async def call(self, text: str, *, wall_s: float | None = None) -> Result:
        """Run `text` in the interpreter and return its output; see `Session.call`."""
        return await self._portal.hop(self._call(text, wall_s))

    def call_sync(self, text: str, *, wall_s: float | None = None) -> Result:
        """Do what `call` does, from a thread without an event loop."""
        return self._portal.call(self._call(text, wall_s))

    async def _call(self, text: str, wall_s: float | None) -> Result:
        wall = self.limits.wall_s if wall_s is None else wall_s
        if not 0 < wall <= 86_400:
            raise LimitsError(f"wall_s must be above 0, got {wall!r}.")
        if self.kind == "bash" and "\0" in text:
            return Result(
                reason=Reason.ERROR, exit_status=2, stderr_bytes=b"bash: a null byte in the command\n"
            )
        async with self._turn:
            if not self.alive:
                raise SandboxClosed("This session has ended. Start another one with sandbox.session().")
            if self._job is None:
                await self.begin()
            assert self._job is not None and self._link is not None
            return await self._exchange(self._link, self._job, text, wall)

    async def _exchange(self, link: Link, job: Job, text: str, wall: float) -> Result:
        started = time.monotonic()
        self._busy = True
        answer = asyncio.ensure_future(self._talk(job, text))
        try:
            status = await self._wait(answer, job, wall)
            timed_out = not answer.done() and not job.end.done()
            if timed_out:
                link.signal(job, signal.SIGINT)
                status = await self._wait(answer, job, HEED_S)
            if status is None:
                return await self._ended(link, job, timed_out, started)
            job.drain()
            return self._result(job, status, timed_out, time.monotonic() - started)
        except asyncio.CancelledError:
            await self._kill(link, job)
            raise
        finally:
            self._busy = False
            answer.cancel()

    async def _talk(self, job: Job, text: str) -> int | None:
        await self._send(job, text)
        return await self._status(job)

    async def _wait(self, answer: asyncio.Future[int | None], job: Job, seconds: float) -> int | None:
        """Wait for the answer or the interpreter's end; None when there is no answer."""
        first: set[asyncio.Future[Any]] = {answer, job.end}
        await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() and answer.exception() is None else None

    async def _send(self, job: Job, text: str) -> None:
        assert job.channel is not None
        data = text.encode("utf-8", "surrogatepass")
        if self.kind == "bash":
            frame = b"eval " + quote(data) + b" </dev/null\nprintf '%d\\n' \"$?\" >&0\n"
        else:
            frame = struct.pack("<I", len(data)) + data
        try:
            await job.channel.send(frame)
        except OSError:
            return  # its end is on the way

    async def _status(self, job: Job) -> int | None:
        assert job.channel is not None
        try:
            if self.kind == "bash":
                line = await job.channel.reader.readuntil(b"\n")
                return int(line) if len(line) <= 5 else None
            (status,) = struct.unpack("<i", await job.channel.reader.readexactly(4))
            return int(status) & 0xFF
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            return None

    def _result(self, job: Job, status: int, timed_out: bool, wall: float) -> Result:
        (stdout, cut_out), (stderr, cut_err) = (output.take() for output in job.outputs)
        reason = Reason.TIMEOUT if timed_out else Reason.ERROR if status else Reason.OK
        return Result(
            reason=reason,
            exit_status=None if timed_out else status,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
            stdout_truncated=cut_out,
            stderr_truncated=cut_err,
            usage=Usage(wall_s=wall),
        )

    async def _ended(self, link: Link, job: Job, timed_out: bool, started: float) -> Result:
        """The interpreter is gone, or has to go."""
        if not timed_out:
            await asyncio.wait({job.end}, timeout=0.5)  # it closed its channel: its end is on the way
        await self._kill(link, job)
        if not job.finished.done():
            link.close()
            raise WorkerDied("A session could not be ended; its box was killed.")
        found = to_result(job)
        reason = Reason.TIMEOUT if timed_out and found.reason is not Reason.OUTPUT else found.reason
        return Result(
            reason=reason,
            exit_status=None if timed_out else found.exit_status,
            signal=None if timed_out else found.signal,
            stdout_bytes=found.stdout_bytes,
            stderr_bytes=found.stderr_bytes,
            stdout_truncated=found.stdout_truncated,
            stderr_truncated=found.stderr_truncated,
            restarted=True,
            usage=Usage(wall_s=time.monotonic() - started),
        )

    async def _kill(self, link: Link, job: Job) -> None:
        self._job = None
        if not job.end.done():
            link.stop(job)
        await asyncio.wait({job.finished}, timeout=GRACE_S)
        job.loosen()

    async def interrupt(self) -> None:
        """Interrupt the call in progress, as Ctrl-C does; the state is kept."""
        await self._portal.hop(self._interrupt())

    def interrupt_sync(self) -> None:
        """Do what `interrupt` does, from a thread without an event loop."""
        self._portal.call(self._interrupt())

    async def _interrupt(self) -> None:
        if self._busy and self._link is not None and self._job is not None:
            self._link.signal(self._job, signal.SIGINT)

    async def aclose(self) -> None:
        """End the interpreter and its processes."""
        await self._portal.hop(self._close())

    def close(self) -> None:
        """Do what `aclose` does, from a thread without an event loop."""
        self._portal.call(self._close())

    async def _close(self) -> None:
        self.alive = False
        if self._job is not None and self._link is not None and self._link.alive:
            with contextlib.suppress(SandboxError):
                await self._kill(self._link, self._job)

    def lose(self) -> None:
        """The box is being closed: this session is over."""
        self.alive = False


def quote(data: bytes) -> bytes:
    """Quote bytes for bash, on one line."""
    out = bytearray(b"$'")
    for byte in data:
        if byte in b"'\\":
            out += b"\\" + bytes([byte])
        elif byte < 32 or byte == 127:
            out += b"\\x%02x" % byte if byte != 10 else b"\\n"
        else:
            out.append(byte)
    return bytes(out + b"'")
