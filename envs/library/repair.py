"""`quintain/ProgramRepair-v0`: mend a function that fails a test; judged by hidden tests.

Bugs are put by machine into small programs of ours, as they are asked for: each broken program fails the test that is
shown and at least two hidden ones, and passes some, so that neither a special case for the shown test nor the broken
program earns anything. Or broken programs come from a file.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Task
from ...verifiers.code_values import same_value
from ..card import Card
from ..tasks import TaskSet
from .mutations import RunawayError, bounded, with_bug
from .programs import ProgramEnv, fenced
from .reference_programs import FAMILIES, Family, load
from .sources import Drawn, check_choice, check_range, made_tasks, pick, row_tasks

HIDDEN = 12
"""Tests of a made problem that are not shown."""

_SYSTEM = "Reply with the whole corrected program in one ```python block."
_EXAMPLES = " You may try it with run_examples first; the reply without a call is final."
_MISSES = 2  # hidden tests that a broken program has to fail


class ProgramRepair(ProgramEnv):
    """Mend a function that fails a test; see the module.

    Args:
        path: None makes problems. Or a `.jsonl`, `.parquet` or `.csv` file: `program` (the broken one),
            `failing_test` (text), `entry_point`, and `tests`, `test` or `test_list` as `CodeTests` takes them; perhaps
            `description` and `solution`.
        split: "train" or "test"; for a file also "all".
        difficulty: Of the made programs, 1 (a loop) to 3 (search and dynamic programming).
        bugs: How many bugs a made program has, 1 or 2.
        limit: Use only the first so many rows of the file.
        examples_tool: Whether the model may run its program on the failing test before it hands it in.
        max_turns: Replies until the episode is truncated, with the tool.
        partial: Whether the reward is the share of tests passed; else all of them or nothing.
        wall_s: Seconds for each test.
        seed: Of the made problems.

    Raises `UserError` on a machine without a sandbox.
    """

    card = Card(
        what="Mend a small Python function, given what it should do and a test that it fails.",
        reward="1 if every hidden test passes, else 0; by option the share.",
        difficulty="`difficulty` 1 to 3, the program; `bugs`, 1 or 2. `examples_tool` lets the model try first.",
        oracle="The program before the bugs were put in; for rows the solution of the row, if it has one.",
        source="generated; or rows of one's own",
        tags=("code", "python", "sandbox", "repair", "procedural", "data"),
    )

    def __init__(
        self,
        path: str | None = None,
        split: str = "train",
        difficulty: int = 1,
        bugs: int = 1,
        limit: int | None = None,
        examples_tool: bool = False,
        max_turns: int = 5,
        partial: bool = False,
        wall_s: float = 5.0,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("ProgramRepair", "difficulty", difficulty, 1, 3)
        check_range("ProgramRepair", "bugs", bugs, 1, 2)
        tasks = _made(split, difficulty, bugs, seed) if path is None else _read(path, split, limit)
        super().__init__(
            "ProgramRepair",
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


def _made(split: str, difficulty: int, bugs: int, seed: int) -> TaskSet:
    families = [family for family in FAMILIES if family.level == difficulty]

    def draw(rng: np.random.Generator) -> Drawn:
        family = pick(rng, families)
        params = family.set(rng)
        return f"{family.name} {json.dumps(params)}", lambda: _problem(rng, family, params, bugs)

    which: Any = split  # checked there
    return made_tasks("ProgramRepair", draw, split=which, seed=seed, variant=f"{difficulty}-{bugs}")


def _problem(rng: np.random.Generator, family: Family, params: Mapping[str, Any], bugs: int) -> Task | None:
    solution = family.program(params)
    right = load(solution, family.name)
    broken = solution
    for _ in range(bugs):
        broken = with_bug(broken, rng)
    tests: dict[str, dict[str, Any]] = {}
    for _ in range(4 * HIDDEN):
        args = family.draw(rng)
        tests.setdefault(json.dumps(args), {"args": args, "expected": right(*json.loads(json.dumps(args)))})
        if len(tests) == HIDDEN + 1:
            break
    wrong = bounded(broken, family.name)
    misses = {key: _miss(wrong, test) for key, test in tests.items()}
    failing = [key for key, miss in misses.items() if miss is not None]
    if not _MISSES < len(failing) < len(tests) or len(tests) < HIDDEN + 1:
        return None  # no bug that shows, or nothing that still works
    shown = tests.pop(failing[0])
    prompt = _prompt(family, params, broken, shown, misses[failing[0]] or "")
    public = {"examples": [shown], "entry_point": family.name}
    answer = {"entry_point": family.name, "tests": list(tests.values())}
    tidy = ast.unparse(ast.parse(solution)) + "\n"  # as the broken program is written
    info = {"solution": tidy, "public": public, "tag": family.name}
    return Task("", prompt, answer, info)


def _miss(wrong: Any, test: Mapping[str, Any]) -> str | None:
    """Return what a broken program does in a test that it fails, None for one that it passes."""
    try:
        value = wrong(*json.loads(json.dumps(test["args"])))
    except RunawayError:
        return "it does not come to an end"
    except Exception as error:
        return f"it raises {type(error).__name__}"
    return None if same_value(value, test["expected"]) else f"it returns {value!r}"


def _prompt(
    family: Family, params: Mapping[str, Any], broken: str, shown: Mapping[str, Any], miss: str
) -> str:
    args = ", ".join(map(repr, shown["args"]))
    return (
        f"This function should return {family.text(params)}. It has a bug.\n\n{fenced(broken)}\n\n"
        f"It fails this test: {family.name}({args}) should return {shown['expected']!r}, but {miss}. Mend it; other "
        "tests follow."
    )


# --- rows


def _read(path: str, split: str, limit: int | None) -> TaskSet:
    check_choice("ProgramRepair", "split", split, ("all", "train", "test"))
    part: Any = split
    rows = row_tasks("ProgramRepair", path, part=part, limit=limit, prompt="program", answer=_row_tests)
    return TaskSet([_as_task(row) for row in rows], name=rows.name)


def _row_tests(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        field: row[field]
        for field in ("entry_point", "tests", "test", "test_list", "test_setup_code")
        if row.get(field)
    }
    if not {"tests", "test", "test_list"} & set(found):
        raise KeyError("tests")
    return found


def _as_task(row: Task) -> Task:
    failing = row.info.get("failing_test")
    if not isinstance(failing, str) or not failing.strip():
        raise UserError(
            f"ProgramRepair: task {row.id!r} needs 'failing_test', the text of a test that it fails"
        )
    about = str(row.info.get("description") or "").strip()
    prompt = (
        (f"{about}\n\n" if about else "")
        + f"This program has a bug.\n\n{fenced(row.prompt)}\n\nIt fails this test:\n\n{failing.strip()}\n\n"
        + "Mend it; other tests follow."
    )
    public = {"examples": [], "entry_point": row.answer.get("entry_point")}
    if failing.lstrip().startswith("assert "):
        public["examples"] = [{"assert": failing.strip()}]
    return Task(row.id, prompt, row.answer, {**row.info, "public": public})
