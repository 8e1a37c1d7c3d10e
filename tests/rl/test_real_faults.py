"""Servers of vLLM, workers of Ray and the sandboxes of their tool are killed at random for two minutes.

Every episode is accounted for exactly once: it is graded as if nothing had happened, or ungraded with its kind.
`test_faults.py` does the same with small processes in their place, thousands of times.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM")
pytest.importorskip("ray", reason="needs the ray extra")

from quintain.envs import registry
from quintain.envs.base import TextEnv, Turn
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig, ServerConfig, TinyModelConfig, VllmConfig
from quintain.rl.engines.vllm_server import VllmServerEngine
from quintain.rl.journal import Journal, read
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_model
from quintain.rl.trajectory import StopReason
from quintain.rl.workers_config import WorkersConfig
from quintain.tools.errors import InfrastructureError
from quintain.verifiers.code import shared_pool

SECONDS, EPISODES, TURNS = 120.0, 24, 3
LIMITS = RolloutConfig(turn_tokens=100, episode_tokens=500, concurrency=12, episode_s=300.0, retries=3)
OURS = {"connection", "timeout", "status", "garbage", "empty", "sandbox", "worker"}
"""What a death can be called: a server that does not answer, a sandbox or a worker that is gone."""


class Computing(TextEnv):
    """Has a program run for every reply, and pays for what it prints."""

    def __init__(self, render_mode=None):
        super().__init__(max_turns=TURNS)

    def begin(self, task):
        return "Go."

    async def arespond(self, reply):
        result = await shared_pool().run("import time\ntime.sleep(0.2)\nprint(6 * 7)")
        if result.stdout != "42\n":
            raise InfrastructureError("sandbox", f"{result.reason}: {result.stderr}")
        return Turn("Go on.", reward=0.25)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    registry.register("test/Computing-v0", Computing)
    yield
    registry._known.pop("test/Computing-v0")
    registry.gymnasium.registry.pop("test/Computing-v0")


def below(roots: list[int]) -> list[int]:
    """Return the processes that those of `roots` have started, and those that these have."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    for pid in parents:
        above = parents[pid]
        while above and above not in roots:
            above = parents.get(above, 0)
        if above:
            found.append(pid)
    return found


def words_of(pid: int) -> bytes:
    """Return the command line of a process; nothing for one that is gone."""
    with suppress(OSError):
        return Path("/proc", str(pid), "cmdline").read_bytes()
    return b""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.vllm
@pytest.mark.ray
@pytest.mark.timeout(2400)
async def test_servers_workers_and_sandboxes_killed_for_two_minutes(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    shape = TinyModelConfig(layers=2, width=128, heads=4, kv_heads=2, mlp=64, vocabulary=320, context=512)
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0)).eval()
    codec = ChatCodec(tokenizer)
    codec.stop_ids = (codec.end_id, *range(200, 320))  # an untrained model would hardly ever end a reply
    servers = ServerConfig(start=2, restarts=1000, health_s=0.5, wait_s=240, start_s=900)
    engine = VllmServerEngine(model, tokenizer, servers, VllmConfig(kv_cache_gb=0.05), max_sessions=16)
    ray = WorkersConfig(kind="ray", count=2, cpus=0.5, start_s=300)
    env = registry.make("test/Computing-v0")
    draws, deaths, outcomes = random.Random(7), Counter[str](), Counter[str]()

    async def reap(until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(draws.uniform(0.5, 4.0))
            pids = [pid for pid in below([os.getpid()]) if words_of(pid).startswith(b"ray::Worker")]
            what = draws.choice(("server", "worker", "sandbox"))
            victims = {
                "server": [server.process.process.pid for server in engine.servers if server.ready],
                "worker": pids,
                "sandbox": below(pids),
            }[what]
            with suppress(ProcessLookupError, IndexError):
                os.kill(draws.choice(victims), signal.SIGKILL)
                deaths[what] += 1

    try:
        await engine.load(model, 0)
        async with RayWorkers(ray, {"computing": define("test/Computing-v0", {})}) as workers:
            began, phase = time.monotonic(), 0
            while time.monotonic() - began < SECONDS or not phase:
                reaping = asyncio.create_task(reap(began + SECONDS))
                starts = [Start(f"p{phase}-{n}", n, 1000 * phase + n) for n in range(EPISODES)]
                path = tmp_path / f"rl-{phase:06d}.jsonl"
                stage = workers.stage("computing")
                with Journal(path) as journal:
                    found = await rollout(env, engine, codec, starts, LIMITS, journal=journal, stage=stage)
                reaping.cancel()
                await asyncio.gather(reaping, return_exceptions=True)

                assert [t.id for t in found] == [s.id for s in starts]  # all of them, each once
                lines = Counter(t.id for t in read(path) if t.graded)
                assert lines == Counter(t.id for t in found if t.graded)
                for one in found:
                    outcomes["graded" if one.graded else str(one.info["kind"])] += 1
                    if one.graded and one.stop is StopReason.TRUNCATED:
                        assert (one.score.value, len(one.turns)) == (0.75, TURNS)
                    elif one.graded:  # its reply had no end
                        assert one.stop is StopReason.TURN_TOKENS
                    else:
                        assert one.stop in (StopReason.ERROR, StopReason.EPISODE_TIME)
                    sampled = {v for v, mine in zip(one.versions, one.mask, strict=True) if mine}
                    assert sampled <= {phase}
                phase += 1
                await engine.load(model, phase)  # whoever is down gets them when it is back
    finally:
        await engine.close()
    print(f"{phase} phases, deaths {dict(deaths)}, outcomes {dict(outcomes)}")
    assert set(deaths) == {"server", "worker", "sandbox"}
    assert set(outcomes) <= {"graded", "time", *OURS} and outcomes["graded"]
    assert outcomes.total() == phase * EPISODES
