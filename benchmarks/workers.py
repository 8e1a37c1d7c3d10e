"""What a step of an environment costs when it is played in a Ray actor instead of in this process.

    python benchmarks/workers.py [--episodes 100] [--rounds 3]

The same episodes of an environment that only answers a text, with the scripted engine, here and in one worker of a
Ray that is started on this machine, in turns; CPU time of this process and of the worker.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from common import finish, machine, parser, spread, table

from quintain.envs import TextEnv, register
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig, TinyModelConfig
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_tokenizer
from quintain.rl.workers_config import WorkersConfig

TURNS = 8
REPLY = "I look at the board again, and then I move the tower two fields to the left."


class Talk(TextEnv):
    """Answers every reply with a text."""

    def begin(self, task):
        """Show the board."""
        return "You see a board with a tower on it. What do you do?"

    def respond(self, reply):
        """Answer the same each time."""
        return "You have moved the tower. What do you do now?"


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(episodes: int, rounds: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds of a step by place, for every round."""
    register("bench/Talk-v0", Talk)
    env = Talk(max_turns=TURNS)
    codec = ChatCodec(build_tokenizer([REPLY] * 4, TinyModelConfig(vocabulary=320, context=4096)))
    engine = ScriptedEngine(lambda ids, sampling: codec.encode_reply(REPLY))
    limits = RolloutConfig(turn_tokens=256, episode_tokens=8192, turns=TURNS, concurrency=64)
    starts = [Start(f"e{n}", n, n) for n in range(episodes)]
    found: dict[str, list[float]] = {"here": [], "driver": [], "worker": []}
    config = WorkersConfig(kind="ray", address="local", count=1, start_s=600.0)
    async with RayWorkers(config, {"talk": define("bench/Talk-v0", {})}) as workers:
        (facts,) = await workers.facts()
        await rollout(env, engine, codec, starts[:8], limits, stage=workers.stage("talk"))  # warm
        for _ in range(rounds):
            began = time.process_time()
            await rollout(env, engine, codec, starts, limits)
            found["here"].append(time.process_time() - began)
            began, other = time.process_time(), cpu_s(facts.pid)
            await rollout(env, engine, codec, starts, limits, stage=workers.stage("talk"))
            found["driver"].append(time.process_time() - began)
            found["worker"].append(cpu_s(facts.pid) - other)
    steps = episodes * TURNS
    return {name: [1000 * one / steps for one in seconds] for name, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--episodes", type=int, default=100)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    before = machine()
    found = {
        name: spread(values) for name, values in asyncio.run(measure(given.episodes, given.rounds)).items()
    }
    names = {
        "here": "in this process, all of it",
        "driver": "Ray: the process of the run",
        "worker": "Ray: the worker",
    }
    rows = [(names[name], one["median"], one["low"], one["high"]) for name, one in found.items()]
    table("A step of an environment, CPU-ms", ("where", "median", "least", "most"), rows)
    finish(given, before, found)


if __name__ == "__main__":
    main()
