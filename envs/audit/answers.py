"""What a right answer looks like in an environment: read off the task and off the oracle's last reply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...verifiers.base import Task
from .played import Played
from .subject import Subject

# The ways in which replies mark their answer, the innermost part being the answer.
_MARKED = (
    re.compile(r"<answer>(.*?)</answer>", re.DOTALL),
    re.compile(r"\\boxed\{([^{}]*)\}"),
    re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL),
    re.compile(r"####[ \t]*(\S[^\n]*)"),
)
CALL = "<tool_call>"


@dataclass(frozen=True, slots=True)
class Solved:
    """An episode that the oracle solved, and where its last reply holds the answer."""

    played: Played
    """The oracle's episode; it earned full marks."""
    answer: str
    """The answer as the last reply writes it, without marks round it."""

    @property
    def last(self) -> str:
        """The oracle's last reply."""
        return self.played.replies[-1]

    def saying(self, last: str) -> tuple[str, ...]:
        """Return the oracle's replies with another last one."""
        return (*self.played.replies[:-1], last)

    def answering(self, answer: str) -> tuple[str, ...]:
        """Return the oracle's replies with another answer in the last one, in the environment's own form."""
        if not self.answer:
            return self.saying(answer)
        before, found, after = self.last.rpartition(self.answer)
        return self.saying(before + answer + after if found else answer)


def solved(subject: Subject) -> list[Solved]:
    """Return the episodes among the first few that the oracle solves, none without an oracle."""
    found = []
    for start in subject.few:
        played = subject.oracle(start)
        if played is not None and played.full and played.steps:
            found.append(Solved(played, answer_in(played)))
    return found


def answer_in(played: Played) -> str:
    """Return the answer that the last reply of a solved episode holds: the marked part, the scalar answer, or all."""
    last = played.replies[-1]
    for mark in _MARKED:
        marked = mark.findall(last)
        if marked and marked[-1].strip():
            return str(marked[-1]).strip()
    gold = gold_text(played.task)
    if gold and gold in last:
        return gold
    return last.strip()


def gold_text(task: Task | None) -> str:
    """Return the task's answer as text if it is one text or number, else the empty text."""
    if task is None or isinstance(task.answer, bool) or not isinstance(task.answer, str | int | float):
        return ""
    return str(task.answer).strip()


def leaves(value: object) -> Iterator[str]:
    """Give the texts and numbers in nested data, as text."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def is_code(text: str) -> bool:
    """Return whether a reply is a program, or holds one in a fence."""
    return "```" in text or bool(re.search(r"^\s*(def|import|class|from) \w", text, re.MULTILINE))
