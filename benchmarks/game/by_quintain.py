"""The game as a `TextEnv`, and with a tool as a `ToolEnv`: whole turns, without a model and without tokens."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from quintain.envs import TextEnv, ToolEnv, Turn
from quintain.envs.bridges.agent_loop import run_episode
from quintain.tools import tool
from quintain.verifiers import FinalNumber, Task

from . import QUESTION, REPLIES, SECRET, Row, answer, cpu_us_async

GUESSES = (50, 25, 12, 18)


class Guess(TextEnv):
    """The game."""

    def begin(self, task: Any) -> str:
        """Ask the question."""
        return QUESTION

    def respond(self, reply: Any) -> Any:
        """Answer the guess."""
        said, done = answer(reply.content)
        return Turn(said, reward=1.0, done=True) if done else said


@tool
def guess(n: int) -> str:
    """Guess the number."""
    return answer(str(n))[0]


@tool
async def wait(n: int) -> int:
    """Wait for a number."""
    await asyncio.sleep(0.2)
    return n


def called(name: str, n: int) -> str:
    """Return a reply with a call in the format of Hermes."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {{"n": {n}}}}}\n</tool_call>'


def with_tool(function: Any, answer: str) -> ToolEnv:
    """Return an environment with one tool."""
    return ToolEnv([Task("1", QUESTION, answer)], [function], FinalNumber(), max_turns=10)


async def played(env: ToolEnv, replies: list[str], seed: int = 1) -> int:
    """Play one episode of an environment of one's own, and return its turns."""
    own = env.fresh()
    own.reset(seed=seed)
    for reply in replies:
        await own.astep(reply)
    return len(replies)


async def sleepers() -> float:
    """Return the wall seconds of 64 episodes of four turns whose tool sleeps for 0.2 s; the median of three."""
    env, replies = with_tool(wait, "7"), [called("wait", 7)] * 4 + ["7"]
    walls = []
    for _ in range(3):
        began = time.perf_counter()
        await asyncio.gather(*(played(env, replies, seed) for seed in range(64)))
        walls.append(time.perf_counter() - began)
    return sorted(walls)[1]


async def turns() -> list[Row]:
    """Measure whole turns."""
    text, tools = Guess(max_turns=10), with_tool(guess, str(SECRET))
    replies = [*(called("guess", n) for n in GUESSES), str(SECRET)]

    async def loop() -> int:
        said = iter(REPLIES)

        async def complete(messages: Any, tools: Any) -> Any:
            return {"role": "assistant", "content": next(said)}

        return (await run_episode(text, complete, seed=1)).turns

    async def tool_loop() -> int:
        numbers = iter(GUESSES)

        async def complete(messages: Any, tools: Any) -> Any:
            number = next(numbers, None)
            if number is None:
                return {"role": "assistant", "content": str(SECRET)}
            function = {"name": "guess", "arguments": json.dumps({"n": number})}
            call = {"id": "1", "type": "function", "function": function}
            return {"role": "assistant", "tool_calls": [call]}

        return (await run_episode(tools, complete, seed=1)).turns

    async def tool_turns() -> int:
        return await played(tools, replies)

    kinds = {
        "ours: `TextEnv` in the agent loop": ("rollout", loop),
        "ours: `ToolEnv` in the agent loop": ("tools", tool_loop),
        "ours: `ToolEnv`, reply with a call in, parse, tool, messages out": ("tools", tool_turns),
    }
    found = await cpu_us_async({what: play for what, (_, play) in kinds.items()}, 200)
    return [(what, kind, found[what]) for what, (kind, _) in kinds.items()]


def play() -> list[Row]:
    """Measure whole turns, and the wall time of tools that sleep."""
    waited = asyncio.run(sleepers())
    slow = "ours: 64 `ToolEnv` episodes x 4 turns, a tool that sleeps 0.2 s"
    return [*asyncio.run(turns()), (slow, "wall", waited * 1e6)]
