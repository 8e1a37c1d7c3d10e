"""A plain agent loop in the OpenAI shape, against a server that speaks it, and with the real SDK."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from typing import Any

import pytest
from aiohttp import web

from quintain.envs import ToolEnv, make
from quintain.envs.bridges.agent_loop import as_openai, openai_chat, reply_of, run_episode
from quintain.tools import tool
from quintain.verifiers import FinalNumber, Task


@tool
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


ENV = ToolEnv([Task("1", "What is 17 + 25?", "42")], [add], FinalNumber(), max_turns=4)


def calls(*arguments: str, content: str | None = None) -> dict[str, Any]:
    parts = [
        {"id": f"abc{i}", "type": "function", "function": {"name": "add", "arguments": text}}
        for i, text in enumerate(arguments)
    ]
    return {"role": "assistant", "content": content, "tool_calls": parts}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def scripted(*replies: Any):
    """A `complete` that plays a script and remembers what it was asked."""
    script = iter(replies)
    asked: list[tuple[Any, Any]] = []

    async def complete(messages: Any, tools: Any) -> Any:
        asked.append((json.loads(json.dumps(messages)), tools))
        reply = next(script)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return complete, asked


async def test_tools_are_called_and_the_answer_is_judged():
    complete, asked = scripted(calls('{"a": 17, "b": 25}'), says("It is 42."))
    played = await run_episode(ENV, complete, seed=1)
    assert (played.score.value, played.reward, played.turns, played.stop) == (1.0, 1.0, 2, "terminated")
    assert played.task.id == "1"
    (first, tools), (second, _) = asked
    assert first == [{"role": "user", "content": "What is 17 + 25?"}]
    assert tools == [add.schema]
    assert second[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "abc0",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 17, "b": 25}'},
                }
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "abc0"},
    ]


async def test_results_of_parallel_calls_carry_the_ids_of_their_calls():
    complete, asked = scripted(
        calls('{"a": 1, "b": 2}', '{"a": 3, "b": 4}'), calls('{"a": 5, "b": 6}'), says("42")
    )
    await run_episode(ENV, complete, seed=1)
    messages = asked[-1][0]
    called = [part["id"] for m in messages if m["role"] == "assistant" for part in m["tool_calls"]]
    answered = [(m["tool_call_id"], m["content"]) for m in messages if m["role"] == "tool"]
    assert [call_id for call_id, _ in answered] == called
    assert len(set(called)) == 3
    assert [text for _, text in answered] == ["3", "7", "11"]


@pytest.mark.parametrize("arguments", ["{a: 1}", "[1, 2]", '"x"', "{"])
async def test_arguments_that_are_no_object_get_a_sentence_and_the_episode_goes_on(arguments):
    complete, asked = scripted(calls(arguments), says("42"))
    played = await run_episode(ENV, complete, seed=1)
    assert asked[1][0][-1] == {
        "role": "user",
        "content": "Error: the arguments of 'add' must be a JSON object.",
    }
    assert played.score.value == 1.0


async def test_calls_that_a_server_leaves_in_the_text_are_read():
    text = '<tool_call>{"name": "add", "arguments": {"a": 17, "b": 25}}</tool_call>'
    complete, asked = scripted(says(text), says("42"))
    await run_episode(ENV, complete, seed=1)
    assert asked[1][0][-1]["content"] == "42"


async def test_a_format_that_templates_do_not_know_sends_no_schema():
    env = ToolEnv([Task("1", "What is 17 + 25?", "42")], [add], FinalNumber(), format="react")
    complete, asked = scripted(says("Final Answer: 42"))
    await run_episode(env, complete, seed=1)
    assert asked[0][1] == []


async def test_a_completion_that_fails_is_ungraded():
    for failure, says_so in (
        (OSError("down"), "OSError: down"),
        ("no message", "got str"),
        ({"x": 1}, "content or"),
    ):
        complete, _ = scripted(failure)
        played = await run_episode(ENV, complete, seed=1)
        assert (played.score.graded, played.stop, played.reward) == (False, "error", 0.0)
        assert says_so in played.score.reason


async def test_a_completion_that_never_comes_is_ungraded():
    async def complete(messages: Any, tools: Any) -> Any:
        await asyncio.sleep(60)

    played = await run_episode(ENV, complete, seed=1, timeout_s=0.05)
    assert (played.score.graded, "TimeoutError" in played.score.reason) == (False, True)


async def test_a_reply_that_was_cut_is_no_answer():
    complete, _ = scripted({"message": says("It is 42"), "finish_reason": "length"})
    played = await run_episode(ENV, complete, seed=1)
    assert (played.score.value, played.score.graded, played.stop) == (0.0, True, "length")


async def test_the_turn_limit_truncates():
    complete, _ = scripted(*[calls('{"a": 1, "b": 1}')] * 4)
    played = await run_episode(ENV, complete, seed=1)
    assert (played.stop, played.turns, played.score.value) == ("truncated", 4, 0.0)


async def test_an_environment_that_breaks_is_ungraded():
    from quintain.tools.errors import InfrastructureError

    @tool
    def fetch(url: str) -> str:
        """Fetch a page."""
        raise InfrastructureError("server", "down")

    env = ToolEnv([Task("1", "?", "42")], [fetch], FinalNumber())
    part = {"id": "1", "type": "function", "function": {"name": "fetch", "arguments": '{"url": "x"}'}}
    complete, _ = scripted({"role": "assistant", "tool_calls": [part]})
    played = await run_episode(env, complete, seed=1)
    assert (played.score.graded, played.stop) == (False, "error")


async def test_many_episodes_at_once_and_a_task_by_index():
    env = make("quintain/Calculator-v0")

    async def complete(messages: Any, tools: Any) -> Any:
        await asyncio.sleep(0)
        return says("7")

    played = await asyncio.gather(*(run_episode(env, complete, seed=i, task=i) for i in range(20)))
    assert [p.task.id for p in played] == [env.tasks[i].id for i in range(20)]
    assert env.task is None


def test_reasoning_is_kept_apart_from_the_answer():
    env = ENV.fresh()
    env.reset(seed=1)
    reply = reply_of(env, {"content": "42", "reasoning_content": "17+25"})
    assert (reply.content, reply.reasoning) == ("42", "17+25")
    assert "reasoning_content" not in as_openai(reply.as_message())


# --- over the wire


@pytest.fixture
async def server():
    """A fake OpenAI-compatible server: calls `add` once, then answers with the result."""
    requests: list[dict[str, Any]] = []

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        requests.append({"body": body, "key": request.headers.get("Authorization")})
        if body["model"] == "broken":
            return web.Response(status=503, text="overloaded")
        if body["model"] == "nonsense":
            return web.json_response({"hello": "world"})
        results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        message = says(f"It is {results[-1]}.") if results else calls('{"a": 17, "b": 25}')
        choice = {"index": 0, "message": message, "finish_reason": "stop" if results else "tool_calls"}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", requests
    await runner.cleanup()


async def test_an_openai_compatible_server(server):
    url, requests = server
    played = await run_episode(ENV, openai_chat(url, "m", api_key="k", temperature=0.5), seed=1)
    assert (played.score.value, played.turns) == (1.0, 2)
    assert requests[0]["key"] == "Bearer k"
    assert requests[0]["body"]["temperature"] == 0.5
    assert requests[0]["body"]["tools"] == [add.schema]


@pytest.mark.parametrize(
    ("model", "says_so"), [("broken", "answered 503: overloaded"), ("nonsense", "gave no chat")]
)
async def test_a_server_that_fails_is_ungraded(server, model, says_so):
    played = await run_episode(ENV, openai_chat(server[0], model), seed=1)
    assert (played.score.graded, says_so in played.score.reason) == (False, True)


async def test_a_server_that_is_not_there_is_ungraded():
    played = await run_episode(ENV, openai_chat("http://127.0.0.1:9/v1", "m"), seed=1)
    assert (played.score.graded, "server: http://127.0.0.1:9" in played.score.reason) == (False, True)


async def test_the_real_sdk(server):
    if importlib.util.find_spec("openai") is None:
        pytest.skip("openai is not installed")
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server[0], api_key="k") as client:

        async def complete(messages: Any, tools: Any) -> Any:
            return await client.chat.completions.create(model="m", messages=messages, tools=tools)

        played = await run_episode(ENV, complete, seed=1)
    assert (played.score.value, played.turns, played.stop) == (1.0, 2, "terminated")
