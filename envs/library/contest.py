"""`quintain/Contest-v0`: write a program that reads its input and prints the answer; judged on hidden inputs.

Problems are made as they are asked for out of small families with parameters, or read from a file. Hidden inputs go
into the program's sandbox, what it prints comes out, and the comparison happens here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Task
from ..card import Card
from ..tasks import TaskSet
from .programs import ProgramEnv, fenced
from .reference_programs import FAMILIES, Family, load
from .sources import Drawn, check_choice, check_range, made_tasks, pick, row_tasks

HIDDEN = 8
"""Tests of a made problem that are not shown."""
SHOWN = 2
"""Examples of a made problem."""

_SYSTEM = (
    "Write a Python program that reads standard input and writes standard output. Reply with the whole program in one "
    "```python block."
)
_EXAMPLES = " You may try it with run_examples first; the reply without a call is final."
_LINES = {
    "int": "a line with the whole number `{name}`",
    "ints": "a line with the whole numbers `{name}`, parted by spaces",
    "words": "a line with the `{name}`, parted by spaces",
    "text": "a line with the text `{name}`",
    "pairs": "a line with the number of `{name}`, then a line for each with its start and its end",
    "grid": "a line with the number of rows of the `{name}`, then the rows",
}
_READERS = {
    "int": "int(input())",
    "ints": "[int(part) for part in input().split()]",
    "words": "input().split()",
    "text": "input().strip()",
    "pairs": "[[int(part) for part in input().split()] for _ in range(int(input()))]",
    "grid": "[input().strip() for _ in range(int(input()))]",
}


class Contest(ProgramEnv):
    """Write a program that reads its input and prints the answer; see the module.

    Args:
        path: None makes problems. Or a `.jsonl`, `.parquet` or `.csv` file: `prompt` (or `description`, `question`),
            `tests` with `stdin` (or `input`) and `stdout` (or `output`), or `input_output` with lists `inputs` and
            `outputs`; perhaps `examples` like `tests`, which the model is shown, and `solution` for the oracle.
        split: "train" or "test"; for a file also "all".
        difficulty: Of made problems, 1 (a loop) to 3 (search and dynamic programming).
        limit: Use only the first so many rows of the file.
        examples_tool: Whether the model may run its program on the examples before it hands it in.
        max_turns: Replies until the episode is truncated, with the tool.
        partial: Whether the reward is the share of tests passed; else all of them or nothing.
        wall_s: Seconds for each test.
        seed: Of the made problems.

    Raises `UserError` on a machine without a sandbox.
    """

    card = Card(
        what="Write a Python program that reads a problem's input and prints its answer.",
        reward="1 if the output is right for every hidden input, else 0; by option the share. Line ends and trailing "
        "spaces do not matter.",
        difficulty="`difficulty` 1 to 3: loops, bookkeeping, search and dynamic programming. `examples_tool` lets the "
        "model try its program on the examples first.",
        oracle="The program that made the expected outputs; for rows the solution of the row, if it has one.",
        source="generated; or rows of one's own",
        tags=("code", "python", "sandbox", "procedural", "data"),
    )

    def __init__(
        self,
        path: str | None = None,
        split: str = "train",
        difficulty: int = 1,
        limit: int | None = None,
        examples_tool: bool = False,
        max_turns: int = 5,
        partial: bool = False,
        wall_s: float = 5.0,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("Contest", "difficulty", difficulty, 1, 3)
        tasks = _made(split, difficulty, seed) if path is None else _read(path, split, limit)
        super().__init__(
            "Contest",
            tasks,
            examples_tool=examples_tool,
            max_turns=max_turns,
            partial=partial,
            wall_s=wall_s,
            system_prompt=_SYSTEM + _EXAMPLES * examples_tool,
            render_mode=render_mode,
        )
        self.oracle = _oracle


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return fenced(str(task.info.get("solution") or ""))


# --- made problems


def _made(split: str, difficulty: int, seed: int) -> TaskSet:
    families = [family for family in FAMILIES if family.level == difficulty]

    def draw(rng: np.random.Generator) -> Drawn:
        family = pick(rng, families)
        params = family.set(rng)
        return f"{family.name} {json.dumps(params)}", lambda: _problem(rng, family, params)

    which: Any = split  # checked there
    return made_tasks("Contest", draw, split=which, seed=seed, variant=str(difficulty))


def _problem(rng: np.random.Generator, family: Family, params: Mapping[str, Any]) -> Task | None:
    source = family.program(params)
    function = load(source, family.name)
    tests: dict[str, str] = {}
    for _ in range(4 * (HIDDEN + SHOWN)):
        values = family.draw(rng)
        tests.setdefault(_written(family, values), _printed(function(*values)))
        if len(tests) == HIDDEN + SHOWN:
            break
    listed = [{"stdin": stdin, "stdout": stdout} for stdin, stdout in tests.items()]
    shown, hidden = listed[:SHOWN], listed[SHOWN:]
    outputs = [test["stdout"] for test in hidden]
    if len(hidden) < HIDDEN or len(set(outputs)) < 3:
        return None  # a program that prints a constant would look good
    prompt = f"{_statement(family, params)}\n\n{_shown(shown)}"
    info = {"solution": source + _main(family), "public": {"examples": shown}, "tag": family.name}
    return Task("", prompt, {"tests": hidden}, info)


def _statement(family: Family, params: Mapping[str, Any]) -> str:
    lines = ", then ".join(_LINES[kind].format(name=name) for name, kind in family.kinds.items())
    text = family.text(params)
    return f"Print {text}.\n\nInput: {lines}.\nOutput: one line; several values are parted by spaces."


def _shown(examples: Sequence[Mapping[str, str]]) -> str:
    return "\n\n".join(
        f"Example {number}, input:\n{one['stdin'].rstrip()}\n\nExample {number}, output:\n{one['stdout'].rstrip()}"
        for number, one in enumerate(examples, 1)
    )


def _written(family: Family, values: Sequence[Any]) -> str:
    """Return arguments as the input of a program."""
    lines: list[str] = []
    for kind, value in zip(family.kinds.values(), values, strict=True):
        if kind in ("int", "text"):
            lines.append(str(value))
        elif kind in ("ints", "words"):
            lines.append(" ".join(map(str, value)))
        else:
            lines += [str(len(value)), *(row if kind == "grid" else " ".join(map(str, row)) for row in value)]
    return "\n".join(lines) + "\n"


def _printed(value: Any) -> str:
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) + "\n"


def _main(family: Family) -> str:
    """Return the end of a whole program: read the arguments, print the value."""
    reads = "\n".join(f"{name} = {_READERS[kind]}" for name, kind in family.kinds.items())
    return (
        f"\n{reads}\nvalue = {family.name}({', '.join(family.kinds)})\n"
        "print(' '.join(map(str, value)) if isinstance(value, list) else value)\n"
    )


# --- rows


def _read(path: str, split: str, limit: int | None) -> TaskSet:
    check_choice("Contest", "split", split, ("all", "train", "test"))
    part: Any = split
    rows = row_tasks("Contest", path, part=part, limit=limit, prompt=_row_text, answer=_row_tests)
    return TaskSet([_as_task(row) for row in rows], name=rows.name)


def _row_text(row: Mapping[str, Any]) -> str:
    for field in ("prompt", "description", "question"):
        if row.get(field):
            return str(row[field])
    raise KeyError("prompt")


def _row_tests(row: Mapping[str, Any]) -> dict[str, Any]:
    if "tests" not in row and "input_output" in row:
        both = row["input_output"]
        both = json.loads(both) if isinstance(both, str) else both
        pairs = zip(both["inputs"], both["outputs"], strict=True)
        return {"tests": [{"stdin": _joined(one), "stdout": _joined(other)} for one, other in pairs]}
    tests = row["tests"]
    return {"tests": json.loads(tests) if isinstance(tests, str) else tests}


def _joined(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _as_task(row: Task) -> Task:
    examples = [
        {
            "stdin": str(one.get("stdin", one.get("input", ""))),
            "stdout": str(one.get("stdout", one.get("output", ""))),
        }
        for one in row.info.get("examples") or ()
    ]
    if not any("stdout" in test or "output" in test for test in row.answer["tests"]):
        raise UserError(f"Contest: task {row.id!r}: its tests need 'stdin' and 'stdout'")
    prompt = f"{row.prompt.strip()}\n\n{_shown(examples)}".strip()
    return Task(row.id, prompt, row.answer, {**row.info, "public": {"examples": examples}})
