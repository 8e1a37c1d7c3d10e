"""`quintain/Calculator-v0`: word problems of one to three steps, solved with a calculator over several turns.

Problems are made as they are asked for. Every problem opens with a pair of numbers, and the pair (in either order)
belongs to the training or to the held-out set by a hash of it alone, so that no held-out problem opens with a pair
that training has shown. The numbers of a prompt are all different, and the answer is none of them and no result
on the way: it can neither be copied out of the prompt nor reached by stopping early.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...tools.calculator import calculator
from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Task
from ...verifiers.numbers import FinalNumber
from ..card import Card
from ..tasks import TaskSet
from ..tool_use import ToolEnv

Split = Literal["train", "test"]

MAX_STEPS = 3
MAX_RESULT = 999
"""Every result on the way is between 1 and this."""
_TEST_SHARE = 5  # one number pair in so many is held out

_PEOPLE = (("Ann", "She"), ("Mia", "She"), ("Eva", "She"), ("Ben", "He"), ("Tom", "He"), ("Max", "He"))
_THINGS = ("pens", "books", "apples", "coins", "cards", "stones", "eggs", "cups")

# {who} is the name, {she} the pronoun, {a} and {b} the opening pair, {n} the number of a later step.
_OPENINGS = {
    "*": (
        "{who} has {a} boxes of {b} {things}.",
        "{who} buys {a} bags with {b} {things} each.",
        "{who} fills {a} boxes with {b} {things} each.",
    ),
    "+": (
        "{who} has {a} {things} and gets {b} more.",
        "{who} has {a} {things} and finds {b} more.",
        "{who} buys {a} {things} and then {b} more.",
    ),
    "-": (
        "{who} has {a} {things} and loses {b}.",
        "{who} has {a} {things} and gives away {b}.",
        "{who} buys {a} {things} and sells {b}.",
    ),
}
_STEPS = {
    "*": (
        "Then {she} has {n} times that.",
        "Then {she} has {n} times as many.",
        "Now {she} has {n} times that.",
    ),
    "+": ("{She} gets {n} more.", "{She} finds {n} more.", "Then {she} buys {n} more."),
    "-": ("{She} loses {n}.", "{She} gives away {n}.", "Then {she} sells {n}."),
}
_QUESTION = "How many {things} does {who} have?"


def held_out(a: int, b: int) -> bool:
    """Return whether problems that open with `a` and `b`, in either order, belong to the test set."""
    key = f"{min(a, b)},{max(a, b)}".encode()
    return hashlib.blake2b(key, digest_size=4).digest()[0] % _TEST_SHARE == 0


def apply(op: str, left: int, right: int) -> int:
    """Return the result of one step; `op` is `+`, `-` or `*`."""
    return left + right if op == "+" else left - right if op == "-" else left * right


def problems(
    split: Split = "train", *, min_steps: int = 1, max_steps: int = MAX_STEPS, seed: int = 0
) -> TaskSet:
    """Return the endless set of problems of a split.

    `Task.info` holds `start` and `steps`, a list of `[op, number]`: the solution, for demonstrators.
    """
    if split not in ("train", "test"):
        raise UserError(f"Calculator: split must be 'train' or 'test', got {split!r}")
    if not 1 <= min_steps <= max_steps <= MAX_STEPS:
        raise UserError(
            f"Calculator: needs 1 <= min_steps <= max_steps <= {MAX_STEPS}, got {min_steps} and {max_steps}"
        )

    def problem(rng: np.random.Generator, index: int) -> Task:
        while True:  # accepts three draws in four for training, one in five for the test set
            count = int(rng.integers(min_steps, max_steps + 1))
            start, steps = _draw_steps(rng, count)
            if held_out(start, steps[0][1]) == (split == "test") and _is_sound(start, steps):
                return _as_task(rng, start, steps)

    return TaskSet.generated(problem, name="calculator", split=split, seed=seed)


def _draw_steps(rng: np.random.Generator, count: int) -> tuple[int, list[tuple[str, int]]]:
    ops = [("+", "-", "*")[i] for i in rng.integers(3, size=count)]
    if ops[0] == "*":
        start, first = int(rng.integers(2, 31)), int(rng.integers(2, 13))
    else:
        start, first = int(rng.integers(10, 100)), int(rng.integers(2, 50))
    later = [int(rng.integers(2, 6) if op == "*" else rng.integers(2, 10)) for op in ops[1:]]
    return start, list(zip(ops, [first, *later], strict=True))


def _is_sound(start: int, steps: Sequence[tuple[str, int]]) -> bool:
    numbers = [start, *(number for _, number in steps)]
    if len(set(numbers)) < len(numbers):
        return False
    results = [start]
    for op, number in steps:
        results.append(apply(op, results[-1], number))
    return all(1 <= result <= MAX_RESULT for result in results) and results[-1] not in {
        *numbers,
        *results[:-1],
    }


def _as_task(rng: np.random.Generator, start: int, steps: Sequence[tuple[str, int]]) -> Task:
    who, pronoun = _PEOPLE[int(rng.integers(len(_PEOPLE)))]
    words: dict[str, Any] = {
        "who": who,
        "She": pronoun,
        "she": pronoun.lower(),
        "things": _THINGS[int(rng.integers(len(_THINGS)))],
    }
    (op, first), *later = steps
    forms = _OPENINGS[op]
    sentences = [forms[int(rng.integers(len(forms)))].format(a=start, b=first, **words)]
    answer = apply(op, start, first)
    for op, number in later:
        forms = _STEPS[op]
        sentences.append(forms[int(rng.integers(len(forms)))].format(n=number, **words))
        answer = apply(op, answer, number)
    sentences.append(_QUESTION.format(**words))
    count = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
    info = {"start": start, "steps": [list(step) for step in steps], "tag": count}
    return Task("", " ".join(sentences), answer, info)


@dataclass(frozen=True, slots=True)
class SloppyDemonstrator:
    """Plays an episode of Calculator the way a careless person would: the source of imperfect demonstrations.

    Each reply is a short thought and one calculator call for the next step, from the last result; then
    `The answer is N.` The rates are probabilities per reply. At the defaults about half of the episodes succeed.

        write = SloppyDemonstrator()
        text = write(env.task, env.messages, rng)
    """

    skip: float = 0.16
    """Leaves out the next step (never the opening one)."""
    wrong: float = 0.16
    """Takes another operation."""
    guess: float = 0.10
    """Answers a number out of the air instead of calling."""
    broken: float = 0.10
    """Writes a call that cannot be read; the environment says so, and it tries again."""

    def __call__(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        """Return the next reply of the episode."""
        steps: list[tuple[str, int]] = [(op, number) for op, number in task.info["steps"]]
        done, value = _progress(steps, messages)
        skipped, guessed, wrong, broken = rng.random(4) < (self.skip, self.guess, self.wrong, self.broken)
        if skipped and done:
            done += 1
        if done >= len(steps):
            return f"The answer is {value}."
        if guessed:
            return f"The answer is {int(rng.integers(2, 1000))}."
        op, number = steps[done]
        if wrong:
            op = str(rng.choice([other for other in "+-*" if other != op]))
        expression = f"{task.info['start'] if value is None else value}{op}{number}"
        written = json.dumps({"name": "calculator", "arguments": {"expression": expression}})
        if broken:
            written = written.removesuffix("}}")
        return f"<think>{expression}</think>\n<tool_call>\n{written}\n</tool_call>"


def PerfectDemonstrator() -> SloppyDemonstrator:  # noqa: N802 - reads as the class it makes
    """Return the demonstrator that makes no mistakes: the oracle of the environment."""
    return SloppyDemonstrator(skip=0, wrong=0, guess=0, broken=0)


def _progress(steps: Sequence[tuple[str, int]], messages: Sequence[Message]) -> tuple[int, str | None]:
    """Return how many steps the conversation has taken or passed over, and the last result."""
    value: str | None = None
    expression = ""
    for message in messages:
        for part in message.get("tool_calls", ()):
            expression = str(part["function"]["arguments"].get("expression", ""))
        if message["role"] == "tool":
            value = message["content"]
    if value is None:
        return 0, None
    operand = expression.replace("*", "+").replace("-", "+").rpartition("+")[2]
    numbers = [str(number) for _, number in steps]  # all different, so the operand tells the step
    return (numbers.index(operand) + 1 if operand in numbers else len(numbers)), value


class Calculator(ToolEnv):
    """Word problems of one to three steps with a calculator, at most five replies; see the module.

    Args:
        split: "train" or "test": disjoint by their opening pairs of numbers.
        min_steps, max_steps: Steps of a problem, 1 to 3.
        seed: Of the problem set; the same seed gives the same problem for an index, always.
        max_turns: Replies until the episode is truncated: three calls, the answer, and one to spare.
    """

    card = Card(
        what="Solve a word problem of one to three steps, one calculator call for each.",
        reward="1 if the last number of the final reply is the answer, else 0.",
        difficulty="`min_steps` and `max_steps`; `max_turns` leaves one reply to spare by default.",
        oracle="Calls the calculator for each step and states the last result; the demonstrator makes mistakes.",
        tags=("math", "tools", "multi-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        min_steps: int = 1,
        max_steps: int = MAX_STEPS,
        seed: int = 0,
        max_turns: int = 5,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            problems(split, min_steps=min_steps, max_steps=max_steps, seed=seed),
            [calculator],
            FinalNumber(),
            max_turns=max_turns,
            render_mode=render_mode,
        )
        self.oracle = PerfectDemonstrator()
        self.demonstrator = SloppyDemonstrator()
