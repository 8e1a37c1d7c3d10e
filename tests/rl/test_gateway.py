"""The gateway records what was sampled, token by token, whatever speaks to it."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from quintain.rl.chat import ChatCodec
from quintain.rl.engines.base import Completion, EngineError, FinishReason
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.gateway import Gateway
from quintain.rl.trajectory import StopReason, Trajectory
from quintain.tools import UserError
from quintain.verifiers import Score

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "3*4"}}\n</tool_call>'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
        },
    }
]


def ask(content: str) -> dict:
    return {"role": "user", "content": content}


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


class Script:
    """Says the given replies in their order, and remembers what it was shown."""

    def __init__(self, codec, *replies):
        self.codec, self.replies, self.seen = codec, list(replies), []

    def __call__(self, ids, sampling):
        self.seen.append(list(ids))
        return self.codec.encode_reply(self.replies.pop(0))


def written(codec, trajectory: Trajectory) -> list[str]:
    return [codec.decode_reply(trajectory.ids[turn.start : turn.end]) for turn in trajectory.turns]


async def post(gateway, body, path="/v1/chat/completions", **headers):
    """Return the status and the object that is answered."""
    url = f"http://127.0.0.1:{gateway.port}{path}"
    async with aiohttp.ClientSession() as client, client.post(url, json=body, headers=headers) as got:
        return got.status, await got.json()


async def test_a_tool_loop_of_the_openai_client_is_one_sequence(codec):
    openai = pytest.importorskip("openai", reason="needs the openai client (the dev extra)")
    script = Script(codec, f"<think>three fours</think>\n{CALL}", "The answer is 12.")
    async with Gateway(ScriptedEngine(script), codec) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.url("one"), api_key="x", max_retries=0)
        messages = [{"role": "system", "content": "Calculate."}, ask("3*4?")]
        first = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
        said = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        (call,) = said.tool_calls
        assert json.loads(call.function.arguments) == {"expression": "3*4"}
        messages += [
            said.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "12"},
        ]
        second = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
        assert second.choices[0].message.content == "The answer is 12."
        await client.close()
        found = gateway.finish("one", Score(1.0))
    assert written(codec, found) == [f"<think>three fours</think>\n{CALL}", "The answer is 12."]
    assert list(found.samples) == [0] and found.stop is StopReason.TERMINATED and found.reward == 1.0
    assert found.ids[: found.turns[1].start] == script.seen[1]  # it is what the engine saw
    assert script.seen[1][: len(script.seen[0])] == script.seen[0]
    sampled = [token for turn in found.turns for token in found.ids[turn.start : turn.end]]
    assert [t for t, mine in zip(found.ids, found.mask, strict=True) if mine] == sampled
    assert [m["role"] for m in found.messages] == ["system", "user", "assistant", "tool", "assistant"]


async def test_the_openai_client_reads_the_stream(codec):
    openai = pytest.importorskip("openai", reason="needs the openai client (the dev extra)")
    async with Gateway(ScriptedEngine(Script(codec, f"Let me see.\n{CALL}")), codec) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.url(), api_key="x", max_retries=0)
        assert [m.id async for m in client.models.list()] == ["quintain"]
        stream = await client.chat.completions.create(
            model="m",
            messages=[ask("3*4?")],
            tools=TOOLS,
            stream=True,
            stream_options={"include_usage": True},
            user="streamed",
        )
        pieces = [piece async for piece in stream]
        await client.close()
        found = gateway.finish("streamed", Score(0.0))
    deltas = [piece.choices[0].delta for piece in pieces if piece.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Let me see."
    assert [c.function.name for delta in deltas for c in delta.tool_calls or ()] == ["calculator"]
    assert pieces[-2].choices[0].finish_reason == "tool_calls"
    assert pieces[-1].usage.completion_tokens == found.sampled_tokens


async def test_logprobs_are_those_that_the_model_gives(model, codec):
    """What a real engine sampled over two requests has, in one pass of the model, the recorded log-probabilities."""
    import torch

    from quintain.rl.engines.transformers import TransformersEngine

    engine = TransformersEngine(model)
    async with Gateway(engine, codec) as gateway:
        messages = [ask("3*4?")]
        for number in range(2):
            body = {"messages": messages, "max_tokens": 60, "seed": number, "logprobs": True}
            status, answer = await post(gateway, body, "/s/real/v1/chat/completions")
            assert status == 200, answer
            choice = answer["choices"][0]
            messages = [*messages, choice["message"], ask("And 5*6?")]
            count = len(choice["logprobs"]["content"])
            assert count == answer["usage"]["completion_tokens"]
        found = gateway.finish("real", Score(1.0))
    await engine.close()
    for start, end in zip(found.samples, [*found.samples[1:], len(found.ids)], strict=True):
        with torch.no_grad():
            table = torch.log_softmax(model(torch.tensor([found.ids[start:end]])).logits[0], -1)
        for at in range(start + 1, end):
            if found.mask[at]:
                assert found.logprobs[at] == pytest.approx(
                    float(table[at - start - 1, found.ids[at]]), abs=1e-4
                )


async def test_an_agent_is_trained_on_what_was_recorded(model, codec):
    """Two requests a session, and a reward for an even first token: the learner's updates reach the next sessions."""
    import numpy as np

    from quintain.rl import credit
    from quintain.rl.engines.transformers import TransformersEngine
    from quintain.rl.learner import Learner
    from quintain.rl.rl_config import RlConfig

    rl = RlConfig(steps=12, lr=1e-2)
    learner = Learner(model, rl, temperature=1.0, generator=np.random.default_rng(0), longest=512)
    engine = TransformersEngine(model)
    rewards: list[float] = []

    async def agent(gateway, name: str, seed: int) -> Trajectory:
        messages = [ask("3*4?")]
        for turn in range(2):
            body = {"messages": messages, "max_tokens": 1, "seed": 2 * seed + turn}
            _, answer = await post(gateway, body, f"/s/{name}/v1/chat/completions")
            messages = [*messages, answer["choices"][0]["message"], ask("Sure?")]
        drawn = gateway._sessions[name].samples[0]
        first = next(token for token, mine in zip(drawn.ids, drawn.mask, strict=True) if mine)
        return gateway.finish(name, Score(float(first % 2 == 0)))

    async with Gateway(engine, codec) as gateway:
        for step in range(12):
            names = [f"step{step}-{n}" for n in range(16)]
            for name in names:
                gateway.begin(name, group=step)
            seeds = range(100 * step, 100 * step + 16)
            batch = await asyncio.gather(*(agent(gateway, *each) for each in zip(names, seeds, strict=True)))
            assert {t.group for t in batch} == {step}
            assert {v for t in batch for v, mine in zip(t.versions, t.mask, strict=True) if mine} == {step}
            rewards.append(sum(t.reward for t in batch) / 16)
            measured = learner.measure(batch)
            advantages = credit.assign(batch, rl, measured, kl_coef=0.0, longest=512)
            assert learner.update(batch, advantages, measured)["sampler_mismatch"] < 1e-4
            await engine.load(model, step + 1)
    await engine.close()
    assert sum(rewards[6:]) / 6 > 0.7 > 0.5 > rewards[0]


