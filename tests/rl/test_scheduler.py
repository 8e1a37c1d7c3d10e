"""The scheduler: every limit has its stop reason, every failure its kind, and every start exactly one trajectory."""

from __future__ import annotations

import asyncio
import time

import pytest

from quintain.envs.base import TextEnv, Turn
from quintain.rl import episode
from quintain.rl import rollout as scheduler
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.base import Completion, EngineError, FinishReason
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.rollout import Start, UngradedError, rollout
from quintain.rl.trajectory import StopReason
from quintain.sandboxes import PoolExhausted, WorkerDied
from quintain.tools.errors import InfrastructureError
from quintain.verifiers.base import Score, Verifier

WIDE = RolloutConfig(turn_tokens=512, episode_tokens=2048)


class Talk(TextEnv):
    """Pays a quarter for every reply; `sleep N` makes its tool slow, `outage` breaks its sandbox."""

    closed: list[TextEnv]
    outages = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.closed = []  # shared by all copies
        self.left = [0]

    def begin(self, task):
        return "Say something."

    async def arespond(self, reply):
        if reply.content.startswith("sleep"):
            await asyncio.sleep(float(reply.content.split()[1]))
        if reply.content == "outage" and self.left[0] > 0:
            self.left[0] -= 1
            raise InfrastructureError("sandbox", "gone")
        return Turn("Go on.", reward=0.25)

    async def aclose(self):
        self.closed.append(self)


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSE_S", 0.001)


def saying(codec, text="Hello."):
    return ScriptedEngine(lambda ids, sampling: codec.encode_reply(text))


def starts(count, members=1):
    return [Start(f"e{g}-{m}", g, g) for g in range(count) for m in range(members)]


def wide(**changes) -> RolloutConfig:
    return WIDE.model_copy(update=changes)


# --- limits


async def test_a_limit_of_turns(codec):
    (found,) = await rollout(Talk(), saying(codec), codec, starts(1), wide(turns=3))
    assert (found.stop, len(found.turns), found.score.value) == (StopReason.TURNS, 3, 0.75)
    assert found.score.reason == "cut after 3 turns"
    assert found.messages[-1]["role"] == "user"  # what the environment said is kept, not fed


async def test_a_full_context_truncates(codec):
    prompt = len(codec.prompt([{"role": "user", "content": "Say something."}]))
    engine = ScriptedEngine(lambda ids, sampling: codec.encode_reply("12345"), context_length=prompt + 4)
    (found,) = await rollout(Talk(), engine, codec, starts(1), WIDE)
    assert (found.stop, found.graded, len(found.ids)) == (StopReason.CONTEXT, True, prompt + 4)


async def test_a_context_that_is_full_between_turns_truncates_and_keeps_the_rewards(codec):
    (first,) = await rollout(Talk(), saying(codec), codec, starts(1), wide(turns=1))
    engine = saying(codec)
    engine.context_length = len(first.ids) + 2
    (found,) = await rollout(Talk(), engine, codec, starts(1), WIDE)
    assert (found.stop, len(found.turns), found.score.value) == (StopReason.CONTEXT, 1, 0.25)


async def test_a_prompt_over_the_context_is_ungraded(codec):
    engine = saying(codec)
    engine.context_length = 4
    (found,) = await rollout(Talk(), engine, codec, starts(1), WIDE)
    assert (found.stop, found.graded, found.info["kind"]) == (StopReason.CONTEXT, False, "prompt")
    assert "the model's context is 4: shorten it" in found.score.reason


async def test_what_is_left_of_the_episode_is_what_the_engine_is_asked_for(codec):
    asked = []

    def script(ids, sampling):
        asked.append((len(ids), sampling.max_tokens))
        return codec.encode_reply("Hi.")

    limits = RolloutConfig(turn_tokens=40, episode_tokens=80)
    (found,) = await rollout(Talk(), ScriptedEngine(script), codec, starts(1), limits)
    assert found.stop is StopReason.EPISODE_TOKENS
    assert [room for _, room in asked] == [min(40, 80 - seen) for seen, _ in asked]
    assert asked[-1][1] < 40


async def test_an_episode_over_its_time_is_ungraded_and_says_what_it_waited_for(codec):
    env = Talk()
    found = await rollout(env, saying(codec, "sleep 30"), codec, starts(3), wide(episode_s=0.5))
    assert {(t.stop, t.info["kind"], t.graded) for t in found} == {(StopReason.EPISODE_TIME, "time", False)}
    assert found[0].score.reason == "time: rollout.episode_s = 0.5 was over, waiting for the environment"
    assert found[0].timing.environment_s >= 0.04
    assert len(env.closed) == 3


async def test_an_engine_that_never_answers_is_not_waited_for(codec):
    async def hang(ids, sampling):
        await asyncio.sleep(1000)

    (found,) = await rollout(Talk(), ScriptedEngine(hang), codec, starts(1), wide(episode_s=0.05))
    assert found.score.reason.endswith("waiting for the engine")


