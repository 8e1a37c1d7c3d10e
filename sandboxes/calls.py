"""Values-only calls: functions of a program that is not trusted, with plain values in and plain values out.

What a verifier may believe about a solution is only what crosses here: bytes that the host reads into plain
values of its own making. The expected values stay on the host. `Functions.call` can also stand behind a judge:
a test program in a second box whose `candidate` is a stub, answered out here (see `judge`).
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .agent import calls as wire
from .agent.values import MAX_BYTES, NotPlain, decode, encode
from .base import Limits, LimitsError, Result, SandboxClosed, WorkerDied
from .closing import AsyncClosing
from .link import GRACE_S, Job, Link, finish
from .portal import Portal

MAX_RESTARTS = 3
"""After a crash or time-out the other calls meet a fresh process; after so many of them they are not tried."""


class Status(StrEnum):
    """How a call ended. Everything but VALUE is a failure of the program."""

    VALUE = "value"
    """It returned a plain value."""
    RAISED = "raised"
    """It raised; `error` has the type and text."""
    NOT_PLAIN = "not_plain"
    """It returned something that is not plain data, or too much of it."""
    MISSING = "missing"
    """The program defines no such function."""
    LOAD_FAILED = "load_failed"
    """The program could not be loaded at all."""
    TIMEOUT = "timeout"
    """It took too long."""
    CRASHED = "crashed"
    """The process ended in the call: a signal, memory, `os._exit`."""
    MALFORMED = "malformed"
    """The process sent something that is no answer to this call."""
    NOT_RUN = "not_run"
    """Too many earlier calls had ended the process."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function: a name of the program's, or `Class.method` on a new instance."""

    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float | None = None
    """Seconds; None: `Limits.wall_s`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call."""

    status: Status
    value: Any = None
    """A plain value, when the status is VALUE."""
    error: str = ""
    """What went wrong, otherwise: the exception's type and text, or our words. The program's own words are in it."""
    error_type: str = ""
    """The name of the exception's type, when it raised."""
    wall_s: float = 0.0
    """Seconds it took, seen from outside."""
    memory_mb: float = 0.0
    """MiB: the largest resident size that the process which answered ever reached; 0.0 while it lives."""

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status is Status.VALUE


Handler = Callable[[list[Any], dict[str, Any]], Awaitable[Outcome]]
"""What answers a stub in a judge's program: positional and keyword arguments to an outcome."""


