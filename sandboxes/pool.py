"""Many boxes of one backend: ready ahead of demand, bounded in number, each used by one program or one episode.

`run`, `call` and `judge` take a fresh box each and throw it away, so programs never meet. `sandbox` lends a box
for an episode. How many programs run at once is bounded; who comes later waits in order, and for a bounded time.
"""

from __future__ import annotations

import asyncio
import marshal
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from .base import (
    Capabilities,
    Files,
    Limits,
    LimitsError,
    PoolExhausted,
    Result,
    SandboxClosed,
    SandboxError,
    WorkerDied,
)
from .box import Backend, BoxSandbox, at_home
from .calls import Call, Functions, Handler, Outcome, judge, run_calls
from .closing import Closing
from .link import Link, finish
from .payload import as_bytes, pack_files, program
from .portal import Portal

T = TypeVar("T")

WAIT_S = 600.0
"""How long a program may wait for its turn unless the pool was opened with another time."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Numbers of a pool, at one moment or since it was opened."""

    running: int
    """Programs that run now."""
    waiting: int
    """Programs that wait for their turn now."""
    spare: int
    """Boxes that are open and unused now."""
    lent: int
    """Boxes that are lent to an episode now."""
    runs: int
    """Programs run so far."""
    opened: int
    """Boxes opened so far."""
    retried: int
    """Programs that were run again because their box had been lost."""


