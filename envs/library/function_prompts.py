"""How functions that differ from task to task are shown to the model, read in its replies, and called by an oracle.

An environment has the same tools in every episode; where the task brings its own functions they stand in the prompt.
Calls are written in the environment's tool-call format all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...tools.chat import Reply, ToolCall
from ...tools.formats import ToolFormat, format_named
from ...tools.tool import Tool
from ...verifiers.tool_calls import OPTIONAL
from ..base import TextEnv

_SYSTEM = (
    "You may call functions; the user says which. Answer a request with the calls that it needs, each written like "
    "this:\n{example}\nWrite no call for what none of the functions can do; then say so in a sentence."
)
_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def system_prompt(format: str | None) -> str:  # noqa: A002 - the name of the option
    """Return the system prompt for a tool-call format. Raises `UserError` for an unknown name."""
    example = ToolCall("call_0", "FUNCTION", {"ARGUMENT": "VALUE"})
    return _SYSTEM.format(example=format_named(format).render("", calls=[example]))


@dataclass(frozen=True, slots=True)
class _Described:
    """What a format asks of a tool: its name, and the schema that gives bare arguments their types."""

    name: str
    parameters: Mapping[str, Any]


class FunctionEnv(TextEnv):
    """An environment whose functions stand in the prompt of the task. Subclasses write `functions_now`."""

    def functions_now(self) -> Sequence[Mapping[str, Any]]:
        """Return the functions that the reply to come may call: name, description and parameters."""
        raise NotImplementedError

    def parse(self, text: str) -> Reply:
        """Read a reply by the schemas of the task's functions; see `TextEnv.parse`."""
        if isinstance(text, Reply) or self.task is None:
            return super().parse(text)
        described = [
            _Described(shown_name(function), _json_schema(function.get("parameters") or {}))
            for function in self.functions_now()
        ]
        made = sum(len(message.get("tool_calls", ())) for message in self.messages)
        text = text.encode("utf-8", "replace").decode()  # lone surrogates: no tokenizer, no file takes them
        return self.format.parse(text, made, cast("Sequence[Tool]", described))


def shown_name(function: Mapping[str, Any]) -> str:
    """Return the name as the model is shown it: not every format can write a dot."""
    return str(function["name"]).replace(".", "_")


def with_functions(functions: Sequence[Mapping[str, Any]], request: str) -> str:
    """Return the user message: the functions as JSON, one a line, and the request."""
    listed = "\n".join(
        json.dumps({**_json_schema(function), "name": shown_name(function)}, ensure_ascii=False)
        for function in functions
    )
    return f"Functions:\n<tools>\n{listed}\n</tools>\n\nRequest: {request}"


def _json_schema(value: Any) -> Any:
    """Return a description with the type names of JSON Schema in place of Python's."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        changed = {key: _json_schema(part) for key, part in value.items()}
        if isinstance(kind, str) and kind in _JSON_TYPES:
            changed["type"] = _JSON_TYPES[kind]
        return changed
    return [_json_schema(part) for part in value] if isinstance(value, list) else value


def gold_reply(answer: Sequence[Mapping[str, Any]] | None, format: ToolFormat) -> str:  # noqa: A002
    """Return a reply that makes the wanted calls, of every argument the first alternative; see `ToolCalls`."""
    if not answer:
        return "None of the functions can do that."
    calls = []
    for index, call in enumerate(answer):
        name, arguments = _gold_call(call)
        calls.append(ToolCall(f"call_{index}", name.replace(".", "_"), arguments))
    return format.render("", calls=calls)


def _gold_call(call: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(call.get("name"), str):
        return call["name"], dict(call.get("arguments") or {})
    name, arguments = next(iter(call.items()))
    return name, {
        key: _first(alternatives[0])
        for key, alternatives in arguments.items()
        if OPTIONAL not in alternatives[:1]
    }


def _first(value: Any) -> Any:
    """Return a value with the first alternative of everything inside it."""
    if isinstance(value, Mapping):
        return {
            key: _first(part[0]) if isinstance(part, list) else part
            for key, part in value.items()
            if not (isinstance(part, list) and OPTIONAL in part[:1])
        }
    return [_first(part) for part in value] if isinstance(value, list) else value
