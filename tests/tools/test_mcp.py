"""MCP both ways, over stdio and HTTP, against real servers in processes of their own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import quintain
from quintain.envs import ToolEnv
from quintain.tools import Hermes, Tool, ToolCall, Toolkit, UserError, tool
from quintain.verifiers import FinalNumber, Task

pytest.importorskip("mcp", reason="the MCP SDK is not installed")

from quintain.tools.mcp import McpToolkit
from quintain.tools.mcp_server import tool_server

THEIRS = '''
import asyncio, os, sys
from mcp.server import MCPServer
from mcp.types import ImageContent, TextContent

server = MCPServer("numbers")
count = 0

@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

@server.tool()
def count_up() -> str:
    """Count the calls of this process."""
    global count
    count += 1
    return f"{count} in {os.getpid()}"

@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no such book")

@server.tool()
async def hang() -> str:
    """Hang."""
    await asyncio.sleep(60)
    return ""

@server.tool()
def flood() -> str:
    """Flood."""
    return "x" * 100_000

@server.tool(name="dotted.name")
def dotted() -> list:
    """Show a picture."""
    return [TextContent(type="text", text="here"), ImageContent(type="image", data="AAAA" * 10, mime_type="image/png")]

@server.tool()
def leave() -> str:
    """Leave."""
    print("the lights go out", file=sys.stderr, flush=True)
    os._exit(3)

if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run("streamable-http", port=int(sys.argv[2]))
'''

OURS = '''
import sys
from quintain.tools import Toolkit, tool
from quintain.tools.mcp_server import serve_tools

class Notes(Toolkit):
    async def open(self, setup):
        self.lines = list(setup["notes"])

    @tool
    def note(self, text: str) -> str:
        """Write a line down.

        Args:
            text: The line.
        """
        print("this does not go into the protocol")
        self.lines.append(text)
        return " ".join(self.lines)

def crash() -> str:
    """Crash."""
    raise KeyError("x")

options = {"transport": sys.argv[1], "port": int(sys.argv[2])}
serve_tools([Notes(), crash], setup={"notes": ["old"]}, name="notes", instructions="Take notes.", **options)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("servers")
    (made / "theirs.py").write_text(THEIRS)
    source = str(Path(quintain.__file__).parents[1])  # a server process gets no PYTHONPATH
    (made / "ours.py").write_text(f"import sys\nsys.path.insert(0, {source!r})\n{OURS}")
    return made


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[object]:
    """Return a function that gives where the server of a script is, and starts it if it is one at a port."""
    started: list[subprocess.Popen[bytes]] = []

    def at(script: str) -> str | list[str]:
        if request.param == "stdio":
            return [sys.executable, str(folder / script), "stdio", "0"]
        port = free_port()
        started.append(subprocess.Popen([sys.executable, str(folder / script), "http", str(port)]))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}/mcp"
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    yield at
    for process in started:
        process.kill()
        process.wait(10)


async def use(kit: McpToolkit, name: str, **arguments: object) -> str:
    found: Tool = next(one for one in kit.tools if one.name == name)
    return (await found.call(ToolCall("call_0", name, arguments))).content


def calling(name: str, **arguments: object) -> str:
    return Hermes().render("", None, [ToolCall("", name, arguments)])


@pytest.mark.slow
async def test_a_model_works_with_the_tools_of_a_real_server(server):
    kit = McpToolkit(server("theirs.py"), timeout_s=6.0, output_chars=200)
    try:
        names = ["add", "count_up", "fail", "hang", "flood", "dotted_name", "leave"]
        assert [tool.name for tool in kit.tools] == names
        assert kit.tools[0].description == "Add two numbers."
        assert kit.tools[0].parameters["properties"]["a"]["type"] == "integer"

        episode = kit.fresh()
        await episode.open({})
        assert await use(episode, "add", a=17, b=25) == "42"
        assert await use(episode, "add", a="x", b=1) == (
            "Error: argument 'a' must be integer, got 'x'. add takes: a (integer), b (integer)."
        )
        assert "Error executing tool fail" in await use(episode, "fail")
        assert await use(episode, "hang") == "Error: hang did not finish within 6 s and was stopped."
        assert "characters left out" in await use(episode, "flood")
        assert await use(episode, "dotted_name") == "here\n[image image/png, 30 bytes]"
        assert await use(episode, "add", a=1, b=1) == "2"
        await episode.close()
    finally:
        kit.shutdown()


@pytest.mark.slow
async def test_a_server_that_dies_ends_the_episode_ungraded(server):
    kit = McpToolkit(server("theirs.py"))
    env = ToolEnv([Task("t", "What is 17 + 25?", "42")], [kit], FinalNumber())
    try:
        env.reset(seed=0)
        assert (await env.astep(calling("add", a=17, b=25)))[0] == "42"
        *_, truncated, info = await env.astep(calling("leave"))
        assert truncated
        assert not info["score"].graded
        assert info["score"].reason.startswith("infrastructure: server: the MCP server ")
    finally:
        await env.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["step", "astep"])
async def test_an_episode_has_a_server_process_of_its_own_or_shares_one(folder, way):
    command = [sys.executable, str(folder / "theirs.py"), "stdio"]

    for shared in (False, True):
        kit = McpToolkit(command, only=["count_up"], prefix="n_", shared=shared)
        env = ToolEnv([Task("t", "?", "1")], [kit], FinalNumber())
        assert [tool.name for tool in env.tools] == ["n_count_up"]
        first, second = [text.split(" in ") for text in await counted(env, way)]
        assert (second[0], first[1] == second[1]) == (("2", True) if shared else ("1", False))
        await env.aclose()


async def counted(env: ToolEnv, way: str) -> list[str]:
    found = []
    for _ in range(2):
        env.reset(seed=0)
        text = calling("n_count_up")
        found.append((env.step(text) if way == "step" else await env.astep(text))[0])
    return found


@pytest.mark.slow
async def test_many_episodes_use_one_connection_at_the_same_time(server):
    kit = McpToolkit(server("theirs.py"), shared=True)
    env = ToolEnv([Task("t", "?", "1")], [kit], FinalNumber())
    episodes = [env.fresh() for _ in range(20)]
    for episode in episodes:
        episode.reset(seed=0)
    answers = await asyncio.gather(
        *(episode.astep(calling("add", a=number, b=1)) for number, episode in enumerate(episodes))
    )
    assert [answer[0] for answer in answers] == [str(number + 1) for number in range(20)]
    await asyncio.gather(*(episode.aclose() for episode in episodes))
    await env.aclose()


@pytest.mark.slow
async def test_our_tools_are_served_to_the_official_client(server):
    from mcp import Client, StdioServerParameters

    where = server("ours.py")
    target = where if isinstance(where, str) else StdioServerParameters(command=where[0], args=where[1:])
    async with Client(target) as client:
        listed = (await client.list_tools()).tools
        assert [(tool.name, tool.description) for tool in listed] == [
            ("note", "Write a line down."),
            ("crash", "Crash."),
        ]
        assert listed[0].input_schema["properties"]["text"]["description"] == "The line."
        for text, lines in [("one", "old one"), ("two", "old one two")]:
            result = await client.call_tool("note", {"text": text})
            assert (result.content[0].text, result.is_error) == (lines, False)
        failed = await client.call_tool("crash", {})
        assert (failed.content[0].text, failed.is_error) == ("Error: crash raised KeyError: 'x'", True)
        wrong = await client.call_tool("note", {"txt": 1})
        assert wrong.is_error


@pytest.mark.slow
async def test_our_server_serves_our_client(server):
    kit = McpToolkit(server("ours.py"))
    episode = kit.fresh()
    await episode.open({})
    assert await use(episode, "note", text="x") == "old x"
    assert await use(episode, "crash") == "Error: crash raised KeyError: 'x'"
    await episode.close()
    kit.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: McpToolkit("server.py"), "an MCP server is a URL or a command as a list of words, got 'server.py'"),
        (lambda f: McpToolkit([]), "the command of an MCP server is empty"),
        (lambda f: McpToolkit(["/no/such/program"]), "the MCP server /no/such/program: FileNotFoundError"),
        (lambda f: McpToolkit([sys.executable, "-c", "exit('no key')"]), r"it said: no key\); start it, or mend"),
        (lambda f: McpToolkit(f"http://127.0.0.1:{free_port()}/mcp"), "start it, or mend the command or the URL"),
        (lambda f: McpToolkit([sys.executable, str(f / "theirs.py"), "stdio"], only=["ad"]), "did you mean 'add'"),
        (lambda f: McpToolkit("http://x", cwd="/"), "env and cwd are for an MCP server that is a command"),
        (lambda f: McpToolkit(["x"], headers={"a": "b"}), "headers are for an MCP server at a URL"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_told_at_construction(folder, make, said):
    with pytest.raises(UserError, match=said):
        make(folder)


def test_an_unknown_transport_is_told():
    from quintain.tools.mcp_server import serve_tools

    with pytest.raises(UserError, match="transport must be 'stdio' or 'http', got 'sse'"):
        serve_tools([], "sse")


async def test_a_served_toolkit_is_opened_once_and_closed_with_the_server():
    from mcp import Client

    log: list[str] = []

    class Notes(Toolkit):
        async def open(self, setup):
            log.append(f"open {setup['n']}")

        @tool
        def note(self, text: str) -> str:
            """Write a line down."""
            log.append(text)
            return "noted"

        async def close(self):
            log.append("close")

    async with Client(tool_server([Notes()], setup={"n": 3}, instructions="Take notes.")) as client:
        assert client.instructions == "Take notes."
        for text in ("one", "two"):
            assert (await client.call_tool("note", {"text": text})).content[0].text == "noted"
        unknown = await client.call_tool("not", {})
        assert (unknown.content[0].text, unknown.is_error) == (
            "Error: there is no tool 'not'; did you mean 'note'?",
            True,
        )
    assert log == ["open 3", "one", "two", "close"]


async def test_a_toolkit_that_cannot_be_opened_is_a_protocol_error():
    from mcp import Client, MCPError

    class Gone(Toolkit):
        async def open(self, setup):
            raise OSError("no disk")

        @tool
        def look(self) -> str:
            """Look."""
            return ""

    async with Client(tool_server([Gone()])) as client:
        with pytest.raises(MCPError, match="tool: Gone cannot be opened: no disk"):
            await client.call_tool("look", {})


@pytest.mark.slow
async def test_the_command_serves_the_tools_of_an_environment_and_says_the_task():
    from mcp import Client, StdioServerParameters

    source = str(Path(quintain.__file__).parents[1])
    command = ["-m", "quintain", "mcp", "serve", "quintain/Calculator-v0", "--task", "3", "split=test"]
    where = StdioServerParameters(command=sys.executable, args=command, env={"PYTHONPATH": source})
    async with Client(where) as client:
        result = await client.call_tool("calculator", {"expression": "12*7"})
        assert (result.content[0].text, result.is_error) == ("84", False)
        assert "How many" in str(client.instructions)


def test_an_environment_without_tools_has_nothing_to_serve(capsys):
    from quintain.cli import main

    assert main(["mcp", "serve", "quintain/GuessNumber-v0"]) == 2
    assert "quintain/GuessNumber-v0 has no tools to serve" in capsys.readouterr().err
