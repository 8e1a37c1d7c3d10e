"""One thread with one event loop that owns a backend's processes, and a way into it from anywhere.

Everything a backend does happens on this thread, so a sandbox can be used from any number of event loops and
threads at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from .base import SandboxClosed, SandboxError

T = TypeVar("T")


class Portal:
    """Run coroutines on a thread of our own."""

    def __init__(self, name: str = "quintain-sandbox") -> None:
        self._pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def _enter(self, work: Coroutine[Any, Any, T]) -> asyncio.futures.Future[T] | Any:
        if os.getpid() != self._pid:
            work.close()
            raise SandboxError(
                f"This sandbox was opened in process {self._pid}, and this is its fork {os.getpid()}. "
                "Open one of its own in each process."
            )
        if self.loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise SandboxClosed("This sandbox is closed. Open another one with open_sandbox().")
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def hop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there and wait for it here; cancelling here cancels there."""
        if threading.current_thread() is self._thread:
            return await work
        result: T = await asyncio.wrap_future(self._enter(work))
        return result

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there and block this thread until it is done."""
        if threading.current_thread() is self._thread:
            work.close()
            raise SandboxError(
                "A synchronous call was made on the sandbox's own thread; await the other form."
            )
        future = self._enter(work)
        try:
            result: T = future.result()
        except BaseException:
            future.cancel()
            raise
        return result

    def stop(self) -> None:
        """End the thread; what is still waiting there is cancelled."""
        if os.getpid() != self._pid or self.loop.is_closed():
            return

        async def wind_up() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=2.0) if tasks else None
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(wind_up(), self.loop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
