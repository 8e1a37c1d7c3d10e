"""OpenEnv in and out, against the real package: its client on our server, our client on a server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from quintain.envs import TextEnv, Turn, make
from quintain.tools import UserError
from quintain.tools.errors import InfrastructureError


@pytest.fixture(autouse=True, scope="module")
def library(needs):
    needs("openenv")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(app: Any):
    """Run an application on a port of its own for as long as the block lasts."""
    import uvicorn

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)


class Broken(TextEnv):
    """Cannot grade."""

    def begin(self, task: Any) -> str:
        return "Say something."

    def respond(self, reply: Any) -> Turn:
        raise InfrastructureError("sandbox", "gone")


@pytest.fixture(scope="module")
def calculator():
    pytest.importorskip("openenv", reason="openenv is not installed: run `make test-bridges`")
    from quintain.envs.bridges.openenv_server import openenv_app

    env = make("quintain/Calculator-v0")
    with served(openenv_app(env, sessions=4)) as url:
        yield env, url


# --- out


def test_the_real_client_plays_our_environment(calculator):
    from openenv.core import GenericEnvClient

    env, url = calculator
    task = env.tasks[3]
    with GenericEnvClient(base_url=url).sync() as client:
        first = client.reset(seed=1, task=3)
        assert first.observation["text"] == task.prompt
        assert first.observation["messages"][-1] == {"role": "user", "content": task.prompt}
        assert (first.done, first.metadata) == (False, {"task_id": task.id})
        call = '<tool_call>{"name": "calculator", "arguments": {"expression": "6*7"}}</tool_call>'
        second = client.step({"text": call})
        assert (second.observation["text"], second.reward, second.done) == ("42", 0.0, False)
        assert second.observation["messages"][0]["role"] == "tool"
        last = client.step({"text": f"The answer is {task.answer}."})
        assert (last.reward, last.done) == (1.0, True)
        assert last.metadata["score"]["value"] == 1.0
        assert last.metadata["score"]["graded"] is True
        assert client.state()["step_count"] == 2


def test_the_same_seed_gives_every_session_the_same_episode(calculator):
    from openenv.core import GenericEnvClient

    _, url = calculator
    texts = set()
    for _ in range(2):
        with GenericEnvClient(base_url=url).sync() as client:
            texts.add(client.reset(seed=7).observation["text"])
    assert len(texts) == 1


def test_what_could_not_be_graded_has_no_reward():
    from openenv.core import GenericEnvClient

    from quintain.envs.bridges.openenv_client import OpenEnv
    from quintain.envs.bridges.openenv_server import openenv_app

    with served(openenv_app(Broken())) as url:
        with GenericEnvClient(base_url=url).sync() as client:
            client.reset(seed=1)
            last = client.step({"text": "hello"})
        assert (last.reward, last.done, last.metadata["score"]["graded"]) == (None, True, False)
        ours = OpenEnv(url)
        ours.reset(seed=1)
        *_, info = ours.step("hello")
        assert not info["score"].graded
        assert "sandbox: gone" in info["score"].reason
        ours.close()


def test_a_step_before_reset_is_an_error_of_the_client_and_the_session_lives_on(calculator):
    from openenv.core import GenericEnvClient

    _, url = calculator
    with GenericEnvClient(base_url=url).sync() as client:
        with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
            client.step({"text": "x"})
        assert client.reset(seed=1).observation["text"]


@pytest.mark.slow
def test_the_command_serves_by_id_and_a_wrong_id_says_so():
    from openenv.core import GenericEnvClient

    port = free_port()
    command = [sys.executable, "-m", "quintain.envs.bridges.openenv_server"]
    done = subprocess.run([*command, "quintain/Calculater-v0"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "did you mean 'quintain/Calculator-v0'" in done.stderr
    server = subprocess.Popen([*command, "quintain/GuessNumber-v0", "--port", str(port)])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as client:
                    assert "whole number from 1 to 100" in client.reset(seed=1).observation["text"]
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        server.terminate()
        server.wait(20)


# --- in


def test_our_client_plays_a_served_environment_to_the_same_end(calculator):
    from quintain.envs.bridges.openenv_client import OpenEnv

    _, url = calculator
    env = OpenEnv(url, reset={"task": 3})
    local = make("quintain/Calculator-v0")
    observation, info = env.reset(seed=1)
    assert (observation, info["messages"]) == (
        local.tasks[3].prompt,
        local.reset(options={"task": 3})[1]["messages"],
    )
    assert env.step("Thinking <tool_call>nonsense")[2] is False
    _, reward, terminated, _, info = env.step(f"{local.tasks[3].answer}")
    assert (reward, terminated, info["score"].value) == (1.0, True, 1.0)
    env.close()


async def test_many_episodes_at_once_each_in_a_session(calculator):
    from quintain.envs.bridges.openenv_client import OpenEnv

    _, url = calculator
    definition = OpenEnv(url)
    local = make("quintain/Calculator-v0")

    async def play() -> tuple[float, bool]:
        env = definition.fresh()
        env.reset(seed=5)
        answer = next(t.answer for t in map(local.tasks.__getitem__, range(10)) if t)
        _, reward, terminated, *_ = await env.astep(str(answer))
        env.close()
        return reward, terminated

    results = await asyncio.gather(*(play() for _ in range(4)))
    assert all(terminated for _, terminated in results)
    definition.close()


def echo_app(fields: dict[str, Any], reply: Any) -> Any:
    """A server that is none of ours: its action and observation have the given fields."""
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
    from pydantic import create_model

    action = create_model(
        "EchoAction", __base__=Action, **{name: (kind, ...) for name, kind in fields.items()}
    )
    observed = create_model("EchoObservation", __base__=Observation, said=(str, ""), length=(int, 0))

    class Echo(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def reset(self, seed: int | None = None, episode_id: str | None = None) -> Any:
            return observed(said=f"seed {seed}")

        def step(self, done: Any, timeout_s: float | None = None) -> Any:
            text = getattr(done, next(iter(fields)))
            if text == "crash":
                raise ValueError("bug in the server")
            return observed(said=text[::-1], length=len(text), reward=reply, done=text == "end")

        @property
        def state(self) -> Any:
            return State()

    return create_fastapi_app(Echo, action, observed, max_concurrent_envs=2, mode="simulation")


def test_a_foreign_server_with_fields_of_its_own():
    from quintain.envs.bridges.openenv_client import OpenEnv

    with served(echo_app({"utterance": str}, 4)) as url:
        env = OpenEnv(url, scale=(0, 16))
        assert env.reset(options={"task": 0})[0] == f"seed {env.task.info['seed']}"
        assert env.step("abc")[:3] == ("cba", 0.0, False)
        _, reward, terminated, _, info = env.step("end")
        assert (reward, terminated, info["score"].parts) == (0.5, True, {"return": 8.0})
        for _ in range(4):  # more episodes than the server has sessions: ended ones are closed
            env.reset()
            env.step("end")
        env.reset()
        *_, info = env.step("crash")
        assert not info["score"].graded
        assert "bug in the server" in info["score"].reason
        env.close(), env.close()
        whole = OpenEnv(url, observation="length")
        whole.reset(seed=1)
        assert whole.step("abc")[0] == "3"
        whole.close()


def test_which_field_takes_the_reply_is_asked_where_it_is_not_clear():
    from quintain.envs.bridges.openenv_client import OpenEnv

    with served(echo_app({"a": str, "b": str}, 0)) as url:
        with pytest.raises(
            UserError, match=r"which field .* takes the reply\? Give action=; the fields are: a, b"
        ):
            OpenEnv(url)
        with pytest.raises(UserError, match="has no field 'c'; it has: a, b"):
            OpenEnv(url, action="c")


def test_a_server_that_is_not_there_is_an_error_at_once_and_one_that_goes_is_our_failure():
    from quintain.envs.bridges.openenv_client import OpenEnv

    with pytest.raises(UserError, match=r"no OpenEnv server answers at http://127\.0\.0\.1:9"):
        OpenEnv("http://127.0.0.1:9", timeout_s=2)
    with served(echo_app({"text": str}, 0)) as url:
        env = OpenEnv(url, timeout_s=5)
        env.reset(seed=1)
    *_, info = env.step("x")
    assert not info["score"].graded
    with pytest.raises(InfrastructureError, match="cannot start an episode"):
        env.reset(seed=1)
    env.close()


@pytest.mark.parametrize("name", ["openenv_client", "openenv_server"])
def test_without_the_package_it_says_what_to_install(monkeypatch, name):
    import importlib

    module = importlib.import_module(f"quintain.envs.bridges.{name}")
    monkeypatch.setitem(sys.modules, "openenv.core", None)
    with pytest.raises(
        UserError, match=r'pip install "openenv>=0.10,<0.11", or pip install "quintain\[bridges\]"'
    ):
        module.OpenEnv("http://x") if name == "openenv_client" else module.openenv_app(Broken())
