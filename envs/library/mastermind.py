"""`quintain/Mastermind-v0`: find a hidden code of coloured pegs; every guess is answered by two counts.

Black counts the pegs of the right colour in the right place, white those of a right colour in a wrong place. Colours
are the letters from A on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, product

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from .items import Split, check_split, numbered
from .moves import HOW, only_move

_ANSWERED = re.compile(r"^([A-J]+): (\d) black, (\d) white\.$", re.MULTILINE)
_PROMPT = (
    "Find the hidden code: {pegs} letters, each one of {letters}{repeats}. You have {turns} guesses. After each I "
    "say how many letters are right and in the right place (black), and how many are right but in another place "
    "(white). Guess one code of {pegs} letters. {how}"
)


class Mastermind(TextEnv):
    """Find a hidden code; see the module. The reward is 1 if it is found in time, else 0.

    Args:
        pegs: Length of the code, 2 to 6.
        colours: Number of letters, 4 to 10.
        repeats: Whether a letter may occur twice in the code; without, `pegs` may not exceed `colours`.
        max_turns: Replies until the episode is truncated.
        split: "train" or "test": different codes.
        seed: Of the order in which the codes come.
    """

    card = Card(
        what="Find a hidden code from counts of right letters in right and in wrong places.",
        reward="1 if the code is guessed within the turns, else 0.",
        difficulty="`pegs` and `colours`: colours to the power of pegs codes; `repeats`, `max_turns`.",
        oracle="The code itself; the demonstrator finds it from the counts.",
        tags=("game", "multi-turn", "deduction"),
    )

    def __init__(
        self,
        pegs: int = 4,
        colours: int = 6,
        repeats: bool = True,
        max_turns: int = 10,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 2 <= pegs <= 6 or not 4 <= colours <= 10:
            raise UserError(f"Mastermind: pegs must be 2 to 6 and colours 4 to 10, got {pegs} and {colours}")
        if not repeats and pegs > colours:
            raise UserError(f"Mastermind: {pegs} pegs of {colours} colours must repeat; set repeats=True")
        check_split("Mastermind", split)
        self.letters = "ABCDEFGHIJ"[:colours]
        self._pattern = re.compile(f"[{self.letters}{self.letters.lower()}]{{{pegs}}}")
        self.pegs = pegs
        prompt = _PROMPT.format(
            pegs=pegs,
            letters=", ".join(self.letters),
            repeats=" (a letter may come more than once)" if repeats else ", no letter twice",
            turns=max_turns,
            how=HOW,
        )
        letters = self.letters

        def problem(item: int) -> Task:
            code = _code(item, letters, pegs, repeats)
            return Task("", prompt, code, {"letters": letters, "repeats": repeats})

        count = _count(colours, pegs, repeats)
        name = f"mastermind-{colours}-{pegs}" + ("" if repeats else "-once")
        tasks = numbered(problem, count, name=name, split=split, seed=seed)
        super().__init__(tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.oracle = _oracle
        self.demonstrator = guess_consistently

    def begin(self, task: Task) -> str:
        """Hide the code of the task."""
        self.code: str = task.answer
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Count the right letters of the guess."""
        move = only_move(reply, self._pattern)
        if move is None:
            return f"Guess one code of {self.pegs} letters, each one of {', '.join(self.letters)}. {HOW}"
        guess = move[0].upper()
        black, white = compare(self.code, guess)
        text = f"{guess}: {black} black, {white} white."
        if guess == self.code:
            return Turn(text, done=True, score=Score(1.0, reason=f"found {guess}"))
        return text


def compare(code: str, guess: str) -> tuple[int, int]:
    """Return how many letters of a guess are right in place (black), and right but misplaced (white)."""
    black = sum(letter == guessed for letter, guessed in zip(code, guess, strict=True))
    return black, (Counter(code) & Counter(guess)).total() - black


def guess_consistently(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Guess a code that agrees with all counts: a fair player that does not know the code.

    With many codes it looks at 20,000 drawn ones, then at all in turn.
    """
    letters, repeats, pegs = task.info["letters"], task.info["repeats"], len(task.answer)
    answered = [
        (guess, (int(black), int(white)))
        for message in messages
        if message["role"] == "user"
        for guess, black, white in _ANSWERED.findall(message["content"])
    ]

    def agrees(code: str) -> bool:
        return all(compare(code, guess) == counts for guess, counts in answered)

    for code in islice(_drawn(letters, pegs, repeats, rng), 20_000):
        if agrees(code):
            return code
    every = ("".join(code) for code in product(letters, repeat=pegs))
    return next(
        (code for code in every if (repeats or len(set(code)) == pegs) and agrees(code)), letters[0] * pegs
    )


def _drawn(letters: str, pegs: int, repeats: bool, rng: np.random.Generator) -> Iterator[str]:
    while True:
        picks = rng.choice(len(letters), size=pegs, replace=repeats)
        yield "".join(letters[int(pick)] for pick in picks)


def _count(colours: int, pegs: int, repeats: bool) -> int:
    count = 1
    for place in range(pegs):
        count *= colours if repeats else colours - place
    return count


def _code(item: int, letters: str, pegs: int, repeats: bool) -> str:
    """Return the code of a number: its digits pick letters, of all or of those that are left."""
    left = list(letters)
    code = ""
    for _ in range(pegs):
        item, pick = divmod(item, len(left))
        code += left[pick] if repeats else left.pop(pick)
    return code


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return str(task.answer)
