"""`quintain/Sokoban-v0`: push all boxes onto goals. Levels are drawn as they are asked for, each with a solution.

The split of a level is a hash of where player, boxes and goals lie, turned and mirrored boards counted as one: no
held-out level is a trained one with other walls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from ..tasks import TaskSet
from .items import Split, check_split, in_split
from .moves import HOW, only_move
from .sokoban_levels import draw_level, drawn, pattern, read, solve, step

Difficulty = Literal["easy", "medium", "hard"]

# size of the room, boxes, fewest and most moves of the shortest solution
_LEVELS = {"easy": (6, 1, 4, 12), "medium": (6, 2, 8, 24), "hard": (7, 3, 16, 40)}
_NAMES = {"u": "U", "up": "U", "d": "D", "down": "D", "l": "L", "left": "L", "r": "R", "right": "R"}
_WORD = re.compile("|".join(sorted(_NAMES, key=len, reverse=True)), re.IGNORECASE)
_PROMPT = (
    "Sokoban: push every box onto a goal. # is wall, @ you, $ a box, . a goal, * a box on a goal, + you on a goal, "
    "- floor. You push a box by walking into it, if the cell behind it is free; you cannot "
    "pull. {what} {how}\n\n{board}"
)
_ONE = "Reply with one move: up, down, left or right."
_SEVERAL = (
    "Reply with one move, up, down, left or right, or with at most {moves} moves as letters, such as UULR."
)


class Sokoban(TextEnv):
    """Push all boxes onto goals; see the module. The reward is 1 if the level is solved in time, else 0.

    A move that is blocked changes nothing and costs a turn; of several moves in one reply the rest are left out.

    Args:
        difficulty: "easy" (one box, up to 12 moves), "medium" (two, up to 24) or "hard" (three, up to 40).
        moves_per_reply: Moves that one reply may hold, written as letters; 1 to 40.
        max_turns: Replies until the episode is truncated; None for twice the moves of the longest level.
        split: "train" or "test": different levels.
        seed: Of the level set.
    """

    card = Card(
        what="Push all boxes of a small room onto goals.",
        reward="1 if every box is on a goal within the turns, else 0.",
        difficulty="`difficulty`: boxes, size and length of the shortest solution; `moves_per_reply`.",
        oracle="A shortest solution, found by searching backwards when the level is drawn.",
        tags=("game", "multi-turn", "planning"),
    )

    def __init__(
        self,
        difficulty: Difficulty = "easy",
        moves_per_reply: int = 1,
        max_turns: int | None = None,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if difficulty not in _LEVELS:
            raise UserError(
                f"Sokoban: difficulty must be one of {', '.join(map(repr, _LEVELS))}, got {difficulty!r}"
            )
        if not 1 <= moves_per_reply <= 40:
            raise UserError(f"Sokoban: moves_per_reply must be 1 to 40, got {moves_per_reply}")
        check_split("Sokoban", split)
        size, boxes, least, most = _LEVELS[difficulty]
        what = _ONE if moves_per_reply == 1 else _SEVERAL.format(moves=moves_per_reply)
        self._what = f"{what} {HOW}"
        self._letters = re.compile(f"[UDLRudlr]{{2,{moves_per_reply}}}") if moves_per_reply > 1 else None
        self.moves_per_reply = moves_per_reply

        def problem(rng: np.random.Generator, index: int) -> Task:
            while True:
                level = draw_level(rng, size=size, boxes=boxes, least=least, most=most)
                if in_split(split, "sokoban", pattern(level.board)):
                    break
            prompt = _PROMPT.format(what=what, how=HOW, board=level.board)
            info = {"solution": level.solution, "moves_per_reply": moves_per_reply, "tag": difficulty}
            return Task("", prompt, {"board": level.board}, info)

        super().__init__(
            tasks=TaskSet.generated(problem, name=f"sokoban-{difficulty}", split=split, seed=seed),
            max_turns=2 * most if max_turns is None else max_turns,
            render_mode=render_mode,
        )
        self.oracle = _oracle

    def begin(self, task: Task) -> str:
        """Set up the level of the task."""
        self.board: str = task.answer["board"]
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Move, push, and show the room."""
        moves = self._read(reply)
        if not moves:
            return f"{self._what}\n\n{self.board}"
        room, state = read(self.board)
        blocked = ""
        for move in moves:
            after = step(room, state, move)
            if after is None:
                blocked = f"{move} is blocked.\n\n"
                break
            state = after
        self.board = drawn(room, state)
        if state[1] == room.goals:
            return Turn(
                f"Solved.\n\n{self.board}", done=True, score=Score(1.0, reason="every box is on a goal")
            )
        return blocked + self.board

    def _read(self, reply: Reply) -> str:
        """Return the moves of a reply as letters, "" for none."""
        word = only_move(reply, _WORD)
        if word is not None:
            return _NAMES[word[0].lower()]
        several = only_move(reply, self._letters) if self._letters else None
        return several[0].upper() if several else ""


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Play on from the board that was shown last, as many moves at once as are allowed.

    On the way of the task's solution it follows that; anywhere else it searches, and has no move where none helps.
    """
    shown = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    board = shown.rpartition("\n\n")[2]
    room, state = read(task.answer["board"])
    left: str | None = task.info.get("solution", "")
    while left and drawn(room, state) != board:
        state = step(room, state, left[0]) or state
        left = left[1:]
    return (left or solve(board) or "")[: task.info.get("moves_per_reply", 1)]
