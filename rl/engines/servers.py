"""Which of several servers answers, who keeps to which, and which are in use at all.

A server is *ready* once it was admitted: looked at, and given the weights of the others. One that fails to answer
rests and is admitted anew after a pause that grows; one that is gone is lost, and what waited for it goes elsewhere.
One that was started from here and has ended is started again, a few times in a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...tools.openai_client import EndpointError, OpenAIClient
from .base import EngineError
from .local_server import LocalServer

T = TypeVar("T")

SLACK = 4
"""So many more sessions than the idlest server may one have and still get those that share a prompt with it."""
PROMPTS = 4096
"""Prompts of which it is known who has seen them."""
PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
"""Seconds that a server rests after its first failure, doubled for each further one, and the longest rest."""
MISSES = 2
"""Looks in a row that find no health before a server is given up; a busy one may be late once."""
LOOK_S = 10.0
"""Seconds that a server has to say that it is well."""
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Server:
    """One server, as seen from here."""

    url: str
    """Its address, without a path."""
    client: OpenAIClient
    """Its own, so that each has its connections."""
    process: LocalServer | None = None
    """What runs it, where it was started from here."""
    number: int = 0
    """Which of those that were started it is."""
    restarts: int = 0
    """How often it was started again."""
    hindered: str = ""
    """Why that failed last."""
    until: float = float("inf")
    """The loop's time by which it must be well after it was started again."""
    ready: bool = False
    """It may be asked."""
    greeted: bool = False
    """Its settings were looked at and fit."""
    weights: str = ""
    """The label of the weights that it was given last."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who gives it weights."""
    sessions: int = 0
    """Sessions that keep to it, and requests without one."""
    requests: set[asyncio.Task[Any]] = field(default_factory=set)
    """What waits for its answers."""
    failures: int = 0
    """Failures since its last answer."""
    misses: int = 0
    """Looks in a row that found no health."""
    again: float = 0.0
    """The loop's time at which it may be admitted anew."""
    unfit: bool = False
    """Its settings do not fit; waiting does not help."""
    why: str = "it was not reached yet"
    """What it failed by, for a person."""

    async def healthy(self) -> bool:
        """Return whether it says that it is well."""
        try:
            await self.client.call("GET", "/health", timeout_s=LOOK_S)
        except EndpointError as error:
            self.why = error.reason
            return False
        return True


