"""Preference formats of others: the dialogue texts of Anthropic's HH, rows for TRL, unpaired labels for KTO."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...tools.chat import Message
from ...tools.errors import UserError
from .chat_rows import OnBad, RowError, Rows, messages_of, read_rows, tools_of
from .preference import Preference, preference_of, says_something

Form = Literal["explicit", "implicit", "plain", "unpaired"]
"""How rows are written for TRL: the prompt apart, the prompt in both sides, as bare text, one answer with a label."""

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant|System):[ \t]?")
_ROLES = {"Human": "user", "Assistant": "assistant", "System": "system"}


def dialogue_of(text: str) -> tuple[Message, ...]:
    """Return the messages of a dialogue in one text, its turns begun by `\\n\\nHuman:` and `\\n\\nAssistant:`.

    The form of Anthropic's HH (arXiv 2204.05862). Raises `RowError` for a text that does not begin with such a turn.
    """
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise RowError("no prompt, and the sides are texts without turns (\\n\\nHuman:, \\n\\nAssistant:)")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns = [
        {"role": _ROLES[mark[1]], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    return messages_of(turns, "the dialogue")


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer with a verdict: what KTO learns from."""

    prompt: tuple[Message, ...]
    """The conversation up to the answer."""
    completion: tuple[Message, ...]
    """The answer, to its end."""
    label: bool
    """Whether it is wanted."""
    tools: tuple[dict[str, Any], ...] = ()
    """The schemas of the tools that the prompt shows."""
    source: str = ""
    """Who said so."""


def labelled_of(row: Mapping[str, Any]) -> list[Labelled]:
    """Return what a row says about single answers: one of an unpaired row, two of a preference (good and bad).

    Raises `RowError`; a tie says nothing of either side.
    """
    if "label" not in row:
        return unpaired(preference_of(row))
    if not isinstance(row["label"], bool):
        raise RowError("label is not true or false")
    given = row.get("completion")
    if isinstance(given, str):
        given = [{"role": "assistant", "content": given}]
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    completion = messages_of(given, "completion")
    if completion[0]["role"] != "assistant" or completion[-1]["role"] != "assistant":
        raise RowError("completion does not begin and end with the assistant's message")
    if not any(says_something(message) for message in completion):
        raise RowError("completion is empty")
    before = messages_of(prompt, "prompt")
    return [
        Labelled(before, completion, row["label"], tools_of(row.get("tools")), str(row.get("source") or ""))
    ]


def unpaired(preference: Preference) -> list[Labelled]:
    """Return both sides of a preference with their labels. Raises `RowError` for a tie."""
    if preference.tie:
        raise RowError("ties")
    return [
        Labelled(preference.prompt, side, label, preference.tools, preference.source)
        for side, label in ((preference.chosen, True), (preference.rejected, False))
    ]


def read_labelled(path: Path, on_bad: OnBad = "refuse", *, what: str = "labels") -> Rows[list[Labelled]]:
    """Read a file of unpaired labels or of preferences, row by row; see `read_preferences` for bad rows."""
    return read_rows(path, lambda row, _: labelled_of(row), what=what).settle(
        f"{what}: {path}", on_bad, "on_bad = 'skip'"
    )


def rows_for_trl(preferences: Iterable[Preference], form: Form = "explicit") -> Iterator[dict[str, Any]]:
    """Yield rows as TRL's trainers and the Hugging Face hub have them.

    `explicit` and `implicit` are conversational, with tools as they are; `plain` holds texts, and `unpaired` one
    answer a row with its label (ties are left out of it: they say nothing of one answer). Raises `UserError` for a
    preference that `plain` cannot say: more than one message on a side, tools, or calls.
    """
    if form not in get_args(Form):
        raise UserError(f"the form must be one of {', '.join(get_args(Form))}, got {form!r}")
    for number, one in enumerate(preferences, 1):
        tools: dict[str, Any] = {"tools": list(one.tools)} if one.tools else {}
        if form == "explicit":
            yield {
                "prompt": list(one.prompt),
                "chosen": list(one.chosen),
                "rejected": list(one.rejected),
                **tools,
            }
        elif form == "implicit":
            yield {"chosen": [*one.prompt, *one.chosen], "rejected": [*one.prompt, *one.rejected], **tools}
        elif form == "unpaired":
            if not one.tie:
                for each in unpaired(one):
                    yield {
                        "prompt": list(each.prompt),
                        "completion": list(each.completion),
                        "label": each.label,
                        **tools,
                    }
        else:
            sides = (one.prompt, one.chosen, one.rejected)
            if tools or any(len(side) > 1 or side[0].get("tool_calls") for side in sides):
                raise UserError(
                    f"preference {number} has several messages, tools or calls, which bare texts cannot say: "
                    "write it with the form explicit"
                )
            prompt, chosen, rejected = (side[0]["content"] for side in sides)
            yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}
