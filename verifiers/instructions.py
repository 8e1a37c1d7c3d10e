"""`Instructions`: does the reply follow the checkable instructions of its task (IFEval)?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .base import Episode, Score, Task, Verifier
from .final_answer import without_thinking
from .instruction_rules import RULES
from .texts import degenerate


@dataclass(frozen=True)
class Instructions(Verifier):
    """Are the task's instructions followed? All 25 kinds of IFEval, no downloads, the same verdict anywhere.

    `task.answer` is the row as published: `{"instruction_id_list": [...], "kwargs": [{...}, ...]}`.

    `mode` is `strict` or `loose` (the official readings, for figures that compare) or `hard` (the default:
    the strict reading, and the known ways to satisfy its letter only do not pass: one word 300 times, `party`
    for `art`, bullets with nothing in them, text of no language).
    """

    mode: Literal["strict", "loose", "hard"] = "hard"
    """The reading."""
    partial: bool = False
    """Whether the value is the fraction of instructions followed; else 1 for all of them and 0 otherwise."""

    def __post_init__(self) -> None:
        if self.mode not in {"strict", "loose", "hard"}:
            raise ValueError(f"mode must be 'strict', 'loose' or 'hard', got {self.mode!r}")

    def score(self, episode: Episode) -> Score:
        """Check every instruction; the parts are 1 or 0 by instruction."""
        listed = instructions_of(episode.task)
        text = without_thinking(episode.reply.content)
        passed = list(followed(text, listed, self.mode))
        parts: dict[str, float] = {}
        for (kind, _), good in zip(listed, passed, strict=True):
            parts[_unused(kind, parts)] = float(good)
        value = sum(passed) / len(passed) if self.partial else float(all(passed))
        missed = [kind for (kind, _), good in zip(listed, passed, strict=True) if not good]
        reason = f"not followed: {', '.join(missed)}" if missed else "all followed"
        if self.mode == "hard" and degenerate(text):
            reason += " (the reply repeats itself)"
        return Score(value, parts=parts, reason=reason)

    def check(self, task: Task) -> None:
        """Refuse a task with an unknown instruction or a missing argument."""
        instructions_of(task)


def follows(text: str, kind: str, given: Mapping[str, Any], mode: str = "strict") -> bool:
    """Return whether a reply follows one instruction in the strict, loose or hard reading."""
    return next(followed(text, [(kind, given)], mode))


def followed(
    text: str, instructions: Iterable[tuple[str, Mapping[str, Any]]], mode: str = "strict"
) -> Iterator[bool]:
    """Say of each instruction in its turn whether a reply follows it, in the strict, loose or hard reading."""
    void = not text.strip() or (mode == "hard" and degenerate(text))
    variants = [variant for variant in _variants(text) if variant.strip()] if mode == "loose" else [text]
    for kind, given in instructions:
        rule, _ = RULES[kind]
        yield not void and any(rule(variant, given, mode == "hard") for variant in variants)


def _variants(text: str) -> list[str]:
    """Return the reply without its first line, its last line, both, each with and without asterisks."""
    lines = text.split("\n")
    cut = [text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return cut + [variant.replace("*", "") for variant in cut]


def instructions_of(task: Task) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the instructions of a task with their arguments.

    Raises `ValueError` naming the task for an unknown kind or a missing argument.
    """
    answer = task.answer
    if not isinstance(answer, Mapping) or not isinstance(answer.get("instruction_id_list"), list):
        raise ValueError(
            f"task {task.id!r}: the answer must be an object with 'instruction_id_list' and 'kwargs', "
            f"got {answer!r:.100}"
        )
    kinds = answer["instruction_id_list"]
    given = answer.get("kwargs") or [{}] * len(kinds)
    if not kinds or len(given) != len(kinds):
        raise ValueError(f"task {task.id!r}: {len(kinds)} instructions with {len(given)} sets of arguments")
    for kind, arguments in zip(kinds, given, strict=True):
        if kind not in RULES:
            known = ", ".join(sorted(RULES))
            raise ValueError(f"task {task.id!r}: there is no instruction {kind!r}; the kinds are: {known}")
        missing = sorted(name for name in RULES[kind][1] if (arguments or {}).get(name) is None)
        if missing:
            raise ValueError(f"task {task.id!r}: the instruction {kind!r} needs {', '.join(missing)}")
    return [(kind, arguments or {}) for kind, arguments in zip(kinds, given, strict=True)]


def _unused(name: str, taken: Mapping[str, object]) -> str:
    numbered, number = name, 2
    while numbered in taken:
        numbered, number = f"{name}_{number}", number + 1
    return numbered
