"""The journal: every finished episode is on disk before it is used, and none is played twice."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from quintain.envs.library.calculator import Calculator
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.scripted import DemonstratorEngine, ScriptedEngine
from quintain.rl.journal import Journal, clear, journal_of, read
from quintain.rl.rollout import Start, rollout
from quintain.rl.trajectory import Timing
from quintain.verifiers.base import Score

WIDE = RolloutConfig(turn_tokens=512, episode_tokens=2048)


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "rl-000001.jsonl"


def starts(count: int) -> list[Start]:
    return [Start(f"e{n}", n, n, task=n) for n in range(count)]


async def play(codec, path, count=6, engine=None, seen=None):
    env = Calculator()
    with Journal(path) as journal:
        return await rollout(
            env,
            engine or DemonstratorEngine(env.oracle, codec),
            codec,
            starts(count),
            WIDE,
            journal=journal,
            on_finish=seen,
        )


async def test_an_episode_is_on_disk_when_anybody_sees_it(codec, path: Path):
    await play(
        codec, path, seen=lambda t: None if t in list(read(path)) else pytest.fail(f"{t.id} is not there")
    )
    assert sorted(t.id for t in read(path)) == [f"e{n}" for n in range(6)]


async def test_a_trajectory_comes_back_to_the_last_digit(trajectory, path: Path):
    one = dataclasses.replace(
        trajectory([1, 2, 3], "..x", logprobs=[0.0, 0.0, -0.1234567890123456]),
        timing=Timing(1.25, 0.5, 2, 0.125),
        samples=[0, 1],
        seed=2**62 + 1,
        task=7,
    )
    with Journal(path) as journal:
        journal.add(one)
    (found,) = read(path)
    assert found == one
    assert found.logprobs == one.logprobs
    assert found.timing == one.timing


async def test_finished_episodes_are_not_played_again(codec, path: Path):
    whole = await play(codec, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))
    written = []

    class Counting(DemonstratorEngine):
        def look(self, session, env):
            written.append(session)
            super().look(session, env)

    again = await play(codec, path, engine=Counting(Calculator().oracle, codec))
    assert again == whole
    assert sorted(written) == sorted(t.id for t in whole if t.id not in {x.id for x in map(load, lines[:4])})
    assert len(written) == 2
    assert sorted(t.id for t in read(path)) == [f"e{n}" for n in range(6)]


def load(line: bytes):
    from quintain.rl.trajectory import Trajectory

    return Trajectory.from_json(line.decode())


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
async def test_a_torn_last_line_is_no_episode_and_is_taken_away(codec, path: Path, kept: int):
    await play(codec, path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    assert len(list(read(path))) == (3 if kept == -1 else 2)
    with Journal(path) as journal:
        journal.add(load(lines[2]))
    assert path.read_bytes() == b"".join(lines)


async def test_an_episode_of_other_settings_does_not_count(codec, path: Path):
    (one, *_) = await play(codec, path, 1)
    (start,) = starts(1)
    journal = Journal(path)
    assert journal.finished([start]) == {"e0": one}
    for change in ({"seed": 9}, {"task": 9}, {"group": 9}, {"id": "e9"}):
        assert journal.finished([dataclasses.replace(start, **change)]) == {}


async def test_an_ungraded_episode_is_played_again(codec, path: Path, trajectory):
    (start,) = starts(1)
    failed = dataclasses.replace(
        trajectory([1, 2], ".x"), id="e0", score=Score.ungraded("EngineError"), task=0
    )
    with Journal(path) as journal:
        journal.add(failed)
    (found,) = await play(codec, path, 1)
    assert found.success
    assert Journal(path).finished([start]) == {"e0": found}


async def test_a_phase_that_is_broken_off_goes_on_where_it_stopped(codec, path: Path):
    """As a kill does it: some episodes are done, some under way, some not begun."""
    env = Calculator()
    oracle = DemonstratorEngine(env.oracle, codec)
    whole = await play(codec, path.with_name("whole.jsonl"), 12)

    class Hanging(DemonstratorEngine):
        async def generate(self, ids, sampling, *, session=None):
            if session in ("e5", "e8"):
                await asyncio.sleep(1000)
            return await oracle.generate(ids, sampling, session=session)

        def look(self, session, env):
            oracle.look(session, env)

    first = asyncio.ensure_future(play(codec, path, 12, engine=Hanging(env.oracle, codec)))
    while len(list(read(path))) < 10:
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await play(codec, path, 12) == whole
    assert sorted(t.id for t in read(path)) == sorted(s.id for s in starts(12))  # each exactly once


async def test_a_full_disk_ends_the_phase(codec, path: Path, monkeypatch):
    def full(self, trajectory):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", full)
    with pytest.raises(OSError, match="No space left"):
        await play(codec, path, 3)


def test_a_checkpoint_clears_the_journals(tmp_path: Path, trajectory):
    with journal_of(tmp_path, "rl", 12) as journal:
        journal.add(trajectory([1, 2], ".x"))
    assert [p.name for p in (tmp_path / "journal").iterdir()] == ["rl-000012.jsonl"]
    clear(tmp_path)
    assert not (tmp_path / "journal").exists()
    clear(tmp_path)  # twice is fine


async def test_a_scripted_engine_can_be_asynchronous_and_give_log_probabilities(codec, path: Path):
    from quintain.rl.engines.base import Completion, FinishReason

    async def script(ids, sampling):
        reply = codec.encode_reply("The answer is 1.")
        return Completion(reply, [-0.25] * len(reply), FinishReason.STOP, version=5)

    (found, *_) = await play(codec, path, 1, engine=ScriptedEngine(script))
    assert {p for p, mine in zip(found.logprobs, found.mask, strict=True) if mine} == {-0.25}
    assert {v for v, mine in zip(found.versions, found.mask, strict=True) if mine} == {5}
