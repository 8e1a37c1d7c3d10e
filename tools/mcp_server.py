"""Tools of ours as an MCP server, so that any MCP client can work in the world of a task.

Needs `pip install 'quintain[mcp]'`. One server is one episode: all its clients share the state of the toolkits, which
are opened at the first call and closed with the server. `mcp` is the other direction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .chat import ToolCall
from .errors import InfrastructureError, UserError
from .mcp import MISSING
from .schema import Function
from .tool import Tool, unknown_tool
from .toolkit import Toolkit, split

if TYPE_CHECKING:
    from mcp.server import Server


def tool_server(
    tools: Iterable[Tool | Function | Toolkit],
    *,
    setup: Mapping[str, Any] | None = None,
    name: str = "quintain",
    instructions: str | None = None,
) -> Server[Any]:
    """Return an MCP server of the official SDK that offers the tools.

    What goes wrong in a call is a result with `isError`; a failure of ours is a protocol error.

    Args:
        tools: Functions, tools and toolkits.
        setup: What the toolkits are opened with.
        name: What the server calls itself.
        instructions: What it tells a client of itself, for example the prompt of a task.

    Raises `UserError` if the SDK is missing, and for tools that make no sense.
    """
    try:
        from mcp import types
        from mcp.server import Server, ServerRequestContext
        from mcp.shared.exceptions import MCPError
    except ImportError as error:
        raise UserError(MISSING) from error
    world = _World(tools, setup or {})

    @contextlib.asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[dict[str, Any]]:
        try:
            yield {}
        finally:
            await world.close()

    async def list_tools(
        context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=tool.schema["function"]["parameters"],
                )
                for tool in world.tools.values()
            ]
        )

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            text, failed = await world.call(params.name, params.arguments or {})
        except InfrastructureError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)

    return Server(
        name, instructions=instructions, lifespan=lifespan, on_list_tools=list_tools, on_call_tool=call_tool
    )


def serve_tools(
    tools: Iterable[Tool | Function | Toolkit],
    transport: Literal["stdio", "http"] = "stdio",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    **options: Any,
) -> None:
    """Serve tools until the client goes (stdio) or the process is interrupted (HTTP, at `http://host:port/mcp`).

    `options` are those of `tool_server`. Over HTTP anybody who can reach the port can call the tools.

    Raises `UserError` for an unknown transport, and what `tool_server` raises.
    """
    if transport not in ("stdio", "http"):
        raise UserError(f"serve_tools: transport must be 'stdio' or 'http', got {transport!r}")
    server = tool_server(tools, **options)
    if transport == "http":
        import uvicorn

        uvicorn.run(server.streamable_http_app(host=host), host=host, port=port, log_level="warning")
        return
    from mcp import stdio_server

    async def serve() -> None:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    asyncio.run(serve())


class _World:
    """The tools of the one episode that a server is."""

    def __init__(self, tools: Iterable[Tool | Function | Toolkit], setup: Mapping[str, Any]) -> None:
        items = [item.fresh() if isinstance(item, Toolkit) else item for item in tools]
        made, kits = split(items)
        self.tools = {tool.name: tool for tool in made}
        self._kit_of = {tool.name: kit for kit in kits for tool in kit.tools}
        self._setup = setup
        self._open: list[Toolkit] = []
        self._calls = 0
        self._turn: asyncio.Lock | None = None

    async def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the text of a result, and whether it tells of a failure. Raises `InfrastructureError`."""
        self._calls += 1
        call = ToolCall(f"call_{self._calls}", name, arguments)
        if name not in self.tools:
            return unknown_tool(call, self.tools).content, True
        kit = self._kit_of.get(name)
        if kit is not None:
            await self._opened(kit)
        result = await self.tools[name].call(call)
        return result.content, result.error is not None

    async def _opened(self, kit: Toolkit) -> None:
        self._turn = self._turn or asyncio.Lock()
        async with self._turn:
            if kit in self._open:
                return
            try:
                async with asyncio.timeout(kit.open_s):
                    await kit.open(self._setup)
            except Exception as error:
                with contextlib.suppress(Exception):
                    await kit.close()
                raise InfrastructureError(
                    "tool", f"{type(kit).__name__} cannot be opened: {error}"
                ) from error
            self._open.append(kit)

    async def close(self) -> None:
        """Close what was opened, the last first."""
        while self._open:
            kit = self._open.pop()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(kit.close_s):
                    await kit.close()
