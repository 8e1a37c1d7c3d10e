"""Environments in Ray actors: the same trajectories as here, on two nodes that lose workers; then one node goes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from quintain.envs import registry
from quintain.envs.base import TextEnv, Turn
from quintain.rl import ray_workers
from quintain.rl import rollout as scheduler
from quintain.rl.chat import ChatCodec
from quintain.rl.config import EvalConfig, RolloutConfig, load_config
from quintain.rl.engines.scripted import DemonstratorEngine, ScriptedEngine
from quintain.rl.evaluate import evaluate
from quintain.rl.journal import Journal, read
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.rollout import Start, rollout
from quintain.rl.train import train
from quintain.rl.trajectory import StopReason
from quintain.rl.workers_config import WorkersConfig
from quintain.tools.errors import InfrastructureError, UserError
from quintain.verifiers.base import Score, Task, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.alone, pytest.mark.asyncio(loop_scope="module")]

LIMITS = RolloutConfig(turn_tokens=120, episode_tokens=1500, concurrency=16, episode_s=120.0, retries=2)
REPLIES = (
    "I take 7.",
    '<tool_call>\n{"name": "calculator", "arguments": {"expression": "3*4"}}\n</tool_call>',
    '<tool_call>\n{"name": "calculator", "arguments": {"expression": 3*4}}\n</tool_call>',
    "<think>Hm.</think>The answer is 12.",
    "word " * 200,
)
STORE = 80 * 2**20
HANG_S = 400.0
"""No test waits longer for anything; all of it takes seconds."""
COUNT = 24
"""Episodes of a rollout that is disturbed: more than are under way at once."""


class Wordy(Verifier):
    """Pays for the length of the reply, and for what the environment says it has seen."""

    def score(self, episode):
        if "ungraded" in episode.reply:
            raise RuntimeError("cannot be judged")
        return Score(len(episode.reply) % 10 / 10, parts={"length": len(episode.reply)}, reason="by length")


class Moods(TextEnv):
    """Behaves as its task says: everything that can become of an episode."""

    def __init__(self, render_mode=None):
        moods = "ends", "raises", "breaks", "system", "refuses", "truncates", "talks", "opaque", "large"
        super().__init__(
            tasks=[Task(mood, f"Mood: {mood}.", answer="secret") for mood in moods],
            verifier=Wordy(),
            max_turns=3,
        )

    def begin(self, task):
        self.seen = []
        return f"{task.prompt} {self.np_random.integers(1000)}"

    def respond(self, reply):
        mood = self.task.id
        self.seen.append(len(reply))
        if len(self.seen) == 2:
            if mood == "raises":
                raise ValueError("no such move")
            if mood == "breaks":
                raise InfrastructureError("sandbox", "it is gone")
            if mood == "system":
                raise OSError(5, "input/output error")
            if mood == "refuses":
                raise UserError("not like this")
            if mood in ("ends", "opaque", "large"):
                return Turn("Over.", reward=0.25, done=True)
        return Turn(f"Go on: {self.np_random.integers(1000)}.", reward=float(self.np_random.random()) / 10)

    def evidence(self):
        kept = {"opaque": object(), "large": "x" * 2_000_000}
        return {"seen": self.seen, "more": kept.get(self.task.id)}


class Slow(TextEnv):
    """Takes its time for every answer."""

    def __init__(self, render_mode=None):
        super().__init__(max_turns=5)

    def begin(self, task):
        return "Go."

    async def arespond(self, reply):
        await asyncio.sleep(0.2)
        return Turn(f"And {self.np_random.integers(1000)}?", reward=0.1)


class Stuck(TextEnv):
    """Never answers in one of its episodes, and holds up its whole process."""

    def __init__(self, render_mode=None):
        super().__init__(tasks=[Task("stuck", "Go."), Task("free", "Go.")], max_turns=2)

    def respond(self, reply):
        while self.task.id == "stuck":
            pass
        return Turn("Go on.", reward=0.5)


class Curious(TextEnv):
    """Says what its process knows."""

    def begin(self, task):
        return f"{os.environ.get('QUINTAIN_TEST_SECRET')} {Path.cwd()}"


MINE = {"test/Moods-v0": Moods, "test/Slow-v0": Slow, "test/Stuck-v0": Stuck, "test/Curious-v0": Curious}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    for env_id, factory in MINE.items():
        registry.register(env_id, factory)
    yield
    for env_id in MINE:
        registry._known.pop(env_id)
        registry.gymnasium.registry.pop(env_id)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of two logical CPUs on this machine, connected to; nothing of them is left."""
    ray = pytest.importorskip("ray", reason="needs the ray extra")
    from ray.cluster_utils import Cluster

    with (
        tempfile.TemporaryDirectory(prefix="qray-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_TMPDIR", folder)
        patched.setenv("RAY_worker_niceness", "0")  # else (15) a busy machine leaves them nearly nothing
        quick = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 4,
            "prestart_worker_first_driver": False,
            "enable_worker_prestart": False,
        }
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "object_store_memory": STORE,
                "include_dashboard": False,
                "no_monitor": True,
                "_system_config": quick,
            },
        )
        try:
            made.add_node(num_cpus=2, object_store_memory=STORE)
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


