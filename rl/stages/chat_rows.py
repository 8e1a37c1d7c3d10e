"""Rows of JSONL files: read with their numbers, their messages and tools brought into our own shape.

A row that cannot be used is refused with its number, or skipped where that was asked for, and then counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from ...tools.chat import Message
from ...tools.errors import UserError

T = TypeVar("T")
U = TypeVar("U")

OnBad = Literal["refuse", "skip"]
"""What a row gets that cannot be used: an error, or to be left out and counted."""
SHOWN = 5
"""How many bad rows an error names in full."""


class RowError(ValueError):
    """A row cannot be used; the text says why, without its number."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was left out."""

    row: int
    """Its number, from 1."""
    reason: str
    """Why, in a few words that are the same for all rows of one kind."""


@dataclass(slots=True)
class Rows(Generic[T]):
    """What was read of a file."""

    kept: list[T] = field(default_factory=list)
    """What the rows say, in order."""
    numbers: list[int] = field(default_factory=list)
    """The number of the row (from 1) that each of `kept` came from."""
    skipped: list[Skipped] = field(default_factory=list)
    """The rows that were left out, in order."""

    def counts(self) -> dict[str, int]:
        """Return how many rows were left out, by reason, the most frequent first."""
        found: dict[str, int] = {}
        for one in self.skipped:
            found[one.reason] = found.get(one.reason, 0) + 1
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def report(self) -> str:
        """Return a sentence about what was left out, with the first row numbers; empty if nothing was."""
        parts = []
        for reason, count in self.counts().items():
            first = [str(one.row) for one in self.skipped if one.reason == reason][:SHOWN]
            more = ", ..." if count > len(first) else ""
            parts.append(f"{count} {reason} ({'row' if count == 1 else 'rows'} {', '.join(first)}{more})")
        return (
            f"{len(self.skipped)} of {len(self.skipped) + len(self.kept)} rows left out: " + "; ".join(parts)
            if parts
            else ""
        )

    def settle(self, where: str, on_bad: OnBad, how: str = "") -> Rows[T]:
        """Return the rows, or raise `UserError` with every reason and the row numbers where bad ones are refused.

        `how` names the option that skips them instead.
        """
        if self.skipped and on_bad == "refuse":
            advice = f"; correct them, or skip them with {how}" if how else ""
            raise UserError(f"{where}: {self.report()}{advice}")
        return self

    def refine(self, make: Callable[[T], U]) -> Rows[U]:
        """Return what `make` makes of each row; those it raises `RowError` for are left out and counted."""
        found: Rows[U] = Rows(skipped=list(self.skipped))
        for number, one in zip(self.numbers, self.kept, strict=True):
            try:
                made = make(one)
            except RowError as error:
                found.skipped.append(Skipped(number, str(error)))
                continue
            found.kept.append(made)
            found.numbers.append(number)
        found.skipped.sort(key=lambda skipped: skipped.row)
        return found


def read_rows(path: Path, make: Callable[[dict[str, Any], int], T], *, what: str) -> Rows[T]:
    """Read a JSONL file; `make` turns each line, an object, and its number into something, or raises `RowError`.

    Blank lines count as rows and are passed over. `what` says in errors which file this is. Raises `UserError` if
    there is no such file or it is not text.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{what}: {path} {state}; give a JSONL file")
    found: Rows[T] = Rows()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found.kept.append(make(_row(line), number))
            except RowError as error:
                found.skipped.append(Skipped(number, str(error)))
                continue
            found.numbers.append(number)
    if not found.kept and not found.skipped:
        raise UserError(f"{what}: {path} has no rows")
    return found


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RowError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise RowError("not JSON") from None
    if not isinstance(row, dict):
        raise RowError("not an object")
    return row


def messages_of(given: object, name: str) -> tuple[Message, ...]:
    """Return messages in our own shape: contents are text, the arguments of calls are objects, no nulls.

    Takes what OpenAI-style files hold: a content of None or of text parts, arguments as a JSON text, the role
    `developer`, keys that are null. `name` is the field's, for errors. Raises `RowError`.
    """
    if not isinstance(given, list) or not given:
        raise RowError(f"{name} is not a list of messages")
    found: list[Message] = []
    called: dict[str, str] = {}
    for message in given:
        if not isinstance(message, Mapping):
            raise RowError(f"{name} holds something that is no message")
        role = {"developer": "system"}.get(str(message.get("role")), message.get("role"))
        if role not in ("system", "user", "assistant", "tool"):
            raise RowError(f"{name} holds a message with the role {role!r}")
        plain: dict[str, Any] = {"role": role, "content": _text(message.get("content"), name)}
        if role == "assistant":
            thought = message.get("reasoning_content")
            if isinstance(thought, str) and thought:
                plain["reasoning_content"] = _unicode(thought, name)
            if message.get("tool_calls"):
                plain["tool_calls"] = _calls(message["tool_calls"], name, len(called))
                called.update((call["id"], call["function"]["name"]) for call in plain["tool_calls"])
        elif role == "tool":
            answered = message.get("tool_call_id") or next(reversed(called), "")
            plain["tool_call_id"] = str(answered)
            plain["name"] = called.get(str(answered)) or str(message.get("name") or "")
        found.append(plain)  # type: ignore[arg-type]
    return tuple(found)


def _calls(given: object, name: str, before: int) -> list[dict[str, Any]]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise RowError(f"{name} holds tool_calls that are no list")
    found = []
    for at, call in enumerate(given):
        try:
            function = call.get("function") or call
            arguments = function.get("arguments")
            if isinstance(arguments, str):
                arguments = json.loads(arguments or "{}")
            if not isinstance(arguments, dict | None) or not isinstance(function["name"], str):
                raise TypeError
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            raise RowError(
                f"{name} holds a tool call without a name and arguments that can be read"
            ) from None
        found.append(
            {
                "id": str(call.get("id") or f"call_{before + at}"),
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments or {}},
            }
        )
    return found


def _text(content: object, name: str) -> str:
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else part
        if text is not None and not isinstance(text, str):
            raise RowError(f"{name} holds a content that is not text")
        texts.append(text or "")
    return _unicode("".join(texts), name)


def _unicode(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{name} holds half of a surrogate pair") from None
    return text


def tools_of(given: object) -> tuple[dict[str, Any], ...]:
    """Return the tools of a row as schemas in the OpenAI form; a JSON text of them (as TRL has it) is read.

    Raises `RowError`.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given or "[]")
        except ValueError:
            raise RowError("tools is not JSON") from None
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
        raise RowError("tools is not a list of schemas")
    for tool in given:
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError("tools holds one without a name")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in given)
