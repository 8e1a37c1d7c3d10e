"""Engines on an OpenAI-style server: exact ids or none, and every failure has a name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from aiohttp import web

from quintain.envs.library.calculator import Calculator
from quintain.rl.config import Config, OpenAIConfig, RolloutConfig
from quintain.rl.engines.base import EngineError, FinishReason, Sampling
from quintain.rl.engines.openai import OpenAIChatEngine, OpenAIEngine
from quintain.rl.rollout import Start, rollout
from quintain.rl.text_codec import END, TextCodec, pack, unpack
from quintain.tools import openai_client
from quintain.tools.openai_client import OpenAIClient

SAMPLING = Sampling(max_tokens=4, stop_ids=(9,), seed=5)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Serve one handler for every path; gives its base address."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", handler)
        runner = web.AppRunner(app, handler_cancellation=True)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "PAUSE_S", 0.01)


def config(url: str, **more) -> OpenAIConfig:
    return OpenAIConfig(base_url=url, model="m", **more)


def token_answer(body, ids=(7, 9), logprobs=(-0.5, -0.25), finish="stop", prompt=None):
    choice = {
        "token_ids": list(ids),
        "prompt_token_ids": body["prompt"] if prompt is None else prompt,
        "logprobs": {"token_logprobs": list(logprobs)},
        "finish_reason": finish,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": len(ids)}}


async def test_ids_go_in_and_ids_come_out(serve):
    seen = []

    async def handler(request):
        seen.append(await request.json())
        return web.json_response(token_answer(seen[-1]))

    engine = OpenAIEngine(config(await serve(handler)))
    said = await engine.generate([1, 2, 3], SAMPLING)
    await engine.close()
    assert (said.ids, said.logprobs, said.finish) == ([7, 9], [-0.5, -0.25], FinishReason.STOP)
    asked = seen[0]
    assert asked["prompt"] == [1, 2, 3] and asked["stop_token_ids"] == [9] and asked["return_token_ids"]
    assert (asked["top_p"], asked["top_k"], asked["min_p"], asked["repetition_penalty"]) == (1, 0, 0, 1)
    assert (engine.usage.requests, engine.usage.prompt_tokens, engine.usage.completion_tokens) == (1, 3, 2)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"ids": (7, 8, 7, 8, 7), "logprobs": [-1.0] * 5, "finish": "length"}, "garbage", "max_tokens = 4"),
        ({"logprobs": (-0.5,)}, "garbage", "2 ids with 1 log-prob"),
        ({"logprobs": (-0.5, 3.0)}, "garbage", "that are none"),
        ({"finish": "length"}, "garbage", "not as it was asked"),
        ({"prompt": [1, 2]}, "no_ids", "but others"),
        ({"ids": ("a", "b")}, "garbage", "another shape"),
    ],
)
async def test_an_answer_that_cannot_be_is_refused(serve, change, kind, says):
    async def handler(request):
        return web.json_response(token_answer(await request.json(), **change))

    engine = OpenAIEngine(config(await serve(handler), max_retries=0))
    with pytest.raises(EngineError, match=says) as caught:
        await engine.generate([1, 2, 3], SAMPLING)
    await engine.close()
    assert caught.value.kind == kind


async def test_a_server_without_ids_cannot_be_trained_on(serve):
    async def handler(request):
        return web.json_response({"choices": [{"text": "hello", "finish_reason": "stop"}]})

    engine = OpenAIEngine(config(await serve(handler)))
    with pytest.raises(EngineError, match=r"returns no token ids .* cannot be trained on") as caught:
        await engine.generate([1], SAMPLING)
    with pytest.raises(EngineError, match="cannot be set from here"):
        await engine.load(None, 1)
    await engine.close()
    assert caught.value.kind == "no_ids"
    assert engine.usage.attempts == 1  # asking again would not help


async def test_raw_logprobs_are_refused_where_the_temperature_changes_them(serve):
    async def handler(request):
        return web.json_response(token_answer(await request.json()))

    url, warm = await serve(handler), Sampling(4, (9,), temperature=0.7)
    engine = OpenAIEngine(config(url))
    with pytest.raises(EngineError, match="processed_logprobs"):
        await engine.generate([1], warm)
    told = OpenAIEngine(config(url, logprobs="processed"))
    assert (await told.generate([1], warm)).ids == [7, 9]
    await told.close()


def answers(status=200, body=b"", headers=None):
    async def handler(request):
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def slow(request):
    await asyncio.sleep(30)
    return web.Response()


async def dripping(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(300):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def hanging_up(request):
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "kind", "attempts"),
    [
        (answers(500, b"oops"), "status", 2),
        (answers(429), "rate_limit", 2),
        (answers(401), "auth", 1),
        (answers(400, b"too long"), "rejected", 1),
        (answers(302, headers={"Location": "http://127.0.0.1:9/"}), "rejected", 1),
        (answers(200, b"<html>"), "garbage", 2),
        (answers(200, b"[1]"), "garbage", 2),
        (answers(200, b"[" * 100_000), "garbage", 2),
        (answers(200, b"{}"), "garbage", 2),
        (answers(200, b'{"choices": [{"message": 3}]}'), "garbage", 2),
        (answers(200, b""), "empty", 2),
        (answers(200, b'{"choices": []}'), "empty", 2),
        (answers(200, b'{"choices": [{"message": {"content": null}}]}'), "empty", 2),
        (slow, "timeout", 2),
        (dripping, "timeout", 2),
        (hanging_up, "connection", 2),
    ],
)
async def test_every_failure_has_a_name(serve, handler, kind, attempts):
    async with OpenAIClient(await serve(handler), timeout_s=0.3, max_retries=1) as client:
        with pytest.raises(openai_client.EndpointError) as caught:
            await client.chat({"messages": []})
    assert (caught.value.kind, client.usage.attempts, client.usage.requests) == (kind, attempts, 0)


async def test_no_more_than_the_limit_are_in_flight_and_a_cancelled_one_is_hung_up(serve):
    running, most, dropped = 0, 0, asyncio.Event()

    async def handler(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(30 if "wait" in (await request.json()) else 0.02)
        except asyncio.CancelledError:
            dropped.set()
            raise
        finally:
            running -= 1
        return web.json_response({"choices": [{"message": {"content": "hi"}}]})

    async with OpenAIClient(await serve(handler), concurrency=3) as client:
        await asyncio.gather(*(client.chat({}) for _ in range(12)))
        assert most == 3
        waiting = asyncio.create_task(client.chat({"wait": 1}))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait_for(dropped.wait(), 5)


async def test_a_chat_endpoint_plays_an_environment_and_is_marked_as_not_trainable(serve):
    """The server calls the calculator as the oracle would, in OpenAI's shape, then answers."""
    env = Calculator(min_steps=1, max_steps=1)
    seen = []

    async def handler(request):
        body = await request.json()
        seen.append(body)
        messages = body["messages"]
        if messages[-1]["role"] != "tool":
            task = next(t for t in (env.tasks[n] for n in range(3)) if t.prompt == messages[-1]["content"])
            call = env.format.parse(env.oracle(task, messages, np.random.default_rng(0))).tool_calls[0]
            function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
            message = {
                "content": None,
                "tool_calls": [{"id": "x", "type": "function", "function": function}],
            }
            finish = "tool_calls"
        else:
            message, finish = {"content": f"The answer is {messages[-1]['content']}."}, "stop"
        return web.json_response(
            {
                "choices": [{"message": message, "finish_reason": finish}],
                "usage": {"completion_tokens": 11},
            }
        )

    engine = OpenAIChatEngine(config(await serve(handler)))
    starts = [Start(f"e{n}", n, n, task=n) for n in range(3)]
    found = await rollout(
        env, engine, TextCodec(), starts, RolloutConfig(turn_tokens=64, episode_tokens=2048)
    )
    await engine.close()
    assert [(t.success, t.trainable, len(t.turns)) for t in found] == [(True, False, 2)] * 3
    assert {turn.end - turn.start for t in found for turn in t.turns} == {11}  # as the server counts
    assert seen[0]["tools"] == env.schemas
    assert engine.usage.requests == 6


