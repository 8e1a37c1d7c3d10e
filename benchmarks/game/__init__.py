"""A game that every library plays: find a number from 1 to 100, by a script that is wrong seven times and then right.

Every library reads the guess and answers with the same function (`answer`), so what differs is what the library does
round it. Each module here plays it with one library and is run by that library's interpreter: this package imports
nothing but Python's own. `python -m game by_gem` prints the figures of one as JSON; `environments.py` runs them all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

QUESTION = "I think of a whole number from 1 to 100. Guess it."
REPLIES = [f"I think it is {n}." for n in (50, 25, 12, 18, 21, 23, 24, 22)]
SECRET = 22
_GUESS = re.compile(r"\d{1,3}")

Row = tuple[str, str, float]
"""What was played, its kind (`step`, `rollout`, `tools` or `wall`), and microseconds of processor time a turn."""


def answer(text: str) -> tuple[str, bool]:
    """Return what the game says to a reply, and whether it is over."""
    guess = _GUESS.search(text)
    if guess is None:
        return "Write a whole number.", False
    number = int(guess[0])
    if number == SECRET:
        return "Right.", True
    return ("Too low." if number < SECRET else "Too high."), False


def cpu_us(plays: dict[str, Callable[[], int]], episodes: int, rounds: int = 5) -> dict[str, float]:
    """Return microseconds of processor time a turn, the least of `rounds`.

    A play is of one episode and returns its turns; a round is `episodes` of them. Several take turns, so that all
    meet the same moods of the machine.
    """
    for play in plays.values():
        play()
    best = dict.fromkeys(plays, float("inf"))
    for _ in range(rounds):
        for name, play in plays.items():
            turns = 0
            began = time.process_time()
            for _ in range(episodes):
                turns += play()
            best[name] = min(best[name], (time.process_time() - began) / turns)
    return {name: value * 1e6 for name, value in best.items()}


async def cpu_us_async(
    plays: dict[str, Callable[[], Awaitable[int]]], episodes: int, rounds: int = 5
) -> dict[str, float]:
    """Do the same for asynchronous plays."""
    for play in plays.values():
        await play()
    best = dict.fromkeys(plays, float("inf"))
    for _ in range(rounds):
        for name, play in plays.items():
            turns = 0
            began = time.process_time()
            for _ in range(episodes):
                turns += await play()
            best[name] = min(best[name], (time.process_time() - began) / turns)
    return {name: value * 1e6 for name, value in best.items()}
