"""skyrl-gym: `BaseTextEnv.step`."""

from __future__ import annotations

from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from . import QUESTION, REPLIES, Row, answer, cpu_us


class Guess(BaseTextEnv):
    """The game."""

    def __init__(self) -> None:
        super().__init__()
        self.max_turns = 10

    def step(self, action: str) -> Any:
        """Answer the guess."""
        self.turns += 1
        said, done = answer(action)
        return BaseTextEnvStepOutput(
            observations=[{"role": "user", "content": said}],
            reward=float(done),
            done=done or self.turns >= self.max_turns,
            metadata={},
        )


def episode() -> int:
    """Play one; the generator of SkyRL keeps the conversation."""
    env = Guess()
    messages, _ = env.init([{"role": "user", "content": QUESTION}])
    for reply in REPLIES:
        messages.append({"role": "assistant", "content": reply})
        messages.extend(env.step(reply)["observations"])
    env.close()
    return len(REPLIES)


def play() -> list[Row]:
    """Measure a step."""
    what = "skyrl-gym: step, and the conversation as its generator keeps it"
    return [(what, "step", value) for value in cpu_us({what: episode}, 2000, rounds=10).values()]
