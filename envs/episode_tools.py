"""The tools of one episode: fresh copies of the toolkits, opened when they are needed, closed when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..sandboxes.base import SandboxError
from ..tools.chat import ToolCall, ToolResult
from ..tools.errors import InfrastructureError, UserError
from ..tools.tool import Tool, unknown_tool
from ..tools.toolkit import Toolkit
from . import state as states

T = TypeVar("T")

_log = logging.getLogger(__name__)
_APART = frozenset({"_bound"})  # what a toolkit keeps that is no state


class EpisodeTools:
    """What one episode calls. `setup` makes what its toolkits are opened with.

    All that waits happens on one event loop per episode: that of the first `astep`, or a `Home` for `step`. A tool is
    called `directly`, without any loop, where it is inline and its toolkit open already.
    """

    def __init__(
        self, tools: Sequence[Tool], kits: Sequence[Toolkit], setup: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._setup = setup
        self._tools = {tool.name: tool for tool in tools}
        self._kits = [kit.fresh() for kit in kits]
        self._kit_of: dict[str, Toolkit] = {}
        for kit in self._kits:
            for tool in kit.tools:
                if tool.name not in self._tools:
                    name = type(kit).__name__
                    raise UserError(
                        f"the toolkit {name} has a tool {tool.name!r} in this episode that it did not have before; "
                        "its tools must be the same in every episode"
                    )
                self._tools[tool.name] = tool
                self._kit_of[tool.name] = kit
        self._open: list[Toolkit] = []  # in the order of opening; one that failed to open is here too
        self._closed = False
        self._thread = 0  # where the toolkits were opened: what they hold may be bound to it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home = Home()

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return bool(self._open)

    def direct(self, call: ToolCall) -> bool:
        """Return whether `call_directly` may be used for this call."""
        tool = self._tools.get(call.name)
        if tool is None:
            return True
        if not tool.inline:
            return False
        kit = self._kit_of.get(call.name)
        return kit is None or (kit in self._open and threading.get_ident() == self._thread)

    def call_directly(self, call: ToolCall) -> ToolResult:
        """Run the call without an event loop."""
        tool = self._tools.get(call.name)
        return unknown_tool(call, self._tools) if tool is None else tool.call_inline(call)

    async def call(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Run the calls at the same time and return their results in the order of the calls.

        Raises `InfrastructureError` for a failure of ours, the first in call order, when all have ended. A call that is
        cancelled closes the toolkits: their state is not known any more.
        """
        try:
            await self._opened([self._kit_of[call.name] for call in calls if call.name in self._kit_of])
            results = await asyncio.gather(*map(self._call, calls), return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        done: list[ToolResult] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            done.append(result)
        return done

    async def _call(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        return unknown_tool(call, self._tools) if tool is None else await tool.call(call)

    async def evidence(self) -> dict[str, Any]:
        """Return the evidence of all toolkits in one mapping, opening those that no call has opened.

        Raises `UserError` if two toolkits use one name in it, `InfrastructureError` if it cannot be read.
        """
        await self._opened(self._kits)
        found: dict[str, Any] = {}
        for kit in self._kits:
            own = await _ours(kit, "its evidence", kit.evidence(), kit.open_s)
            twice = sorted(set(found) & set(own))
            if twice:
                raise UserError(
                    f"two toolkits give the evidence {twice[0]!r}; let {type(kit).__name__} call it something else"
                )
            found.update(own)
        return found

    def get_state(self, definitions: Sequence[Toolkit]) -> dict[str, Any]:
        """Return what the open toolkits hold, by their place. Raises `StateError` for what cannot be copied."""
        return {
            str(place): states.captured(kit, vars(definition), _APART, {"": kit})
            for place, (kit, definition) in enumerate(zip(self._kits, definitions, strict=True))
            if kit in self._open
        }

    def set_state(self, state: Mapping[str, Any], definitions: Sequence[Toolkit]) -> None:
        """Give the toolkits what `get_state` returned, as if they had been opened."""
        for place, attributes in state.items():
            kit = self._kits[int(place)]
            states.put(kit, attributes, vars(definitions[int(place)]), _APART, {"": kit})
            self._open.append(kit)

    async def _opened(self, kits: Sequence[Toolkit]) -> None:
        """Open those of the toolkits that are not open."""
        missing = [kit for kit in dict.fromkeys(kits) if kit not in self._open]
        if self._closed and kits:
            raise InfrastructureError("tool", "the tools of this episode are closed: a step was cancelled")
        if not missing:
            return
        if not self._open:
            self._thread, self._loop = threading.get_ident(), asyncio.get_running_loop()
        setup = self._setup()
        self._open += missing
        opening = [_ours(kit, "opening it", kit.open(setup), kit.open_s) for kit in missing]
        for outcome in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        """Close what was opened, the last first. Never raises for a toolkit that does."""
        self._closed = True
        while self._open:
            kit = self._open.pop()
            try:
                async with asyncio.timeout(kit.close_s):
                    await kit.close()
            except Exception:
                _log.warning("closing the toolkit %s failed", type(kit).__name__, exc_info=True)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run asynchronous work from plain code, on the loop of the episode."""
        return self._home.run(work)

    def close_now(self, waiting: set[asyncio.Task[None]]) -> None:
        """Close from plain code. On the very loop that the toolkits live on it cannot wait: it goes into `waiting`."""
        if self._open:
            loop = self._loop
            try:
                running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if loop is not None and loop is running:
                task = loop.create_task(self.close())
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            elif loop is not None and loop.is_running():
                with contextlib.suppress(TimeoutError):
                    asyncio.run_coroutine_threadsafe(self.close(), loop).result(
                        sum(kit.close_s for kit in self._open)
                    )
            else:
                self._home.run(self.close)
        self._closed = True
        self._home.close()


async def _ours(kit: Toolkit, what: str, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Await work of a toolkit; what goes wrong in it is a failure of ours."""
    name = type(kit).__name__
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work
    except (InfrastructureError, UserError):
        raise
    except SandboxError as error:
        raise InfrastructureError("sandbox", f"{name}: {what}: {type(error).__name__}: {error}") from error
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            raise InfrastructureError("tool", f"{name}: {what} took more than {seconds:g} s") from error
        raise InfrastructureError("tool", f"{name}: {what}: {type(error).__name__}: {error}") from error


class Home:
    """One event loop for plain code: each `run` goes on where the last one stopped.

    It runs in the thread of the caller, or in a thread of its own if that has a running loop already.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._thread: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run one piece of work to its end."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        if self._thread is None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return self._runner.run(work())
            self._thread = ThreadPoolExecutor(1, "quintain-step")
        future = self._thread.submit(self._run_there, work)
        try:
            return future.result()
        except BaseException:
            self._interrupt()
            raise

    def _run_there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        assert self._runner is not None
        return self._runner.run(work())

    def _interrupt(self) -> None:
        """Cancel what still runs in the thread (the caller was interrupted while it waited)."""
        assert self._runner is not None
        loop = self._runner.get_loop()
        if loop.is_running():
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])

    def close(self) -> None:
        """End the loop and the thread. Closing twice is fine."""
        runner, thread, self._runner, self._thread = self._runner, self._thread, None, None
        if runner is None:
            return
        if thread is not None:
            thread.submit(runner.close).result()
            thread.shutdown()
        else:
            runner.close()
