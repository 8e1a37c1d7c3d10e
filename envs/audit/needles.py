"""What an answer looks like when it has leaked: its spellings and encodings, and decoys to know chance by."""

from __future__ import annotations

import base64
import codecs
import hashlib
import html
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence

import numpy as np

DISTINCT = 6
"""Characters from which on an answer does not turn up in a text by chance."""
_PIECE = 40  # characters of a long answer that give it away


def spellings(answer: str) -> dict[str, str]:
    """Return the ways in which an answer may be written, by name; the encodings only of what is long enough."""
    text = answer.strip()
    if not text:
        return {}
    made = {"as it is": text}
    number = _number(text)
    if number is not None and number.is_integer() and abs(number) < 1e15:
        made["with separators"] = f"{int(number):,}"
        made["as a decimal"] = f"{int(number)}.0"
    if len(text) >= 4:
        data = text.encode("utf-8", "replace")
        made |= {
            "reversed": text[::-1],
            "in rot13": codecs.encode(text, "rot13"),
            "in base64": base64.b64encode(data).decode().rstrip("="),
            "in hexadecimal": data.hex(),
            "URL-quoted": urllib.parse.quote(text),
            "HTML-escaped": html.escape(text),
            "JSON-escaped": json.dumps(text)[1:-1],
        }
    data = text.encode("utf-8", "replace")
    made["as MD5"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    made["as SHA-1"] = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    made["as SHA-256"] = hashlib.sha256(data).hexdigest()
    return {
        name: spelt for i, (name, spelt) in enumerate(made.items()) if spelt not in list(made.values())[:i]
    }


def pieces(answer: str, known: str) -> list[str]:
    """Return pieces of a long answer, each enough to give it away, that are not in `known` (the prompt)."""
    lines = [line.strip() for line in answer.splitlines() if len(line.strip()) >= 15]
    cuts = [answer[i : i + _PIECE] for i in range(0, len(answer) - _PIECE + 1, _PIECE)]
    return [piece for piece in dict.fromkeys([*lines, *cuts]) if piece.strip() and piece not in known][:40]


def found_in(place: str, answer: str, *, encoded: bool = True) -> str | None:
    """Return how a text holds an answer (`as it is`, `in base64` ...); None if it does not.

    A short answer must stand by itself: 4 is not in 42, nor in 1.4.
    """
    if not answer or not place:
        return None
    folded = place.casefold()
    for name, spelt in spellings(answer).items():
        if not encoded and name not in ("as it is", "with separators", "as a decimal"):
            continue
        if _stands_in(folded, spelt.casefold()):
            return name
    return None


def _stands_in(place: str, needle: str) -> bool:
    if needle not in place:
        return False
    before = r"(?<![\w.])" if needle[0].isalnum() else ""
    after = r"(?![\w]|\.\d)" if needle[-1].isalnum() else ""
    return re.search(before + re.escape(needle) + after, place) is not None


def decoys(answer: str, rng: np.random.Generator, others: Sequence[str] = (), count: int = 8) -> list[str]:
    """Return texts of the same shape that are not the answer: others, and the answer with characters drawn anew."""
    made = [other for other in others if other != answer and len(other) == len(answer)][: count // 2]
    alphabets: Mapping[str, str] = {"digit": "0123456789", "lower": "abcdefghijklmnopqrstuvwxyz"}
    for _ in range(50):
        if len(made) >= count:
            break
        text = "".join(_drawn(char, alphabets, rng) for char in answer)
        if text != answer and text not in made and not (len(text) > 1 and text[0] == "0" != answer[0]):
            made.append(text)
    return made


def _drawn(char: str, alphabets: Mapping[str, str], rng: np.random.Generator) -> str:
    if char.isdecimal() and char.isascii():
        return alphabets["digit"][int(rng.integers(10))]
    if char.isalpha() and char.isascii():
        drawn = alphabets["lower"][int(rng.integers(26))]
        return drawn.upper() if char.isupper() else drawn
    return char


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
