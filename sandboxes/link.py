"""The host's end of a box: jobs that were started in it, the bytes they write, and how they ended.

A `Link` is what a backend gives for one open box. Two kinds of it exist: `local.SocketLink` passes file
descriptors to the box's init, and `stream.StreamLink` speaks frames over one byte stream (a container).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .base import (
    OUTPUT_KILL_FACTOR,
    LanguageError,
    Limits,
    LimitsError,
    Reason,
    Result,
    SandboxError,
    SandboxFileError,
    Usage,
    WorkerDied,
)

GRACE_S = 3.0
"""How long after its deadline a box may take to report before we give it up as lost."""


@dataclass(frozen=True, slots=True)
class End:
    """What the box's init reports about a job."""

    reason: str
    """"ended" by itself, or "timeout", "memory", "cancelled" when we stopped it, "failed" when it never began."""
    status: int
    """As wait(2) gives it."""
    wall_s: float
    cpu_s: float
    max_rss_kb: int
    text: str
    """What went wrong, for "failed"."""


def parse_end(line: str) -> tuple[int, End]:
    """Read a "done" report: number, reason, status, wall, cpu, rss, text."""
    words = line.split(" ", 7)
    end = End(words[2], int(words[3]), float(words[4]), float(words[5]), int(words[6]), words[7])
    return int(words[1]), end


class Output:
    """One stream of a job: keeps up to `cap` bytes and goes on counting."""

    __slots__ = ("cap", "ended", "kept", "total")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.kept = bytearray()
        self.total = 0
        self.ended = False

    def add(self, data: bytes) -> None:
        """Take what arrived."""
        room = self.cap - len(self.kept)
        if room > 0:
            self.kept += data[:room]
        self.total += len(data)

    def take(self) -> tuple[bytes, bool]:
        """Return what was kept and whether that is not all of it, and start over."""
        kept, cut = bytes(self.kept), self.total > len(self.kept)
        self.kept.clear()
        self.total = 0
        return kept, cut


class Channel(Protocol):
    """The bytes of a session, beside its streams. What arrives was written by untrusted code."""

    reader: asyncio.StreamReader

    async def send(self, data: bytes) -> None:
        """Send to the session."""


class Job:
    """One program in a box, seen from the host."""

    def __init__(self, number: int, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.limits = limits
        self.outputs = (Output(limits.output_bytes), Output(limits.output_bytes))
        self.end: asyncio.Future[End] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self.channel: Channel | None = None
        self.flooded = False
        self.flood_at = max(1 << 24, OUTPUT_KILL_FACTOR * limits.output_bytes)
        self.loosen: Callable[[], None] = lambda: None
        self.drain: Callable[[], None] = lambda: None

    def wrote(self, which: int, data: bytes) -> bool:
        """Take output; True the first time it is a flood."""
        self.outputs[which].add(data)
        return self.dropped(which, 0)

    def dropped(self, which: int, count: int) -> bool:
        """Count output that is not kept; True the first time it is a flood."""
        output = self.outputs[which]
        output.total += count
        if output.total > self.flood_at and not self.flooded:
            self.flooded = True
            return True
        return False

    def closed(self, which: int) -> None:
        """One stream has ended."""
        self.outputs[which].ended = True
        self.settle()

    def settle(self) -> None:
        """Mark the job as finished when its end and both streams' ends are known."""
        if self.end.done() and all(o.ended for o in self.outputs) and not self.finished.done():
            self.finished.set_result(None)

    def lose(self, error: SandboxError) -> None:
        """The box is gone: nobody will report this job's end."""
        for future in (self.end, self.finished):
            if not future.done():
                future.set_exception(error)
                future.exception()  # it may be that nobody waits for this one
        self.loosen()


class Link(Protocol):
    """An open box."""

    alive: bool
    """False once it is closed or lost."""
    once: bool
    """To be set when nobody will use the box after its next job; it may then end with it."""

    def start(
        self,
        kind: str,
        limits: Limits,
        payload: bytes,
        stdin: bytes = b"",
        *,
        session: bool = False,
    ) -> Job:
        """Start a job; a session has no deadline in the box, and a channel."""

    def stop(self, job: Job, reason: str = "cancelled") -> None:
        """Kill a job and all it started; `reason` comes back in its end."""

    def signal(self, job: Job, which: int) -> None:
        """Send a signal to a session's process group."""

    def close(self) -> None:
        """Kill everything in the box."""


async def finish(link: Link, job: Job, wall_s: float) -> Result:
    """Wait, for a bounded time, until a job is over; killing it when the waiting is cancelled."""
    late = asyncio.get_running_loop().call_later(wall_s + GRACE_S, _give_up, link, job)
    try:
        await job.finished
    except asyncio.CancelledError:
        link.stop(job)
        await asyncio.wait({job.end}, timeout=GRACE_S)
        raise
    finally:
        late.cancel()
        job.loosen()
    return to_result(job)


def _give_up(link: Link, job: Job) -> None:
    job.lose(
        WorkerDied(
            f"The box did not report the end of a program within {GRACE_S:g} s of its limit; it was killed."
        )
    )
    link.close()


def to_result(job: Job) -> Result:
    """Say what happened in the words of the contract."""
    end = job.end.result()
    if end.reason == "failed":
        raise failure(end.text)
    (stdout, cut_out), (stderr, cut_err) = (output.take() for output in job.outputs)
    code, number = exit_of(end.status)
    usage = Usage(wall_s=end.wall_s, cpu_s=end.cpu_s, max_rss_mb=end.max_rss_kb / 1024)
    reason = reason_of(job, end, code, number, stderr)
    stopped = reason in (Reason.TIMEOUT, Reason.OUTPUT) or end.reason == "memory"
    return Result(
        reason=reason,
        exit_status=None if stopped else code,
        signal=None if stopped else number,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        stdout_truncated=cut_out,
        stderr_truncated=cut_err,
        usage=usage,
    )


def failure(text: str) -> SandboxError:
    """Turn the words of a job that never began into the error they mean."""
    topic, _, rest = text.partition(" ")
    if topic == "file":
        return SandboxFileError(f"A file could not be put into the working folder: {rest}.")
    if topic == "language":
        return LanguageError(rest)
    if topic == "limit":
        return LimitsError(rest)
    return SandboxError(f"A program could not be confined, and so was not started: {rest}")


def exit_of(status: int) -> tuple[int | None, int | None]:
    """Split a wait status into exit status and signal."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def reason_of(job: Job, end: End, code: int | None, number: int | None, stderr: bytes) -> Reason:
    """Decide why a program ended."""
    cpu = job.limits.cpu_s
    if job.flooded:
        return Reason.OUTPUT
    if end.reason in ("timeout", "memory"):
        return Reason(end.reason)
    if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu is not None and end.cpu_s >= cpu):
        return Reason.TIMEOUT
    if number is not None or end.reason == "cancelled":
        return Reason.KILLED
    if code == 0:
        return Reason.OK
    if stderr.rstrip()[-200:].rpartition(b"\n")[2].startswith(b"MemoryError"):
        return Reason.MEMORY  # the interpreter's own words: it met the limit of its address space
    return Reason.ERROR
