"""OpenEnv: `Environment.step` without a server, and client and server over a socket of this machine."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import uvicorn
from openenv.core import GenericEnvClient
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

from . import QUESTION, REPLIES, Row, answer, cpu_us, cpu_us_async


class Text(Action):  # type: ignore[misc]
    """A reply."""

    text: str


class Said(Observation):  # type: ignore[misc]
    """An answer."""

    text: str


class Guess(Environment):  # type: ignore[misc]
    """The game."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: Any = None, episode_id: Any = None) -> Any:
        """Ask the question."""
        return Said(text=QUESTION)

    def step(self, action: Any, timeout_s: Any = None) -> Any:
        """Answer the guess."""
        said, done = answer(action.text)
        return Said(text=said, reward=float(done), done=done)

    async def step_async(self, action: Any, timeout_s: Any = None) -> Any:
        """Do the same; the server's way in."""
        return self.step(action)

    @property
    def state(self) -> Any:
        """Nothing that anybody asks for."""
        return State()


async def over_the_wire(port: int) -> dict[str, float]:
    """Measure a turn, client and server in this process."""
    async with GenericEnvClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def episode() -> int:
            await client.reset()
            for reply in REPLIES:
                await client.step({"text": reply})
            return len(REPLIES)

        return await cpu_us_async({"OpenEnv: client and server on one machine, both counted": episode}, 40)


def play() -> list[Row]:
    """Measure a step, and a whole turn over the socket."""
    env = Guess()

    def steps() -> int:
        env.reset()
        for reply in REPLIES:
            env.step(Text(text=reply))
        return len(REPLIES)

    found = cpu_us({"OpenEnv: `Environment.step`, no server": steps}, 1000, rounds=10)
    rows: list[Row] = [(what, "step", value) for what, value in found.items()]
    app = create_fastapi_app(Guess, Text, Said, max_concurrent_envs=4, mode="simulation")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    rows += [(what, "rollout", value) for what, value in asyncio.run(over_the_wire(port)).items()]
    server.should_exit = True
    thread.join(10)
    return rows
