"""Where in a reply the final answer stands: one place, found by linear scans, never "any that fits".

The order is the same for every verifier that looks for a final answer: the last complete `\\boxed{}`, then
the last `<answer>` tag, then `####`, then what each verifier adds.
Text inside a thinking block does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_THINK = re.compile(r"<(/?)(think|thinking|reasoning)>", re.IGNORECASE)
_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\(?:begin)?(?:boxed|fbox)\s*\{)|\\(?:boxed|fbox)\s+(?P<bare>-?\d+(?:\.\d+)?|[A-Za-z]\b)|\\.|[{}]",
    re.DOTALL,
)
_ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Box:
    """One `\\boxed{}` of a text."""

    start: int
    """Offset of its backslash."""
    end: int
    """Offset after its closing brace."""
    content: str
    """The text between its braces."""


def without_thinking(text: str) -> str:
    """Return `text` without thinking blocks: closed ones, an unfinished one, and one whose start is missing.

    (Chat templates often put the opening tag into the prompt, so a reply may hold the closing one only.)
    """
    if "<" not in text:
        return text
    kept: list[str] = []
    depth = 0
    position = 0
    for tag in _THINK.finditer(text):
        if tag.group(1):
            if depth == 0:
                kept.clear()
            depth = max(depth - 1, 0)
        else:
            if depth == 0:
                kept.append(text[position : tag.start()])
            depth += 1
        position = tag.end()
    if depth == 0:
        kept.append(text[position:])
    return "".join(kept)


def boxes(text: str) -> list[Box]:
    """Return the complete outermost `\\boxed{}` of `text`; one whose brace never closes is left out."""
    found: list[Box] = []
    opened: list[tuple[int, int] | None] = []  # for each open brace: None, or a box's start and content start
    for match in _BOX_OR_BRACE.finditer(text):
        token = match.group()
        if match.group("bare"):
            found.append(Box(match.start(), match.end(), match.group("bare")))
        elif match.group("box"):
            opened.append((match.start(), match.end()))
        elif token == "{":
            opened.append(None)
        elif token == "}" and opened:
            box = opened.pop()
            if box is not None:
                while found and found[-1].start > box[0]:
                    found.pop()
                found.append(Box(box[0], match.end(), text[box[1] : match.start()]))
    return found


def answer_tag(text: str) -> str | None:
    """Return the content of the last closed `<answer>` tag, or None."""
    content: str | None = None
    opened: int | None = None
    for tag in _ANSWER_TAG.finditer(text):
        if not tag.group(1):
            opened = tag.end()
        elif opened is not None:
            content = text[opened : tag.start()]
            opened = None
    return content


def after_hashes(text: str) -> str | None:
    """Return the rest of the line after the last `####`, or None."""
    found: str | None = None
    for match in _HASHES.finditer(text):
        if match.group(1).strip():
            found = match.group(1)
    return found