def engine_of(codec: ChatCodec) -> ScriptedEngine:
    return ScriptedEngine(lambda ids, sampling: codec.encode_reply(REPLIES[sampling.seed % len(REPLIES)]))


def starts(count: int, *, tasks: int | None = None) -> list[Start]:
    return [Start(f"e{n}", n, 1000 + n, None if tasks is None else n % tasks) for n in range(count)]


DEFINED = {
    "moods": ("test/Moods-v0", {}),
    "slow": ("test/Slow-v0", {}),
    "stuck": ("test/Stuck-v0", {}),
    "curious": ("test/Curious-v0", {}),
    "calculator": ("quintain/Calculator-v0", {"split": "test"}),
    "repair": ("quintain/ProgramRepair-v0", {}),
}


def config(cluster: Any, **more: Any) -> WorkersConfig:
    return WorkersConfig(kind="ray", address=cluster.address, **{"count": 2, "start_s": 240.0, **more})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(cluster: Any) -> AsyncIterator[RayWorkers]:
    """Two workers, one on each node."""
    definitions = {name: define(env_id, kwargs) for name, (env_id, kwargs) in DEFINED.items()}
    async with RayWorkers(config(cluster), definitions) as made:
        yield made


def bare(trajectory):
    """Without the traceback, whose frames name the process."""
    return replace(trajectory, info={k: v for k, v in trajectory.info.items() if k != "traceback"})


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSE_S", 0.02)


async def test_what_becomes_of_an_episode_is_the_same_to_the_last_token_and_score(workers, codec):
    env = registry.make("test/Moods-v0")
    chosen = starts(54, tasks=9)
    here = await rollout(env, engine_of(codec), codec, chosen, LIMITS)
    there = await rollout(env, engine_of(codec), codec, chosen, LIMITS, stage=workers.stage("moods"))
    assert [bare(t) for t in there] == [bare(t) for t in here]
    for one, other in zip(here, there, strict=True):  # both end alike, whatever lies between
        last = [t.info.get("traceback", "").splitlines()[-1:] for t in (one, other)]
        assert last[0] == last[1]
    kinds = Counter(t.info.get("kind") for t in there)
    assert {"environment", "sandbox", "system", "setup", None} <= set(kinds)  # and all of this has happened
    stops = {StopReason.TERMINATED, StopReason.TRUNCATED, StopReason.TURN_TOKENS, StopReason.ERROR}
    assert stops <= {t.stop for t in there}
    assert any("evidence" in t.info for t in there) and any("no_evidence" in t.info for t in there)
    assert any(t.score.parts for t in there)
    assert "secret" not in str(there)
    assert len({facts.pid for facts in await workers.facts()}) == 2


async def test_tools_and_demonstrators_that_know_the_answer_are_the_same(workers, codec):
    env = registry.make("quintain/Calculator-v0", split="test")
    stage = workers.stage("calculator")
    for make in (engine_of, lambda codec: DemonstratorEngine(env.demonstrator, codec)):
        here = await rollout(env, make(codec), codec, starts(20), LIMITS)
        there = await rollout(env, make(codec), codec, starts(20), LIMITS, stage=stage)
        assert there == here
        assert sum(turn.tool_calls for t in there for turn in t.turns) > 0


async def test_evaluation_is_the_same(workers, codec):
    env = registry.make("quintain/Calculator-v0", split="test")
    found = [
        await evaluate(
            env,
            DemonstratorEngine(env.demonstrator, codec),
            codec,
            EvalConfig(problems=12, samples=2),
            LIMITS,
            seed=1,
            label="eval",
            stage=stage,
        )
        for stage in (None, workers.stage("calculator"))
    ]
    assert found[0] == found[1]


