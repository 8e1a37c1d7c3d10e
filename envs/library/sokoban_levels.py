"""Sokoban levels: drawn rooms whose boxes are pulled away from their goals, so that every level has a solution.

A `Level` is plain text, the usual signs: `#` wall, `.` goal, `$` box, `*` box on a goal, `@` player, `+` player on
a goal, `-` or space floor. The start is found by going backwards from the solved room, breadth first, so the number of
moves that a level needs is exact, and the solution comes with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

STEPS = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
"""Row and column of a step in each direction."""

Cell = tuple[int, int]
State = tuple[Cell, frozenset[Cell]]
"""Where the player stands, and the boxes."""

_MAX_STATES = 30_000  # of a room; a larger one is given up


@dataclass(frozen=True)
class Level:
    """A level as text, and a shortest solution as a text of U, D, L and R."""

    board: str
    solution: str


@dataclass(frozen=True)
class Room:
    """What does not change in a level."""

    floor: frozenset[Cell]
    goals: frozenset[Cell]
    height: int
    width: int


def read(board: str) -> tuple[Room, State]:
    """Read a board; its lines may differ in length.

    Raises `ValueError` if it does not have one player, or not as many boxes as goals.
    """
    lines = board.split("\n")
    cells = {(r, c): sign for r, line in enumerate(lines) for c, sign in enumerate(line) if sign != "#"}
    players = [cell for cell, sign in cells.items() if sign in "@+"]
    goals = frozenset(cell for cell, sign in cells.items() if sign in ".*+")
    boxes = frozenset(cell for cell, sign in cells.items() if sign in "$*")
    if len(players) != 1 or len(goals) != len(boxes) or not boxes:
        raise ValueError(
            f"a level needs one player and as many goals as boxes, got {len(players)}, {len(goals)}, {len(boxes)}"
        )
    return Room(frozenset(cells), goals, len(lines), max(map(len, lines))), (players[0], boxes)


def drawn(room: Room, state: State) -> str:
    """Return the board of a state."""
    player, boxes = state

    def sign(cell: Cell) -> str:
        if cell not in room.floor:
            return "#"
        on_goal = cell in room.goals
        if cell == player:
            return "+" if on_goal else "@"
        if cell in boxes:
            return "*" if on_goal else "$"
        return "." if on_goal else "-"  # not a space: spaces at the ends of lines get lost

    return "\n".join("".join(sign((r, c)) for c in range(room.width)) for r in range(room.height))


def step(room: Room, state: State, move: str) -> State | None:
    """Return the state after a move, U, D, L or R; None if a wall or a box that cannot be pushed is in the way."""
    (row, column), boxes = state
    down, right = STEPS[move]
    ahead = (row + down, column + right)
    if ahead not in room.floor:
        return None
    if ahead in boxes:
        behind = (ahead[0] + down, ahead[1] + right)
        if behind not in room.floor or behind in boxes:
            return None
        boxes = boxes - {ahead} | {behind}
    return ahead, boxes


def solve(board: str, max_states: int = 200_000) -> str | None:
    """Return a shortest solution by breadth-first search, or None if there is none among so many states."""
    room, start = read(board)
    came: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue and len(came) <= max_states:
        state = queue.popleft()
        if state[1] == room.goals:
            moves = ""
            while (link := came[state]) is not None:
                state, move = link
                moves = move + moves
            return moves
        for move in STEPS:
            after = step(room, state, move)
            if after is not None and after not in came:
                came[after] = (state, move)
                queue.append(after)
    return None


def draw_level(rng: np.random.Generator, *, size: int, boxes: int, least: int, most: int) -> Level:
    """Draw a level that needs `least` to `most` moves.

    Args:
        rng: All randomness.
        size: Height and width of the room, its walls included.
        boxes: Number of boxes.
        least, most: Bounds of the shortest solution, in moves.
    """
    while True:
        level = _drawn_level(rng, size, boxes, least, most)
        if level is not None:
            return level


def pattern(board: str) -> str:
    """Return where player, boxes and goals of a board lie, walls left out; the same for turned and mirrored boards."""
    room, (player, boxes) = read(board)
    alike = []
    cells = [[player], sorted(boxes), sorted(room.goals)]
    for _ in range(4):
        cells = [[(column, room.height - 1 - row) for row, column in group] for group in cells]
        mirrored = [[(row, room.height - 1 - column) for row, column in group] for group in cells]
        alike += [str([sorted(group) for group in each]) for each in (cells, mirrored)]
    return min(alike)


def _drawn_level(rng: np.random.Generator, size: int, boxes: int, least: int, most: int) -> Level | None:
    floor = _drawn_floor(rng, size)
    cells = sorted(floor)
    if len(cells) < 2 * boxes + 4:
        return None
    picks = rng.choice(len(cells), size=boxes, replace=False)
    room = Room(floor, frozenset(cells[int(pick)] for pick in picks), size, size)
    moves = _pulled(room)
    far = [
        state
        for state, (count, _) in moves.items()
        if least <= count <= most and not state[1] & room.goals and not _is_straight(room, state)
    ]
    if not far:
        return None
    start = state = far[int(rng.integers(len(far)))]
    solution = ""
    while (move := moves[state][1]) is not None:
        after = step(room, state, move)
        assert after is not None  # the reverse of a pull is a push
        solution += move
        state = after
    return Level(drawn(room, start), solution)


def _drawn_floor(rng: np.random.Generator, size: int) -> frozenset[Cell]:
    """Return a connected floor: a room with some inner walls, its largest part."""
    inner = [(r, c) for r in range(1, size - 1) for c in range(1, size - 1)]
    walls = int(rng.integers(len(inner) // 8, len(inner) // 3 + 1))
    left = set(inner) - {inner[int(pick)] for pick in rng.choice(len(inner), size=walls, replace=False)}
    parts: list[set[Cell]] = []
    while left:
        part = {min(left)}
        edge = list(part)
        while edge:
            row, column = edge.pop()
            for down, right in STEPS.values():
                near = (row + down, column + right)
                if near in left and near not in part:
                    part.add(near)
                    edge.append(near)
        left -= part
        parts.append(part)
    largest = max(parts, key=lambda part: (len(part), min(part)))
    return frozenset(largest)


def _pulled(room: Room) -> dict[State, tuple[int, str | None]]:
    """Return for each state from which the room can be solved the moves needed, and the first of them.

    Too large a room gives up with no states.
    """
    found: dict[State, tuple[int, str | None]] = {}
    queue: deque[State] = deque()
    for cell in sorted(room.floor - room.goals):
        found[cell, room.goals] = (0, None)
        queue.append((cell, room.goals))
    while queue:
        state = queue.popleft()
        (row, column), boxes = state
        count = found[state][0] + 1
        for move, (down, right) in STEPS.items():
            back = (row - down, column - right)  # where the player was before the move
            if back not in room.floor or back in boxes:
                continue
            befores = [(back, boxes)]
            ahead = (row + down, column + right)
            if ahead in boxes:  # the move may have pushed this box from where the player is now
                befores.append((back, boxes - {ahead} | {(row, column)}))
            for before in befores:
                if before not in found:
                    found[before] = (count, move)
                    queue.append(before)
        if len(found) > _MAX_STATES:
            return {}
    return found


def _is_straight(room: Room, state: State) -> bool:
    """Return whether one move, again and again, solves the level: a constant reply would."""
    for move in STEPS:
        after: State | None = state
        while after is not None:
            if after[1] == room.goals:
                return True
            after = step(room, after, move)
    return False