async def test_a_phase_over_its_time_ends_all_episodes_begun_or_not(codec):
    env = Talk()
    limits = wide(phase_s=0.1, concurrency=2)
    began = time.monotonic()
    found = await rollout(env, saying(codec, "sleep 30"), codec, starts(6), limits)
    assert time.monotonic() - began < 25
    assert [t.id for t in found] == [s.id for s in starts(6)]
    assert {t.stop for t in found} == {StopReason.PHASE_TIME}
    assert not any(t.graded for t in found)


# --- failures of ours


async def test_an_outage_is_played_again_from_the_beginning(codec):
    env = Talk(max_turns=2)
    env.left[0] = 2
    (found,) = await rollout(env, saying(codec, "outage"), codec, starts(1), WIDE)
    assert (found.graded, found.score.value, found.timing.attempts) == (True, 0.5, 3)
    assert len(env.closed) == 3  # a fresh environment each time, all closed


@pytest.mark.parametrize("lost", [WorkerDied("killed"), PoolExhausted("no box within 600 s")])
async def test_a_sandbox_that_an_environment_uses_by_itself_and_loses_is_an_outage_too(codec, lost):
    class Computing(Talk):
        async def arespond(self, reply):
            if len(self.closed) == 0:
                raise lost
            return Turn("Go on.", reward=0.25)

    (found,) = await rollout(Computing(max_turns=2), saying(codec), codec, starts(1), WIDE)
    assert (found.graded, found.score.value, found.timing.attempts) == (True, 0.5, 2)
    (found,) = await rollout(Computing(max_turns=2), saying(codec), codec, starts(1), wide(retries=0))
    assert (found.graded, found.info["kind"]) == (False, "sandbox")


async def test_after_all_retries_the_episode_is_ungraded_with_its_kind(codec):
    env = Talk(max_turns=2)
    env.left[0] = 100
    (found,) = await rollout(env, saying(codec, "outage"), codec, starts(1), wide(retries=1))
    assert (found.graded, found.info["kind"], found.timing.attempts) == (False, "sandbox", 2)


async def test_an_engine_that_comes_back_is_asked_again(codec):
    calls = []

    def script(ids, sampling):
        calls.append(sampling.seed)
        if len(calls) == 1:
            raise ConnectionError("refused")
        return codec.encode_reply("Hello.")

    (found,) = await rollout(Talk(max_turns=1), ScriptedEngine(script), codec, starts(1), WIDE)
    assert found.graded
    assert calls[0] == calls[1]  # the same randomness: a retry prefers no outcome


async def test_our_own_bug_is_not_tried_again(codec):
    class Broken(Talk):
        async def arespond(self, reply):
            raise KeyError("board")

    env = Broken()
    (found,) = await rollout(env, saying(codec), codec, starts(1), WIDE)
    assert (found.info["kind"], found.timing.attempts, len(env.closed)) == ("environment", 1, 1)
    assert "in arespond" in found.info["traceback"]


