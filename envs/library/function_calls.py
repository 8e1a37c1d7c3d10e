"""`quintain/FunctionCalls-v0`: call the right functions for requests in plain words; made as they are asked for.

The categories of BFCL over invented functions. Irrelevance never stands alone: one of two requests has no function
that serves it, so that neither declining everything nor calling something is right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message, Reply
from ...verifiers.base import Task
from ...verifiers.tool_calls import ToolCalls
from ..base import Turn
from ..card import Card
from .function_catalog import WISHES, Wish
from .function_prompts import FunctionEnv, gold_reply, system_prompt, with_functions
from .items import Split
from .sources import Drawn, check_choice, check_range, made_tasks, pick, some

KINDS = ("simple", "multiple", "parallel", "irrelevance")
_OFFERED = (0, 2, 4, 7)  # functions beside the ones that are needed, by difficulty
_REQUESTS = (0, 2, 3, 4)  # of a parallel task, by difficulty


class FunctionCalls(FunctionEnv):
    """Call the right functions for requests in plain words; see the module.

    Args:
        split: "train" or "test": disjoint by the calls that are wanted.
        kind: "simple" (one function, one call), "multiple" (choose one of several), "parallel" (several calls),
            "irrelevance" (two requests, one of which no function serves), or "any".
        difficulty: 1 to 3: 2, 4 or 7 functions beside the needed ones, 2, 3 or 4 parallel requests.
        seed: Of the problem set.
        format: The tool-call format, by name.
    """

    card = Card(
        what="Read function schemas and requests in plain words, and write the calls that serve them, and no others.",
        reward="1 if the calls are exactly the wanted ones, in any order, compared by schema type with defaults filled "
        "in; text arguments without regard to case and spaces.",
        difficulty="`difficulty`: more functions to choose from, more requests at once. `kind` picks a category.",
        oracle="The calls from which the requests were worded.",
        tags=("tools", "function-calling", "single-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        kind: str = "any",
        difficulty: int = 2,
        seed: int = 0,
        format: str | None = None,  # noqa: A002 - the name of the contract
        render_mode: str | None = None,
    ) -> None:
        check_choice("FunctionCalls", "kind", kind, ("any", *KINDS))
        check_range("FunctionCalls", "difficulty", difficulty, 1, 3)

        def draw(rng: np.random.Generator) -> Drawn | None:
            return _draw(rng, pick(rng, KINDS) if kind == "any" else kind, difficulty)

        tasks = made_tasks("FunctionCalls", draw, split=split, seed=seed, variant=f"{kind}-{difficulty}")
        super().__init__(
            tasks=tasks,
            verifier=ToolCalls(),
            system_prompt=system_prompt(format),
            max_turns=1,
            format=format,
            render_mode=render_mode,
        )
        self.oracle = self._oracle

    def functions_now(self) -> Sequence[Mapping[str, Any]]:
        """Return the functions of the task."""
        assert self.task is not None
        functions: list[Any] = self.task.info["functions"]
        return functions

    def respond(self, reply: Reply) -> Turn:
        """End the episode: the verifier judges."""
        return Turn(done=True)

    def _oracle(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        return gold_reply(task.answer, self.format)


def _draw(rng: np.random.Generator, kind: str, difficulty: int) -> Drawn | None:
    wishes: list[Wish] = some(rng, WISHES, len(WISHES))
    count = {"parallel": _REQUESTS[difficulty], "irrelevance": 2}.get(kind, 1)
    asked = [pick(rng, wishes[:2]) for _ in range(count)] if kind == "parallel" else wishes[:count]
    drawn = [wish.draw(rng) for wish in asked]
    unserved = int(rng.integers(count)) if kind == "irrelevance" else -1
    needed = {wish.name for index, wish in enumerate(asked) if index != unserved}
    beside = wishes[2 : 2 + (_OFFERED[difficulty] if kind != "simple" else 0)]
    offered = [wish for wish in wishes[:2] if wish.name in needed] + beside
    functions = [wish.schema for wish in some(rng, offered, len(offered))]
    calls = [
        {"name": wish.name, "arguments": arguments}
        for index, (wish, (_, arguments)) in enumerate(zip(asked, drawn, strict=True))
        if index != unserved
    ]
    if len({json.dumps(call, sort_keys=True) for call in calls}) < len(calls):
        return None  # nobody asks for the same thing twice
    request = " ".join(sentence for sentence, _ in drawn)
    task = Task("", with_functions(functions, request), calls, {"functions": functions, "tag": kind})
    return json.dumps(calls, sort_keys=True), task
