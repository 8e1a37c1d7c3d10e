"""Tool calls out of a plain text: `<tool_call>` JSON, bare JSON, or Python call syntax. Never evaluated."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from ..tools.chat import Reply, ToolCall
from .final_answer import without_thinking

_MAX_CHARACTERS = 20_000
_NAMES = {"true": True, "false": False, "null": None, "none": None}


def calls_of(reply: Reply) -> tuple[ToolCall, ...]:
    """Return the calls of a reply: those that its format has read, else those that its text spells out."""
    if reply.tool_calls or reply.parse_error:
        return reply.tool_calls
    text = without_thinking(reply)
    pieces = text[:_MAX_CHARACTERS].split("</tool_call>")[:-1]
    tagged = [piece.partition("<tool_call>")[2] for piece in pieces if "<tool_call>" in piece]
    if tagged:
        return tuple(_numbered([call for part in tagged for call in _json_calls(part)]))
    text = re.sub(r"^```\w*\n?|```$", "", text.strip()).strip()
    if len(text) > _MAX_CHARACTERS or (text[:1] not in "[{" and not re.match(r"[\w.]+\(", text)):
        return ()
    return tuple(_numbered(_json_calls(text) or _python_calls(text)))


def _numbered(pairs: list[tuple[str, dict[str, Any]]]) -> list[ToolCall]:
    return [ToolCall(f"call_{index}", name, arguments) for index, (name, arguments) in enumerate(pairs)]


def _json_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, Mapping):
            return []
        function = item.get("function", item)
        function = function if isinstance(function, Mapping) else item
        name, arguments = function.get("name"), function.get("arguments", function.get("parameters", {}))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return []
        if isinstance(name, str) and isinstance(arguments, Mapping):
            found.append((name, dict(arguments)))
        elif len(item) == 1 and isinstance(inner := next(iter(item.values())), Mapping):  # {"f": {"a": 1}}
            found.append((str(next(iter(item))), dict(inner)))
        else:
            return []
    return found


def _python_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > 50 or re.search(r"[-+~]{20}", text):
        return []
    try:
        body = ast.parse(text, mode="eval").body
        calls = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
        return [_python_call(call) for call in calls]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _python_call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("only calls with named arguments")
    arguments = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if len(arguments) != len(node.keywords):
        raise ValueError("no starred arguments")
    return _dotted(node.func), arguments


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("the function must be a name")


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value) if isinstance(value, str | int | float | bool | None):
            return value
        case ast.Name(id=name) if name.lower() in _NAMES:
            return _NAMES[name.lower()]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {str(_literal(k)): _literal(v) for k, v in zip(keys, values, strict=True) if k is not None}
        case _:
            raise ValueError("only plain values")