async def play(gateway, *conversations, **more):
    for messages in conversations:
        status, answer = await post(gateway, {"messages": messages, **more})
        assert status == 200, answer
    return gateway.finish("default", Score(1.0))


ONE = [ask("a")]
TWO = [*ONE, {"role": "assistant", "content": "r"}, ask("b")]


@pytest.mark.parametrize(
    ("second", "samples"),
    [
        pytest.param(TWO, 1, id="it goes on"),
        pytest.param(
            [*ONE, {"role": "assistant", "content": [{"type": "text", "text": "r"}]}, ask("b")],
            1,
            id="content in parts",
        ),
        pytest.param([*TWO, ask("c")], 1, id="two new messages"),
        pytest.param(ONE, 2, id="the same request again"),
        pytest.param([ask("z"), *TWO[1:]], 2, id="an edited question"),
        pytest.param([*ONE, {"role": "assistant", "content": "R"}, ask("b")], 2, id="an edited reply"),
        pytest.param([{"role": "system", "content": "s"}, *TWO], 2, id="another system prompt"),
        pytest.param([ask("summary: a, r"), ask("b")], 2, id="a summary"),
        pytest.param(
            [*TWO, {"role": "assistant", "content": "mine"}, ask("c")],
            2,
            id="a reply that the model did not write",
        ),
    ],
)
async def test_when_a_request_continues_a_sequence(codec, second, samples):
    script = Script(codec, "r", "q")
    async with Gateway(ScriptedEngine(script), codec) as gateway:
        found = await play(gateway, ONE, second)
    assert len(found.samples) == samples
    assert written(codec, found) == ["r", "q"]
    spans = [found.ids[start:] for start in found.samples]
    assert spans[-1][: len(script.seen[1])] == script.seen[1]  # what the engine saw is what is recorded


