"""`quintain/HumanEval-v0`: complete a Python function from its signature and docstring; judged by hidden tests.

Rows of HumanEval or of the same shape. The program runs in a sandbox, and its tests in another one, so that no
program can talk its way past them.

The data: Chen et al., "Evaluating Large Language Models Trained on Code" (2021), MIT licence.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...verifiers.base import Task
from ..card import Card
from ..tasks import TaskSet
from .programs import ProgramEnv, fenced
from .sources import Part, row_tasks

_QUOTES = re.compile(r"'''|\"\"\"")
_SYSTEM = "Reply with the whole function, and what it needs, in one ```python block."
_EXAMPLES = " You may try it with run_examples first; the reply without a call is final."


class HumanEval(ProgramEnv):
    """Complete a Python function; see the module.

    Args:
        path: A `.jsonl`, `.parquet` or `.csv` file with `task_id`, `prompt`, `entry_point`, `test` and
            `canonical_solution`; None takes `openai/openai_humaneval` from the hub.
        split: "all" rows, or "train" or "test", which a hash of the id tells apart.
        limit: Use only the first so many rows.
        examples_tool: Whether the model may run its program on the examples of the docstring before it hands it in.
        max_turns: Replies until the episode is truncated, with the tool.
        wall_s: Seconds for the tests of a task.

    Raises `UserError` on a machine without a sandbox.
    """

    card = Card(
        what="Write a Python function from its signature and docstring.",
        reward="1 if every hidden test passes, else 0. The tests run in another process than the program.",
        difficulty="As the rows are: from one line to a small algorithm. `examples_tool` lets the model try first.",
        oracle="The canonical solution of the row.",
        source="HumanEval (Chen et al., 2021), MIT",
        tags=("code", "python", "sandbox", "data"),
    )

    def __init__(
        self,
        path: str | None = None,
        split: Part = "all",
        limit: int | None = None,
        examples_tool: bool = False,
        max_turns: int = 5,
        wall_s: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        rows = row_tasks(
            "HumanEval",
            path,
            part=split,
            limit=limit,
            hub={"dataset": "openai/openai_humaneval", "split": "test"},
            id="task_id",
            prompt="prompt",
            answer=_tests,
        )
        super().__init__(
            "HumanEval",
            TaskSet([_as_task(row) for row in rows], name=rows.name),
            examples_tool=examples_tool,
            max_turns=max_turns,
            wall_s=wall_s,
            system_prompt=_SYSTEM + _EXAMPLES * examples_tool,
            render_mode=render_mode,
        )
        self.oracle = _oracle


def _tests(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"entry_point": row["entry_point"], "test": row["test"], "prompt": row["prompt"]}


def _as_task(row: Task) -> Task:
    public = {
        "examples": docstring_examples(row.prompt),
        "entry_point": row.answer["entry_point"],
        "prompt": row.prompt,
    }
    prompt = f"Complete this function.\n\n{fenced(row.prompt)}"
    return Task(row.id, prompt, row.answer, {**row.info, "stub": row.prompt, "public": public})


def docstring_examples(prompt: str) -> list[dict[str, str]]:
    """Return the doctest examples of a prompt that are expressions, as `{"call", "expected"}`."""
    try:
        found = doctest.DocTestParser().get_examples(_QUOTES.sub("\n", prompt))
    except ValueError:  # prompts are no clean doctests: what does not parse is no example
        return []
    return [
        {"call": one.source.strip(), "expected": one.want.strip()}
        for one in found
        if one.want.strip() and _is_expression(one.source.strip())
    ]


def _is_expression(source: str) -> bool:
    try:
        compile(source, "<example>", "eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return fenced(task.info["stub"] + task.info["canonical_solution"])
