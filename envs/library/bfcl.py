"""`quintain/BFCL-v0`: call the right functions with the right arguments; rows of the Berkeley leaderboard.

Rows that want calls (simple, multiple, parallel) are one question and one reply. A row that wants none (irrelevance)
would be solved by any reply at all, so a row that wants calls is asked after it, in one conversation of two replies;
both must be right.

The data: Patil et al., "The Berkeley Function Calling Leaderboard" (2025), Apache-2.0 licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ...verifiers.tool_calls import ToolCalls
from ..base import Turn
from ..card import Card
from ..tasks import TaskSet, item_rng
from .function_prompts import FunctionEnv, gold_reply, system_prompt, with_functions
from .sources import Part, row_tasks


class BFCL(FunctionEnv):
    """Call the right functions with the right arguments; see the module.

    Args:
        path: One file of rows or several: `.jsonl` with `id`, `question`, `function` and `ground_truth`. Give a file
            with rows that want calls along with one of irrelevance rows.
        split: "all" rows, or "train" or "test", which a hash of the id tells apart.
        limit: Use only the first so many rows of each file.
        exact_strings: Whether text arguments must be equal; else case, spaces and the signs `,./-_*^` do not matter,
            as on the leaderboard.
        format: The tool-call format, by name.
    """

    card = Card(
        what="Read one to four function schemas and a request, and write the calls that it needs, or none.",
        reward="1 if the calls are the wanted ones, compared by schema type, with the published alternatives; several "
        "calls in any order, none left out, none too many. A request that wants no call counts together with one "
        "that does.",
        difficulty="By category: simple, multiple (choose the function), parallel (several calls), irrelevance (none).",
        oracle="The published ground truth, of every argument the first alternative.",
        source="Berkeley Function Calling Leaderboard v4, Apache-2.0",
        tags=("tools", "function-calling", "data"),
    )

    def __init__(
        self,
        path: str | list[str],
        split: Part = "all",
        limit: int | None = None,
        exact_strings: bool = False,
        format: str | None = None,  # noqa: A002 - the name of the contract
        render_mode: str | None = None,
    ) -> None:
        self.judge = ToolCalls(exact_strings=exact_strings)
        files = [path] if isinstance(path, str) else path
        if not isinstance(files, list) or not files:
            raise UserError(
                f"BFCL: path must be the path of a file of rows, or a list of such paths, got {path!r}"
            )
        rows = [task for file in files for task in _questions(file, split, limit)]
        for task in rows:
            try:
                self.judge.check(task)
            except ValueError as error:
                raise UserError(f"BFCL: {error}") from error
        tasks = TaskSet(_paired(rows), name="bfcl")
        super().__init__(
            tasks=tasks, system_prompt=system_prompt(format), format=format, render_mode=render_mode
        )
        self.oracle = self._oracle

    def begin(self, task: Task) -> str:
        """Ask the first question."""
        self.marks: list[dict[str, Any]] = []
        return task.prompt

    def functions_now(self) -> Sequence[Mapping[str, Any]]:
        """Return the functions of the question that was asked last."""
        assert self.task is not None
        functions: list[Any] = self.task.info["questions"][len(self.marks)]["functions"]
        return functions

    def respond(self, reply: Reply) -> str | Turn:
        """Judge the calls, and ask the next question if there is one."""
        assert self.task is not None
        questions = self.task.info["questions"]
        question = questions[len(self.marks)]
        asked = Task(self.task.id, question["text"], question["calls"], {"functions": question["functions"]})
        score = self.judge(reply, asked)
        if not score.graded:
            return Turn(done=True, score=score)
        # a reply that says nothing at all has not declined
        good = score.value == 1.0 and bool(str(reply).strip())
        self.marks = [*self.marks, {"right": good, "reason": score.reason}]
        if len(self.marks) < len(questions):
            return str(questions[len(self.marks)]["text"])
        parts = {f"question_{number}": float(mark["right"]) for number, mark in enumerate(self.marks, 1)}
        reason = "; ".join(mark["reason"] for mark in self.marks)
        return Turn(done=True, score=Score(float(all(parts.values())), parts=parts, reason=reason))

    def _oracle(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        turn = sum(message["role"] == "assistant" for message in messages)
        return gold_reply(task.answer[turn], self.format)


def _questions(path: str, part: Part, limit: int | None) -> TaskSet:
    """Return the rows of a file, each a task of one question."""
    return row_tasks("BFCL", path, part=part, limit=limit, id="id", prompt=_request, answer=_calls)


def _request(row: Mapping[str, Any]) -> str:
    turns = row["question"]
    messages = turns[0] if turns and isinstance(turns[0], list) else turns
    said = [message["content"] for message in messages if message["role"] in ("system", "user")]
    return with_functions(row["function"], "\n\n".join(said))


def _calls(row: Mapping[str, Any]) -> list[Any]:
    return row["ground_truth"] or []


def _paired(rows: Sequence[Task]) -> list[Task]:
    """Return the tasks: rows that want calls as they are, each of the others together with one that does."""
    wanting = [row for row in rows if row.answer]
    if not wanting:
        raise UserError(
            "BFCL: no row wants a call, so that any reply would be right; give a file of rows that do as well, "
            "path=[IRRELEVANCE, SIMPLE]"
        )
    made = []
    for row in rows:
        asked = [row]
        if not row.answer:
            rng = item_rng("bfcl", row.id)
            asked.append(wanting[int(rng.integers(len(wanting)))])
        questions = [
            {"text": one.prompt, "calls": one.answer, "functions": one.info["function"]} for one in asked
        ]
        info = {"questions": questions, "tag": "irrelevance" if len(asked) > 1 else "calls"}
        made.append(Task(row.id, asked[0].prompt, [one.answer for one in asked], info))
    return made
