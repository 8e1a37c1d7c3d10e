"""Chat messages and what a model wrote: the nouns that every floor above shares.

A `Message` is a plain dictionary in the OpenAI shape, so it renders in any chat template and goes into
JSON as it is. Nothing here knows how a model spells a tool call; that is `formats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

Role = Literal["system", "user", "assistant", "tool"]


class FunctionPart(TypedDict):
    """The `function` part of a tool call in a message; `arguments` is an object, never a JSON string."""

    name: str
    arguments: dict[str, Any]


class ToolCallPart(TypedDict):
    """One entry of a message's `tool_calls`."""

    id: str
    type: Literal["function"]
    function: FunctionPart


class Message(TypedDict):
    """One chat message in the OpenAI shape.

    `content` is text, possibly empty. An assistant message may carry `tool_calls` and
    `reasoning_content`; a tool message carries the `tool_call_id` and the `name` of what it answers.
    """

    role: Role
    content: str
    tool_calls: NotRequired[list[ToolCallPart]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning_content: NotRequired[str]


def system(content: str) -> Message:
    """Return a system message."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """Return a user message."""
    return {"role": "user", "content": content}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asked for."""

    id: str
    """Unique within the episode; the result carries it back."""
    name: str
    """The tool's name, as the model wrote it: it may not exist."""
    arguments: Mapping[str, Any]
    """JSON values by parameter name, not yet checked against the tool's schema."""

    def as_part(self) -> ToolCallPart:
        """Return the call as an entry of `Message["tool_calls"]`."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": dict(self.arguments)},
        }


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What one call gave back, as the model will see it."""

    call_id: str
    """The `ToolCall.id` that this answers."""
    name: str
    """The tool's name."""
    content: str
    """The text for the model, cut to the tool's output limit."""
    error: str | None = None
    """None, or the kind of failure that `content` tells: `unknown_tool`, `arguments`, `raised`, `timeout`."""
    detail: str | None = None
    """For a person, never for the model: the traceback of a tool that raised."""
    answer: str | None = None
    """The answer that is to be judged, if this was a call of the final-answer tool: it ends the episode."""

    def as_message(self) -> Message:
        """Return the result as a message of role `tool`."""
        return {"role": "tool", "content": self.content, "tool_call_id": self.call_id, "name": self.name}


class Reply(str):
    """What the model wrote in one turn: the whole text as a `str`, and what was read out of it.

    A `Reply` is made by a `ToolFormat` (see `formats`). Anywhere a reply is wanted a plain `str` does too:
    environments parse it with their own format.

    `content` is the text outside reasoning and tool calls, `reasoning` the text inside `<think>` (None
    without one), `tool_calls` the calls in the order written, and `parse_error` a sentence for the model
    about a call that could not be read (None if all is well). `in_text` says that the chat template knows nothing of
    the calls: the message then is the text as it was written.
    """

    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parse_error: str | None = None
    in_text: bool = False

    def __new__(
        cls,
        text: str,
        *,
        content: str | None = None,
        reasoning: str | None = None,
        tool_calls: Sequence[ToolCall] = (),
        parse_error: str | None = None,
        in_text: bool = False,
    ) -> Reply:
        """Make a reply of `text`; `content` defaults to the whole text."""
        reply = str.__new__(
            cls, text
        )  # every step of every environment makes one: what is as usual is not set
        reply.content = text if content is None else content
        if reasoning is not None:
            reply.reasoning = reasoning
        if tool_calls:
            reply.tool_calls = tuple(tool_calls)
        if parse_error is not None:
            reply.parse_error = parse_error
        if in_text:
            reply.in_text = True
        return reply

    @classmethod
    def plain(cls, text: str) -> Reply:
        """Make a reply of text that holds nothing else, white space round it taken off; the short way to `content`."""
        reply = str.__new__(cls, text)
        reply.content = text.strip()
        return reply

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Let pickle and copy rebuild the reply with its parts."""
        parts = {
            "content": self.content,
            "reasoning": self.reasoning,
            "tool_calls": self.tool_calls,
            "parse_error": self.parse_error,
            "in_text": self.in_text,
        }
        return (str(self),), parts

    def as_message(self) -> Message:
        """Return the reply as an assistant message."""
        if self.in_text:
            return {"role": "assistant", "content": str(self)}
        message: Message = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_part() for call in self.tool_calls]
        return message
