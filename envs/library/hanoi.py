"""`quintain/Hanoi-v0`: the Tower of Hanoi from any lawful start: bring all discs to one peg, move by move.

The largest disc is never on its goal at the start, so that at least two to the power of (discs - 1) moves are needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from .items import Split, check_split, numbered, shuffled
from .moves import HOW, only_move

PEGS = "ABC"
_MOVE = re.compile(r"([ABCabc])\s*(?:to|->|>|-|,)?\s*([ABCabc])")
_PROMPT = (
    "Three pegs, A, B and C, hold {discs} discs; disc 1 is the smallest. A move takes the top disc of one peg and puts "
    "it on another, never on a smaller disc. Bring all discs to peg {goal}.{bonus} Reply with one move, the peg "
    "to take from and the peg to put on, such as X to Y. {how}\n\n{board}"
)
_BONUS = " The fewest moves possible earn most."


class Hanoi(TextEnv):
    """The Tower of Hanoi; see the module. The reward is 1 if all discs reach the goal in time, else 0.

    Args:
        discs: Number of discs, 2 to 8.
        bonus: Share of the reward that is paid only for a solution in as few replies as possible, 0 to 1.
        max_turns: Replies until the episode is truncated; None for 1.5 times the most that a start can need.
        split: "train" or "test": different starts.
        seed: Of the order in which the starts come.
    """

    card = Card(
        what="Bring all discs to one peg, one move a reply, from any lawful start.",
        reward="1 if all discs are on the goal within the turns, else 0; with `bonus` b, 1 - b for a longer "
        "solution than needed.",
        difficulty="`discs`: two to the power of discs moves; `max_turns`; `bonus`.",
        oracle="The shortest solution, by recursion from the board it sees.",
        tags=("game", "multi-turn", "planning"),
    )

    def __init__(
        self,
        discs: int = 4,
        bonus: float = 0.0,
        max_turns: int | None = None,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 2 <= discs <= 8:
            raise UserError(f"Hanoi: discs must be 2 to 8, got {discs}")
        if not 0 <= bonus <= 1:
            raise UserError(f"Hanoi: bonus must be 0 to 1, got {bonus}")
        check_split("Hanoi", split)
        most = 2**discs - 1
        max_turns = most + most // 2 if max_turns is None else max_turns
        if max_turns < most:
            raise UserError(f"Hanoi: {discs} discs can need {most} moves, got max_turns={max_turns}")
        self.bonus = bonus

        def problem(item: int) -> Task:
            pegs, goal = _start(item, discs)
            prompt = _PROMPT.format(
                discs=discs, goal=goal, bonus=_BONUS if bonus else "", how=HOW, board=drawn(pegs)
            )
            return Task("", prompt, {"pegs": pegs, "goal": goal}, {"tag": f"{discs} discs"})

        tasks = numbered(problem, 3**discs, name=f"hanoi-{discs}", split=split, seed=seed)
        super().__init__(tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.oracle = _oracle

    def begin(self, task: Task) -> str:
        """Set the discs as the task has them."""
        self.pegs: str = task.answer["pegs"]
        self.goal: str = task.answer["goal"]
        self.needed = fewest(self.pegs, self.goal)
        self.replies = 0
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Move a disc if that is lawful, and show the pegs."""
        self.replies += 1
        move = only_move(reply, _MOVE)
        if move is None:
            return f"Reply with one move, such as X to Y, each one of A, B, C. {HOW}\n\n{drawn(self.pegs)}"
        source, target = move[1].upper(), move[2].upper()
        refusal = _refusal(self.pegs, source, target)
        if refusal:
            return f"{refusal}\n\n{drawn(self.pegs)}"
        disc = self.pegs.index(source)
        self.pegs = self.pegs[:disc] + target + self.pegs[disc + 1 :]
        if self.pegs != self.goal * len(self.pegs):
            return drawn(self.pegs)
        best = self.replies <= self.needed
        score = Score(
            1.0 if best else 1.0 - self.bonus, reason=f"{self.replies} replies, {self.needed} needed"
        )
        return Turn(f"All discs are on {self.goal}.", done=True, score=score)


def drawn(pegs: str) -> str:
    """Return the pegs as lines, the discs from the bottom up; `pegs[i]` is the peg of disc i + 1."""
    lines = []
    for peg in PEGS:
        discs = [str(disc) for disc in range(len(pegs), 0, -1) if pegs[disc - 1] == peg]
        lines.append(f"{peg}: {' '.join(discs) or '-'}")
    return "\n".join(lines)


def next_move(pegs: str, goal: str) -> tuple[str, str] | None:
    """Return the first move of the shortest way to bring all discs to `goal`; None if they are there."""
    move = None
    for disc in range(
        len(pegs) - 1, -1, -1
    ):  # the largest disc that is out of place sends the smaller ones away
        if pegs[disc] != goal:
            move = (pegs[disc], goal)
            goal = next(peg for peg in PEGS if peg not in move)
    return move


def fewest(pegs: str, goal: str) -> int:
    """Return the number of moves of the shortest way."""
    moves = 0
    for disc in range(len(pegs) - 1, -1, -1):
        if pegs[disc] != goal:
            moves += 2**disc
            goal = next(peg for peg in PEGS if peg not in (pegs[disc], goal))
    return moves


def _refusal(pegs: str, source: str, target: str) -> str | None:
    if source == target:
        return "Take from one peg and put on another."
    if source not in pegs:
        return f"There is no disc on {source}."
    disc = pegs.index(source)
    top = pegs.find(target)
    if top != -1 and top < disc:
        return f"Disc {disc + 1} may not lie on disc {top + 1}, which is smaller."
    return None


def _start(item: int, discs: int) -> tuple[str, str]:
    """Return the start and the goal of a number: any pegs, and a goal that the largest disc is not on.

    Each start has one goal only, or there would be tasks that differ in nothing but that.
    """
    left, pegs = item, ""
    for _ in range(discs):
        left, peg = divmod(left, 3)
        pegs += PEGS[peg]
    others = [peg for peg in PEGS if peg != pegs[-1]]
    return pegs, others[shuffled(item, 3**discs, "hanoi-goal", discs) % 2]


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Make the first move of the shortest way from the board that was shown last."""
    shown = next(m["content"] for m in reversed(messages) if m["role"] == "user")
    goal = task.answer["goal"]
    pegs = dict.fromkeys(range(1, len(task.answer["pegs"]) + 1), "")
    for peg, discs in re.findall(r"^([ABC]): ([\d ]+)$", shown, re.MULTILINE):
        pegs |= dict.fromkeys(map(int, discs.split()), peg)
    source, target = next_move("".join(pegs.values()), goal) or ("A", "B")
    return f"{source} to {target}"