async def test_arguments_that_are_no_json_come_back_to_the_model_as_its_mistake(serve):
    async def handler(request):
        body = await request.json()
        if len(body["messages"]) > 2:
            assert "could not be read" in body["messages"][-1]["content"]
        calls = [{"id": "x", "type": "function", "function": {"name": "calculator", "arguments": "{3*"}}]
        return web.json_response({"choices": [{"message": {"tool_calls": calls}}]})

    engine = OpenAIChatEngine(config(await serve(handler)))
    (found,) = await rollout(Calculator(), engine, TextCodec(), [Start("e", 0, 0, task=0)], RolloutConfig())
    await engine.close()
    assert found.graded and found.turns[0].parse_error


async def test_a_dead_server_leaves_the_episodes_ungraded():
    engine = OpenAIChatEngine(config("http://127.0.0.1:9/v1", max_retries=0))
    limits = RolloutConfig(retries=0)
    (found,) = await rollout(Calculator(), engine, TextCodec(), [Start("e", 0, 0, task=0)], limits)
    await engine.close()
    assert not found.graded and "gave no answer" in found.score.reason


@pytest.mark.parametrize("text", ["", "a", "\0\0 zeros", "naïve 🙂 text of some length", "x" * 999])
@pytest.mark.parametrize("count", [None, 1, 7])
def test_text_is_packed_beyond_every_vocabulary(text, count):
    ids = pack(text, count)
    assert unpack([*ids, END]) == text
    assert all(number >= 2**40 for number in ids) and END not in ids
    assert count is None or len(ids) == min(count, len(text.encode()))


def test_a_run_cannot_train_on_a_server():
    engine = {"kind": "openai", "openai": {"model": "m"}}
    Config.model_validate({"env": {"id": "quintain/Calculator-v0"}, "engine": engine})
    with pytest.raises(ValueError, match="nothing can be trained on it"):
        Config.model_validate({"env": {"id": "quintain/Calculator-v0"}, "engine": engine, "rl": {}})
    with pytest.raises(ValueError, match=r"needs engine\.openai\.model"):
        Config.model_validate({"env": {"id": "quintain/Calculator-v0"}, "engine": {"kind": "openai"}})