async def test_other_tools_begin_a_new_sequence(codec):
    async with Gateway(ScriptedEngine(Script(codec, "r", "q")), codec) as gateway:
        await post(gateway, {"messages": ONE})
        await post(gateway, {"messages": TWO, "tools": TOOLS})
        assert len(gateway.finish("default", Score(1.0)).samples) == 2


async def test_two_agents_of_one_session_take_turns(codec):
    """Each request continues the conversation that it belongs to, however they alternate."""
    async with Gateway(ScriptedEngine(Script(codec, "r", "s", "t", "u")), codec) as gateway:
        other = [ask("x")]
        found = await play(
            gateway, ONE, other, TWO, [*other, {"role": "assistant", "content": "s"}, ask("y")]
        )
    assert written(codec, found) == ["r", "t", "s", "u"]
    assert len(found.samples) == 2
    assert [m["content"] for m in found.info["conversations"][1]] == ["x", "s", "y", "u"]


async def test_a_stop_string_ends_the_reply_and_the_record(codec):
    async with Gateway(ScriptedEngine(Script(codec, "one END two", "q")), codec) as gateway:
        _, answer = await post(gateway, {"messages": ONE, "stop": "END"})
        assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (
            "one",
            "stop",
        )
        again = [*ONE, {"role": "assistant", "content": "one"}, ask("b")]
        await post(gateway, {"messages": again})
        found = gateway.finish("default", Score(1.0))
    assert written(codec, found)[0].startswith("one END") and "two" not in written(codec, found)[0]
    assert len(found.samples) == 2  # such a reply has no end of its own to append to


async def test_every_token_keeps_the_version_of_the_weights_that_drew_it(codec):
    """New weights came in the middle of a reply, which a stop string then cuts."""
    whole = codec.encode_reply("one END two")
    cut = len(codec.encode("one END"))
    versions = [3] + [4] * (cut - 1) + [5] * (len(whole) - cut)
    said = Completion(whole, [-1.0] * len(whole), FinishReason.STOP, 5, versions)
    async with Gateway(ScriptedEngine(lambda ids, sampling: said), codec) as gateway:
        await post(gateway, {"messages": ONE, "stop": "END"}, "/s/cut/v1/chat/completions")
        await post(gateway, {"messages": ONE}, "/s/whole/v1/chat/completions")
        found = [gateway.finish(name, Score(1.0)) for name in ("cut", "whole")]
    drawn = [[v for v, mine in zip(t.versions, t.mask, strict=True) if mine] for t in found]
    assert drawn == [versions[:cut], versions]


async def test_a_reply_cut_by_max_tokens_says_so(codec):
    async with Gateway(ScriptedEngine(Script(codec, "one two three")), codec) as gateway:
        _, answer = await post(gateway, {"messages": ONE, "max_completion_tokens": 2, "max_tokens": 3})
        assert answer["choices"][0]["finish_reason"] == "length"
        assert gateway.finish("default", Score(1.0)).sampled_tokens == 2


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 40}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
        ({"n": 2}, "n"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"top_logprobs": 3, "logprobs": True}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_json": {}}, "guided_json"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
    ],
)
async def test_what_cannot_be_honoured_exactly_is_refused(codec, more, param):
    async with Gateway(ScriptedEngine(Script(codec)), codec) as gateway:
        status, answer = await post(gateway, {"messages": ONE, **more})
    assert (status, answer["error"]["type"], answer["error"]["param"]) == (
        400,
        "invalid_request_error",
        param,
    )


