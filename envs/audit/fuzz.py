"""Random replies: pieces of everything that parsers, tools and verifiers have stumbled over."""

from __future__ import annotations

import json

import numpy as np

from ...tools.chat import ToolCall
from ..base import TextEnv

_PIECES = (
    "", " ", "\n", "\t", "\r\n", "0", "-1", "42", "1e999", "-0.0", "NaN", "Infinity", "1/0", "0x10", "٣", "½", "²",
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<answer/>", "\\boxed{", "}", "####",
    "```python\n", "```", "```json\n{", "[" * 3000, "]" * 50, "{" * 3000, "(" * 500, "9" * 5000, "1e", "10**10**10",
    "é", "e\u0301", "\x00", "\x1b[31m", "\ud800", "\udfff", "\ufeff", "\u202e", "\u2028",
    "🙂", "\U0001f469\u200d\U0001f467", "ａ", "ﬁ", "İ",
    "%s", "%n", "{0}", "{who}", "{}", "$(ls)", "`ls`", "'; DROP TABLE x; --", "../../etc/passwd", "\\", "\\\\", "\"", "'",
    "null", "true", "None", "undefined", "**", "//", "lambda: 0", "__import__('os')", "up", "down", "left", "right",
    "a1", "A B", "1 2", "1,2", "<|im_end|>", "<|endoftext|>", "[INST]", "<s>", "VERDICT: 1",
    "a" * 2000, "word " * 300,
    '{"name": "', '"arguments": {', '"answer": ', "[1, 2", "{}", "[]", "&lt;", "<!--", "]]>", "\\u0000", "\\ud800",
)  # fmt: skip


def random_reply(rng: np.random.Generator, env: TextEnv) -> str:
    """Return one random reply: pieces, characters, or a call of a tool with senseless arguments."""
    kind = rng.random()
    if kind < 0.3 and env.tools:
        return _call(rng, env)
    if kind < 0.4:
        points = rng.integers(0, 0x11000, size=int(rng.integers(0, 40)))
        return "".join(chr(int(point)) for point in points)
    return "".join(_PIECES[int(i)] for i in rng.integers(len(_PIECES), size=int(rng.integers(0, 8))))


def _call(rng: np.random.Generator, env: TextEnv) -> str:
    tool = env.tools[int(rng.integers(len(env.tools)))]
    arguments = {
        name: _argument(rng, schema) for name, schema in tool.parameters.get("properties", {}).items()
    }
    if rng.random() < 0.3:
        arguments[_PIECES[int(rng.integers(len(_PIECES)))][:40]] = None
    if rng.random() < 0.3 and arguments:
        arguments.pop(next(iter(arguments)))
    name = tool.name if rng.random() < 0.9 else "nothing"
    try:
        written = env.format.render("", None, [ToolCall("", name, arguments)])
    except (ValueError, TypeError):  # a format that cannot write it
        written = json.dumps({"name": name, "arguments": arguments})
    return written if rng.random() < 0.8 else written[: int(rng.integers(len(written) + 1))]


def _argument(rng: np.random.Generator, schema: dict[str, object]) -> object:
    text = _PIECES[int(rng.integers(len(_PIECES)))].encode("utf-8", "replace").decode()
    wild = [text, -1, 0, 10**30, 1.5, None, True, [], [text], {}, {"a": text}]
    fitting = {"string": text, "integer": int(rng.integers(-5, 100)), "number": 0.5, "boolean": True}
    kind = str(schema.get("type"))
    return fitting[kind] if kind in fitting and rng.random() < 0.6 else wild[int(rng.integers(len(wild)))]
