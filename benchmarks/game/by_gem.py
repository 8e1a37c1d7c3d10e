"""GEM: `Env.step`, alone and with the wrapper that keeps the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gem
from gem.core import Env
from gem.wrappers.wrapper_factory import get_wrapper_fns

from . import QUESTION, REPLIES, Row, answer, cpu_us


class Guess(Env):
    """The game."""

    def reset(self, seed: Any = None) -> Any:
        """Ask the question."""
        super().reset(seed)
        self.turns = 0
        return QUESTION, {"suffix": "Guess."}

    def step(self, action: str) -> Any:
        """Answer the guess."""
        self.turns += 1
        said, done = answer(action)
        return said, float(done), done, self.turns >= 10, {"suffix": "Guess."}


gem.register("bench:Guess", Guess)


def steps(env: Any) -> Callable[[], int]:
    """Return a play of one episode."""

    def play() -> int:
        env.reset()
        for reply in REPLIES:
            env.step(reply)
        return len(REPLIES)

    return play


def play() -> list[Row]:
    """Measure a step."""
    wrapped = gem.make("bench:Guess")
    for wrap in get_wrapper_fns("concat", tokenizer=None):
        wrapped = wrap(wrapped)
    plays = {
        "GEM: step": steps(gem.make("bench:Guess")),
        "GEM: step, history concatenated by its wrapper": steps(wrapped),
    }
    return [(what, "step", value) for what, value in cpu_us(plays, 2000, rounds=10).items()]