class ServerPool:
    """Servers, and who is asked.

    Args:
        servers: all of them; none is ready yet.
        admit: makes a server ready that says it is well, or raises `EngineError`.
        start: starts a server again whose process has ended, under the address that it has then.
        restarts: how often each may be started again.
        start_s: seconds until one that was started must be ready.
        health_s: seconds between two looks at every server.
        wait_s: seconds that a request waits for a server.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        admit: Callable[[Server], Awaitable[None]],
        start: Callable[[Server], Awaitable[None]],
        *,
        restarts: int,
        start_s: float,
        health_s: float,
        wait_s: float,
    ) -> None:
        self.servers = list(servers)
        self._admit, self._start, self._restarts = admit, start, restarts
        self._start_s, self._health_s, self._wait_s = start_s, health_s, wait_s
        self._starting: dict[Server, asyncio.Task[None]] = {}
        self._held: dict[str, Server] = {}
        self._prompts: OrderedDict[int, Server] = OrderedDict()
        self._changed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def ready(self) -> list[Server]:
        """The servers that may be asked."""
        return [server for server in self.servers if server.ready]

    @property
    def coming(self) -> bool:
        """Whether a server is being started, or will be started again."""
        return any(
            server in self._starting
            or (not server.greeted if server.process.ended is None else server.restarts < self._restarts)
            for server in self.servers
            if server.process is not None and not server.ready
        )

    async def some_ready(self, seconds: float) -> None:
        """Wait until a server is ready. Raises `EngineError` of the kind `connection` if none is in time."""
        try:
            async with asyncio.timeout(seconds):
                while not self.ready:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            why = f"no vLLM server is ready after {seconds:g} s: {self.told()}"
            raise EngineError(why, "connection") from None

    def watch(self) -> None:
        """Look after the servers from now on, until `close`."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look_after())

    async def pick(self, session: str | None, prompt: Sequence[int], avoid: set[Server]) -> Server:
        """Return the server for a request: the session's own, else one that knows the prompt, else the idlest.

        `avoid` are those that have failed this request; they are asked again only where there is no other. Raises
        `EngineError` of the kind `connection` if none becomes ready in time.
        """
        await self.some_ready(self._wait_s)
        choices = [server for server in self.ready if server not in avoid] or self.ready
        held = self._held.get(session) if session is not None else None
        if held is not None and held in choices:
            return held
        key = hash(tuple(prompt))
        least = min(server.sessions for server in choices)
        known = self._prompts.pop(key, None)
        if known is None or known not in choices or known.sessions > least + SLACK:
            known = next(server for server in choices if server.sessions == least)
        self._prompts[key] = known
        if len(self._prompts) > PROMPTS:
            self._prompts.popitem(last=False)
        if session is not None:
            self.release(session)
            self._held[session] = known
            known.sessions += 1
        return known

    async def ask(self, server: Server, request: Awaitable[T], *, counts: bool) -> T:
        """Return what `request` to `server` gives; it is dropped where the server is lost meanwhile.

        `counts` where no session stands for it. Raises `EndpointError`.
        """
        task = asyncio.ensure_future(request)
        server.requests.add(task)
        server.sessions += counts
        try:
            result = await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not task.cancelled() or server.ready or (current is not None and current.cancelling()):
                raise
            raise EndpointError("connection", f"{server.url} was lost: {server.why}") from None
        finally:
            server.requests.discard(task)
            server.sessions -= counts
        server.failures = 0
        return result

    def release(self, session: str) -> None:
        """Forget the session."""
        server = self._held.pop(session, None)
        if server is not None:
            server.sessions -= 1

    def forget_prompts(self) -> None:
        """Forget who has seen which prompt: the caches are empty."""
        self._prompts.clear()

    def rest(self, server: Server, why: str) -> None:
        """Ask the server no more until it is admitted anew; what it is at may be finished."""
        if not server.ready:
            return
        server.ready, server.why = False, why
        pause = min(PAUSE_S * 2.0**server.failures, MAX_PAUSE_S)
        server.failures += 1
        server.again = asyncio.get_running_loop().time() + pause

    def lose(self, server: Server, why: str) -> None:
        """Give the server up for now, and all that waits for its answers."""
        self.rest(server, why)
        for task in list(server.requests):
            task.cancel()

    async def make_ready(self, server: Server) -> bool:
        """Admit the server if it is well; return whether it is ready now.

        What it failed by is in `Server.why`, `Server.unfit` if it cannot be used at all.
        """
        if server in self._starting:
            return False
        if server.process is not None and (ended := server.process.ended) is not None:
            times = f" (it was started again, {server.restarts} times in all)" if server.restarts else ""
            server.why = server.hindered or f"its process is gone{times}: {ended}"
            return False
        if not await server.healthy():
            return False
        try:
            await self._admit(server)
        except EngineError as error:
            server.why, server.unfit = str(error), error.kind == "setup"
            return False
        if server.ready:
            server.misses = 0
            self._changed.set()
        return server.ready

    async def open(self) -> None:
        """Make all servers ready. Raises `EngineError` that tells of those that are not in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._start_s

        async def one(server: Server) -> None:
            while not await self.make_ready(server):
                if server.unfit:
                    raise EngineError(server.why, "setup")
                ended = server.process is not None and server.process.ended is not None
                if ended or loop.time() >= until:
                    todo = "" if ended else "; see that it runs and that engine.server.urls has its address"
                    raise EngineError(
                        f"the vLLM server {server.url} is not ready: {server.why}{todo}", "connection"
                    )
                await asyncio.sleep(0.25)

        tasks = [loop.create_task(one(server)) for server in self.servers]
        try:
            async with asyncio.timeout_at(until + LOOK_S):
                await asyncio.gather(*tasks)
        except TimeoutError:
            why = f"the vLLM servers are not ready after {self._start_s:g} s: {self.told()}"
            raise EngineError(why, "connection") from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Look after nobody any more, and close the connections."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await asyncio.gather(*self._starting.values())
        for server in self.servers:
            server.ready = False
            await server.client.close()

    def told(self) -> str:
        """Return what is wrong with each server that is not ready."""
        return "; ".join(f"{server.url}: {server.why}" for server in self.servers if not server.ready)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(
                min(self._health_s, PAUSE_S) if len(self.ready) < len(self.servers) else self._health_s
            )
            due = [server for server in self.servers if server.ready or server.again <= loop.time()]
            await asyncio.gather(*map(self._look_at, due))

    async def _look_at(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        if server.ready:
            server.misses = 0 if await server.healthy() else server.misses + 1
            if server.misses >= MISSES or _ended(server):
                self.lose(server, f"it does not say that it is well: {server.why}")
        elif server in self._starting or await self.make_ready(server):
            return
        elif _ended(server):
            if server.restarts < self._restarts:
                self._starting[server] = loop.create_task(self._start_again(server))
        elif server.process is not None and not server.greeted:  # it is still at its start
            server.again = loop.time() + PAUSE_S
            if loop.time() >= server.until:
                await asyncio.to_thread(server.process.stop)
        else:
            pause = min(PAUSE_S * 2.0**server.failures, MAX_PAUSE_S)
            server.failures += 1
            server.again = loop.time() + pause

    async def _start_again(self, server: Server) -> None:
        server.restarts += 1
        told = (server.restarts, self._restarts, server.url, server.why)
        _log.warning("a vLLM server is started again (%d of at most %d): %s: %s", *told)
        try:
            await self._start(server)
            server.hindered = ""
        except Exception as error:  # a full disk, or whatever it is: nobody else would see it
            server.hindered = server.why = f"its process is gone and could not be started again: {error}"
        finally:
            now = asyncio.get_running_loop().time()
            server.until = now + self._start_s
            server.again = now + min(PAUSE_S * 2.0**server.restarts, MAX_PAUSE_S)
            del self._starting[server]


def _ended(server: Server) -> bool:
    return server.process is not None and server.process.ended is not None