class Pool(Closing):
    """Run programs in fresh boxes, many at once; see `Runner`. Usable from any thread and event loop."""

    def __init__(
        self,
        backend: Backend,
        portal: Portal,
        limits: Limits,
        *,
        size: int | None = None,
        spares: int | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.size = 4 * cores if size is None else size
        self.spares = min(self.size, 2 * cores) if spares is None else spares
        if self.size < 1 or self.spares < 0 or wait_s <= 0:
            raise LimitsError(
                f"A pool needs size >= 1, spares >= 0 and wait_s > 0; got {self.size}, {self.spares}, {wait_s}."
            )
        self.limits = limits
        self._wait_s = wait_s
        self._backend = backend
        self._portal = portal
        self._turns = asyncio.Semaphore(self.size)
        self._loaded = asyncio.Semaphore(self.size)  # of their own: who holds one may wait for a turn
        self._ready: deque[Link] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._lent: set[BoxSandbox] = set()
        self._counts = dict.fromkeys(("running", "waiting", "runs", "opened", "retried"), 0)
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the programs get."""
        return self._backend.capabilities

    @property
    def closed(self) -> bool:
        """Whether the pool has been closed."""
        return self._closed

    def stats(self) -> PoolStats:
        """Return the pool's numbers."""
        return PoolStats(spare=len(self._ready), lent=len(self._lent), **self._counts)

    # --- one program in a box of its own -------------------------------------------------------------------

    async def run(
        self,
        code: str | Sequence[str],
        *,
        language: str = "python",
        stdin: str | bytes = b"",
        files: Files | None = None,
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run one program in a fresh box; see `Runner.run`."""
        kind, payload = program(code, language, files, env)
        return await self._portal.hop(self._run(kind, payload, as_bytes(stdin), limits or self.limits))

    def run_sync(
        self,
        code: str | Sequence[str],
        *,
        language: str = "python",
        stdin: str | bytes = b"",
        files: Files | None = None,
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Do what `run` does, from a thread without an event loop."""
        kind, payload = program(code, language, files, env)
        return self._portal.call(self._run(kind, payload, as_bytes(stdin), limits or self.limits))

    async def _run(self, kind: str, payload: bytes, stdin: bytes, limits: Limits) -> Result:
        def start(link: Link) -> Awaitable[Result]:
            link.once = True
            return finish(link, link.start(kind, limits, payload, stdin), limits.wall_s)

        result = await self._in_box(limits, start)
        return result if self.capabilities.isolated else replace(result, isolated=False)

    async def call(
        self, code: str, calls: Sequence[Call], *, files: Files | None = None, limits: Limits | None = None
    ) -> list[Outcome]:
        """Load a program in a fresh box and call its functions with plain values."""
        return await self._portal.hop(self._call(code, calls, files, limits or self.limits))

    def call_sync(
        self, code: str, calls: Sequence[Call], *, files: Files | None = None, limits: Limits | None = None
    ) -> list[Outcome]:
        """Do what `call` does, from a thread without an event loop."""
        return self._portal.call(self._call(code, calls, files, limits or self.limits))

    async def _call(
        self, code: str, calls: Sequence[Call], files: Files | None, limits: Limits
    ) -> list[Outcome]:
        payload = marshal.dumps((as_bytes(code), pack_files(files), {}), 2)
        return await self._in_box(limits, lambda link: run_calls(link, payload, calls, limits, self._portal))

    async def judge(
        self,
        code: str,
        stubs: Mapping[str, Handler],
        *,
        module: str | None = None,
        files: Files | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a test program whose stubs are answered out here, in a fresh box; see `BoxSandbox.judge`."""
        own = limits or self.limits
        payload = marshal.dumps((as_bytes(code), pack_files(files), {}, list(stubs), module), 2)
        handlers = {name: at_home(handler) for name, handler in stubs.items()}
        return await self._portal.hop(self._judge(payload, handlers, own))

    async def _judge(self, payload: bytes, handlers: dict[str, Handler], limits: Limits) -> Result:
        return await self._in_box(limits, lambda link: judge(link, payload, handlers, limits))

    async def _in_box(self, limits: Limits, work: Callable[[Link], Awaitable[T]]) -> T:
        """Do `work` in a fresh box when it is its turn; once more in another box if the first was lost."""
        if self._closed:
            raise SandboxClosed("This pool is closed. Open another one with open_pool().")
        await self._wait(self._turns)
        self._counts["running"] += 1
        try:
            try:
                return await self._once(limits, work)
            except WorkerDied:
                if self.closed:
                    raise
                self._counts["retried"] += 1
                return await self._once(limits, work)
        finally:
            self._counts["running"] -= 1
            self._turns.release()
            self._refill()

    async def _wait(self, places: asyncio.Semaphore) -> None:
        """Take one of the places, in order of coming."""
        if not places.locked():
            await places.acquire()
            return
        self._counts["waiting"] += 1
        try:
            await asyncio.wait_for(places.acquire(), self._wait_s)
        except TimeoutError:
            raise PoolExhausted(
                f"None of the pool's {self.size} places became free within {self._wait_s:g} s. "
                "Open it with a larger size, or give programs less time."
            ) from None
        finally:
            self._counts["waiting"] -= 1

    async def _once(self, limits: Limits, work: Callable[[Link], Awaitable[T]]) -> T:
        link = await self._take(limits)
        try:
            self._counts["runs"] += 1
            return await work(link)
        finally:
            link.close()

    # --- boxes ----------------------------------------------------------------------------------------------

    async def _take(self, limits: Limits) -> Link:
        same = all(getattr(limits, name) == getattr(self.limits, name) for name in self._backend.fixed)
        while same and self._ready:
            link = self._ready.popleft()
            if link.alive:
                return link
        self._counts["opened"] += 1
        return await self._backend.open_box(limits)

    def _refill(self) -> None:
        busy = self._refilling is not None and not self._refilling.done()
        if not self._closed and not busy and len(self._ready) < self.spares:
            self._refilling = asyncio.ensure_future(self._fill_quietly())

    async def _fill_quietly(self) -> None:
        """Fill up in the background; that it failed shows at the next program, which opens its own box."""
        with suppress(SandboxError):
            await self._fill(self.spares)

    async def _fill(self, count: int) -> None:
        while not self._closed and len(self._ready) < count:
            link = await self._backend.open_box(self.limits)
            self._counts["opened"] += 1
            if self.closed:
                link.close()
            else:
                self._ready.append(link)

    async def warm(self, count: int | None = None) -> None:
        """Open boxes ahead of demand: `count` of them, or as many as the pool keeps."""
        await self._portal.hop(self._fill(self.spares if count is None else count))

    @asynccontextmanager
    async def sandbox(self, *, limits: Limits | None = None) -> AsyncIterator[BoxSandbox]:
        """Lend a fresh box to an episode; it is thrown away at the end."""
        lent = await self.lend(limits=limits)
        try:
            yield lent
        finally:
            await lent.aclose()

    async def lend(self, *, limits: Limits | None = None) -> BoxSandbox:
        """Lend a fresh box until its `aclose`."""
        return await self._portal.hop(self._lend(limits or self.limits))

    async def _lend(self, limits: Limits) -> BoxSandbox:
        if self._closed:
            raise SandboxClosed("This pool is closed. Open another one with open_pool().")
        link = await self._take(limits)
        lent = BoxSandbox(self._backend, self._portal, limits, owner=False)
        lent.adopt(link, lambda: self._lent.discard(lent))
        self._lent.add(lent)
        return lent

    async def functions(
        self, code: str, *, files: Files | None = None, limits: Limits | None = None
    ) -> Functions:
        """Load a program in a fresh box and keep it until the functions' `aclose`; as many at once as programs run."""
        return await self._portal.hop(self._functions(code, files, limits or self.limits))

    async def _functions(self, code: str, files: Files | None, limits: Limits) -> Functions:
        await self._wait(self._loaded)
        lent: BoxSandbox | None = None
        try:
            lent = await self._lend(limits)
            functions = await lent.functions(code, files=files)
        except BaseException:
            self._loaded.release()
            if lent is not None:
                await lent.aclose()
            raise
        box = lent

        async def unload() -> None:
            self._loaded.release()
            await box.aclose()

        functions.then(lambda: self._portal.hop(unload()))
        return functions

    # --- its life -------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Kill everything and free it."""
        if not self._closed:
            self._closed = True
            await self._portal.hop(self._close())
            await asyncio.to_thread(self._portal.stop)

    def close(self) -> None:
        """Do what `aclose` does, from a thread without an event loop."""
        if not self._closed:
            self._closed = True
            self._portal.call(self._close())
            self._portal.stop()

    async def _close(self) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
        while self._ready:
            self._ready.popleft().close()
        for lent in list(self._lent):
            await lent.aclose()
        await self._backend.aclose()
