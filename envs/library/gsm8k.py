"""`quintain/GSM8K-v0`: grade-school word problems of the GSM8K data set, or any rows of the same shape.

Each row has a question and an answer whose number stands after `####`, or at the end. The reward is 1 if the final
number of the final reply equals it.

The data: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021), MIT licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ...tools.calculator import calculator
from ...tools.chat import Message
from ...tools.errors import UserError
from ...tools.python import python_tool
from ...tools.tool import Tool
from ...verifiers.base import Task
from ...verifiers.numbers import FinalNumber
from ..card import Card
from ..tasks import TaskSet
from ..tool_use import ToolEnv

_HELP = {
    "calculator": " Use the calculator for every computation.",
    "python": " Use the python tool for every computation.",
    "none": "",
}
_PROMPT = "Solve the problem step by step.{help} End with a line that holds only #### and the final number."


class GSM8K(ToolEnv):
    """Grade-school word problems with a calculator, with Python, or without a tool; see the module.

    Args:
        path: A `.jsonl`, `.parquet` or `.csv` file of rows; None takes the data set from the hub.
        dataset: Name on the Hugging Face hub.
        subset: Its configuration, for `openai/gsm8k` it is "main".
        split: Its split.
        tool: "calculator", "python" (in a local sandbox) or "none".
        max_turns: Replies until the episode is truncated; without a tool the first reply is judged.
        limit: Use only the first so many rows.
        question, answer: The fields of a row.
        system_prompt: None for the one that fits the tool.
    """

    card = Card(
        what="Solve a grade-school word problem, with a calculator, with Python, or without a tool.",
        reward="1 if the final number of the final reply is the number after #### of the row, else 0.",
        difficulty="Two to eight steps of arithmetic; `tool` and `max_turns` make it easier.",
        oracle="The answer of the row, in the form that is asked for.",
        source="GSM8K (Cobbe et al., 2021), MIT licence; or a file of rows of the same shape",
        tags=("math", "tools", "multi-turn"),
    )

    def __init__(
        self,
        path: str | None = None,
        dataset: str = "openai/gsm8k",
        subset: str | None = "main",
        split: str = "train",
        tool: Literal["calculator", "python", "none"] = "calculator",
        max_turns: int = 6,
        limit: int | None = None,
        question: str = "question",
        answer: str = "answer",
        system_prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if tool not in _HELP:
            raise UserError(f"GSM8K: tool must be one of {', '.join(map(repr, _HELP))}, got {tool!r}")

        def gold(row: Mapping[str, Any]) -> Any:
            return _gold(row[answer])

        tasks = (
            TaskSet.from_hub(dataset, subset=subset, split=split, limit=limit, prompt=question, answer=gold)
            if path is None
            else TaskSet.from_file(path, limit=limit, prompt=question, answer=gold)
        )
        tools: list[Tool] = [calculator] if tool == "calculator" else []
        opened = python_tool() if tool == "python" else None
        super().__init__(
            tasks,
            tools if opened is None else [opened],
            FinalNumber(),
            max_turns=max_turns,
            system_prompt=_PROMPT.format(help=_HELP[tool]) if system_prompt is None else system_prompt,
            render_mode=render_mode,
        )
        if opened is not None:
            self._opened.append(opened)
        self.oracle = _oracle


def _gold(text: Any) -> Any:
    """Return what follows the last `####`; anything else as it is, for the verifier to read or refuse."""
    return text.rpartition("####")[2].strip() if isinstance(text, str) else text


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return f"#### {task.answer}"
