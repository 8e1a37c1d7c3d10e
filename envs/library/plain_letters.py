"""Text in letters that only look like those they stand for: what a reader takes for one word and a program for another.

Full-width and mathematical letters, the long s and the Kelvin sign, digits of other scripts, words of two alphabets,
invisible characters and turned writing directions. Honest replies have none of them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_INVISIBLE = frozenset(
    "\u00ad\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LONG = (
    4  # letters of a word that may not mix Latin and Greek; shorter ones are units and variables: "Δt", "μm"
)


def disguise(text: str) -> str:
    """Return what is odd about the letters of a text; empty if nothing is. Takes time linear in its length."""
    if text.isascii():
        return ""
    letters = [character for character in text if character.isalpha()]
    latin = sum(map(str.isascii, letters)) * 2 >= len(letters)
    for character in set(text) - _ASCII:
        if character in _INVISIBLE:
            return f"the invisible character U+{ord(character):04X}"
        folded = _folded(character)
        if folded.isalpha() or (latin and folded.isdigit()):
            return f"{character!r} in the place of {folded!r}"
    for word in _WORD.findall(text):
        if not word.isascii() and _is_mixed(word):
            return f"a word of two alphabets: {word[:30]!r}"
    return ""


_ASCII = frozenset(map(chr, range(128)))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    """Return the ASCII letter or digit that a letter or digit is read as; else the empty string."""
    if character in "ªº":  # 1º, 2ª
        return ""
    kind = unicodedata.category(character)
    if kind == "Nd":
        return str(unicodedata.digit(character))
    other = unicodedata.normalize("NFKC", character)
    return other if kind[0] == "L" and len(other) == 1 and other.isascii() and other.isalpha() else ""


@lru_cache(maxsize=4096)
def _alphabet(character: str) -> str:
    return unicodedata.name(character, "?").split()[0]


def _is_mixed(word: str) -> bool:
    alphabets = {_alphabet(character) for character in word}
    if "LATIN" not in alphabets:
        return False
    return bool(alphabets & {"CYRILLIC", "ARMENIAN", "CHEROKEE"}) or (
        "GREEK" in alphabets and len(word) >= _LONG
    )
