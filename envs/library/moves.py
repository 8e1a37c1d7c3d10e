"""How the games read a move: one move, alone in the last line or between <answer> and </answer>.

Whatever stands before it is the player's own thinking. A reply with two different moves is none: listing what might
be right gains nothing. Only plain ASCII is read, so that a character that looks like another is not taken for it.
"""

from __future__ import annotations

import re

from ...tools.chat import Reply

HOW = "Write it alone in the last line, or between <answer> and </answer>."
"""What a prompt says about the form of a move."""

_TAGGED = re.compile(r"<answer>([^<>]*)</answer>", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:(?:my|the|next|final) )*(?:move|guess|answer|word|code|reply)(?: is)?\s*[:=]?\s+", re.IGNORECASE
)
_DECORATION = " \t\r*_`'\"."
_MAX_MOVE = 200  # characters; no game has a longer move


def only_move(reply: Reply, pattern: re.Pattern[str]) -> re.Match[str] | None:
    """Return the one move of a reply as a match of the whole of `pattern`, or None.

    A tag counts before the last line. Decoration around the move (spaces, quotes, markdown, a full stop) and a
    label before it ("My move: ") do not matter.
    """
    tagged = _TAGGED.findall(reply.content)
    candidates = tagged or [line for line in reply.content.split("\n") if line.strip()]
    if not candidates:
        return None
    move = _as_move(candidates[-1], pattern)
    if move is None:
        return None
    others = (_as_move(candidate, pattern) for candidate in candidates[:-1])
    if any(other is not None and other[0].lower() != move[0].lower() for other in others):
        return None
    return move


def _as_move(text: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    if len(text) > _MAX_MOVE or not text.isascii():
        return None
    text = text.strip(_DECORATION)
    return pattern.fullmatch(text) or pattern.fullmatch(_LABEL.sub("", text, count=1).strip(_DECORATION))
