"""The tools of an MCP server as a toolkit: over stdio (a command) or streamable HTTP (a URL), by the official SDK.

Needs `pip install 'quintain[mcp]'`. The schemas are the server's own and go to the model as they are; arguments are
checked against them before the server is asked. `mcp_server` is the other direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..sandboxes.portal import Portal
from .errors import InfrastructureError, ToolError, UserError, nearest
from .tool import Tool
from .toolkit import Toolkit

if TYPE_CHECKING:
    from mcp import Client

CONNECT_S = 60.0
"""Seconds that a server has to start and to say which tools it has."""
CLOSE_S = 10.0
"""Seconds that a connection has to close."""
PAGES = 100
"""Pages of the list of tools that are read."""
MISSING = "MCP needs the official SDK: pip install 'quintain[mcp]'"

_ODD = re.compile(r"[^A-Za-z0-9_-]")


class McpToolkit(Toolkit):
    """The tools of an MCP server.

        files = McpToolkit(["npx", "-y", "@modelcontextprotocol/server-filesystem", "/data"])
        docs = McpToolkit("http://127.0.0.1:8000/mcp", only=["search"], shared=True)

    The server is asked for its tools at once. Each episode has a connection, and over stdio a server process, of its
    own; with `shared` all episodes use one, which is right for a server that remembers nothing. A call that takes too
    long, or that the server refuses, is told to the model. A server that is gone ends the episode ungraded.

    Args:
        server: The command and its arguments, or the URL of the endpoint.
        env: More environment variables of the command. Of ours it sees only a few harmless ones, such as PATH.
        cwd: The folder in which the command runs.
        headers: Of every HTTP request, for example an authorization.
        only: Take these tools, by the server's names; None takes all.
        prefix: Put before the names that the model sees.
        shared: One connection for all episodes instead of one for each.
        timeout_s: Seconds that one call may take.
        output_chars: Characters of a result that the model sees.
        concurrency: Calls of one tool at the same time, in all episodes together; None for no limit.

    Raises `UserError` if the SDK is missing, the server cannot be reached, or a tool cannot be offered.
    """

    def __init__(
        self,
        server: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        only: Sequence[str] | None = None,
        prefix: str = "",
        shared: bool = False,
        timeout_s: float = 30.0,
        output_chars: int = 8_000,
        concurrency: int | None = None,
    ) -> None:
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise UserError(MISSING) from error
        self._target = _Target(server, dict(env or {}), cwd, dict(headers or {}))
        self._hub = _Hub(self._target)
        self._shared = shared
        self._connection: _Connection | None = None
        listed = self._hub.list_tools()
        names = [str(one.name) for one in listed]
        for name in only or ():
            if name not in names:
                raise UserError(
                    f"the MCP server {self._target.name} has no tool {name!r}; {nearest(name, names)}"
                )
        self._templates: list[tuple[str, Tool]] = []
        for one in listed:
            if only is not None and one.name not in only:
                continue
            made = Tool(
                _unbound,
                name=_shown_name(prefix + one.name),
                description=one.description or one.title or f"The tool {one.name}.",
                parameters=one.input_schema,
                timeout_s=timeout_s,
                output_chars=output_chars,
                concurrency=concurrency,
            )
            self._templates.append((one.name, made))

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the server, in its order."""
        bound: tuple[Tool, ...] | None = self.__dict__.get("_bound")
        if bound is None:
            bound = self._bound = tuple(self._bind(name, made) for name, made in self._templates)
        return bound

    def _bind(self, name: str, made: Tool) -> Tool:
        async def call(**arguments: Any) -> str:
            assert self._connection is not None, "the toolkit is not open"
            return await self._connection.call(name, arguments)

        bound = copy.copy(made)
        bound.function = call
        return bound

    def fresh(self) -> Self:
        """Return a copy for one episode; see `Toolkit.fresh`."""
        other = super().fresh()
        other._connection = None
        return other

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Connect; see `Toolkit.open`. Raises `InfrastructureError` of the kind "server" if the server is gone."""
        self._connection = await (self._hub.shared() if self._shared else self._hub.connect())

    async def close(self) -> None:
        """Close the connection of the episode, and end its server process."""
        connection, self._connection = self._connection, None
        if connection is not None and not self._shared:
            await connection.close()

    def shutdown(self) -> None:
        """Close what is shared; the next episode connects anew."""
        self._hub.stop()


async def _unbound(**arguments: Any) -> str:
    raise AssertionError("a tool of no episode")


def _shown_name(name: str) -> str:
    """Return a name that every chat template and server takes: MCP allows dots and slashes, and more length."""
    shown = _ODD.sub("_", name)[:64]
    return shown if shown[:1].isalpha() or shown[:1] == "_" else f"_{shown}"[:64]


class _Target:
    """Where a server is, and a client of it."""

    def __init__(
        self,
        server: str | Sequence[str],
        env: dict[str, str],
        cwd: str | Path | None,
        headers: dict[str, str],
    ) -> None:
        self.url = server if isinstance(server, str) else None
        self.command = [] if isinstance(server, str) else [str(word) for word in server]
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise UserError(
                f"an MCP server is a URL or a command as a list of words, got {server!r}; "
                'write ["python", "server.py"]'
            )
        if self.url is None and not self.command:
            raise UserError(
                "the command of an MCP server is empty; write, for example, ['python', 'server.py']"
            )
        if self.url is not None and (env or cwd):
            raise UserError("env and cwd are for an MCP server that is a command, this one is a URL")
        if self.url is None and headers:
            raise UserError("headers are for an MCP server at a URL, this one is a command")
        self.env, self.cwd, self.headers = env, cwd, headers
        self.name = self.url or self.command[0]

    def client(self, stack: contextlib.AsyncExitStack, log: Any) -> Client:
        """Return a client that is not connected yet."""
        from mcp import Client, StdioServerParameters, stdio_client

        if self.url is None:
            parameters = StdioServerParameters(
                command=self.command[0], args=self.command[1:], env=self.env, cwd=self.cwd
            )
            return Client(stdio_client(parameters, errlog=log))
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client

        http = create_mcp_http_client(headers=self.headers)
        stack.push_async_callback(http.aclose)
        return Client(streamable_http_client(self.url, http_client=http))


class _Connection:
    """One connection. A task of its own enters and leaves the client, as the SDK's task groups demand."""

    def __init__(self, target: _Target, portal: Portal) -> None:
        self._target = target
        self._portal = portal
        self._client: Client | None = None
        self._stop = asyncio.Event()
        self._why = ""

    async def start(self) -> Self:
        """Connect, on the portal's loop. Raises `InfrastructureError`."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._live(ready))
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.shield(ready)
        except TimeoutError:
            await self._end()
            raise self._lost(f"it did not answer within {CONNECT_S:g} s") from None
        except asyncio.CancelledError:
            await self._end()
            raise
        return self

    async def _live(self, ready: asyncio.Future[None]) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    client = self._target.client(stack, log)
                    async with client:
                        self._client = client
                        ready.set_result(None)
                        await self._stop.wait()
            except Exception as error:
                self._why = _reason(error) + _last_words(log)
                if not ready.done():
                    ready.set_exception(self._lost(self._why))
            finally:
                self._client = None
                if not ready.done():
                    ready.cancel()

    def _lost(self, why: str) -> InfrastructureError:
        return InfrastructureError("server", f"the MCP server {self._target.name}: {why}")

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return the text of its result. Raises `ToolError` for what the server refuses."""
        return await self._portal.hop(self._call(name, arguments))

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        if self._client is None:
            raise self._lost(self._why or "the connection is closed")
        try:
            result = await self._client.call_tool(name, dict(arguments))
        except MCPError as error:
            if error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT) or self._client is None:
                raise self._lost(error.message) from error
            raise ToolError(f"the server refused the call: {error.message}") from error
        except Exception as error:
            raise self._lost(_reason(error)) from error
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text.removeprefix("Error: ") or "the tool failed")
        return text

    async def list_tools(self) -> list[Any]:
        """Return the tools of the server, all pages of them, on the portal's loop."""
        assert self._client is not None
        found: list[Any] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self._client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def close(self) -> None:
        """Leave the client, and with it the server process."""
        await self._portal.hop(self._end())

    async def _end(self) -> None:
        self._stop.set()
        done, _ = await asyncio.wait({self._task}, timeout=CLOSE_S)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S)