class Functions(AsyncClosing):
    """A loaded program whose functions can be called."""

    def __init__(self, link: Link, job: Job, portal: Portal) -> None:
        self.alive = True
        self._link = link
        self._job = job
        self._portal = portal
        self._turn = asyncio.Lock()
        self._loaded: Outcome | None = None
        self._then: Callable[[], Awaitable[None]] | None = None

    async def call(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        wall_s: float | None = None,
    ) -> Outcome:
        """Call a function. After a time-out or crash every later call has the same status."""
        return await self._portal.hop(self.exchange([Call(name, args, kwargs or {}, wall_s)]))

    async def exchange(self, calls: Sequence[Call]) -> Any:
        """Make one call, on the portal's thread."""
        async with self._turn:
            outcomes = await self.batch(calls)
        return outcomes[0]

    async def batch(self, calls: Sequence[Call]) -> list[Outcome]:
        """Send calls at once and read the answers in order, until one ends the process."""
        if not self.alive:
            raise SandboxClosed("These functions are closed.")
        limits = self._job.limits
        requests = [(os.urandom(wire.NONCE), encode([c.name, list(c.args), dict(c.kwargs)])) for c in calls]
        for c in calls:
            if c.wall_s is not None and not 0 < c.wall_s <= 86_400:
                raise LimitsError(f"Call.wall_s must be above 0, got {c.wall_s!r}.")
        if self._loaded is None:
            self._loaded = await self._answer(bytes(wire.NONCE), limits.wall_s)
        if not self._loaded.ok:
            failed = self._loaded
            status = Status.LOAD_FAILED if failed.status is Status.RAISED else failed.status
            return [Outcome(status, None, failed.error, failed.error_type, failed.wall_s)] * len(calls)
        sending = asyncio.ensure_future(self._send(requests))
        outcomes: list[Outcome] = []
        try:
            for (nonce, _), c in zip(requests, calls, strict=True):
                outcome = await self._answer(nonce, c.wall_s or limits.wall_s)
                outcomes.append(outcome)
                if outcome.status in _FATAL:
                    self._loaded = outcome
                    break
        finally:
            sending.cancel()
        return outcomes

    async def _send(self, requests: Sequence[tuple[bytes, bytes]]) -> None:
        assert self._job.channel is not None
        frames = b"".join(struct.pack("<I", len(n) + len(body)) + n + body for n, body in requests)
        try:
            await self._job.channel.send(frames)
        except OSError:
            return  # its end is on the way

    async def _answer(self, nonce: bytes, seconds: float) -> Outcome:
        assert self._job.channel is not None
        started = time.monotonic()
        reading = asyncio.ensure_future(read_frame(self._job.channel.reader))
        reading.add_done_callback(_noticed)
        try:
            first: set[asyncio.Future[Any]] = {reading, self._job.end}
            await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and self._job.end.done():
                await asyncio.wait({reading}, timeout=0.2)  # what it said last may still be on the way
        finally:
            if not reading.done():
                reading.cancel()
        took = time.monotonic() - started
        if not reading.done() or reading.cancelled():
            if self._job.end.done():
                return self._crashed(took)
            return Outcome(Status.TIMEOUT, error=f"no answer within {seconds:g} s", wall_s=took)
        try:
            answered, status, body = reading.result()
        except asyncio.IncompleteReadError:
            await asyncio.wait({self._job.end}, timeout=GRACE_S)
            return self._crashed(took)
        except NotPlain as error:
            return Outcome(Status.MALFORMED, error=str(error), wall_s=took)
        return read_outcome(answered == nonce, status, body, took)

    def _crashed(self, took: float) -> Outcome:
        if not self._job.end.done():
            return Outcome(Status.MALFORMED, error="it closed its channel", wall_s=took)
        end = self._job.end.result()  # raises when the box itself was lost
        words = {"memory": "it went over its memory limit", "cancelled": "it was stopped"}
        text = words.get(end.reason) or f"the process ended with status {end.status:#x}"
        return Outcome(Status.CRASHED, error=text, wall_s=took)

    @property
    def memory_mb(self) -> float:
        """MiB: the largest resident size of its process; 0.0 before its end."""
        end = self._job.end
        known = end.done() and not end.cancelled() and end.exception() is None
        return end.result().max_rss_kb / 1024 if known else 0.0

    async def aclose(self) -> None:
        """End the program."""
        await self._portal.hop(self.end())
        if self._then is not None:
            then, self._then = self._then, None
            await then()

    def then(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done after `aclose`."""
        self._then = work

    async def end(self) -> None:
        """End the program, on the portal's thread."""
        if self.alive:
            self.alive = False
            if self._link.alive and not self._job.end.done():
                self._link.stop(self._job)
                await asyncio.wait({self._job.finished}, timeout=GRACE_S)
            self._job.loosen()

    def lose(self) -> None:
        """The box is being closed: this is over."""
        self.alive = False


_FATAL = (Status.TIMEOUT, Status.CRASHED, Status.MALFORMED)


def _noticed(reading: asyncio.Future[Any]) -> None:
    """Look at how a reading ended: one that fails while it is given up has nobody else who does."""
    if not reading.cancelled():
        reading.exception()


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """Read one frame of untrusted bytes: number, status, body."""
    (size,) = struct.unpack("<I", await reader.readexactly(4))
    if not wire.NONCE < size <= 2 * MAX_BYTES:
        raise NotPlain(f"a frame of {size:,} bytes")
    data = await reader.readexactly(size)
    return data[: wire.NONCE], data[wire.NONCE : wire.NONCE + 1], data[wire.NONCE + 1 :]


def read_outcome(matches: bool, status: bytes, body: bytes, took: float) -> Outcome:
    """Turn a frame into an outcome, believing nothing."""
    if not matches:
        return Outcome(Status.MALFORMED, error="an answer to no question of ours", wall_s=took)
    try:
        value: Any = decode(body)
        if status == wire.VALUE:
            return Outcome(Status.VALUE, value, wall_s=took)
        kind, text = value
        if type(kind) is not str or type(text) is not str:
            raise NotPlain("an exception that is not described by text")
    except (NotPlain, TypeError, ValueError) as error:
        return Outcome(Status.MALFORMED, error=str(error), wall_s=took)
    known = {wire.RAISED: Status.RAISED, wire.NOT_PLAIN: Status.NOT_PLAIN, wire.MISSING: Status.MISSING}
    if status not in known:
        return Outcome(Status.MALFORMED, error=f"an unknown status {status!r}", wall_s=took)
    words = f"{kind}: {text}" if status == wire.RAISED else text
    return Outcome(known[status], None, words, kind, took)


async def run_calls(
    link: Link, payload: bytes, calls: Sequence[Call], limits: Limits, portal: Portal
) -> list[Outcome]:
    """Load a program and make calls; when one ends the process, the others meet a fresh one."""
    outcomes: list[Outcome] = []
    for _ in range(MAX_RESTARTS + 1):
        functions = Functions(link, link.start("calls", limits, payload, session=True), portal)
        try:
            answered = await functions.batch(calls[len(outcomes) :])
        finally:
            await functions.end()
        outcomes += [replace(outcome, memory_mb=functions.memory_mb) for outcome in answered]
        if len(outcomes) == len(calls):
            return outcomes
    left = len(calls) - len(outcomes)
    words = f"{MAX_RESTARTS + 1} earlier calls ended the process"
    return outcomes + [Outcome(Status.NOT_RUN, error=words)] * left


async def judge(link: Link, payload: bytes, stubs: Mapping[str, Handler], limits: Limits) -> Result:
    """Run a judge's program, answering its stubs until it ends."""
    job = link.start("judge", limits, payload, session=True)
    answering = asyncio.ensure_future(_serve(job, stubs))
    deadline = asyncio.get_running_loop().call_later(limits.wall_s, link.stop, job, "timeout")
    try:
        return await finish(link, job, limits.wall_s)
    finally:
        deadline.cancel()
        answering.cancel()


async def _serve(job: Job, stubs: Mapping[str, Handler]) -> None:
    """Answer the calls of a judge's program. A frame that is no call ends the service, and so the program."""
    assert job.channel is not None
    while True:
        try:
            nonce, _, body = await read_frame(job.channel.reader)
            request: Any = decode(body)
            name, args, kwargs = request
            handler = stubs[name]
        except (asyncio.IncompleteReadError, NotPlain, TypeError, ValueError, KeyError):
            return
        outcome = await handler(args, kwargs)
        if outcome.ok:
            answer = wire.VALUE + encode(outcome.value)
        else:
            known = outcome.error_type or "RuntimeError"
            text = (
                outcome.error.removeprefix(f"{known}: ")
                if outcome.error_type
                else f"{outcome.status}: {outcome.error}"
            )
            answer = wire.RAISED + encode([known, text])
        frame = struct.pack("<I", len(nonce) + len(answer)) + nonce + answer
        try:
            await job.channel.send(frame)
        except OSError:
            return


__all__ = ["Call", "Functions", "Handler", "Outcome", "Status", "WorkerDied", "judge", "run_calls"]
