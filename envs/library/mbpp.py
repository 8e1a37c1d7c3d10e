"""`quintain/MBPP-v0`: write a Python function from a sentence and one of its tests; judged by all of them.

Rows of MBPP or of the same shape. Only the first test is shown: it tells the name and the arguments, and a program
that merely knows it by heart fails the others.

The data: Austin et al., "Program Synthesis with Large Language Models" (2021), CC-BY-4.0 licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Task
from ..card import Card
from ..tasks import TaskSet
from .programs import ProgramEnv, fenced
from .sources import Part, check_range, row_tasks

_SYSTEM = "Reply with the whole function, and what it needs, in one ```python block."
_EXAMPLES = " You may try it with run_examples first; the reply without a call is final."


class MBPP(ProgramEnv):
    """Write a Python function from a sentence; see the module.

    Args:
        path: A `.jsonl`, `.parquet` or `.csv` file with `task_id`, `text` (or `prompt`), `code`, `test_list` and
            perhaps `test_setup_code`, `test_imports` and `challenge_test_list`; None takes
            `google-research-datasets/mbpp` from the hub.
        split: "all" rows, or "train" or "test", which a hash of the id tells apart.
        limit: Use only the first so many rows.
        shown: How many of its tests the model is shown, at least 1; one more has to be there.
        examples_tool: Whether the model may run its program on the tests shown before it hands it in.
        max_turns: Replies until the episode is truncated, with the tool.
        partial: Whether the reward is the share of tests passed; else all of them or nothing.
        wall_s: Seconds for each test.

    Raises `UserError` on a machine without a sandbox.
    """

    card = Card(
        what="Write a Python function from a sentence and one example of its use.",
        reward="1 if every test passes, also those that are not shown, else 0; by option the share. The tests run in "
        "another process than the program.",
        difficulty="Entry level. `shown` sets how many tests the model sees; `examples_tool` lets it try first.",
        oracle="The code of the row.",
        source="MBPP (Austin et al., 2021), CC-BY-4.0",
        tags=("code", "python", "sandbox", "data"),
    )

    def __init__(
        self,
        path: str | None = None,
        split: Part = "all",
        limit: int | None = None,
        shown: int = 1,
        examples_tool: bool = False,
        max_turns: int = 5,
        partial: bool = False,
        wall_s: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        check_range("MBPP", "shown", shown, 1, 100)
        rows = row_tasks(
            "MBPP",
            path,
            part=split,
            limit=limit,
            hub={"dataset": "google-research-datasets/mbpp", "split": "train"},
            id="task_id",
            prompt=lambda row: row.get("text") or row["prompt"],
            answer=_tests,
        )
        super().__init__(
            "MBPP",
            TaskSet([_as_task(row, shown) for row in rows], name=rows.name),
            examples_tool=examples_tool,
            max_turns=max_turns,
            partial=partial,
            wall_s=wall_s,
            system_prompt=_SYSTEM + _EXAMPLES * examples_tool,
            render_mode=render_mode,
        )
        self.oracle = _oracle


def _tests(row: Mapping[str, Any]) -> dict[str, Any]:
    setup = [row.get("test_setup_code") or "", *(row.get("test_imports") or ())]
    return {
        "test_list": list(row["test_list"]),
        "challenge_test_list": list(row.get("challenge_test_list") or ()),
        "test_setup_code": "\n".join(part for part in setup if part),
    }


def _as_task(row: Task, shown: int) -> Task:
    tests = [*row.answer["test_list"], *row.answer["challenge_test_list"]]
    if len(tests) <= shown:
        raise UserError(
            f"MBPP: task {row.id!r} has {len(tests)} tests and {shown} are shown, so that a program could know its "
            "answers by heart; set shown lower, or give the row more tests"
        )
    said = "\n".join(tests[:shown])
    prompt = f"{row.prompt.strip()}\n\nYour code should pass this and other tests:\n\n{fenced(said)}"
    public = {"examples": [{"assert": test} for test in tests[:shown]]}
    return Task(row.id, prompt, row.answer, {**row.info, "public": public})


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return fenced(task.info["code"])
