"""The text of token ids, out of a `tokenizer.json`, without loading a tokenizer library.

Only the way back is needed here, one token at a time, and byte-exact: a character may be spread over several tokens.
Read are the two spellings that causal models use: byte-level BPE (GPT-2's table of printable characters for bytes) and
SentencePiece (`▁` for a space, `<0x0A>` for a byte).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rl.text_codec import END, unpack

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What each token id stands for."""

    raw: Mapping[int, bytes]
    """The bytes of each id."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token, in order; together they are the text of all.

        A token that ends inside a character gives the empty text, and the one that completes it the character. An id
        that is not in the vocabulary is shown as `⟨id⟩`.
        """
        return _decoded([self.raw.get(number, f"⟨{number}⟩".encode()) for number in ids])


def pieces_of(ids: Sequence[int], vocabulary: Vocabulary | None) -> list[str]:
    """Return a text for each id: of `vocabulary`, or what `text_codec` packed, or the bare number."""
    if any(number >= END for number in ids):
        return [unpack([number]) if number > END else "" for number in ids]
    if vocabulary is None:
        return [f"⟨{number}⟩" for number in ids]
    return vocabulary.pieces(ids)


def _decoded(parts: Sequence[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(part) for part in parts]
    if texts:
        texts[-1] += decoder.decode(b"", final=True)
    return texts


def newest_tokenizer(folder: Path) -> Path | None:
    """Return the `tokenizer.json` of the newest checkpoint of the run in `folder`."""
    found = sorted((folder / "checkpoints").glob("step-*/tokenizer.json"), key=lambda path: path.parent.name)
    return found[-1] if found else None


def read_vocabulary(path: Path) -> Vocabulary | None:
    """Read a `tokenizer.json`; None for one that cannot be read."""
    try:
        data = json.loads(path.read_bytes())
        model = data["model"]
        vocab = model["vocab"]
        ids: dict[str, int] = (
            {str(entry[0]): number for number, entry in enumerate(vocab)}
            if isinstance(vocab, list)
            else {str(text): int(number) for text, number in vocab.items()}
        )
        level = _is_byte_level(data.get("decoder")) or _is_byte_level(data.get("pre_tokenizer"))
        raw = {
            number: (_byte_level(text) if level else _sentence_piece(text)) for text, number in ids.items()
        }
        for added in data.get("added_tokens") or ():
            raw[int(added["id"])] = str(added["content"]).encode("utf-8", "replace")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return Vocabulary(raw)


def _is_byte_level(part: Any) -> bool:
    if isinstance(part, dict):
        return part.get("type") == "ByteLevel" or any(_is_byte_level(inner) for inner in part.values())
    return isinstance(part, list) and any(_is_byte_level(inner) for inner in part)


def _printable_bytes() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 stands for itself, the other bytes follow from U+0100 on."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + n): byte for n, byte in enumerate(others)}


_PRINTABLE = _printable_bytes()


def _byte_level(text: str) -> bytes:
    try:
        return bytes(_PRINTABLE[character] for character in text)
    except KeyError:
        return text.encode("utf-8", "replace")


def _sentence_piece(text: str) -> bytes:
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode("utf-8", "replace")