ANSWERS = {
    "no tokens": ([], [], FinishReason.LENGTH),
    "3 tokens with 2 log-probabilities": ([5, 6, 7], [-1.0, -1.0], FinishReason.LENGTH),
    "log-probabilities that are none: nan": ([5, 6], [-1.0, float("nan")], FinishReason.LENGTH),
    "log-probabilities that are none: -inf": ([5, 6], [float("-inf"), -1.0], FinishReason.LENGTH),
    "log-probabilities that are none: 0.5": ([5, 6], [-1.0, 0.5], FinishReason.LENGTH),
    "the last token 6 with the finish reason stop": ([5, 6], [-1.0, -1.0], FinishReason.STOP),
    "the token id -1": ([-1, 6], [-1.0, -1.0], FinishReason.LENGTH),
    "513 tokens where 512 were asked for": ([5] * 513, [-1.0] * 513, FinishReason.LENGTH),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_garbage_from_an_engine_is_named_and_never_trained_on(codec, what: str):
    ids, logprobs, finish = ANSWERS[what]
    engine = ScriptedEngine(lambda *_: Completion(ids, logprobs, finish, 0))
    (found,) = await rollout(Talk(), engine, codec, starts(1), wide(retries=0))
    assert (found.graded, found.info["kind"]) == (False, "engine")
    assert f"the engine answered with {what}" in found.score.reason
    assert not any(found.mask)


async def test_a_script_that_forgets_its_stop_token_is_told(codec):
    (found,) = await rollout(Talk(), ScriptedEngine(lambda *_: [5, 6]), codec, starts(1), wide(retries=0))
    assert "wrote 2 tokens without a stop token" in found.score.reason


async def test_an_engine_that_drops_its_work_does_not_end_the_phase(codec):
    async def drop(ids, sampling):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    found = await rollout(Talk(), ScriptedEngine(drop), codec, starts(2), wide(retries=0))
    assert [(t.graded, t.info["kind"]) for t in found] == [(False, "engine")] * 2


async def test_an_environment_that_does_not_close_is_left(codec, monkeypatch):
    monkeypatch.setattr(episode, "CLOSE_S", 0.05)

    class Sticky(Talk):
        async def aclose(self):
            await asyncio.sleep(1000)

    class Crash(Talk):
        async def aclose(self):
            raise OSError("busy")

    (found,) = await rollout(Sticky(max_turns=1), saying(codec), codec, starts(1), WIDE)
    assert (found.graded, found.info["close"]) == (True, "the environment did not close within 0.05 s")
    (found,) = await rollout(Crash(max_turns=1), saying(codec), codec, starts(1), WIDE)
    assert found.info["close"] == "the environment did not close: OSError: busy"


# --- the circuit breaker


async def test_too_many_ungraded_episodes_break_the_phase_off(codec):
    played = []

    def script(ids, sampling):
        played.append(1)
        raise EngineError("out of memory")

    limits = wide(retries=0, max_ungraded=0.1, concurrency=4)
    with pytest.raises(UngradedError) as error:
        await rollout(Talk(), ScriptedEngine(script), codec, starts(1000), limits, breaker=True)
    assert len(played) < 120
    assert str(error.value).startswith(
        "101 of 1000 episodes could not be graded (rollout.max_ungraded = 0.1), and "
    )
    assert "not played any more. By kind: engine 101. The first, e0-0: EngineError: out of memory" in str(
        error.value
    )


async def test_fewer_ungraded_episodes_than_allowed_break_nothing(codec):
    env = Talk(max_turns=1)
    env.left[0] = 10
    found = await rollout(
        env, saying(codec, "outage"), codec, starts(100), wide(retries=0, max_ungraded=0.1), breaker=True
    )
    assert sum(not t.graded for t in found) == 10


# --- more than is needed


async def test_what_is_kept_depends_on_the_order_of_the_draw_and_not_on_time(codec):
    """The first group is the slowest of all; it is waited for, and the quick ones after the third are dropped."""
    env = Talk(max_turns=1)

    async def script(ids, sampling):
        return codec.encode_reply("Hello.")

    class Slow(Talk):
        async def arespond(self, reply):
            await asyncio.sleep(0.1 if self.np_random_seed == 0 else 1000 if self.np_random_seed > 5 else 0)
            return Turn("", reward=0.5, done=True)

    env = Slow()
    found = await rollout(
        env,
        ScriptedEngine(script),
        codec,
        starts(10, members=2),
        WIDE,
        enough=lambda done: len(done) >= 6,
    )
    assert [t.id for t in found] == ["e0-0", "e0-1", "e1-0", "e1-1", "e2-0", "e2-1"]
    assert len(env.closed) == 20  # those that were cancelled too


async def test_without_enough_of_them_all_are_returned(codec):
    found = await rollout(Talk(max_turns=1), saying(codec), codec, starts(4), WIDE, enough=lambda done: False)
    assert len(found) == 4


# --- cancellation


async def test_a_cancelled_phase_closes_every_environment(codec):
    env = Talk()
    phase = asyncio.ensure_future(rollout(env, saying(codec, "sleep 1000"), codec, starts(20), WIDE))
    await asyncio.sleep(0.05)
    phase.cancel()
    with pytest.raises(asyncio.CancelledError):
        await phase
    assert len(env.closed) == 20


async def test_an_error_of_the_watcher_ends_the_phase_and_closes_every_environment(codec):
    class Quick(Talk):
        async def arespond(self, reply):
            await asyncio.sleep(0 if self.np_random_seed == 0 else 1000)
            return Turn("", done=True)

    def full(trajectory):
        raise OSError(28, "No space left on device")

    env = Quick()
    with pytest.raises(OSError, match="No space left"):
        await rollout(env, saying(codec), codec, starts(5), WIDE, on_finish=full)
    assert len(env.closed) == 5


async def test_the_time_of_an_episode_is_booked_where_it_was_spent(codec):
    async def slow(ids, sampling):
        await asyncio.sleep(0.05)
        return codec.encode_reply("sleep 0.1")

    (found,) = await rollout(Talk(max_turns=2), ScriptedEngine(slow), codec, starts(1), WIDE)
    assert 0.1 <= found.timing.engine_s < 0.2 <= found.timing.environment_s < 0.4
    assert "timing" not in found.to_json()


async def test_the_time_of_the_verifier_is_booked_apart(codec):
    class Slow(Verifier):
        def score(self, episode):
            return Score(1.0)

        async def ascore(self, episode):
            await asyncio.sleep(0.1)
            return Score(1.0)

    (found,) = await rollout(Talk(max_turns=1, verifier=Slow()), saying(codec), codec, starts(1), WIDE)
    assert found.timing.verifier_s >= 0.1
    assert found.timing.environment_s >= 0
    assert found.score.value == 1.0
