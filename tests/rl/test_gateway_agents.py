"""An agent written with a real framework, the OpenAI Agents SDK, is recorded as it is.

The framework lives in an environment of its own: `QUINTAIN_AGENTS_PYTHON` names its Python, else one is made.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from quintain.rl.chat import ChatCodec
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.gateway import Gateway
from quintain.verifiers import Score

AGENT = '''
import asyncio, sys
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)

@function_tool
def calculator(expression: str) -> str:
    """Work out an expression."""
    return {"3*4": "12", "12+5": "17"}[expression]

async def main():
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
    model = OpenAIChatCompletionsModel(model="any", openai_client=client)
    agent = Agent(name="solver", instructions="Calculate.", model=model, tools=[calculator])
    if sys.argv[2] == "stream":
        result = Runner.run_streamed(agent, "What is 3*4+5?")
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(agent, "What is 3*4+5?")
    print(result.final_output)

asyncio.run(main())
'''


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has the framework."""
    if named := os.environ.get("QUINTAIN_AGENTS_PYTHON"):
        return named
    folder = tmp_path_factory.mktemp("agents")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    found = str(folder / "bin" / "python")
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "ours.pth").write_text(sysconfig.get_path("purelib"))  # what is here already is not fetched again
    command = [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", "openai-agents>=0.20,<1"]
    got = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if got.returncode:
        pytest.skip(f"openai-agents cannot be installed here: {got.stderr[-300:]}")
    return found


def call(expression: str) -> str:
    return (
        '<tool_call>\n{"name": "calculator", "arguments": {"expression": "' + expression + '"}}\n</tool_call>'
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "stream"])
async def test_an_agent_of_the_openai_agents_sdk_is_one_sequence(
    python: str, tokenizer, tmp_path: Path, how: str
) -> None:
    codec = ChatCodec(tokenizer)
    said = [call("3*4"), f"First 12.\n{call('12+5')}", "It is 17."]
    replies, seen = iter(said), []

    def script(ids, sampling):
        seen.append(list(ids))
        return codec.encode_reply(next(replies))

    program = tmp_path / "agent.py"
    program.write_text(AGENT, encoding="utf-8")
    async with Gateway(ScriptedEngine(script), codec) as gateway:
        agent = await asyncio.create_subprocess_exec(
            python, str(program), gateway.url("agent"), how, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            out, problems = await asyncio.wait_for(agent.communicate(), 120)
        finally:
            if agent.returncode is None:
                agent.kill()
        assert (agent.returncode, out.decode().strip()) == (0, "It is 17."), problems.decode()
        found = gateway.finish("agent", Score(1.0))
    assert [codec.decode_reply(found.ids[turn.start : turn.end]) for turn in found.turns] == said
    assert list(found.samples) == [0]  # three requests, one sequence
    assert found.ids[: found.turns[-1].start] == seen[-1]
    assert [m["content"] for m in found.messages if m["role"] == "tool"] == ["12", "17"]
