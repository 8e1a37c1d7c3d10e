"""`quintain/TicTacToe-v0`: play on from a position against an opponent that sees to the end of the game.

What counts as success is exact: the best result that the start promises against perfect play. Where a win can be forced
only a win pays; elsewhere a draw or a win does; lost positions are not asked. So perfect play succeeds for certain,
whatever the opponent does. Positions with a win in one move are left out too: a constant reply would find some.

A board is a text of nine cells, row by row, `.` for a free one. The player to move in a task has marks as X if X
and O stand equal, else as O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from ..tasks import TaskSet, item_rng
from .items import Split, check_split, in_split, shuffled
from .moves import HOW, only_move

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_EMPTY = "." * 9
_QUARTER = (6, 3, 0, 7, 4, 1, 8, 5, 2)
_MIRROR = (2, 1, 0, 5, 4, 3, 8, 7, 6)
_CELL = re.compile(r"[1-9]")
_PROMPT = (
    "Tic-tac-toe: you are {mark} and it is your turn. Three of a kind in a row, column or diagonal win. {aim} "
    "Reply with the number of a free cell. {how}\n\n{board}"
)
_AIMS = {1: "You can force a win here: only a win counts.", 0: "Do not lose: a draw or a win counts."}


class TicTacToe(TextEnv):
    """Play tic-tac-toe from a position; see the module. The reward is 1 for the promised result or better, else 0.

    A cell that is taken, or a reply that is no cell, changes nothing and costs a turn; there are two to spare.

    Args:
        mistakes: Share of the opponent's moves that are drawn from all free cells, 0 (perfect) to 1 (random).
        opening: Marks on the board at the start, at most; 2 to 4. Fewer are a longer game.
        wins: Ask only positions where a win can be forced.
        split: "train" or "test": different positions, mirrored and turned ones counted as the same.
        seed: Of the order of the positions and of the opponent's choices.
    """

    card = Card(
        what="Play tic-tac-toe from a given position against an exact opponent.",
        reward="1 for the best result that the position promises against perfect play, or better, else 0.",
        difficulty="`mistakes` of the opponent; `opening`: marks on the board; `wins` asks for forced wins only.",
        oracle="Minimax to the end of the game, from the board it sees.",
        tags=("game", "multi-turn", "opponent"),
    )

    def __init__(
        self,
        mistakes: float = 0.0,
        opening: int = 4,
        wins: bool = False,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 0 <= mistakes <= 1:
            raise UserError(f"TicTacToe: mistakes must be 0 to 1, got {mistakes}")
        if not 2 <= opening <= 4:
            raise UserError(f"TicTacToe: opening must be 2 to 4, got {opening}")
        check_split("TicTacToe", split)
        self.mistakes = mistakes
        boards = [
            board
            for board in _openings(opening)
            if value(board) >= (1 if wins else 0)
            and not wins_at_once(board)
            and in_split(split, "tic-tac-toe", canonical(board))
        ]

        def problem(index: int) -> Task:
            board = boards[shuffled(index, len(boards), "tic-tac-toe", split, seed)]
            mark = mover(board)
            prompt = _PROMPT.format(mark=mark, aim=_AIMS[value(board)], how=HOW, board=drawn(board))
            answer = {"board": board, "choices": f"{seed}-{index}"}
            return Task(f"tic-tac-toe-{split}-{seed}-{index}", prompt, answer)

        super().__init__(
            tasks=TaskSet(problem, len(boards), f"tic-tac-toe-{split}"), max_turns=7, render_mode=render_mode
        )
        self.oracle = _oracle

    def begin(self, task: Task) -> str:
        """Set up the board of the task."""
        self.board: str = task.answer["board"]
        self.choices: str = task.answer["choices"]
        self.mark = mover(self.board)
        self.promised = value(self.board)
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Put the mark, let the opponent move, and show the board."""
        move = only_move(reply, _CELL)
        if move is None:
            return f"Reply with the number of one free cell. {HOW}\n\n{drawn(self.board)}"
        cell = int(move[0]) - 1
        if self.board[cell] != ".":
            return f"Cell {cell + 1} is taken.\n\n{drawn(self.board)}"
        self.board = put(self.board, cell)
        if is_over(self.board):
            return self._ended()
        answer = self._opponent()
        self.board = put(self.board, answer)
        if is_over(self.board):
            return self._ended()
        return f"I take {answer + 1}.\n\n{drawn(self.board)}"

    def _opponent(self) -> int:
        """Return the opponent's cell: a choice that the task and the board fix."""
        rng = item_rng("tic-tac-toe", self.choices, self.board)
        free = [cell for cell in range(9) if self.board[cell] == "."]
        cells = free if rng.random() < self.mistakes else best_cells(self.board)
        return cells[int(rng.integers(len(cells)))]

    def _ended(self) -> Turn:
        won = winner(self.board)
        result = 0 if won is None else 1 if won == self.mark else -1
        word = ("You lost.", "A draw.", "You won.")[result + 1]
        score = Score(
            float(result >= self.promised), reason=f"{word} Promised: {('a draw', 'a win')[self.promised]}."
        )
        return Turn(f"{word}\n\n{drawn(self.board)}", done=True, score=score)