class _Hub:
    """The thread with the event loop on which all connections of a toolkit live, whatever loop an episode has."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._portal: Portal | None = None
        self._one: _Connection | None = None
        self._gate: asyncio.Lock | None = None

    def _started(self) -> Portal:
        if self._portal is None:
            self._portal = Portal("quintain-mcp")
        return self._portal

    async def connect(self) -> _Connection:
        """Return a new connection. Raises `InfrastructureError`."""
        portal = self._started()
        return await portal.hop(_Connection(self._target, portal).start())

    async def shared(self) -> _Connection:
        """Return the one connection, made anew if it was lost. Raises `InfrastructureError`."""
        return await self._started().hop(self._shared())

    async def _shared(self) -> _Connection:
        self._gate = self._gate or asyncio.Lock()
        async with self._gate:
            if self._one is None or self._one._client is None:
                self._one = await _Connection(self._target, self._started()).start()
            return self._one

    def list_tools(self) -> list[Any]:
        """Ask a server for its tools, from plain code. Raises `UserError` if it cannot be reached."""

        async def ask() -> list[Any]:
            connection = await _Connection(self._target, portal).start()
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await connection.list_tools()
            finally:
                await connection._end()

        portal = self._started()
        try:
            return portal.call(ask())
        except InfrastructureError as error:
            self.stop()
            raise UserError(f"{error.reason}; start it, or mend the command or the URL") from error
        except Exception as error:
            self.stop()
            raise UserError(
                f"the MCP server {self._target.name} does not say which tools it has: {_reason(error)}"
            ) from error

    def stop(self) -> None:
        """Close all connections and end the thread. Closing twice is fine."""
        portal, self._portal, self._one, self._gate = self._portal, None, None, None
        if portal is not None:
            portal.stop()


def _reason(error: BaseException) -> str:
    """Return what happened, from inside the groups that the SDK wraps errors in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _last_words(log: Any) -> str:
    """Return what a server process wrote last to its standard error."""
    log.seek(0)
    lines = log.read()[-4_000:].strip().splitlines()
    return f" (it said: {lines[-1][:300]})" if lines else ""


def _text_of(result: Any) -> str:
    """Return a result as text: texts as they are, anything else named with its size."""
    parts = [_block(block) for block in result.content]
    if not any(parts) and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(part for part in parts if part)


def _block(block: Any) -> str:
    kind = getattr(block, "type", "")
    if kind == "text":
        return str(block.text)
    if kind in ("image", "audio"):
        return f"[{kind} {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
    if kind == "resource_link":
        return f"[resource {block.name}: {block.uri}]"
    if kind == "resource":
        inner = block.resource
        text = getattr(inner, "text", None)
        return str(text) if text is not None else f"[resource {inner.uri}, {len(inner.blob) * 3 // 4} bytes]"
    return f"[{kind or type(block).__name__}]"