async def test_programs_run_in_sandboxes_of_the_workers(workers, codec):
    env = registry.make("quintain/ProgramRepair-v0")
    oracle = DemonstratorEngine(env.oracle, codec)
    limits = RolloutConfig(turn_tokens=4000, episode_tokens=40_000)
    try:
        here = await rollout(env, oracle, codec, starts(3, tasks=3), limits)
        there = await rollout(env, oracle, codec, starts(3, tasks=3), limits, stage=workers.stage("repair"))
    finally:
        env.close()
    assert [(t.ids, t.score.value, t.stop) for t in there] == [(t.ids, t.score.value, t.stop) for t in here]
    assert all(t.success for t in there)


async def test_variables_are_not_sent_and_the_folder_is_that_of_the_driver(workers, monkeypatch):
    monkeypatch.setenv("QUINTAIN_TEST_SECRET", "hunter2")
    stage = workers.stage("curious")()
    opening = await stage.areset(1, None)
    await stage.aclose()
    assert opening.messages == [{"role": "user", "content": f"None {Path.cwd()}"}]
    assert registry.make("test/Curious-v0").reset(seed=1)[0] == f"hunter2 {Path.cwd()}"


async def test_too_few_cpus_is_one_message(cluster):
    few = RayWorkers(config(cluster, count=2, cpus=3.0, start_s=1.0), {"env": define("test/Slow-v0", {})})
    said = r"only 0 of 2 workers started within workers.start_s = 1 s. Each takes 3 CPU; the cluster has 4 CPU .* on 2"
    with pytest.raises(UserError, match=said):
        await few.open()


async def killed_in_the_middle(workers, codec, path: Path, kills) -> list[int]:
    """Play slow episodes, disturb them when so many are done, and compare with an undisturbed rollout."""
    env = registry.make("test/Slow-v0")
    whole = await rollout(env, engine_of(codec), codec, starts(COUNT), LIMITS)
    done: list[str] = []
    before = [facts.pid for facts in await workers.facts()]

    def on_finish(trajectory):
        done.append(trajectory.id)
        if len(done) in kills:
            kills[len(done)](before)

    with Journal(path) as journal:
        found = await rollout(
            env,
            engine_of(codec),
            codec,
            starts(COUNT),
            LIMITS,
            journal=journal,
            on_finish=on_finish,
            stage=workers.stage("slow"),
        )
    after = [facts.pid for facts in await workers.facts()]
    assert found == whole  # to the last token, whoever played them
    assert max(t.timing.attempts for t in found) > 1
    assert Counter(t.id for t in read(path)) == Counter(f"e{n}" for n in range(COUNT))  # each exactly once
    assert sorted(done) == sorted(f"e{n}" for n in range(COUNT))
    return [pid for pid in after if pid not in before]


async def test_killed_workers_are_replaced_and_their_episodes_played_again(workers, codec, tmp_path):
    # The second kill leaves none for a while: what is to be played waits.
    kills = {
        4: lambda pids: os.kill(pids[0], signal.SIGKILL),
        8: lambda pids: os.kill(pids[1], signal.SIGKILL),
    }
    assert len(await killed_in_the_middle(workers, codec, tmp_path / "j.jsonl", kills)) == 2


async def test_a_worker_that_does_not_answer_is_ended_and_the_others_go_on(workers, codec, monkeypatch):
    monkeypatch.setattr(ray_workers, "CLOSE_S", 0.5)
    env = registry.make("test/Stuck-v0")
    limits = RolloutConfig(turn_tokens=120, episode_tokens=1500, episode_s=3.0, retries=0)
    before = {facts.pid for facts in await workers.facts()}
    played = [Start("stuck", 0, 0, 0)]
    first = await rollout(env, engine_of(codec), codec, played, limits, stage=workers.stage("stuck"))
    assert first[0].info["kind"] == "time"
    assert "did not answer" in first[0].info["close"]
    free = [Start(f"f{n}", n, n, 1) for n in range(8)]
    rest = await rollout(env, engine_of(codec), codec, free, LIMITS, stage=workers.stage("stuck"))
    assert all(t.graded for t in rest)
    assert len({facts.pid for facts in await workers.facts()} - before) == 1