def drawn(board: str) -> str:
    """Return the board as three lines; a free cell shows its number."""
    cells = [mark if mark != "." else str(number) for number, mark in enumerate(board, 1)]
    return "\n".join(" ".join(cells[row : row + 3]) for row in (0, 3, 6))


def mover(board: str) -> str:
    """Return whose turn it is, X or O."""
    return "X" if board.count("X") == board.count("O") else "O"


def put(board: str, cell: int) -> str:
    """Return the board after the player to move has taken a free cell, 0 to 8."""
    return board[:cell] + mover(board) + board[cell + 1 :]


def winner(board: str) -> str | None:
    """Return who has three in a line, or None."""
    for a, b, c in LINES:
        if board[a] != "." and board[a] == board[b] == board[c]:
            return board[a]
    return None


def is_over(board: str) -> bool:
    """Return whether the game has ended."""
    return "." not in board or winner(board) is not None


@cache
def value(board: str) -> int:
    """Return the result of perfect play for the player to move: 1 a win, 0 a draw, -1 a loss."""
    if winner(board) is not None:
        return -1
    if "." not in board:
        return 0
    return max(-value(put(board, cell)) for cell in range(9) if board[cell] == ".")


def best_cells(board: str) -> list[int]:
    """Return the free cells, 0 to 8, that keep the value of the position."""
    return [cell for cell in range(9) if board[cell] == "." and -value(put(board, cell)) == value(board)]


def wins_at_once(board: str) -> bool:
    """Return whether the player to move can win with this move."""
    return any(winner(put(board, cell)) is not None for cell in range(9) if board[cell] == ".")


def canonical(board: str) -> str:
    """Return the least of the eight boards that turning and mirroring make of one."""
    alike = []
    for _ in range(4):
        board = "".join(board[cell] for cell in _QUARTER)
        alike += [board, "".join(board[cell] for cell in _MIRROR)]
    return min(alike)


@cache
def _openings(marks: int) -> tuple[str, ...]:
    """Return the boards with at most so many marks whose game is not over, in order."""
    boards = {_EMPTY}
    for _ in range(marks):
        boards |= {put(board, cell) for board in boards for cell in range(9) if board[cell] == "."}
    return tuple(sorted(board for board in boards if board.count(".") >= 9 - marks))


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Take the best cell of the board that was shown last."""
    shown = next(m["content"] for m in reversed(messages) if m["role"] == "user")
    cells = "".join(shown.rpartition("\n\n")[2].split())
    board = "".join(mark if mark in "XO" else "." for mark in cells)
    return str(best_cells(board)[0] + 1)
