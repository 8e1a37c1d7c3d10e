"""How functions that differ from task to task are shown to the model, and how an oracle calls them.

An environment has the same tools in every episode; where the task brings its own functions they stand in the
prompt, in the words that most chat templates use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...tools.chat import ToolCall
from ...tools.formats import Hermes
from ...verifiers.tool_calls import OPTIONAL

SYSTEM = (
    "You may call functions; the user says which. Answer a request with the calls that it needs, each as JSON between "
    'tags of its own: <tool_call>\n{"name": FUNCTION, "arguments": {...}}\n</tool_call>\n'
    "Write no call for what none of the functions can do; then say so in a sentence."
)
"""The system prompt of the environments whose functions stand in the prompt."""

_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def with_functions(functions: Sequence[Mapping[str, Any]], request: str) -> str:
    """Return the user message: the functions as JSON, one a line, and the request."""
    listed = "\n".join(json.dumps(_json_schema(function), ensure_ascii=False) for function in functions)
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


def gold_reply(answer: Sequence[Mapping[str, Any]] | None) -> str:
    """Return a reply that makes the wanted calls, of every argument the first alternative; see `ToolCalls`."""
    if not answer:
        return "None of the functions can do that."
    calls = [ToolCall(f"call_{index}", *_gold_call(call)) for index, call in enumerate(answer)]
    return Hermes().render("", calls=calls)


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
