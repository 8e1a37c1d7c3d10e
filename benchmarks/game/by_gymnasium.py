"""The steps alone, in one process by turns: plain Gymnasium environments, and a `TextEnv`."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium import spaces

from . import QUESTION, REPLIES, Row, answer, cpu_us
from .by_quintain import Guess


class Bare(gymnasium.Env):  # type: ignore[type-arg]
    """Nothing but the game."""

    observation_space = spaces.Text(1000, charset=string.printable)
    action_space = spaces.Text(1000, charset=string.printable)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        """Ask the question."""
        super().reset(seed=seed)
        return QUESTION, {}

    def step(self, action: str) -> Any:
        """Answer the guess."""
        said, done = answer(action)
        return said, float(done), done, False, {}


class Chat(Bare):
    """The game, and by hand what a conversation needs: roles, reasoning apart, a turn limit, new messages."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        """Begin a conversation."""
        super().reset(seed=seed)
        self.turns = 0
        opening = {"role": "user", "content": QUESTION}
        self.messages = [opening]
        return QUESTION, {"task_id": "1", "messages": [opening]}

    def step(self, action: str) -> Any:
        """Keep both messages."""
        if not isinstance(action, str):
            raise TypeError("an action must be text")
        reasoning, _, content = action.rpartition("</think>")
        reply = {"role": "assistant", "content": content.strip()}
        if reasoning:
            reply["reasoning_content"] = reasoning.removeprefix("<think>").strip()
        self.messages.append(reply)
        self.turns += 1
        said, done = answer(reply["content"])
        message = {"role": "user", "content": said}
        self.messages.append(message)
        info = {"task_id": "1", "messages": [message], "reply": reply}
        return said, float(done), done, self.turns >= 100 and not done, info


gymnasium.register("bench/Bare-v0", Bare, max_episode_steps=100)
gymnasium.register("bench/Chat-v0", Chat, max_episode_steps=100)


def steps(env: Any) -> Callable[[], int]:
    """Return a play of 56 steps for one reset: it is the steps that are measured."""

    def play() -> int:
        env.reset()
        step = env.step
        for _ in range(8):
            for reply in REPLIES[:-1]:
                step(reply)
        return 8 * (len(REPLIES) - 1)

    return play


def play() -> list[Row]:
    """Measure the steps in short rounds."""
    plays = {
        "a bare Gymnasium environment: nothing but the game, no wrapper": steps(Bare()),
        "the same as `gymnasium.make` gives it": steps(gymnasium.make("bench/Bare-v0")),
        "a Gymnasium environment that keeps the conversation by hand, no wrapper": steps(Chat()),
        "the same as `gymnasium.make` gives it: order, limit and types checked": steps(
            gymnasium.make("bench/Chat-v0")
        ),
        "ours: `TextEnv.step`": steps(Guess(max_turns=100)),
    }
    return [(what, "step", value) for what, value in cpu_us(plays, 200, rounds=20).items()]
