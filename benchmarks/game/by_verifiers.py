"""verifiers 0.3.1: `MultiTurnEnv.rollout`, with a client in the process that says the script."""

from __future__ import annotations

import asyncio
from typing import Any

import verifiers.legacy as vf  # noqa: TID251 - the package of that name
from datasets import Dataset
from verifiers.legacy.clients import Client  # noqa: TID251
from verifiers.legacy.types import Response, ResponseMessage  # noqa: TID251

from . import QUESTION, REPLIES, SECRET, Row, answer, cpu_us_async


class Scripted(Client):  # type: ignore[type-arg]
    """A client that says the script."""

    def __init__(self) -> None:
        super().__init__(object())
        self.turn = 0

    def setup_client(self, config: Any) -> Any:
        return None

    async def to_native_tool(self, tool: Any) -> Any:
        return tool

    async def to_native_prompt(self, messages: Any) -> Any:
        return messages, {}

    async def get_native_response(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        self.turn += 1
        return REPLIES[(self.turn - 1) % len(REPLIES)]

    async def raise_from_native_response(self, response: Any) -> None:
        return None

    async def from_native_response(self, response: Any) -> Response:
        message = ResponseMessage(
            role="assistant", content=response, finish_reason="stop", is_truncated=False
        )
        return Response(id="1", created=1, model="m", message=message)

    async def close(self) -> None:
        return None


class Guess(vf.MultiTurnEnv):
    """The game."""

    async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
        content = messages[-1]["content"] if isinstance(messages[-1], dict) else messages[-1].content
        said, done = answer(content)
        reply = [{"role": "user", "content": said}]
        if done:
            state["final_env_response"] = reply
        return reply


async def right(state: Any) -> float:
    return float(state.get("final_env_response") is not None)


def play() -> list[Row]:
    """Measure a whole turn of a rollout."""
    rows = Dataset.from_list([{"question": QUESTION, "answer": str(SECRET)}])
    env = Guess(dataset=rows, rubric=vf.Rubric(funcs=[right]), max_turns=10)
    row = env.get_dataset()[0]

    async def episode() -> int:
        state = await env.rollout(dict(row), Scripted(), "m", {})
        assert len(state["trajectory"]) == len(REPLIES), state["trajectory"]
        return len(REPLIES)

    what = "verifiers 0.3.1: `MultiTurnEnv.rollout`, a client in the process"
    found = asyncio.run(cpu_us_async({what: episode}, 40))
    return [(what, "rollout", found[what])]
