"""One sandbox over any backend: a box with its working folder, its queue of runs, its files and sessions."""

from __future__ import annotations

import asyncio
import marshal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from .base import (
    Capabilities,
    FileInfo,
    Files,
    LanguageError,
    Limits,
    LimitsError,
    Result,
    SandboxClosed,
    SandboxFileError,
    Snapshot,
    WorkerDied,
)
from .calls import Call, Functions, Handler, Outcome, judge, run_calls
from .closing import Closing
from .link import Link, finish
from .payload import SHELLS, as_bytes, check_path, pack_files, program
from .portal import Portal
from .session import BoxSession

MAX_ENTRIES = 100_000
"""Files that `list_files` and `snapshot` are ready to handle."""
FILE_S = 30.0
"""Seconds a file operation may take."""


class Backend(Protocol):
    """Where boxes come from."""

    fixed: tuple[str, ...]
    """Limits that a box has for life; a run cannot bring others."""

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the boxes have."""

    async def open_box(self, limits: Limits) -> Link:
        """Open a box."""

    async def aclose(self) -> None:
        """Kill everything and free it."""


class BoxSandbox(Closing):
    """A sandbox over a backend; see `base.Sandbox` for what each method promises."""

    def __init__(self, backend: Backend, portal: Portal, limits: Limits, *, owner: bool = True) -> None:
        self.limits = limits
        self._backend = backend
        self._portal = portal
        self._owner = owner  # whether the backend and the portal end with this sandbox
        self._link: Link | None = None
        self._turn = asyncio.Lock()
        self._sessions: list[BoxSession | Functions] = []
        self._on_close: Callable[[], None] = lambda: None
        self._closed = False
        self.runs = 0

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the programs get."""
        return self._backend.capabilities

    # --- running -------------------------------------------------------------------------------------------

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
        """Run one program to its end; see `Runner.run`. `env` adds to its (clean) environment."""
        kind, payload = program(code, language, files, env)
        return await self._portal.hop(self._run(kind, payload, as_bytes(stdin), self._own(limits)))

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
        return self._portal.call(self._run(kind, payload, as_bytes(stdin), self._own(limits)))

    async def _run(self, kind: str, payload: bytes, stdin: bytes, limits: Limits) -> Result:
        async with self._turn:
            link = await self._open()
            self.runs += 1
            result = await finish(link, link.start(kind, limits, payload, stdin), limits.wall_s)
            return result if self.capabilities.isolated else replace(result, isolated=False)

    async def call(
        self, code: str, calls: Sequence[Call], *, files: Files | None = None, limits: Limits | None = None
    ) -> list[Outcome]:
        """Load a program and call its functions with plain values; see `Call` and `Outcome`."""
        return await self._portal.hop(self._call(code, calls, files, limits))

    def call_sync(
        self, code: str, calls: Sequence[Call], *, files: Files | None = None, limits: Limits | None = None
    ) -> list[Outcome]:
        """Do what `call` does, from a thread without an event loop."""
        return self._portal.call(self._call(code, calls, files, limits))

    async def _call(
        self, code: str, calls: Sequence[Call], files: Files | None, limits: Limits | None
    ) -> list[Outcome]:
        own = self._own(limits)
        payload = marshal.dumps((as_bytes(code), pack_files(files), {}), 2)
        async with self._turn:
            link = await self._open()
            self.runs += 1
            return await run_calls(link, payload, calls, own, self._portal)

    async def functions(
        self, code: str, *, files: Files | None = None, limits: Limits | None = None
    ) -> Functions:
        """Load a program and keep it, so that its functions can be called one by one."""
        return await self._portal.hop(self._functions(code, files, self._own(limits)))

    async def _functions(self, code: str, files: Files | None, limits: Limits) -> Functions:
        payload = marshal.dumps((as_bytes(code), pack_files(files), {}), 2)
        async with self._turn:
            link = await self._open()
            found = Functions(link, link.start("calls", limits, payload, session=True), self._portal)
            self._sessions.append(found)
            return found

    async def judge(
        self,
        code: str,
        stubs: Mapping[str, Handler],
        *,
        module: str | None = None,
        files: Files | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a test program in which the names of `stubs` are functions answered by their handlers, out here.

        With `module`, the stubs can also be imported from a module of that name.
        """
        own = self._own(limits)
        names: tuple[Any, ...] = (as_bytes(code), pack_files(files), {}, list(stubs), module)
        handlers = {name: at_home(handler) for name, handler in stubs.items()}
        return await self._portal.hop(self._judge(marshal.dumps(names, 2), handlers, own))

    async def _judge(self, payload: bytes, stubs: dict[str, Handler], limits: Limits) -> Result:
        async with self._turn:
            link = await self._open()
            self.runs += 1
            return await judge(link, payload, stubs, limits)

    # --- sessions ---------------------------------------------------------------------------------------------

    async def session(self, kind: str = "python", *, limits: Limits | None = None) -> BoxSession:
        """Start an interpreter that stays: "python" or "bash"."""
        return await self._portal.hop(self._session(kind, self._own(limits)))

    def session_sync(self, kind: str = "python", *, limits: Limits | None = None) -> BoxSession:
        """Do what `session` does, from a thread without an event loop."""
        return self._portal.call(self._session(kind, self._own(limits)))

    async def _session(self, kind: str, limits: Limits) -> BoxSession:
        kind = "bash" if kind in SHELLS else kind
        if kind not in ("python", "bash"):
            raise LanguageError(f"There is no session of kind {kind!r}; have 'python' and 'bash'.")
        async with self._turn:
            session = BoxSession(kind, limits, self._portal, self._open)
            await session.begin()
            self._sessions.append(session)
            return session

    # --- files ------------------------------------------------------------------------------------------------

    async def read_file(self, path: str, *, max_bytes: int = 1 << 24) -> bytes:
        """Read a regular file of the working folder."""
        check_path(path)
        return await self._portal.hop(self._file("read", (path, max_bytes), keep=max_bytes))

    def read_file_sync(self, path: str, *, max_bytes: int = 1 << 24) -> bytes:
        """Do what `read_file` does, from a thread without an event loop."""
        return self._portal.call(self._reading(path, max_bytes))

    async def _reading(self, path: str, max_bytes: int) -> bytes:
        check_path(path)
        return await self._file("read", (path, max_bytes), keep=max_bytes)

    async def write_file(self, path: str, data: str | bytes) -> None:
        """Write a file of the working folder, making the folders above it."""
        check_path(path)
        await self._portal.hop(self._file("write", (path,), as_bytes(data)))

    def write_file_sync(self, path: str, data: str | bytes) -> None:
        """Do what `write_file` does, from a thread without an event loop."""
        check_path(path)
        self._portal.call(self._file("write", (path,), as_bytes(data)))

    async def list_files(self, path: str = ".") -> list[FileInfo]:
        """List everything under a folder of the working folder, sorted by path."""
        check_path(path)
        return parse_listing(await self._portal.hop(self._file("list", (path, MAX_ENTRIES))))

    def list_files_sync(self, path: str = ".") -> list[FileInfo]:
        """Do what `list_files` does, from a thread without an event loop."""
        check_path(path)
        return parse_listing(self._portal.call(self._file("list", (path, MAX_ENTRIES))))

    async def snapshot(self) -> Snapshot:
        """Copy the working folder out."""
        return Snapshot(await self._portal.hop(self._file("pack", (MAX_ENTRIES, self.limits.disk_mb << 20))))

    def snapshot_sync(self) -> Snapshot:
        """Do what `snapshot` does, from a thread without an event loop."""
        return Snapshot(self._portal.call(self._file("pack", (MAX_ENTRIES, self.limits.disk_mb << 20))))

    async def restore(self, snapshot: Snapshot) -> None:
        """Make the working folder what it was when the snapshot was taken."""
        await self._portal.hop(self._file("unpack", (), snapshot.data))

    def restore_sync(self, snapshot: Snapshot) -> None:
        """Do what `restore` does, from a thread without an event loop."""
        self._portal.call(self._file("unpack", (), snapshot.data))

    async def _file(
        self, operation: str, arguments: tuple[Any, ...], data: bytes = b"", keep: int | None = None
    ) -> bytes:
        room = (self.limits.disk_mb << 20) + (1 << 24) if keep is None else keep
        limits = Limits(
            wall_s=FILE_S,
            memory_mb=max(64, 2 * self.limits.disk_mb + 64),
            processes=self.limits.processes + 1,
            disk_mb=self.limits.disk_mb,
            output_bytes=min(max(room, 1 << 12), 1 << 30),  # a refusal is a sentence
        )
        async with self._turn:
            link = await self._open()
            job = link.start("files", limits, marshal.dumps((operation, *arguments), 2), data)
            result = await finish(link, job, FILE_S)
        if result.exit_status == 1:
            raise SandboxFileError(f"Could not {_WORDS[operation]}: {result.stderr}.")
        if not result.ok:
            raise SandboxFileError(f"Could not {_WORDS[operation]}: it ended with {result.reason}.")
        return result.stdout_bytes

    # --- its life ----------------------------------------------------------------------------------------------

    async def reset(self) -> None:
        """Kill everything and start over with an empty working folder."""
        await self._portal.hop(self._reset())

    def reset_sync(self) -> None:
        """Do what `reset` does, from a thread without an event loop."""
        self._portal.call(self._reset())

    async def _reset(self) -> None:
        async with self._turn:
            self._let_go()
            await self._open()

    def _let_go(self) -> None:
        for session in self._sessions:
            session.lose()
        self._sessions.clear()
        if self._link is not None:
            self._link.close()
            self._link = None

    async def _open(self) -> Link:
        if self._closed:
            raise SandboxClosed("This sandbox is closed. Open another one with open_sandbox().")
        if self._link is not None and not self._link.alive:
            self._let_go()
            raise WorkerDied(
                "The box and its working folder were lost. Call reset() to go on with an empty one."
            )
        if self._link is None:
            self._link = await self._backend.open_box(self.limits)
        self._sessions = [session for session in self._sessions if session.alive]
        return self._link

    def _own(self, limits: Limits | None) -> Limits:
        if limits is None:
            return self.limits
        for name in self._backend.fixed:
            ours, wanted = getattr(self.limits, name), getattr(limits, name)
            if ours != wanted:
                raise LimitsError(
                    f"Limits.{name} is fixed when a sandbox is opened: this one has {ours}, the run asks for {wanted}. "
                    f"Use sandbox.limits.but(...) for a run's limits, or open the sandbox with {name}={wanted}."
                )
        return limits

    async def aclose(self) -> None:
        """Kill everything and free it."""
        if not self._closed:
            self._closed = True
            await self._portal.hop(self._close())
            if self._owner:
                await asyncio.to_thread(self._portal.stop)

    def close(self) -> None:
        """Do what `aclose` does, from a thread without an event loop."""
        if not self._closed:
            self._closed = True
            self._portal.call(self._close())
            if self._owner:
                self._portal.stop()

    def adopt(self, link: Link, on_close: Callable[[], None]) -> None:
        """Use a box that is open already, and say when it is closed (a pool lends it)."""
        self._link = link
        self._on_close = on_close

    async def _close(self) -> None:
        self._let_go()
        self._on_close()
        if self._owner:
            await self._backend.aclose()


def at_home(handler: Handler) -> Handler:
    """Make a handler that can be awaited on another thread run on the event loop that is running now."""
    home = asyncio.get_running_loop()

    async def call(args: list[Any], kwargs: dict[str, Any]) -> Outcome:
        async def work() -> Outcome:
            return await handler(args, kwargs)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), home))

    return call


_WORDS = {
    "read": "read the file",
    "write": "write the file",
    "list": "list the folder",
    "pack": "take a snapshot",
    "unpack": "restore the snapshot",
}


def parse_listing(data: bytes) -> list[FileInfo]:
    """Read what the agent's `listing` wrote."""
    found = []
    for record in data.split(b"\0")[:-1]:
        kind, size, name = record.split(b" ", 2)
        found.append(
            FileInfo(path=name.decode("utf-8", "surrogateescape"), size=int(size), kind=kind.decode())
        )
    return sorted(found, key=lambda info: info.path)
