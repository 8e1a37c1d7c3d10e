"""Rollouts record who wrote each token, and a failure stays with the episode it hit."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from quintain.envs.base import TextEnv, Turn
from quintain.envs.library.calculator import Calculator
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.scripted import DemonstratorEngine, ScriptedEngine
from quintain.rl.engines.transformers import TransformersEngine
from quintain.rl.rollout import Start, rollout
from quintain.rl.trajectory import StopReason, Trajectory
from quintain.tools.errors import InfrastructureError

WIDE = RolloutConfig(turn_tokens=512, episode_tokens=2048)


class Talk(TextEnv):
    """Pays a quarter for every reply and never ends."""

    def begin(self, task):
        return "Say something."

    def respond(self, reply):
        if reply.content == "stumble":
            raise RuntimeError("our own fault")
        if reply.content == "outage":
            raise InfrastructureError("sandbox", "none left")
        return Turn("Go on.", reward=0.25)


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


async def say(codec, text, limits=WIDE, env=None, **kwargs) -> Trajectory:
    """Play one episode of a policy that always says `text`."""
    engine = ScriptedEngine(lambda ids, sampling: codec.encode_reply(text))
    (found,) = await rollout(
        Talk(**kwargs) if env is None else env, engine, codec, [Start("e", 0, 1)], limits
    )
    return found


async def test_the_oracle_of_calculator_always_succeeds(codec):
    env = Calculator()
    starts = [Start(f"e{n}", n, n, task=n) for n in range(60)]
    found = await rollout(env, DemonstratorEngine(env.oracle, codec), codec, starts, WIDE)
    assert [t.id for t in found] == [s.id for s in starts]
    assert {(t.success, t.reward, t.stop) for t in found} == {(True, 1.0, StopReason.TERMINATED)}
    assert {len(t.turns) for t in found} == {2, 3, 4}  # one call a step, then the answer


async def test_the_mask_marks_exactly_what_was_written(codec):
    env, written = Calculator(min_steps=2, max_steps=2), []

    def write(task, messages, rng):
        written.append(env.oracle(task, messages, rng))
        return written[-1]

    (found,) = await rollout(env, DemonstratorEngine(write, codec), codec, [Start("e", 0, 1, task=3)], WIDE)
    assert len(written) == 3
    turns = [codec.tokenizer.decode(found.ids[turn.start : turn.end]) for turn in found.turns]
    assert turns == [text + "<|im_end|>" for text in written]
    inside = {index for turn in found.turns for index in range(turn.start, turn.end)}
    assert list(found.mask) == [index in inside for index in range(len(found.ids))]
    assert found.sampled_tokens == sum(len(codec.encode_reply(text)) for text in written)


async def test_the_ids_are_the_conversation(codec):
    env = Calculator(min_steps=3)
    (found,) = await rollout(
        env, DemonstratorEngine(env.oracle, codec), codec, [Start("e", 0, 1, task=0)], WIDE
    )
    whole = codec.tokenizer.apply_chat_template(
        list(found.messages), tools=[tool.schema for tool in env.tools], tokenize=False
    )
    assert codec.tokenizer.decode(found.ids) == whole.removesuffix("\n")
    assert [m["role"] for m in found.messages] == ["user"] + ["assistant", "tool"] * 3 + ["assistant"]


async def test_a_call_that_cannot_be_read_comes_back_as_an_observation(codec):
    env = Calculator(min_steps=1, max_steps=1)

    def write(task, messages, rng):
        return '<tool_call>\n{"name": "calc' if len(messages) == 1 else env.oracle(task, messages, rng)

    (found,) = await rollout(env, DemonstratorEngine(write, codec), codec, [Start("e", 0, 1, task=0)], WIDE)
    assert [turn.parse_error for turn in found.turns] == [True, False, False]
    assert [turn.tool_calls for turn in found.turns] == [0, 1, 0]
    complaint = found.messages[2]
    assert complaint["role"] == "user" and complaint["content"]
    between = codec.tokenizer.decode(found.ids[found.turns[0].end : found.turns[1].start])
    assert between == f"\n<|im_start|>user\n{complaint['content']}<|im_end|>\n<|im_start|>assistant\n"
    assert found.success


async def test_a_turn_limit_of_the_environment_truncates(codec):
    found = await say(codec, "Hello.", max_turns=3)
    assert (found.stop, len(found.turns), found.score.value) == (StopReason.TRUNCATED, 3, 0.75)


async def test_a_reply_over_the_limit_of_a_turn_ends_the_episode(codec):
    limits = RolloutConfig(turn_tokens=3, episode_tokens=2048)
    found = await say(codec, "12345", limits)
    assert found.stop is StopReason.TURN_TOKENS
    assert codec.tokenizer.decode(found.ids[found.turns[0].start :]) == "123"
    assert (found.graded, found.score.value) == (
        True,
        0.0,
    )  # a cut reply is no reply: the environment never sees it
    assert found.score.reason == "cut by a token limit (3 a turn, 2048 an episode)"


async def test_a_reply_as_long_as_the_limit_is_not_cut(codec):
    found = await say(codec, "12", RolloutConfig(turn_tokens=3, episode_tokens=2048), max_turns=2)
    assert (found.stop, len(found.turns)) == (StopReason.TRUNCATED, 2)


async def test_a_reply_over_what_is_left_of_the_episode_ends_it(codec):
    prompt = len(codec.prompt([{"role": "user", "content": "Say something."}]))
    found = await say(codec, "12345", RolloutConfig(turn_tokens=5, episode_tokens=prompt + 4))
    assert (found.stop, len(found.ids)) == (StopReason.EPISODE_TOKENS, prompt + 4)


async def test_a_prompt_over_the_limit_of_the_episode_is_an_episode_without_turns(codec):
    found = await say(codec, "12345", RolloutConfig(turn_tokens=2, episode_tokens=4))
    assert (found.stop, found.turns, found.graded) == (StopReason.EPISODE_TOKENS, [], False)
    assert "rollout.episode_tokens is 4: raise it" in found.score.reason
    assert not any(found.mask)


async def test_an_environment_that_raises_gives_one_ungraded_episode_and_siblings_finish(codec):
    env = Talk(max_turns=2)

    turns = dict.fromkeys(("e0", "e1", "e2"), 0)

    class Clumsy(ScriptedEngine):
        """Says what the environment stumbles over in the second turn of the second episode."""

        def _say(self, ids, sampling, session):
            turns[session] += 1
            return codec.encode_reply("stumble" if (session, turns[session]) == ("e1", 2) else "Hello.")

    found = await rollout(
        env, Clumsy(lambda ids, sampling: []), codec, [Start(f"e{n}", 0, n) for n in range(3)], WIDE
    )
    assert [t.stop for t in found] == [StopReason.TRUNCATED, StopReason.ERROR, StopReason.TRUNCATED]
    assert [t.graded for t in found] == [True, False, True]
    assert found[1].score.reason == "RuntimeError: our own fault"
    assert "in respond" in found[1].info["traceback"]
    assert len(found[1].turns) == 1  # what was played is kept


async def test_an_outage_that_the_environment_reports_is_ungraded(codec):
    found = await say(codec, "outage", max_turns=2)
    assert (found.stop, found.graded) == (StopReason.ERROR, False)
    assert found.score.reason == "infrastructure: sandbox: none left"


async def test_a_failing_engine_gives_an_ungraded_episode(codec, model):
    engine = TransformersEngine(model)
    hook = model.base_model.register_forward_pre_hook(lambda *_: 1 / 0)
    (found,) = await rollout(Talk(), engine, codec, [Start("e", 0, 1)], WIDE)
    hook.remove()
    assert found.stop is StopReason.ERROR
    assert found.score.reason.startswith("EngineError: the transformers engine failed: ZeroDivisionError")


async def test_no_more_episodes_than_the_limit_are_in_flight(codec):
    running, most = set(), []

    class Counting(ScriptedEngine):
        async def generate(self, ids, sampling, *, session=None):
            running.add(session)
            most.append(len(running))
            await asyncio.sleep(0)
            return await super().generate(ids, sampling, session=session)

        def release(self, session):
            running.discard(session)

    engine = Counting(lambda ids, sampling: codec.encode_reply("Hello."))
    limits = WIDE.model_copy(update={"concurrency": 3})
    starts, seen = [Start(f"e{n}", 0, n) for n in range(10)], []
    found = await rollout(
        Talk(max_turns=2),
        engine,
        codec,
        starts,
        limits,
        on_finish=lambda t: seen.append(t.id),
    )
    assert max(most) == 3
    assert not running
    assert sorted(seen) == [t.id for t in found] == [s.id for s in starts]


async def test_the_samplers_record_is_the_engines(codec, model):
    engine = TransformersEngine(model)
    engine.version = 4
    limits = RolloutConfig(turn_tokens=6, episode_tokens=400)
    starts = [Start(f"e{n}", 0, n) for n in range(4)]
    first = await rollout(Talk(), engine, codec, starts, limits)
    again = await rollout(Talk(), engine, codec, starts, limits)
    assert [t.ids for t in first] == [t.ids for t in again]
    for one in first:
        assert [v for v, mine in zip(one.versions, one.mask, strict=True) if mine] == [4] * one.sampled_tokens
        assert {v for v, mine in zip(one.versions, one.mask, strict=True) if not mine} == {-1}
        assert all((p < 0) == mine for p, mine in zip(one.logprobs, one.mask, strict=True))


async def test_a_trajectory_survives_json(codec):
    env = Calculator()
    played = await rollout(
        env,
        DemonstratorEngine(env.demonstrator, codec),
        codec,
        [Start(f"e{n}", n, n, n) for n in range(8)],
        WIDE,
    )
    for one in [*played, await say(codec, "stumble"), await say(codec, "Ünï 🙂\u2028", max_turns=1)]:
        spread = dataclasses.replace(one, logprobs=[-0.123456 * mine for mine in one.mask])
        line = spread.to_json()
        assert "\n" not in line
        assert Trajectory.from_json(line) == spread


def test_per_token_sequences_of_different_lengths_are_refused(trajectory):
    one = trajectory([1, 2, 3], "..x")
    with pytest.raises(ValueError, match=r"differ in length: {'ids': 3, 'mask': 2,"):
        dataclasses.replace(one, mask=[False, True])
