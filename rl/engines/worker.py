"""A thread that does blocking work one thing after the other, and that nobody has to wait for in the end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One thread. It is a daemon: work that never ends does not keep the process from ending, as an executor's would.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have `work` done after all that was given before."""
        future: Future[T] = Future()

        def do() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._todo.put(do)
        return future

    async def run(self, work: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """Return what `work` returns, or raise what it raises; see `came`."""
        return await came(self.submit(work, *arguments), seconds)

    def stop(self) -> None:
        """End the thread after what it was given."""
        self._todo.put(None)

    def _run(self) -> None:
        while (do := self._todo.get()) is not None:
            do()


async def came(work: Future[T], seconds: float | None = None) -> T:
    """Return what `work` on a thread returns, or raise what it raises. A cancellation leaves it be.

    Raises `TimeoutError` after `seconds`; the work goes on, and what its thread is given later waits for it.
    """
    step = asyncio.wrap_future(work)
    done, _ = await asyncio.wait({step}, timeout=seconds)
    if not done:
        raise TimeoutError
    return step.result()
