"""Words and sentences of a text, without any downloaded model."""

from __future__ import annotations

import re
from itertools import pairwise

_WORD = re.compile(r"\w+")
_ABBREVIATIONS = frozenset(
    (
        *(
            "mr",
            "mrs",
            "ms",
            "dr",
            "prof",
            "gen",
            "sen",
            "rep",
            "gov",
            "lt",
            "col",
            "capt",
            "sgt",
            "maj",
            "rev",
        ),
        *(
            "jr",
            "sr",
            "st",
            "vs",
            "inc",
            "corp",
            "ltd",
            "co",
            "bros",
            "e.g",
            "i.e",
            "u.s",
            "u.k",
            "u.n",
            "d.c",
        ),
        *("a.m", "p.m", "ph.d", "m.d", "b.a", "m.a", "jan", "feb", "aug", "sept", "oct", "nov", "dec", "al"),
        *("ft", "fig", "vol", "ave", "r.i", "n.y", "l.a", "mt", "messrs", "cie", "a.d", "b.c", "j.r", "w.w"),
    )
)
_CLOSING = "\"')]}’”*_"
_TOKEN_PARTS = re.compile(
    r"""
    (?:[A-Za-z]\.){2,}            # U.S.
  | \.\.\.
  | '(?:s|m|d|ll|re|ve)\b         # clitics, in any case
  | [^\s"“”(){}\[\]<>;@\#$%&?!,:*`]+
  | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """Return the runs of letters, digits and underscores."""
    return _WORD.findall(text)


def count_sentences(text: str) -> int:
    """Return the number of sentences: a `.`, `?` or `!` before space ends one, unless it ends an abbreviation.

    A numbered line (`1. Word`) ends a sentence after its number, as the tokenizer of the IFEval checker has it.
    """
    text = text.strip()
    if not text:
        return 0
    listed = text.split()
    return 1 + sum(1 for token, following in pairwise(listed) if _ends(token.rstrip(_CLOSING), following))


def _ends(token: str, following: str) -> bool:
    if not token or token[-1] not in ".?!":
        return False
    if token[-1] != ".":
        return True
    token = token[:-1].lstrip("\"'([{*_“‘").lower()
    following = following.lstrip("\"'([{*_“‘")
    if token.endswith("."):  # an ellipsis ends a sentence only before a capital
        return bool(following[:1].isupper())
    last = token.rpartition("-")[2]
    if last in _ABBREVIATIONS or token in _ABBREVIATIONS:
        return False
    if len(token) == 1 and token.isalpha():
        return not following[:1].isupper() and token == "i"
    if re.fullmatch(r"[\d,.\-]+", token):
        return bool(following) and not following[0].islower() and following[0].isalnum()
    return True


def treebank_tokens(text: str) -> list[str]:
    """Return word tokens with punctuation and clitics apart, in the manner of the Penn Treebank."""
    tokens: list[str] = []
    for match in _TOKEN_PARTS.finditer(text):
        token = match.group()
        if not token[0].isalnum():
            tokens.append(token)
            continue
        token = re.sub(r"\.$", "", token) if re.fullmatch(r"(?:[A-Za-z]\.)+", token) is None else token
        split = re.fullmatch(r"(.+)(n't|'(?:s|m|d|ll|re|ve))", token, re.IGNORECASE)
        tokens.extend(split.groups() if split else (token,))
    return tokens


def degenerate(text: str) -> bool:
    """Whether a text repeats itself instead of saying something: one word or one line over and over.

    For texts of twenty words or more: fewer than 15 % of the words are distinct (fewer than 5 % beyond 1,000
    words), one word is more than 30 % of all, or one line of four words or more stands six times.
    """
    listed = [word.lower() for word in words(text)]
    if len(listed) < 20:
        return False
    counts: dict[str, int] = {}
    for word in listed:
        counts[word] = counts.get(word, 0) + 1
    least = 0.15 if len(listed) < 1000 else 0.05
    if len(counts) < least * len(listed) or max(counts.values()) > 0.3 * len(listed):
        return True
    lines: dict[str, int] = {}
    for line in re.split(r"[\n.!?]+", text.lower()):
        key = " ".join(line.split())
        if len(key.split()) >= 4:
            lines[key] = lines.get(key, 0) + 1
    return max(lines.values(), default=0) >= 6
