"""`quintain/MathRows-v0`: competition mathematics from rows in the shape of MATH: a problem, an answer or a solution.

The gold answer is the field `answer` where a row has one, else what the last `\\boxed{}` of its solution holds. The
reward is 1 if the box of the reply is equal to it, by the rules of `MathAnswer`.

The default data: MATH-500, of Hendrycks et al., "Measuring Mathematical Problem Solving With the MATH Dataset" (2021),
MIT licence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError, nearest
from ...verifiers.base import Task
from ...verifiers.math import MathAnswer
from ...verifiers.math_extract import extract
from ..card import Card
from ..single_turn import SingleTurnEnv
from ..tasks import TaskSet

_PROMPT = "Solve the problem step by step. Put the final answer, and nothing else, into \\boxed{}."


class MathRows(SingleTurnEnv):
    """Problems with a checked final answer, in one reply; see the module.

    Args:
        path: A `.jsonl`, `.parquet` or `.csv` file of rows; None takes the data set from the hub.
        dataset: Name on the Hugging Face hub.
        subset: Its configuration, if it has several.
        split: Its split.
        levels: Keep only rows of these levels; `5` and `"Level 5"` are the same.
        subjects: Keep only rows of these subjects, in upper or lower case.
        limit: Use only the first so many of the rows that are kept.
        problem, answer, solution, level, subject: The fields of a row. A row needs the answer or the solution; `type`
            stands for a missing subject, as in the original files.
        boxed_only: Whether an answer outside `\\boxed{}` counts as missing, so that no echo of a problem pays.
        system_prompt: None for one that asks for the box.
    """

    card = Card(
        what="Solve a problem of competition mathematics and put the final answer into a box.",
        reward="1 if the boxed answer equals the gold answer as mathematics, else 0; several answers are none.",
        difficulty="`levels` 1 to 5 and `subjects` of MATH.",
        oracle="The gold answer of the row, boxed.",
        source="MATH (Hendrycks et al., 2021), MIT licence; or a file of rows of the same shape",
        tags=("math", "single-turn", "data"),
        accepted={
            "trivial/lookalike": (1.0, "digits and letters of every script are read as what they mean")
        },
    )

    def __init__(
        self,
        path: str | None = None,
        dataset: str = "HuggingFaceH4/MATH-500",
        subset: str | None = None,
        split: str = "test",
        levels: Sequence[int | str] | None = None,
        subjects: Sequence[str] | None = None,
        limit: int | None = None,
        problem: str = "problem",
        answer: str = "answer",
        solution: str = "solution",
        level: str = "level",
        subject: str = "subject",
        boxed_only: bool = True,
        system_prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise UserError(f"MathRows: limit must be at least 1, got {limit}")

        def gold(row: Mapping[str, Any]) -> Any:
            return _gold(row, answer, solution)

        rows = (
            TaskSet.from_hub(dataset, subset=subset, split=split, prompt=problem, answer=gold)
            if path is None
            else TaskSet.from_file(path, prompt=problem, answer=gold)
        )
        tagged = [_tagged(task, level, subject) for task in rows]
        kept = _kept(tagged, "level", [_level(name) for name in levels or ()])
        kept = _kept(kept, "subject", [str(name).lower() for name in subjects or ()])[:limit]
        super().__init__(
            TaskSet(kept, name=rows.name),
            MathAnswer(boxed_only=boxed_only),
            system_prompt=_PROMPT if system_prompt is None else system_prompt,
            render_mode=render_mode,
        )
        self.oracle = _oracle


def _gold(row: Mapping[str, Any], answer: str, solution: str) -> Any:
    if row.get(answer) not in (None, ""):
        return row[answer]
    text = row.get(solution)
    if text in (None, ""):
        raise UserError(
            f"it needs the field {answer!r} or {solution!r}, and has: {', '.join(map(str, row)) or 'none'}"
        )
    found = extract(str(text))
    if found.how != "boxed" or not found.text.strip():
        raise UserError(f"the field {solution!r} holds no \\boxed{{}} answer")
    return found.text


def _tagged(task: Task, level: str, subject: str) -> Task:
    """Return the task with its level and subject in one spelling, for the filters and the metrics."""
    named = {
        "level": _level(task.info.get(level, "")),
        "subject": str(task.info.get(subject, task.info.get("type", ""))).lower(),
    }
    tag = {"tag": f"level {named['level']}"} if named["level"] else {}
    return Task(task.id, task.prompt, task.answer, {**task.info, **named, **tag})


def _level(name: int | str) -> str:
    digits = re.search(r"\d+", str(name))
    return digits[0] if digits else str(name).strip().lower()


def _kept(tasks: list[Task], what: str, wanted: Sequence[str]) -> list[Task]:
    known = sorted({task.info[what] for task in tasks} - {""})
    for name in wanted:
        if name not in known:
            raise UserError(f"MathRows: no row has the {what} {name!r}; {nearest(name, known)}")
    return [task for task in tasks if not wanted or task.info[what] in wanted]


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    answer = str(task.answer)
    return answer if "\\boxed" in answer else f"\\boxed{{{answer}}}"
