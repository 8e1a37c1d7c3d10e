"""How a tool's function is run: in a thread of its own, and not too many at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any

from .errors import InfrastructureError

WAIT_S = 600.0
"""Seconds that a call waits for its turn at a tool with a concurrency limit."""


SLOW_S = 0.05
"""Seconds that a function may keep an event loop from everything else before it counts as slow."""
SLOW_CALLS = 3
"""So many slow calls are no accident: the first may have imported something."""


class Pace:
    """Notices that a function which runs inline keeps an event loop waiting, and says so once."""

    def __init__(self) -> None:
        self._slow = 0

    def note(self, name: str, seconds: float) -> None:
        """Take note of a call to the tool `name`. Warns at the third that was slow, where an event loop runs."""
        if seconds < SLOW_S or self._slow == SLOW_CALLS or asyncio._get_running_loop() is None:
            return
        self._slow += 1
        if self._slow == SLOW_CALLS:
            warnings.warn(
                f"the tool {name!r} took {seconds:.2f} s of the event loop, and every other episode waited for it: "
                "declare it with @tool(blocking=True), or as `async def`",
                stacklevel=2,
            )


class Gate:
    """Lets `limit` calls through at a time, the first come first, from any number of threads and event loops.

    An `asyncio.Semaphore` belongs to one loop; the episodes that share a tool may each have their own.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._inside = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    def __reduce__(self) -> tuple[type[Gate], tuple[int]]:
        """Let a tool be copied to another process; the limit counts in each."""
        return Gate, (self.limit,)

    async def __aenter__(self) -> None:
        """Wait for a turn. Raises `InfrastructureError` if none comes within `WAIT_S`."""
        with self._lock:
            if self._inside < self.limit:
                self._inside += 1
                return
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as error:
            if not self._forget(turn):  # the turn was given in the same moment: pass it on
                self._pass_on()
            if isinstance(error, TimeoutError):
                reason = f"no turn within {WAIT_S:g} s at a tool that {self.limit} calls may use at a time"
                raise InfrastructureError("tool", reason) from None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the turn to the next."""
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_give, turn)
                except RuntimeError:  # its loop has ended: nobody is waiting
                    continue
                return
            self._inside -= 1

    def _forget(self, turn: asyncio.Future[None]) -> bool:
        """Leave the queue; False if the turn has been given already."""
        with self._lock:
            for entry in self._waiting:
                if entry[1] is turn:
                    self._waiting.remove(entry)
                    return True
        return False


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # else it was given up, and `__aenter__` passes it on
        turn.set_result(None)


def in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Awaitable[Any]:
    """Run a function in a daemon thread of its own.

    Not in the event loop's pool: that holds a handful of threads, and tools that hang would use it up and
    keep the interpreter from leaving.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():  # given up in the meantime
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        value: Any = None
        failure: Exception | None = None
        try:
            value = context.run(function, **arguments)
        except StopIteration as error:  # a future refuses it
            failure = RuntimeError(f"StopIteration: {error.value}")
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop has closed: nobody is waiting
            return

    threading.Thread(target=work, name=f"tool-{getattr(function, '__name__', '')}", daemon=True).start()
    return future
