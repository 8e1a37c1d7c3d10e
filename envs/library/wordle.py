"""`quintain/Wordle-v0`: find a hidden five-letter word; every guess is marked letter by letter.

A letter is marked as often as the hidden word has it and no oftener: first the ones in place, then, from left to
right, the misplaced ones. Any five letters are a guess; the hidden word is one of `words.WORDS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...tools.chat import Message, Reply
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from .items import Split, check_split, numbered
from .moves import HOW, only_move
from .words import WORDS

_GUESS = re.compile(r"[A-Za-z]{5}")
_MARKED = re.compile(r"^([A-Z]{5}): ([GYX]{5})$", re.MULTILINE)
_PROMPT = (
    "Find the hidden word: a common English word of five letters. You have {turns} guesses. Each guess is marked "
    "letter by letter: G for a letter in its right place, Y for one that is in the word at another place, X for "
    "one that is not in the word (any more often).{hard} Guess one word of five letters. {how}"
)
_HARD = " Every guess must agree with all marks so far."


class Wordle(TextEnv):
    """Find a hidden five-letter word; see the module. The reward is 1 if it is found in time, else 0.

    Args:
        max_turns: Replies until the episode is truncated; a reply that is no guess is used up too.
        hard: Refuse a guess that the marks so far rule out.
        split: "train" or "test": different words.
        seed: Of the order in which the words come.
    """

    card = Card(
        what="Find a hidden five-letter word from marks for each letter of each guess.",
        reward="1 if the word is guessed within the turns, else 0.",
        difficulty="`max_turns`, 6 by default; `hard` refuses guesses that the marks rule out.",
        oracle="The hidden word itself; the demonstrator finds it from the marks, mostly in time.",
        source="a list of common words written for this library",
        tags=("game", "multi-turn", "language", "deduction"),
    )

    def __init__(
        self,
        max_turns: int = 6,
        hard: bool = False,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_split("Wordle", split)
        self.hard = hard
        prompt = _PROMPT.format(turns=max_turns, hard=_HARD if hard else "", how=HOW)

        def problem(item: int) -> Task:
            return Task("", prompt, WORDS[item])

        tasks = numbered(problem, len(WORDS), name="wordle", split=split, seed=seed)
        super().__init__(tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.oracle = _oracle
        self.demonstrator = guess_consistently

    def begin(self, task: Task) -> str:
        """Hide the word of the task."""
        self.word: str = task.answer
        self.marked: list[list[str]] = []
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Mark the guess."""
        move = only_move(reply, _GUESS)
        if move is None:
            return f"Guess one word of five letters, A to Z. {HOW}"
        guess = move[0].lower()
        if self.hard:
            for earlier, marks in self.marked:
                if mark(guess, earlier) != marks:
                    return f"{guess.upper()} does not agree with the marks of {earlier.upper()}. Guess another word."
        marks = mark(self.word, guess)
        self.marked.append([guess, marks])
        text = f"{guess.upper()}: {marks}"
        if guess == self.word:
            return Turn(text, done=True, score=Score(1.0, reason=f"found {guess}"))
        return text


def mark(word: str, guess: str) -> str:
    """Return the marks of a guess: G in place, Y misplaced, X not in the word any more often."""
    left = Counter(letter for letter, guessed in zip(word, guess, strict=True) if letter != guessed)
    marks = []
    for letter, guessed in zip(word, guess, strict=True):
        if letter == guessed:
            marks.append("G")
        elif left[guessed]:
            left[guessed] -= 1
            marks.append("Y")
        else:
            marks.append("X")
    return "".join(marks)


def guess_consistently(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Guess any word of the list that agrees with all marks: a fair player that does not know the word."""
    marked = [
        (guess.lower(), marks)
        for message in messages
        if message["role"] == "user"
        for guess, marks in _MARKED.findall(message["content"])
    ]
    left = [word for word in WORDS if all(mark(word, guess) == marks for guess, marks in marked)]
    return left[int(rng.integers(len(left)))] if left else "crane"


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return str(task.answer)
