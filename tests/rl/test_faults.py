"""Engine, worker and tool are real processes that are killed at random: every episode is accounted for exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from quintain.envs.base import TextEnv, Turn
from quintain.rl import rollout as scheduler
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.journal import Journal, read
from quintain.rl.rollout import Start, rollout
from quintain.rl.trajectory import StopReason
from quintain.tools.errors import InfrastructureError

LIMITS = RolloutConfig(turn_tokens=64, episode_tokens=1024, concurrency=16, episode_s=10.0, retries=2)
EPISODES, TURNS = 40, 3


class Child:
    """A process that gives back what it is told, a moment later; started again when it has died."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.deaths = 0
        self._one = asyncio.Lock()

    async def ask(self, line: str) -> str:
        """Raises `ConnectionError` if the process dies meanwhile."""
        async with self._one:
            if self.process is None or self.process.returncode is not None:
                script = 'while read -r line; do sleep 0.002; echo "$line"; done'
                pipe = asyncio.subprocess.PIPE
                self.process = await asyncio.create_subprocess_exec(
                    "sh", "-c", script, stdin=pipe, stdout=pipe
                )
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(f"{line}\n".encode())
            await self.process.stdin.drain()
            try:
                answer = await self.process.stdout.readline()
            except asyncio.CancelledError:
                self.kill()  # its answer would be taken for the next one's
                await self.process.wait()
                raise
            if not answer.endswith(b"\n"):
                await self.process.wait()
                raise ConnectionError("the process is gone")
            return answer.decode().strip()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            self.deaths += 1

    async def end(self) -> None:
        self.kill()
        if self.process is not None:
            await self.process.wait()


class Worked(TextEnv):
    """Asks its worker what to say and its tool what to pay; a process that is gone is a failure of ours."""

    def __init__(self, worker: Child, tool: Child, **options):
        super().__init__(**options)
        self.worker, self.tool, self.opened, self.ended = worker, tool, [], []

    def begin(self, task):
        self.opened.append(1)
        return "Go."

    async def arespond(self, reply):
        for kind, child in (("worker", self.worker), ("tool", self.tool)):
            try:
                assert await child.ask(reply.content) == reply.content
            except (ConnectionError, BrokenPipeError) as error:
                raise InfrastructureError(kind, str(error)) from error
        return Turn("Go on.", reward=0.25)

    async def aclose(self):
        self.ended.append(1)


async def suffer(codec: ChatCodec, folder: Path, phases: int, monkeypatch) -> Counter[str]:
    """Play so many phases, and more until each of the three has died thrice in a row under an episode."""
    monkeypatch.setattr(scheduler, "PAUSE_S", 0.002)
    draws = random.Random(11)
    children = engine_process, worker, tool = Child(), Child(), Child()

    async def script(ids, sampling):
        word = f"word{sampling.seed % 97}"
        assert await engine_process.ask(word) == word
        return codec.encode_reply(word)

    async def reaper() -> None:
        while True:
            await asyncio.sleep(draws.uniform(0.01, 0.08))
            draws.choice(children).kill()

    kinds: Counter[str] = Counter()
    env = Worked(worker, tool, max_turns=TURNS)
    reaping = asyncio.ensure_future(reaper())
    phase = 0
    try:
        while phase < phases or len(kinds) < 4 or not all(child.deaths for child in children):
            starts = [Start(f"p{phase}-{n}", n, 1000 * phase + n) for n in range(EPISODES)]
            path = folder / f"rl-{phase:06d}.jsonl"

            async def play(starts=starts, path=path):
                with Journal(path) as journal:
                    return await rollout(env, ScriptedEngine(script), codec, starts, LIMITS, journal=journal)

            broken_off = asyncio.ensure_future(play())  # as a kill does: what is under way is lost
            await asyncio.wait({broken_off}, timeout=draws.uniform(0.05, 0.3))
            broken_off.cancel()
            await asyncio.gather(broken_off, return_exceptions=True)
            earlier = [t for t in read(path) if t.graded]
            found = await play()

            assert [t.id for t in found] == [s.id for s in starts]  # all of them, each once
            lines = Counter(t.id for t in read(path) if t.graded)
            assert lines == Counter({t.id: 1 for t in found if t.graded})  # none graded twice
            assert {t.id: t for t in found}.items() >= {t.id: t for t in earlier}.items()  # none played again
            for one in found:
                kinds["graded" if one.graded else str(one.info["kind"])] += 1
                if one.graded:
                    assert (one.score.value, one.stop, len(one.turns)) == (0.75, StopReason.TRUNCATED, TURNS)
                else:
                    assert one.stop is StopReason.ERROR
                    assert one.timing.attempts == 1 + LIMITS.retries
            assert len(env.ended) >= len(
                env.opened
            )  # nothing is left open (a start may die before it has begun)
            phase += 1
    finally:
        reaping.cancel()
        for child in children:
            await child.end()
    return kinds


@pytest.mark.slow
async def test_every_episode_is_accounted_for_while_all_that_serves_it_is_killed(
    tokenizer, tmp_path, monkeypatch
):
    kinds = await suffer(ChatCodec(tokenizer), tmp_path, 12, monkeypatch)
    assert set(kinds) == {"graded", "engine", "worker", "tool"}
    assert sum(kinds.values()) % EPISODES == 0
