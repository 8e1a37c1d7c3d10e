"""`quintain/Countdown-v0`: reach a target from a few numbers with + - * /, in one reply.

The expression is read by a parser, never evaluated by Python; each number may be used once, every literal must be
one of the given numbers, and the value must be the target exactly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...tools.calculator import CalculatorError, evaluate, shown
from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.final_answer import answer_tag, without_thinking
from ..card import Card
from ..single_turn import SingleTurnEnv
from ..tasks import TaskSet
from .items import Split, check_split, in_split

MAX_TARGET = 999
"""Targets lie between 10 and this."""

_ALLOWED = re.compile(r"[0-9+\-*/() ]+", re.ASCII)
_PROMPT = (
    "Use the numbers {numbers} to make {target}. Each number may be used once at most, with + - * / and "
    "parentheses. Write the expression between <answer> and </answer>."
)


class CountdownExpression(Verifier):
    """Does the expression in the last `<answer>` make the target out of the given numbers?

    `Task.answer` is `{"numbers": [...], "target": n}`.
    """

    def score(self, episode: Episode) -> Score:
        """Read the expression, count its numbers, compare its value."""
        expression = answer_tag(without_thinking(episode.reply))
        if expression is None:
            return Score(0.0, reason="missing: no <answer>")
        expression = expression.strip()
        if not _ALLOWED.fullmatch(expression) or "**" in expression or "//" in expression:
            return Score(
                0.0, reason=f"not an expression of numbers, + - * / and parentheses: {expression!r:.80}"
            )
        given = Counter(map(str, episode.task.answer["numbers"]))
        extra = Counter(re.findall(r"\d+", expression)) - given
        if extra:
            return Score(0.0, reason=f"uses {next(iter(extra))[:20]}, which is not given or used up")
        try:
            value = evaluate(expression)
        except CalculatorError as error:
            return Score(0.0, reason=f"has no value: {error}")
        target = episode.task.answer["target"]
        return Score(float(value == target), reason=f"makes {shown(value)}, wanted {target}")

    def check(self, task: Task) -> None:
        """Refuse a task without numbers and target."""
        answer = task.answer
        if not isinstance(answer, dict) or not {"numbers", "target"} <= set(answer):
            raise ValueError(
                f'task {task.id!r}: the answer must be {{"numbers": [...], "target": n}}, got {answer!r:.80}'
            )


class Countdown(SingleTurnEnv):
    """Reach a target from a few numbers; see the module.

    Args:
        numbers: How many are given, 2 to 6. More are harder.
        split: "train" or "test": no numbers with a target are in both, in whatever order.
        seed: Of the problem set.
    """

    card = Card(
        what="Reach a target from a few numbers with + - * / and parentheses, each number used once at most.",
        reward="1 if the expression uses only given numbers and its value is the target exactly, else 0.",
        difficulty="`numbers`: how many are given, 2 to 6; the target may need all of them.",
        oracle="The expression that the problem was made from; `solve` finds one without it.",
        tags=("math", "search", "single-turn"),
    )

    def __init__(
        self, numbers: int = 4, split: Split = "train", seed: int = 0, render_mode: str | None = None
    ) -> None:
        if not 2 <= numbers <= 6:
            raise UserError(f"Countdown: numbers must be 2 to 6, got {numbers}")
        check_split("Countdown", split)

        def problem(rng: np.random.Generator, index: int) -> Task:
            while True:
                task = _draw(rng, numbers)
                if task is not None and in_split(
                    split, "countdown", *sorted(task.answer["numbers"]), task.answer["target"]
                ):
                    return task

        tasks = TaskSet.generated(problem, name=f"countdown-{numbers}", split=split, seed=seed)
        super().__init__(tasks, CountdownExpression(), render_mode=render_mode)
        self.oracle = _oracle


def _draw(rng: np.random.Generator, count: int) -> Task | None:
    """Draw numbers and join them at random; None if the value is no good target."""
    given = [int(n) for n in rng.integers(1, 100, size=count)]
    parts = [(str(n), n) for n in given]
    while len(parts) > 1:
        i, j = (int(k) for k in rng.choice(len(parts), size=2, replace=False))
        (left, a), (right, b) = parts[i], parts[j]
        ops = ["+", "*"] + ["-"] * (a > b) + ["/"] * (b > 1 and a % b == 0)
        op = ops[int(rng.integers(len(ops)))]
        value = {"+": a + b, "*": a * b, "-": a - b}.get(op, a // max(b, 1))
        parts = [part for k, part in enumerate(parts) if k not in (i, j)]
        parts.append((f"({left}{op}{right})", value))
    solution, target = parts[0]
    if not 10 <= target <= MAX_TARGET or target in given:
        return None
    shuffled = [given[int(k)] for k in rng.permutation(count)]
    prompt = _PROMPT.format(numbers=", ".join(map(str, shuffled)), target=target)
    return Task("", prompt, {"numbers": shuffled, "target": target}, {"solution": solution[1:-1]})


def solve(numbers: Sequence[int], target: int) -> str | None:
    """Return an expression of some of the numbers that makes the target, or None if there is none.

    It goes through all pairs of what is left, so it is quick for up to five numbers; six may take a minute.
    """
    return _search([(str(number), Fraction(number)) for number in numbers], Fraction(target), set())


def _search(
    parts: list[tuple[str, Fraction]], target: Fraction, seen: set[tuple[Fraction, ...]]
) -> str | None:
    for text, value in parts:
        if value == target:
            return text
    key = tuple(sorted(value for _, value in parts))
    if key in seen:
        return None
    seen.add(key)
    for i, (left, a) in enumerate(parts):
        for j, (right, b) in enumerate(parts):
            if i == j:
                continue
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            made = [("-", a - b)] if a > b else []  # a negative value is never needed for a positive target
            if i < j:
                made += [("+", a + b), ("*", a * b)]
            if b:
                made.append(("/", a / b))
            for op, value in made:
                found = _search([*rest, (f"({left}{op}{right})", value)], target, seen)
                if found is not None:
                    return found
    return None


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Write the expression that the problem was made from; for a task without one, search."""
    solution = task.info.get("solution") or solve(task.answer["numbers"], task.answer["target"])
    return f"<answer>{solution}</answer>"