async def test_neutral_values_and_fields_without_effect_are_taken(codec):
    body = {"top_p": 1.0, "n": 1, "presence_penalty": 0.0, "store": False, "metadata": {}, "stop": None}
    async with Gateway(ScriptedEngine(Script(codec, "r")), codec) as gateway:
        status, _ = await post(gateway, {"messages": ONE, **body})
    assert status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
async def test_a_web_page_cannot_use_it(codec, headers, status):
    async with Gateway(ScriptedEngine(Script(codec, "r")), codec) as gateway:
        assert (await post(gateway, {"messages": ONE}, **headers))[0] == status


async def test_failures_come_in_openais_shape_and_leave_the_record_as_it_was(codec):
    replies = iter([EngineError("the GPU is gone"), "r"])

    def script(ids, sampling):
        said = next(replies)
        if isinstance(said, Exception):
            raise said
        return codec.encode_reply(said)

    async with Gateway(ScriptedEngine(script), codec) as gateway:
        status, answer = await post(gateway, {"messages": ONE})
        assert (status, answer["error"]["code"]) == (502, "engine_error")
        assert (await post(gateway, {"messages": ONE}))[0] == 200
        assert (await post(gateway, {}, "/v1/embeddings"))[0] == 404
        found = gateway.finish("default", Score(1.0))
    assert written(codec, found) == ["r"] and found.info["errors"] == ["the engine failed: the GPU is gone"]


async def test_a_slow_engine_is_a_timeout_and_a_full_context_says_so(codec):
    async def script(ids, sampling):
        await asyncio.sleep(30)

    async with Gateway(ScriptedEngine(script), codec, timeout_s=0.05) as gateway:
        assert (await post(gateway, {"messages": ONE}))[0] == 504
    async with Gateway(ScriptedEngine(Script(codec), context_length=4), codec) as gateway:
        status, answer = await post(gateway, {"messages": ONE})
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
        found = gateway.finish("default", Score(1.0))
    assert not found.graded and "has no reply" in found.score.reason  # the work is not there to be judged


async def test_only_who_holds_the_key_ends_a_session_over_http(codec):
    ended = []
    async with Gateway(ScriptedEngine(Script(codec, "r")), codec, on_finish=ended.append) as gateway:
        await post(gateway, {"messages": ONE}, **{"X-Quintain-Session": "a"})
        end, key = "/sessions/a/finish", {"Authorization": f"Bearer {gateway.control_key}"}
        assert (await post(gateway, {"score": 1.0}, end))[0] == 401
        assert (await post(gateway, {"score": 7}, end, **key))[0] == 400
        status, answer = await post(gateway, {"score": 0.5}, end, **key)
        assert status == 200 and Trajectory.from_json(json.dumps(answer)).score.value == 0.5
        assert [t.id for t in ended] == ["a"]
        status, answer = await post(gateway, {"messages": ONE}, "/s/a/v1/chat/completions")
        assert (status, answer["error"]["code"]) == (409, "session_finished")
        assert (await post(gateway, {"messages": ONE}, "/s/..%2f/v1/chat/completions"))[0] == 400
        with pytest.raises(UserError, match="names are used once"):
            gateway.begin("a")
        with pytest.raises(UserError, match="no session 'b'"):
            gateway.finish("b", Score(1.0))


async def test_a_taken_port_is_named(codec):
    engine = ScriptedEngine(Script(codec))
    async with Gateway(engine, codec) as gateway:
        with pytest.raises(UserError, match=f"port {gateway.port}"):
            await Gateway(engine, codec, port=gateway.port).start()


async def test_caches_that_are_not_used_are_let_go(codec):
    class Engine(ScriptedEngine):
        def release(self, session):
            released.append(session)

    released: list[str] = []
    async with Gateway(Engine(Script(codec, *"rst")), codec, cached=1) as gateway:
        for name in "abc":
            await post(gateway, {"messages": ONE, "user": name})
        assert released == ["a#1", "b#1"]
        gateway.finish("c", Score(1.0))
        assert released[-1] == "c#1"
