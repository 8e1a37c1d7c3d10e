"""`quintain/GuessNumber-v0`: find a hidden number; every guess is answered by "too low" or "too high"."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from .items import Split, check_split, numbered

_NUMBER = re.compile(r"(?<![\d.])\d{1,6}(?![\d.]*\d)", re.ASCII)


class GuessNumber(TextEnv):
    """Find a whole number from 1 to `high`. The reward is 1 if it is found in time, else 0.

    The number in a reply is the guess; a reply with several numbers is none, so that listing does not pay.

    Args:
        high: The largest number, 2 to 999999.
        max_turns: Replies until the episode is truncated; 7 are enough for 100.
        split: "train" or "test": different numbers.
        seed: Of the order in which the numbers come.
    """

    card = Card(
        what="Find a hidden whole number; every guess is answered by too low or too high.",
        reward="1 if the number is found within the turns, else 0.",
        difficulty="`high` numbers within `max_turns` replies; halving finds one of 100 in seven.",
        oracle="Halves the interval; it does not look at the number.",
        tags=("game", "multi-turn", "search"),
    )

    def __init__(
        self,
        high: int = 100,
        max_turns: int = 8,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 2 <= high <= 999_999:
            raise UserError(f"GuessNumber: high must be 2 to 999999, got {high}")
        check_split("GuessNumber", split)
        self.high = high

        def problem(item: int) -> Task:
            prompt = f"I think of a whole number from 1 to {high}. Guess it. Reply with one number."
            return Task("", prompt, item + 1)

        tasks = numbered(problem, high, name=f"guess-number-{high}", split=split, seed=seed)
        super().__init__(tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.oracle = _bisect

    def begin(self, task: Task) -> str:
        """Hide the number of the task."""
        self.hidden: int = task.answer
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Say whether the guess is too low or too high."""
        numbers = _NUMBER.findall(reply.content)
        if len(numbers) != 1:
            return "Reply with one whole number."
        guess = int(numbers[0])
        if guess == self.hidden:
            return Turn("Right.", done=True, score=Score(1.0, reason=f"found {guess}"))
        return f"{guess} is too low." if guess < self.hidden else f"{guess} is too high."


def _bisect(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Guess the middle of what is left: finds the number without being told it."""
    low, high = 1, int(task.prompt.split(" to ")[1].split(".")[0])
    for message in messages[1:]:
        if message["role"] == "user" and " is too " in message["content"]:
            guess = int(message["content"].split()[0])
            low, high = (guess + 1, high) if "low" in message["content"] else (low, guess - 1)
    return str((low + high) // 2)