CONFIG = """
name = "many"
seed = 3
threads = 1
[env]
id = "quintain/Calculator-v0"
kwargs = { max_turns = 2 }
[model]
device = "cpu"
tiny = { layers = 1, width = 32, mlp = 32, vocabulary = 300, context = 256 }
[rollout]
turn_tokens = 8
episode_tokens = 256
[sft]
steps = 4
episodes = 12
tokens_per_step = 256
warmup_steps = 0
[rl]
steps = 2
groups = 2
group_size = 2
[eval]
problems = 4
every = 2
"""


async def test_a_run_is_the_same_and_ctrl_c_ends_its_worker(cluster, workers, tmp_path):
    path = tmp_path / "many.toml"
    path.write_text(CONFIG)
    (tmp_path / "here").mkdir()
    before = set(actors())
    there = ["--workers", "ray", "--workers.address", cluster.address, "--workers.count", "1"]
    words = ["train", str(path), "--run-dir", str(tmp_path / "there"), *there, "--rl.steps", "100000"]
    run = started("-m", "quintain", *words, "--eval.every", "0", stdout=subprocess.DEVNULL)
    try:
        await asyncio.to_thread(train, load_config(path), tmp_path / "here")
        last = tmp_path / "there" / "trajectories" / "rl-000002.jsonl"
        await until(lambda: last.exists() or run.poll() is not None)
        assert run.poll() is None
        (own,) = set(actors()) - before
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        assert await asyncio.to_thread(run.wait, HANG_S) == 130
    finally:
        end_session(run)
    for name in ("sft-000000", "eval-after-SFT-000000", "rl-000001"):
        here, away = (
            list(read(tmp_path / side / "trajectories" / f"{name}.jsonl")) for side in ("here", "there")
        )
        # Which episodes the engine has batched together differs, and with it the last digits of log-probabilities.
        assert [unmeasured(t) for t in away] == [unmeasured(t) for t in here]
    await until(lambda: own not in actors())


def unmeasured(trajectory):
    return replace(trajectory, logprobs=[0.0] * len(trajectory.ids))


LEADER = """
import asyncio
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.workers_config import WorkersConfig

async def main():
    config = WorkersConfig(kind="ray", address="local", count=1, start_s=400)
    async with RayWorkers(config, {"env": define("quintain/Calculator-v0", {})}) as workers:
        print((await workers.facts())[0].pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a short path: Ray puts sockets below it."""
    with tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as made:
        yield made


async def test_kill_9_of_what_leads_ends_the_worker_and_the_ray_that_it_started(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder)  # for what it cannot clear away
    run = started("-c", LEADER, stdout=subprocess.PIPE)
    try:
        worker = int(await asyncio.wait_for(asyncio.to_thread(run.stdout.readline), HANG_S))
        assert worker in session(run)
        assert any("raylet" in words for words in session(run).values())
        run.kill()
        # Two helpers of Ray's own wait a minute for the server that was killed with the rest: see docs/scale.md.
        await until(lambda: all("Agent" in words for words in session(run).values()))
    finally:
        end_session(run)


def started(*words: str, stdout: int) -> subprocess.Popen[str]:
    """Start Python in a session of its own."""
    words = (sys.executable, *words)
    return subprocess.Popen(
        words, stdout=stdout, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def listed() -> list[tuple[int, int, str]]:
    """Return process, session and words of what is alive."""
    columns = ["ps", "-ewwo", "pid=,sid=,stat=,args="]
    lines = subprocess.run(columns, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(None, 3) for line in lines]
    return [(int(pid), int(sid), words) for pid, sid, state, words in rows if state[0] != "Z"]


def session(run: subprocess.Popen[str]) -> dict[int, str]:
    """Return the processes of its session, with their words."""
    return {pid: words for pid, sid, words in listed() if sid == run.pid}


def actors() -> list[int]:
    """Return the processes that are workers."""
    return [pid for pid, _, words in listed() if words.startswith("ray::Worker")]


def end_session(run: subprocess.Popen[str]) -> None:
    """Leave nothing of it."""
    for pid in session(run):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()
    if run.stdout is not None:
        run.stdout.close()


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_a_removed_node_loses_nothing(cluster, workers, codec, tmp_path):
    # The last one: the node is gone after it.
    (node,) = cluster.worker_nodes

    def remove(pids):
        cluster.remove_node(node, allow_graceful=False)

    assert len(await killed_in_the_middle(workers, codec, tmp_path / "j.jsonl", {4: remove})) == 1
