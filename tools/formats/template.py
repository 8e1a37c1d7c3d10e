"""The format that a tokenizer itself describes: its chat template writes, its response template reads.

Since version 5 transformers lets a tokenizer carry a `response_template` beside its chat template. Whatever a model's
authors ship is then read as they mean it, without a format of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chat import Message, Reply, ToolCall, user
from ..errors import UserError
from .base import MAX_CALLS, ToolFormat, Unreadable, Written, _is_unicode, arguments_of, too_many

if TYPE_CHECKING:
    from ..tool import Tool

MAX_CHARS = 100_000
"""Characters of a reply that are handed to the library, whose time may grow with their square: a second at most."""


class ResponseTemplate(ToolFormat):
    """The tokenizer's own format.

    Args:
        tokenizer: Of transformers 5, with a chat template.
        template: A response template, for a tokenizer that brings none.

    A text that holds the format's own closing marks cannot be told from them by the library.

    Raises `UserError` if there is neither, or the library does not know them.
    """

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] | None = None) -> None:
        found = template if template is not None else getattr(tokenizer, "response_template", None)
        if not hasattr(tokenizer, "parse_response"):
            raise UserError("a response template needs a tokenizer of transformers 5 or later")
        if found is None:
            raise UserError(
                f"the tokenizer {getattr(tokenizer, 'name_or_path', '')!r} has no response template; give one with "
                "template=, or choose a format by name"
            )
        if getattr(tokenizer, "chat_template", None) is None:
            raise UserError("the tokenizer has no chat template, so nothing can be written in its format")
        self._tokenizer = tokenizer
        self._template = dict(found)
        self._prefix = self._rendered([user("?")], add_generation_prompt=True)

    @classmethod
    def of(cls, name: str) -> ResponseTemplate:
        """Return the format of a model by its name on the hub or its folder."""
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise UserError(
                "the format of a tokenizer needs transformers: pip install 'quintain[train]'"
            ) from None
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise UserError(f"there is no tokenizer {name!r}: {error}") from error
        return cls(tokenizer)

    @property
    def form(self) -> str:
        """How a call is written."""
        return "Write it as the description of the tools says, with the arguments as an object."

    def parse(self, text: str, first_call: int = 0, tools: Sequence[Tool] = ()) -> Reply:
        """Read a reply; see `ToolFormat`."""
        try:
            message = self._message(text, tools)
            calls = [_call(part) for part in message.get("tool_calls") or ()]
            if len(calls) > MAX_CALLS:
                raise too_many(MAX_CALLS)
        except Unreadable as problem:
            return Reply(text, content=text.strip(), parse_error=self.sorry(problem))
        reasoning = next(
            (message[key] for key in ("reasoning_content", "thinking") if message.get(key)), None
        )
        return Reply(
            text,
            content=str(message.get("content") or "").strip(),
            reasoning=None if reasoning is None else str(reasoning).strip(),
            tool_calls=[
                ToolCall(f"call_{number}", name, dict(arguments))
                for number, (name, arguments) in enumerate(calls, first_call)
            ],
        )

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Find the calls; see `ToolFormat`."""
        message = self._message(text, tools)
        return str(message.get("content") or "").strip(), [_call(p) for p in message.get("tool_calls") or ()]

    def _message(self, text: str, tools: Sequence[Tool]) -> dict[str, Any]:
        if len(text) > MAX_CHARS:
            raise Unreadable(f"the reply has more than {MAX_CHARS} characters")
        schemas = [tool.schema for tool in tools]
        try:
            found = self._tokenizer.parse_response(
                text, self._template, prefix=self._prefix, tools=schemas or None
            )
        except RecursionError:
            raise Unreadable("it is nested too deeply") from None
        except Exception as error:  # the library has no error of its own for broken output
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise Unreadable(first[:160].rstrip(".")) from None
        if not isinstance(found, dict) or not _is_unicode(found):
            raise Unreadable("it is no message")
        return found

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Write the text and the calls; see `ToolFormat`."""
        return self.render(content, None, calls)

    def render(self, content: str, reasoning: str | None = None, calls: Sequence[ToolCall] = ()) -> str:
        """Write a reply as the chat template does, without what it puts before and after a reply."""
        message = Reply("", content=content, reasoning=reasoning, tool_calls=calls).as_message()
        whole = self._rendered([user("?"), message], add_generation_prompt=False)
        if not whole.startswith(self._prefix):
            raise UserError("the chat template writes a reply otherwise than it prompts for one")
        written = whole[len(self._prefix) :].strip()
        end = getattr(self._tokenizer, "eos_token", None) or ""
        return written.removesuffix(end).rstrip() if end else written

    def _rendered(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )


def _call(part: Any) -> Written:
    function = part.get("function", part) if isinstance(part, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise Unreadable("its name is missing")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise Unreadable("its arguments are no JSON") from None
    return name, arguments_of(arguments, "its arguments", "arguments" in function)
