"""What a worker does, without Ray, and what bad settings get."""

from __future__ import annotations

import asyncio
import pickle
import sys

import pytest

from quintain.envs import registry
from quintain.envs.base import TextEnv, Turn
from quintain.rl.config import Config
from quintain.rl.ray_cluster import Cluster, _probe
from quintain.rl.ray_worker import Facts, Failure, Home, Worker
from quintain.rl.ray_workers import RayWorkers, define
from quintain.rl.workers_config import WorkersConfig
from quintain.tools.errors import UserError


class Echo(TextEnv):
    """Waits for ever when it is told to, and knows when it is closed."""

    closed = 0

    def __init__(self, render_mode=None):
        super().__init__(max_turns=3)

    def begin(self, task):
        return "Say something."

    async def arespond(self, reply):
        if reply == "wait":
            await asyncio.sleep(1000)
        if reply == "raise":
            raise ValueError("no")
        return Turn(f"{reply}?", reward=0.5)

    async def aclose(self):
        Echo.closed += 1


@pytest.fixture
def worker(monkeypatch):
    registry.register("test/Echo-v0", Echo)
    monkeypatch.setattr(Echo, "closed", 0)
    yield Worker({"env": define("test/Echo-v0", {})}, Home.here())
    registry._known.pop("test/Echo-v0")
    registry.gymnasium.registry.pop("test/Echo-v0")


async def test_an_episode_is_told_in_plain_data(worker):
    opening, task, form = await worker.open(1, "env", 7, None, False, None)
    assert opening.messages == [{"role": "user", "content": "Say something."}]
    assert (task, form) == (None, None)  # the task holds the answer: it leaves for engines that are shown it
    answer = await worker.step(1, "hello")
    assert (answer.reward, answer.messages) == (0.5, [{"role": "user", "content": "hello?"}])
    assert pickle.loads(pickle.dumps(answer)) == answer
    failure = await worker.step(1, "raise")
    assert (failure.kind, failure.reason) == ("environment", "ValueError: no")
    assert failure.trace.startswith("Traceback")
    assert await worker.close(1) is None
    assert Echo.closed == 1


async def test_closing_ends_a_step_that_is_under_way(worker):
    await worker.open(1, "env", 7, None, False, None)
    waiting = asyncio.ensure_future(worker.step(1, "wait"))
    await asyncio.sleep(0)
    assert await worker.close(1) is None
    assert isinstance(await waiting, Failure)
    assert Echo.closed == 1


async def test_an_episode_of_the_worker_before_is_a_failure_of_the_worker(worker):
    assert (await worker.step(5, "hello")).kind == "worker"


async def test_an_episode_that_was_closed_before_it_began_does_not_begin(worker):
    await worker.close(3)
    assert isinstance(await worker.open(3, "env", 7, None, False, None), Failure)
    assert Echo.closed == 0


async def test_what_cannot_be_imported_is_told_with_the_id():
    registry.register("test/Nowhere-v0", "no_such_module_here:Env")
    try:
        worker = Worker({"env": define("test/Nowhere-v0", {})}, Home.here())
    finally:
        registry._known.pop("test/Nowhere-v0")
        registry.gymnasium.registry.pop("test/Nowhere-v0")
    facts = await worker.facts()
    assert "test/Nowhere-v0 cannot be imported" in str(facts.failure)
    assert "no_such_module_here" in str(facts.failure)
    with pytest.raises(
        UserError, match=r"a worker on .* cannot make the environments: .*no_such_module_here"
    ):
        Cluster(WorkersConfig(kind="ray")).refuse_others(facts)


def test_the_members_of_a_mixture_go_along(worker):
    told = define("quintain/Mixture-v0", {"envs": [{"id": "test/Echo-v0"}, {"id": "quintain/Calculator-v0"}]})
    assert list(told.brought) == ["test/Echo-v0"]


def test_another_version_is_refused():
    facts = Facts("0.0.1", "3.9", "far-away", 1, None)
    with pytest.raises(
        UserError, match=r"far-away has Quintain 0\.0\.1 on Python 3\.9, this machine .*: install"
    ):
        Cluster(WorkersConfig(kind="ray")).refuse_others(facts)


async def test_without_ray_there_is_one_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'needs Ray: pip install "quintain\[ray\]"'):
        await RayWorkers(WorkersConfig(kind="ray"), {}).open()


async def test_a_cluster_that_is_not_there_is_one_message():
    with pytest.raises(
        UserError, match=r"no Ray cluster at 127\.0\.0\.1:9 \(workers.address\): .*ray start --head"
    ):
        await _probe("127.0.0.1:9")
    with pytest.raises(UserError, match=r"must be host:port, such as 10\.0\.0\.5:6379, or auto; got 'head'"):
        await _probe("head")


def test_how_many_workers_there_is_room_for(monkeypatch):
    cluster = Cluster(WorkersConfig(kind="ray", cpus=0.5, resources={"sandbox": 1.0}))
    nodes = [{"CPU": 2.0, "sandbox": 3.0}, {"CPU": 1.0, "sandbox": 8.0}, {"CPU": 4.0}]
    monkeypatch.setattr(cluster, "nodes", lambda: nodes)
    assert cluster.room() == 3 + 2


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="Ray Client"):
        WorkersConfig(kind="ray", address="ray://10.0.0.5:10001")
    with pytest.raises(ValueError, match=r"workers\.cpus = 0 needs workers\.count"):
        WorkersConfig(kind="ray", cpus=0.0)
    assert Config.model_validate({"env": {"id": "quintain/Calculator-v0"}}).workers.kind == "local"
