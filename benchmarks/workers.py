"""What a step of an environment costs when it is played in a Ray actor instead of in this process.

    python benchmarks/workers.py [--episodes 100] [--rounds 3]

The same episodes of the environment of `rollouts`, which only answers a text, with the scripted engine, here and in
one worker of a Ray that is started on this machine, in turns; CPU time of this process and of the worker.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from common import TICKS, at_least, finish, machine, parser, ratio, spread, table
from rollouts import REPLY, TURNS, Talk, codec, starts

from quintain.envs import register
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.rollout import rollout
from quintain.rl.workers_config import WorkersConfig

NAMES = {
    "here": "in this process, all of it",
    "driver": "Ray: the process of the run",
    "worker": "Ray: the worker",
}
"""Where processor time is spent, by its name in the figures."""


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(episodes: int, rounds: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds of a step by place, for every round."""
    register("bench/Talk-v0", Talk)
    env = Talk(max_turns=TURNS)
    ours = codec()
    engine = ScriptedEngine(lambda ids, sampling: ours.encode_reply(REPLY))
    limits = RolloutConfig(turn_tokens=256, episode_tokens=8192, turns=TURNS, concurrency=64)
    found: dict[str, list[float]] = {"here": [], "driver": [], "worker": []}
    config = WorkersConfig(kind="ray", address="local", count=1, start_s=600.0)
    async with RayWorkers(config, {"talk": define("bench/Talk-v0", {})}) as workers:
        (facts,) = await workers.facts()
        await rollout(env, engine, ours, starts(8), limits, stage=workers.stage("talk"))  # warm
        for _ in range(rounds):
            began = time.process_time()
            await rollout(env, engine, ours, starts(episodes), limits)
            found["here"].append(time.process_time() - began)
            began, other = time.process_time(), cpu_s(facts.pid)
            await rollout(env, engine, ours, starts(episodes), limits, stage=workers.stage("talk"))
            found["driver"].append(time.process_time() - began)
            found["worker"].append(cpu_s(facts.pid) - other)
    steps = episodes * TURNS
    return {name: [1000 * one / steps for one in seconds] for name, seconds in found.items()}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    rows = [(NAMES[name], ratio(one)) for name, one in figures.items()]
    table("A step of an environment:", ("where", "CPU-ms"), rows)
    here, driver, worker = (figures[name]["median"] for name in NAMES)
    print(
        f"\nRay takes {driver + worker - here:.1f} CPU-ms more for a step; "
        f"one driver feeds {1000 / driver:,.0f} steps a second."
    )


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--episodes", type=at_least(1), default=100)
    options.add_argument("--rounds", type=at_least(1), default=3)
    given = options.parse_args()
    before = machine()
    found = {
        name: spread(values) for name, values in asyncio.run(measure(given.episodes, given.rounds)).items()
    }
    show(found)
    finish(given, before, found)


if __name__ == "__main__":
    main()
