"""Rollouts: what the framework itself costs.

    python benchmarks/rollouts.py overhead

`overhead`: CPU time of one step (one reply and its answer) with the scripted engine, where nothing is sampled and the
environment only answers a text, so what is left is ours; and the memory of 1,000 episodes in flight.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from quintain.envs.base import TextEnv
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig, TinyModelConfig
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.journal import Journal
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_tokenizer

EPISODES, TURNS = 500, 8
REPLY = "I look at the board again, and then I move the tower two fields to the left."


class Talk(TextEnv):
    """Answers every reply with a text of its own."""

    def begin(self, task):
        """Show the board."""
        return "You see a board with a tower on it. What do you do?"

    def respond(self, reply):
        """Answer with another text each time."""
        return f"You have moved {len(self.messages) // 2} times. What do you do now?"


class Waiting(Talk):
    """Does so when all episodes have come to the same place."""

    def __init__(self, gate: asyncio.Event, **options):
        super().__init__(**options)
        self.gate, self.there = gate, [0]

    async def arespond(self, reply):
        """Wait for the others."""
        self.there[0] += 1
        await self.gate.wait()
        return self.respond(reply)


def codec() -> ChatCodec:
    return ChatCodec(build_tokenizer([REPLY] * 4, TinyModelConfig(vocabulary=320, context=4096)))


def starts(count: int) -> list[Start]:
    return [Start(f"e{n}", n, n) for n in range(count)]


LIMITS = RolloutConfig(turn_tokens=512, episode_tokens=100_000, concurrency=1000)


def step_ms(journal: Path | None) -> float:
    """Return the CPU milliseconds of one step."""
    codec_ = codec()
    reply = codec_.encode_reply(REPLY)
    engine = ScriptedEngine(lambda ids, sampling: reply)

    async def play(count: int) -> None:
        book = Journal(journal) if journal is not None else None
        await rollout(Talk(max_turns=TURNS), engine, codec_, starts(count), LIMITS, journal=book)
        if book is not None:
            book.close()

    asyncio.run(play(20))  # templates are compiled, deltas are rendered
    if journal is not None:
        journal.unlink()
    began = time.process_time()
    asyncio.run(play(EPISODES))
    return 1000 * (time.process_time() - began) / (EPISODES * TURNS)


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def memory_mb(count: int = 1000, turns: int = 4) -> float:
    """Return the memory of `count` episodes that are all in flight, or done and kept, whichever is more, in MiB."""
    codec_ = codec()
    reply = codec_.encode_reply(REPLY)
    engine = ScriptedEngine(lambda ids, sampling: reply)
    await rollout(Talk(max_turns=2), engine, codec_, starts(2), LIMITS)
    before = resident_mb()
    gate = asyncio.Event()
    env = Waiting(gate, max_turns=turns)
    phase = asyncio.ensure_future(rollout(env, engine, codec_, starts(count), LIMITS))
    while env.there[0] < count:
        await asyncio.sleep(0.01)
    held = resident_mb() - before
    gate.set()
    await phase
    return max(held, resident_mb() - before)


def overhead() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = min(step_ms(None) for _ in range(3))
        kept = min(step_ms(Path(folder) / f"{n}.jsonl") for n in range(3))
    print(f"a step:                      {plain:.3f} CPU-ms")
    print(f"a step, with the journal:    {kept:.3f} CPU-ms")
    print(f"1,000 episodes in flight:    {asyncio.run(memory_mb()):.0f} MiB above the base")


PARTS = {"overhead": overhead}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
