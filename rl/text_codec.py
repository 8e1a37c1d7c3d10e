"""Conversations as text for endpoints that return no token ids: played and judged, never trained on.

What such an endpoint wrote has no tokens that we know of. So that rollouts, limits, journals and the viewer work on it
all the same, its text is packed into numbers from 2^40 on, as many as the server counted tokens. No vocabulary
reaches them: they cannot be mistaken for tokens, no model can be fed them, and `Trajectory.trainable` is False.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..tools.chat import Message
from .chat import ChatCodec

HEAD = b"\x01" + bytes(5)
"""What the bytes of every number begin with: it lifts them all to 2^40 and beyond."""
END = int.from_bytes(HEAD)
"""Ends a reply."""
BYTES = 4
"""Bytes of a token where nobody has counted: the usual estimate for English."""


def pack(text: str, count: int | None = None) -> list[int]:
    """Return `text` as `count` numbers above `END`; by default one for every four bytes."""
    raw = text.encode("utf-8", "replace")
    if not raw:
        return []
    count = max(1, min(len(raw), -(-len(raw) // BYTES) if count is None else count))
    bounds = [len(raw) * at // count for at in range(count + 1)]
    return [int.from_bytes(HEAD + raw[start:end]) for start, end in pairwise(bounds)]


def unpack(ids: Sequence[int]) -> str:
    """Return the text that `pack` packed."""
    return b"".join(number.to_bytes((number.bit_length() + 7) // 8)[len(HEAD) :] for number in ids).decode(
        "utf-8", "replace"
    )


class TextCodec(ChatCodec):
    """A `ChatCodec` without a tokenizer, for `OpenAIChatEngine`."""

    def __init__(self) -> None:
        self.end_id = END
        self.stop_ids = (END,)

    def prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Return the conversation, and the tools, as a text for people."""
        shown = f"tools: {json.dumps(tools, ensure_ascii=False)}\n" if tools else ""
        return pack(shown + _shown(messages))

    def delta(self, messages: Sequence[Message]) -> list[int]:
        """Return the new messages as a text for people."""
        return pack("\n" + _shown(messages))

    def grows(
        self, messages: Sequence[Message], following: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> bool:
        """Every conversation grows: how the server writes it is not known here."""
        return True

    def encode(self, text: str) -> list[int]:
        """Return `text` packed."""
        return pack(text)

    def encode_reply(self, text: str) -> list[int]:
        """Return a reply packed, with its end."""
        return [*pack(text), END]

    def reply_text(self, message: Message) -> str:
        """Return the text of an assistant's message."""
        return message["content"]

    def decode_reply(self, ids: Sequence[int]) -> str:
        """Return the text of a reply."""
        return unpack(ids)


def _shown(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant: "
