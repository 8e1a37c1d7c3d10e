"""The ReAct form: thought, action and observation as labelled lines, for models and templates without tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chat import Message, Reply, ToolCall, ToolResult, user
from .base import ToolFormat, Unreadable, Written, dump_json, read_json, skip_space, split_reasoning, too_many
from .typed import fits, schema_of, types_in

if TYPE_CHECKING:
    from ..tool import Tool

_LABEL = re.compile(
    r"^[ \t]*(Thought|Action Input|Action|Observation|Final Answer)[ \t]*:[ \t]*", re.MULTILINE
)
_FENCE = re.compile(r"```[a-z]*[ \t]*\n(.*?)\n?```\s*", re.DOTALL)


class ReAct(ToolFormat):
    """The ReAct form.

        Thought: 12 boxes of 7
        Action: calculator
        Action Input: {"expression": "12*7"}

    The input is a JSON object. For a tool with a single parameter it may be that value alone. Several pairs of lines
    are several calls. The end is `Final Answer: ...`; a reply without any label is an answer too. What a model writes
    after an `Observation:` of its own making is not read.
    """

    native = False

    @property
    def form(self) -> str:
        """How a call is written."""
        return (
            "Write a line 'Action: NAME' and a line 'Action Input: {...}' with the arguments as JSON; "
            "when you are done, write 'Final Answer: ...'."
        )

    def parse(self, text: str, first_call: int = 0, tools: Sequence[Tool] = ()) -> Reply:
        """Read a reply; see `ToolFormat`. The lines of thought are its reasoning."""
        reply = super().parse(text, first_call, tools)
        inside, outside, _ = split_reasoning(text, self.think)
        thoughts = [] if inside is None else [inside]
        thoughts += [words.strip() for label, words in _labelled(outside) if label == "Thought"]
        return Reply(
            text,
            content=reply.content,
            reasoning="\n".join(thoughts) if thoughts else None,
            tool_calls=reply.tool_calls,
            parse_error=reply.parse_error,
            in_text=True,
        )

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        parts = _labelled(text)
        if len(parts) == 1:
            return text.strip(), []
        content = [parts[0][1].strip()]
        calls: list[Written] = []
        name: str | None = None
        for label, words in parts[1:]:
            if label == "Action":
                if name is not None:
                    raise Unreadable(f"the action {name[:60]!r} has no input")
                name = words.strip()
                if not name or "\n" in name:
                    raise Unreadable("an action is the name of one tool, on one line")
            elif label == "Action Input":
                if name is None:
                    raise Unreadable("there is an input without an action before it")
                if len(calls) == self.max_calls:
                    raise too_many(self.max_calls)
                calls.append((name, _input(words, schema_of(name, tools))))
                name = None
            elif label == "Final Answer":
                content.append(words.strip())
        if name is not None:
            raise Unreadable(f"the action {name[:60]!r} has no input")
        answered = any(label == "Final Answer" for label, _ in parts)
        if not calls and not answered:
            raise Unreadable("there is neither an action nor a final answer")
        return "\n".join(part for part in content if part), calls

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        if not calls:
            return f"Final Answer: {content}"
        lines = [content] if content else []
        for call in calls:
            lines += [f"Action: {call.name}", f"Action Input: {dump_json(dict(call.arguments), *self.think)}"]
        return "\n".join(lines)

    def render(self, content: str, reasoning: str | None = None, calls: Sequence[ToolCall] = ()) -> str:
        """Write a reply; see `ToolFormat`. Beside calls the content comes before the thought."""
        if reasoning is None:
            return self.write(content, calls)
        before = f"{content}\n" if content and calls else ""
        return f"{before}Thought: {reasoning}\n{self.write('' if calls else content, calls)}"

    def instructions(self, tools: Sequence[Tool]) -> str:
        """Return what a system prompt says of the tools; see `ToolFormat`."""
        return (
            super().instructions(tools)
            + "\nAfter an action stop: you are told what it gave in a line 'Observation: ...'. "
            "You may think before in a line 'Thought: ...'."
        )

    def observe(self, results: Sequence[ToolResult]) -> list[Message]:
        """Return the results as one user message, a line `Observation: ...` for each."""
        return [user("\n".join(f"Observation: {result.content}" for result in results))]


def _labelled(text: str) -> list[tuple[str, str]]:
    """Return the text before the first label under "", and what stands after each label, up to an observation."""
    parts: list[tuple[str, str]] = []
    label, position = "", 0
    for match in _LABEL.finditer(text):
        parts.append((label, text[position : match.start()]))
        if match[1] == "Observation":
            return parts
        label, position = match[1], match.end()
    parts.append((label, text[position:]))
    return parts


def _input(text: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments that an input stands for."""
    fenced = _FENCE.fullmatch(text.strip())
    text = (fenced[1] if fenced else text).strip()
    properties = schema.get("properties")
    single = next(iter(properties)) if isinstance(properties, Mapping) and len(properties) == 1 else None
    if not text:
        return {}
    try:
        value, end = read_json(text, 0)
        if skip_space(text, end) < len(text):
            raise Unreadable("there is text after the JSON")
    except Unreadable:
        if single is None or text.startswith("{"):
            raise
        return {single: text}
    if isinstance(value, dict):
        return value
    if single is None:
        raise Unreadable("the input must be a JSON object")
    wanted = types_in(schema["properties"][single], schema)
    return {single: value if not wanted or fits(value, wanted) else text}
