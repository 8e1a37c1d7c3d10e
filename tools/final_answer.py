"""The tool by which a model hands in its answer: its argument is what is judged, and it ends the episode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .chat import ToolCall, ToolResult
from .tool import Tool

_DESCRIPTION = "Hand in the final answer. This ends the task, so call it once, when you are done."


class FinalAnswer(Tool):
    """The tool `final_answer(answer)`; see `final_answer`."""

    def _result(self, call: ToolCall, value: Any) -> ToolResult:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return replace(super()._result(call, "Answer received."), answer=text)


def final_answer(
    name: str = "final_answer",
    *,
    description: str = _DESCRIPTION,
    schema: Mapping[str, Any] | None = None,
) -> FinalAnswer:
    """Return a tool whose one argument, `answer`, is the answer that is judged.

    Where a `ToolEnv` has it, a reply without a call is no answer: the model is told to call it. An answer that is no
    text reaches the verifier as JSON.

    Args:
        name: What the model calls it.
        description: What the model is told.
        schema: JSON schema of the answer, by default `{"type": "string"}`.
    """

    def hand_in(answer: Any) -> Any:
        return answer

    answer = {"description": "The answer and nothing else."} | dict(schema or {"type": "string"})
    parameters = {
        "type": "object",
        "properties": {"answer": answer},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return FinalAnswer(hand_in, name=name, description=description, parameters=parameters)
