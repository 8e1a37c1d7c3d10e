"""Small programs of ours with what they compute in words: the material of `contest` and `repair`.

Each family has parameters, so that one text and one program stand for many problems, and a way to draw arguments.
The source is the only truth: expected values are what it returns.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sources import pick, several

Values = list[Any]
"""Arguments of one call, plain JSON data."""

_WORDS = several(
    "ash bay cat dune elm fig gull hen ivy jam kiln lake moss nut oak pine quay reed sun toad urn vole wren yew zinc "
    "amber birch cedar delta ember fjord grove heron inlet lemon maple north otter pearl river stone tulip willow"
)


@dataclass(frozen=True, slots=True)
class Family:
    """A function with parameters."""

    name: str
    """The function's name."""
    level: int
    """1 to 3: how hard it is to write."""
    params: Mapping[str, tuple[Any, ...]]
    """The values of each parameter; `$name` in the texts stands for it."""
    kinds: Mapping[str, str]
    """Each argument and its kind: `int`, `ints`, `words`, `text`, `pairs` or `grid`."""
    says: str
    """What it returns, in words."""
    source: str
    """The program."""
    draw: Callable[[np.random.Generator], Values]
    """Draws arguments; the sizes are small, so that any correct program is fast enough."""

    def set(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a value for each parameter."""
        return {name: pick(rng, values) for name, values in self.params.items()}

    def text(self, params: Mapping[str, Any]) -> str:
        """Return what it computes, with the parameters filled in."""
        return string.Template(self.says).substitute(params)

    def program(self, params: Mapping[str, Any]) -> str:
        """Return the source, with the parameters filled in."""
        return string.Template(self.source).substitute(params).strip() + "\n"


def load(source: str, name: str) -> Callable[..., Any]:
    """Return a function of one of our own programs. Never for text that a model wrote."""
    scope: dict[str, Any] = {}
    exec(compile(source, f"<{name}>", "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function


def _ints(rng: np.random.Generator, least: int, most: int, low: int, high: int) -> list[int]:
    return [int(n) for n in rng.integers(low, high + 1, size=int(rng.integers(least, most + 1)))]


def _words(rng: np.random.Generator, least: int, most: int) -> list[str]:
    chosen = _WORDS[: int(rng.integers(4, len(_WORDS)))]  # few different ones, so that some come again
    return [pick(rng, chosen) for _ in range(int(rng.integers(least, most + 1)))]


def _text(rng: np.random.Generator, letters: str, least: int, most: int) -> str:
    return "".join(pick(rng, letters) for _ in range(int(rng.integers(least, most + 1))))


def _pairs(rng: np.random.Generator, least: int, most: int, high: int) -> list[list[int]]:
    starts = _ints(rng, least, most, 0, high)
    return [[start, start + int(rng.integers(1, 9))] for start in starts]


def _grid(rng: np.random.Generator, marks: str, least: int = 3, most: int = 7) -> list[str]:
    rows, columns = (int(n) for n in rng.integers(least, most + 1, size=2))
    return ["".join(pick(rng, marks) for _ in range(columns)) for _ in range(rows)]


_SMALL = tuple(range(2, 10))

FAMILIES: tuple[Family, ...] = (
    Family(
        "sum_of_multiples", 1, {"k": _SMALL, "low": (-9, -4, 0, 5, 10)}, {"numbers": "ints"},
        "the sum of those numbers that are divisible by $k and greater than $low",
        """
def sum_of_multiples(numbers):
    total = 0
    for number in numbers:
        if number % $k == 0 and number > $low:
            total += number
    return total
""",
        lambda rng: [_ints(rng, 3, 14, -30, 60)],
    ),
    Family(
        "long_words", 1, {"n": (3, 4, 5), "letter": tuple("abcdefghjklmnoprstuvwz")}, {"words": "words"},
        "how many of the words have more than $n letters or begin with the letter $letter",
        """
def long_words(words):
    count = 0
    for word in words:
        if len(word) > $n or word[0] == '$letter':
            count += 1
    return count
""",
        lambda rng: [_words(rng, 3, 12)],
    ),
    Family(
        "spread", 1, {"k": (1, 2, 3), "add": tuple(range(1, 25))}, {"numbers": "ints"},
        "the largest number minus the smallest one, after the first $k numbers have been dropped, plus $add; 0 if no "
        "number is left",
        """
def spread(numbers):
    rest = numbers[$k:]
    if not rest:
        return 0
    return max(rest) - min(rest) + $add
""",
        lambda rng: [_ints(rng, 1, 9, -40, 40)],
    ),
    Family(
        "every_nth", 1, {"n": (2, 3, 4), "first": (0, 1, 2), "m": _SMALL}, {"numbers": "ints"},
        "the numbers at the positions $first, $first + $n, $first + 2 * $n and so on (positions count from 0), each "
        "times $m",
        """
def every_nth(numbers):
    result = []
    position = $first
    while position < len(numbers):
        result.append(numbers[position] * $m)
        position += $n
    return result
""",
        lambda rng: [_ints(rng, 4, 14, -9, 20)],
    ),
    Family(
        "digit_game", 1, {"k": _SMALL, "m": (7, 9, 11, 13, 17, 19, 23)}, {"number": "int"},
        "the sum of the digits of the number, each times $k, modulo $m",
        """
def digit_game(number):
    total = 0
    while number > 0:
        total += number % 10 * $k
        number //= 10
    return total % $m
""",
        lambda rng: [int(rng.integers(0, 10_000_000))],
    ),
    Family(
        "count_rises", 1, {"gap": tuple(range(1, 12)), "back": (1, 2, 3)}, {"numbers": "ints"},
        "how many numbers are greater by at least $gap than the number $back places before them",
        """
def count_rises(numbers):
    count = 0
    for i in range($back, len(numbers)):
        if numbers[i] - numbers[i - $back] >= $gap:
            count += 1
    return count
""",
        lambda rng: [_ints(rng, 3, 14, 0, 20)],
    ),
    Family(
        "run_lengths", 2, {"n": (2, 3, 4), "mark": tuple("#*+=@%&~/:")}, {"text": "text"},
        "the text with every run of at least $n equal letters replaced by the letter, the sign $mark and the length of "
        "the run",
        """
def run_lengths(text):
    result = ''
    i = 0
    while i < len(text):
        j = i
        while j < len(text) and text[j] == text[i]:
            j += 1
        if j - i >= $n:
            result += text[i] + '$mark' + str(j - i)
        else:
            result += text[i:j]
        i = j
    return result
""",
        lambda rng: [_text(rng, "abc", 4, 18)],
    ),
    Family(
        "covered", 2, {"gap": tuple(range(8)), "least": tuple(range(1, 8))}, {"spans": "pairs"},
        "the total length that the spans cover, where spans that overlap or are at most $gap apart count as one span "
        "from start to end, and spans shorter than $least after that do not count",
        """
def covered(spans):
    total = 0
    start = None
    end = 0
    for low, high in sorted(spans):
        if start is None:
            start, end = low, high
        elif low - end <= $gap:
            end = max(end, high)
        else:
            if end - start >= $least:
                total += end - start
            start, end = low, high
    if start is not None and end - start >= $least:
        total += end - start
    return total
""",
        lambda rng: [_pairs(rng, 2, 8, 50)],
    ),
    Family(
        "robot", 2, {"size": tuple(range(4, 12)), "x": (0, 1, 2, 3), "y": (0, 1, 2, 3)}, {"moves": "text"},
        "the column and the row on which a robot ends: it starts at column $x, row $y of a board of $size by $size "
        "squares, L and R change the column by -1 and +1, U and D the row by -1 and +1, and a move over the edge "
        "comes in again on the other side",
        """
def robot(moves):
    column, row = $x, $y
    for move in moves:
        if move == 'L':
            column = (column - 1) % $size
        elif move == 'R':
            column = (column + 1) % $size
        elif move == 'U':
            row = (row - 1) % $size
        else:
            row = (row + 1) % $size
    return [column, row]
""",
        lambda rng: [_text(rng, pick(rng, ("LRUD", "LLRUUD", "RRUDDD")), 5, 25)],
    ),
    Family(
        "frequent_words", 2, {"k": tuple(range(1, 7)), "least": (1, 2, 3), "short": (2, 3, 4)}, {"words": "words"},
        "the $k most frequent words among those that occur at least $least times and have more than $short letters, "
        "the more frequent first and equally frequent ones by alphabet; fewer if there are fewer",
        """
def frequent_words(words):
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    kept = [word for word in counts if counts[word] >= $least and len(word) > $short]
    kept.sort(key=lambda word: (-counts[word], word))
    return kept[:$k]
""",
        lambda rng: [_words(rng, 6, 20)],
    ),
    Family(
        "last_customer", 2, {"desks": (2, 3, 4), "pause": (0, 1, 2, 3), "open": (0, 2, 5, 9)}, {"minutes": "ints"},
        "the minute at which the last customer leaves: $desks desks open at minute $open, the customers wait in one "
        "line in the given order, each takes so many minutes at the first desk that is free, and a desk pauses for "
        "$pause minutes after every customer; $open if there is no customer",
        """
def last_customer(minutes):
    free = [$open] * $desks
    last = $open
    for needed in minutes:
        free.sort()
        end = free[0] + needed
        free[0] = end + $pause
        last = max(last, end)
    return last
""",
        lambda rng: [_ints(rng, 2, 12, 1, 15)],
    ),
    Family(
        "balanced", 2, {"cost": tuple(range(2, 10)), "extra": tuple(range(1, 8))}, {"text": "text"},
        "the cost to balance the text of round brackets: every opening bracket that is never closed costs $cost, every "
        "closing bracket that closes nothing costs $extra",
        """
def balanced(text):
    depth = 0
    wrong = 0
    for sign in text:
        if sign == '(':
            depth += 1
        elif depth > 0:
            depth -= 1
        else:
            wrong += 1
    return depth * $cost + wrong * $extra
""",
        lambda rng: [_text(rng, pick(rng, ("()", "(()", "())")), 4, 20)],
    ),
    Family(
        "window_best", 2, {"k": (2, 3, 4, 5), "skip": (2, 3), "add": tuple(range(1, 8))}, {"numbers": "ints"},
        "the largest sum of $k numbers in a row plus $add, where only the positions 0, $skip, 2 * $skip and so on may "
        "begin a row; 0 if no row fits",
        """
def window_best(numbers):
    best = None
    for start in range(0, len(numbers) - $k + 1, $skip):
        total = sum(numbers[start:start + $k])
        if best is None or total > best:
            best = total
    return 0 if best is None else best + $add
""",
        lambda rng: [_ints(rng, 3, 14, -15, 25)],
    ),
    Family(
        "caesar", 2, {"shift": tuple(range(1, 13)), "step": (0, 1, 2, 3)}, {"text": "text"},
        "the text of small letters with every letter moved on in the alphabet, round from z to a: the first by $shift "
        "places, and each next one by $step places more than the one before it",
        """
def caesar(text):
    result = ''
    shift = $shift
    for letter in text:
        result += chr((ord(letter) - ord('a') + shift) % 26 + ord('a'))
        shift += $step
    return result
""",
        lambda rng: [_text(rng, string.ascii_lowercase, 3, 14)],
    ),
    Family(
        "grid_path", 3, {"jump": (1, 2, 3), "none": (-1, -2, -5, 99, 500, 999)}, {"grid": "grid"},
        "the least number of moves from the top left to the bottom right square of the grid, where a move goes 1 to "
        "$jump squares left, right, up or down and neither over nor onto a square marked #, nor off the grid; $none if "
        "there is no way. The first and the last square are always free, whatever their marks",
        """
def grid_path(grid):
    rows, columns = len(grid), len(grid[0])
    goal = (rows - 1, columns - 1)
    moves = {(0, 0): 0}
    queue = [(0, 0)]
    for row, column in queue:
        if (row, column) == goal:
            return moves[goal]
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            for length in range(1, $jump + 1):
                new = (row + down * length, column + right * length)
                if not (0 <= new[0] < rows and 0 <= new[1] < columns):
                    break
                if grid[new[0]][new[1]] == '#' and new != goal and new != (0, 0):
                    break
                if new not in moves:
                    moves[new] = moves[row, column] + 1
                    queue.append(new)
    return $none
""",
        lambda rng: [_grid(rng, "....#"[: int(rng.integers(3, 6))] + "#")],
    ),
    Family(
        "ways_to_pay", 3, {"a": (1, 2), "b": (3, 4, 5), "c": (6, 7, 8, 9), "most": (3, 4, 5, 6)}, {"amount": "int"},
        "in how many ways the amount can be paid with coins of $a, $b and $c, of the last at most $most; the order of "
        "the coins does not matter",
        """
def ways_to_pay(amount):
    ways = 0
    for large in range($most + 1):
        rest = amount - large * $c
        if rest < 0:
            break
        for middle in range(rest // $b + 1):
            if (rest - middle * $b) % $a == 0:
                ways += 1
    return ways
""",
        lambda rng: [int(rng.integers(0, 90))],
    ),
    Family(
        "long_rise", 3, {"gap": tuple(range(1, 6)), "wide": tuple(range(6, 22))}, {"numbers": "ints"},
        "the length of the longest selection of numbers, in the given order but not necessarily side by side, in which "
        "each is greater than the one before it by at least $gap and at most $wide",
        """
def long_rise(numbers):
    best = []
    for i in range(len(numbers)):
        length = 1
        for j in range(i):
            if $gap <= numbers[i] - numbers[j] <= $wide:
                length = max(length, best[j] + 1)
        best.append(length)
    return max(best)
""",
        lambda rng: [_ints(rng, 3, 14, 0, 40)],
    ),
    Family(
        "edit_cost", 3, {"insert": (1, 2, 3), "delete": (1, 2, 3), "change": (1, 2, 3, 4)},
        {"first": "text", "second": "text"},
        "the least cost to turn the first text into the second, where inserting a letter costs $insert, deleting one "
        "$delete and changing one into another $change",
        """
def edit_cost(first, second):
    costs = [j * $insert for j in range(len(second) + 1)]
    for i in range(len(first)):
        before = costs[0]
        costs[0] = (i + 1) * $delete
        for j in range(len(second)):
            keep = before + (0 if first[i] == second[j] else $change)
            before = costs[j + 1]
            costs[j + 1] = min(keep, costs[j] + $insert, before + $delete)
    return costs[len(second)]
""",
        lambda rng: [_text(rng, "abcd", 2, 8), _text(rng, "abcd", 2, 8)],
    ),
    Family(
        "islands", 3, {"least": (1, 2, 3, 4), "worth": tuple(range(1, 12))}, {"grid": "grid"},
        "the sum over all islands of at least $least squares of their number of squares, plus $worth for each such "
        "island; an island is a group of squares marked # that touch along their sides",
        """
def islands(grid):
    seen = set()
    total = 0
    for row in range(len(grid)):
        for column in range(len(grid[0])):
            if grid[row][column] != '#' or (row, column) in seen:
                continue
            size = 0
            stack = [(row, column)]
            seen.add((row, column))
            while stack:
                y, x = stack.pop()
                size += 1
                for ny, nx in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                    inside = 0 <= ny < len(grid) and 0 <= nx < len(grid[0])
                    if inside and grid[ny][nx] == '#' and (ny, nx) not in seen:
                        seen.add((ny, nx))
                        stack.append((ny, nx))
            if size >= $least:
                total += size + $worth
    return total
""",
        lambda rng: [_grid(rng, "..#")],
    ),
    Family(
        "best_rest", 3, {"gap": (1, 2, 3), "bonus": tuple(range(15))}, {"values": "ints"},
        "the largest total of values that can be taken so that at least $gap positions lie between any two that are "
        "taken, where every value taken counts $bonus more than it says; taking nothing gives 0",
        """
def best_rest(values):
    best = [0]
    for i in range(len(values)):
        earlier = best[max(0, i - $gap)]
        best.append(max(best[-1], earlier + values[i] + $bonus))
    return best[-1]
""",
        lambda rng: [_ints(rng, 2, 12, -9, 20)],
    ),
)  # fmt: skip
"""All of them, the easy ones first."""
