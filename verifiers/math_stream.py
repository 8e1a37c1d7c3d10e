"""The tokens of an answer, read from left to right."""

from __future__ import annotations

from .math_lexer import Token
from .math_nodes import Unreadable

MAX_DEPTH = 40
"""Deeper nesting is no answer."""


class TokenStream:
    """A position in a list of tokens, with bounded depth."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0
        self.in_set = 0

    def peek(self, ahead: int = 0) -> str | None:
        """The text of an operator token ahead, else None."""
        index = self.at + ahead
        if index < len(self.tokens) and self.tokens[index].kind == "op":
            return self.tokens[index].text
        return None

    def token(self) -> Token | None:
        """The token ahead, if any."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def accept(self, *ops: str) -> bool:
        """Go past an operator if it is one of these."""
        if self.peek() in ops:
            self.at += 1
            return True
        return False

    def expect(self, op: str) -> None:
        """Go past an operator. Raises `Unreadable` if it is not there."""
        if not self.accept(op):
            token = self.token()
            raise Unreadable(f"{op!r} is missing" + (f" before {token.text!r}" if token else " at the end"))

    def enter(self) -> None:
        """Count a level of nesting. Raises `Unreadable` beyond the bound."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep for an answer")

    def raw_group(self) -> str:
        """Return the tokens of a group or of one token as text: the index of a letter is a name, not a value."""
        token = self.token()
        if token is None:
            raise Unreadable("an index is missing at the end")
        if token.text != "{":
            self.at += 1
            return token.text
        parts: list[str] = []
        level = 0
        while (token := self.token()) is not None:
            self.at += 1
            level += {"{": 1, "}": -1}.get(token.text if token.kind == "op" else "", 0)
            if level == 0:
                return "".join(parts[1:])
            parts.append(token.text)
        raise Unreadable("'}' is missing at the end")
