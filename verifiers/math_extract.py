"""From a reply to the one answer that it gives. One place is chosen by a fixed order; nothing is tried for fit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .final_answer import Box, after_hashes, answer_tag, boxes, without_thinking, word_set
from .math_lexer import FUNCTIONS, GREEK
from .math_units import known_unit

MAX_SCAN = 200_000
"""Characters from the end of a reply in which an answer is looked for."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as written, and where it was found."""

    text: str
    """The answer's text; several boxes or formulas of one list are joined by commas. Empty if there is none."""
    how: str
    """`boxed`, `answer tag`, `####`, `answer is`, `whole`, `formula`, `bold`, `number`, `words` or `missing`."""


MISSING = Extraction("", "missing")

_JOINER = re.compile(
    r"(?:[\s$,;.&/]|\\[()\[\],;: !]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*,?\s*\}|\b(?:and|or)\b|\*\*"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=)*"
)
_OR = re.compile(r"\bor\b")
_AFTER_BOX = re.compile(r"\s*\$?\s*(\\?%|\^\s*\{?\s*\\circ\s*\}?|percent\b)")
_ANSWER_IS = re.compile(
    r"\banswers?\b[\s*_#\"')\]]{0,6}(?:is|are|was|:|=|\uff1a|to (?:the|this) (?:question|problem) is)(?:\s*that\b)?|"
    r"\u7b54\u6848(?:\u662f|\u4e3a)?\s*[:\uff1a]?|^A:|\b(?:final answer|answer)\b[*_\s]{0,4}(?:\n|(?=\\[\[(]|\$))",
    re.IGNORECASE | re.MULTILINE,
)
_CALCULATION = re.compile(r"<<[^<>\n]*>>")  # the calculator notes of grade-school solutions
_OPENER = re.compile(
    r"\$\$|(?<!\\)\$|\\\(|\\\[|\\begin\{(?P<env>align|aligned|equation|gather|alignat)(?P<star>\*?)\}"
)
_CLOSERS = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_DOLLAR = re.compile(r"(?<!\\)\$")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*|__([^_\n]+)__|\\textbf\{([^{}]+)\}")
_PROSE = word_set(
    "the is of it we so thus then that this are to be because which answer hence therefore here has have can "
    "get with for from by our you your i'm let since where when there they was were will would should does "
    "not what gives give equals value number only but if final total first compute try about as on its"
)
_NUMBER = re.compile(
    r"(?<![\w\\.^:])\d{1,2}:\d{2}(?![\d:])(?:\s*[ap]\.?m\b\.?)?|(?<![\w\\.^])[-−+]?(?:[$€£¥]|\\\$)?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?"
    r"(?<=[\d])(?:[eE][-+]?\d+(?!\w)|/\d+(?![\d.]))?(?![A-Za-z_]*\d)"
)
_UNIT = re.compile(
    r"\s*(?:\\?%|°[CF]?|percent\b|pct\b|degrees?\b|[€£¥]|(?:sq(?:uare)?\.?|cubic)\s+[a-z]+|[a-zA-Zµ]{1,4}[²³]|"
    r"(?:[kcmnµd]?m|kg|g|mg|lbs?|km/h|mph|m/s|hours?|minutes?|seconds?|days?|dollars?|cents?|miles?|feet|ft|inches|"
    r"meters?|metres?|cm|mm|km|units?|liters?|mL|yuan)\b(?:[²³]|\^\{?\d\}?)?)"
)
_BETWEEN = re.compile(
    r"[\s,.;(*$]*(?:\b(?:either|or|and|maybe|perhaps|possibly|alternatively|also|else)\b|[,/&])"
    r"[\s,.;(*$]*(?:\b(?:or|and|maybe|perhaps|possibly|alternatively|also|else)\b[\s,]*)*"
)
_CHOICE = re.compile(r"\(([A-J])\)|\b(?:option|choice|answer)\s+\(?([A-J])\b", re.IGNORECASE)


def extract(reply: str, *, words: bool = False) -> Extraction:
    """Return the final answer of a reply.

    The order: the last box (with boxes joined to it), `<answer>`, `####`, "answer is", the whole reply if it
    is nothing but an answer, the last formula, the last bold text, the last number. `words` says that the
    answer wanted is a word or a choice letter, not mathematics.
    """
    text = without_thinking(reply[-MAX_SCAN:] if len(reply) > MAX_SCAN else reply).strip()
    if "<<" in text:
        text = _CALCULATION.sub("", text)
    if not text:
        return MISSING
    found = boxes(text)
    if found:
        return Extraction(_joined_boxes(text, found), "boxed")
    if (tagged := answer_tag(text)) is not None:
        return Extraction(_narrowed(tagged, words).text, "answer tag")
    if (hashed := after_hashes(text)) is not None:
        return Extraction(_narrowed(hashed, words).text, "####")
    for said in reversed(list(_ANSWER_IS.finditer(text))):
        segment = _segment(text[said.end() :])
        if segment:
            return Extraction(_narrowed(segment, words).text, "answer is")
    return _narrowed(text, words)


def _joined_boxes(text: str, found: list[Box]) -> str:
    if not found[-1].content.strip():
        return ""
    chain = [found[-1]]
    joined_or = False
    for box in reversed(found[:-1]):
        gap = text[box.end : chain[0].start]
        if len(gap) > 60 or _JOINER.fullmatch(gap) is None:
            break
        joined_or = joined_or or _OR.search(gap) is not None
        chain.insert(0, box)
        if len(chain) > 64:
            break
    contents = list(dict.fromkeys(box.content.strip() for box in chain))
    after = _AFTER_BOX.match(text, chain[-1].end)
    if len(contents) == 1:
        return contents[0] + (" " + after[1] if after and contents[0] else "")
    return (r" \text{ or } " if joined_or else ", ").join(contents)


def _segment(rest: str) -> str:
    """Return what follows "answer is": a formula to its end, else the sentence."""
    rest = rest.lstrip(" \t\n*_:#>\"'=")
    if rest.partition("\n")[0].count("**") % 2:
        rest = rest.replace("**", "", 1)
    opener = re.compile(r"\$\$|\\\[|\\\(|\$").match(rest)
    if opener:
        found = formulas(rest)
        if found and found[0].start == 0:
            tail = rest[found[0].end : found[0].end + 200].partition("\n")[0]
            return rest[: found[0].end] + _sentence(tail)
    line = rest.partition("\n")[0]
    return _sentence(line).strip()


def _sentence(line: str) -> str:
    """Cut a line at the end of its sentence; the point of `3.5` and of `e.g.` do not end one."""
    stop = re.compile(r"(?<![A-Z])[.!?](?:\s+(?=[A-Z\\$(])|\s*$)").search(line)
    return line[: stop.start()] if stop else line


def is_prose(text: str) -> bool:
    """Return whether a text reads as a sentence: one of its words, outside commands, is an everyday one."""
    bare = re.sub(r"\\text[a-z]*\s*\{[^{}]*\}|\\[A-Za-z]+|\$[^$]*\$", " ", text[:2000])
    return any(word.lower() in _PROSE for word in re.findall(r"[A-Za-z']{2,}", bare))


def _has_words(text: str) -> bool:
    """Whether a text holds a word that is neither a command's, nor wrapped in `\\text`, nor a unit."""
    bare = re.sub(r"\\(?:text[a-z]*|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+", " ", text)
    return any(
        not known_unit(word) and word not in _PLAIN_MATH and not word.isupper()
        for word in re.findall(r"[A-Za-z]{3,}", bare)
    )


_PLAIN_MATH = FUNCTIONS | GREEK | word_set("and sqrt infinity infty inf abs lcm gcd mod pmod boxed")


def _spaced_unit(text: str) -> str:
    """Put a space between a number and the unit glued to it: `5m²` in prose is a length, not a product."""
    number = _NUMBER.match(text)
    if number and number.group() and (unit := _UNIT.fullmatch(text, number.end())):
        return f"{number.group()} {unit.group().strip()}"
    return text


def _narrowed(segment: str, words: bool) -> Extraction:
    text = segment.strip()
    unmarked = _unbold(text)
    if words:
        return _words(unmarked, text)
    if (
        len(unmarked) <= 400
        and "\n\n" not in unmarked
        and not is_prose(unmarked)
        and not _has_words(unmarked)
    ):
        return Extraction(unmarked, "whole")
    after_is = unmarked.rpartition(" is ")[2] if " is " in unmarked and len(unmarked) < 200 else ""
    after_is = re.sub(r"[ .]+$|(?<=\d)!$", "", after_is)  # prose exclaims more often than it takes factorials
    one_thing = "$" not in after_is[1:].rstrip("$") and "\\(" not in after_is[1:]
    if after_is and one_thing and not _has_words(after_is) and "\n" not in after_is:
        return Extraction(_spaced_unit(after_is), "whole")
    return _formula(text) or _bold(text) or _number(text)


def _unbold(text: str) -> str:
    whole = re.fullmatch(r"\*\*(.+?)\*\*[.]?|\*([^*\s][^*]*)\*[.]?", text)
    if whole:
        return (whole[1] or whole[2]).strip()
    return _BOLD.sub(lambda m: m[1] or m[2] or m[3], text) if text.count("**") % 2 == 0 else text


def _words(text: str, marked: str) -> Extraction:
    said = {(found[1] or found[2]).upper() for found in _CHOICE.finditer(text)}
    sentence = len(said) == 1 and len(re.findall(r"[A-Za-z']{2,}", text)) > 2
    if len(text) <= 120 and "\n" not in text and not is_prose(text) and not sentence:
        return Extraction(text, "whole")
    choices = list(_CHOICE.finditer(text))
    if choices:
        return Extraction(choices[-1][1] or choices[-1][2], "words")
    found = formulas(text)
    if found and "\\text" in found[-1].content:
        return Extraction(found[-1].content, "formula")
    bold = _bold(marked)
    if bold is not None:
        return bold
    if found:
        return Extraction(found[-1].content, "formula")
    return Extraction(text.split("\n")[-1].strip(), "words")


@dataclass(frozen=True, slots=True)
class Formula:
    """One formula of a text."""

    start: int
    """Offset of its opening delimiter."""
    end: int
    """Offset after its closing delimiter."""
    content: str
    """What stands between; of an aligned environment the last line."""


def formulas(text: str) -> list[Formula]:
    """Return the formulas of a text in order, by one scan: `$..$`, `$$..$$`, `\\(..\\)`, `\\[..\\]`, aligned lines."""
    found: list[Formula] = []
    never: set[str] = set()  # closers that do not come any more
    position = 0
    while opener := _OPENER.search(text, position):
        position = start = opener.end()
        token = opener.group()
        closer = _CLOSERS.get(token) or (
            f"\\end{{{opener['env']}{opener['star']}}}" if opener["env"] else "$"
        )
        if closer in never:
            continue
        if closer == "$":
            closing = _DOLLAR.search(text, start)
            end = closing.start() if closing else -1
        else:
            end = text.find(closer, start)
        if end < 0:
            never.add(closer)
            continue
        content = text[start:end]
        if not content.strip() or (
            closer == "$" and content[0].isdigit() and _is_price(content, text[end + 1 : end + 2])
        ):
            continue
        position = end + len(closer)
        if opener["env"]:
            content = re.split(r"\\\\", content.strip().removesuffix("\\\\"))[-1].replace("&", " ")
        found.append(Formula(opener.start(), position, content.strip()))
    return found


def _is_price(content: str, after: str) -> bool:
    """Whether a dollar sign before a digit is a price: the next one is no end of a formula."""
    return content[-1] in " +-*/=(<\n" or "\n" in content or "<" in content or after.isdigit()


def _no_formula(content: str) -> bool:
    """Whether what stands between two dollar signs is prose between two prices."""
    return is_prose(content) or ("\\" not in content and len(content) > 20 and _has_words(content))


def _formula(text: str) -> Extraction | None:
    found = [f for f in formulas(text) if not _no_formula(f.content.replace("\\$", ""))]
    while found and re.fullmatch(r"[A-Za-z]|\\[a-z]+", found[-1].content) and len(found[-1].content) < 8:
        if re.match(r"\s*(?:is|was|=|equals)\s+\S*\d", text[found[-1].end :]) is None:
            break
        found.pop()
        if not found:
            return None
    if not found:
        return None
    chain = [found[-1]]
    joined_or = False
    for match in reversed(found[:-1]):
        gap = text[match.end : chain[0].start]
        if len(gap) > 40 or re.fullmatch(r"\s*(?:,|,?\s*(?:or|and)|;)\s*(?:maybe|possibly)?\s*", gap) is None:
            break
        joined_or = joined_or or _OR.search(gap) is not None
        chain.insert(0, match)
    after = _AFTER_BOX.match(text, chain[-1].end)
    joined = (r" \text{ or } " if joined_or else ", ").join(dict.fromkeys(f.content for f in chain))
    return Extraction(joined + (" " + after[1] if after else ""), "formula")


def _bold(text: str) -> Extraction | None:
    found = list(_BOLD.finditer(text))
    if not found:
        return None
    content = next(g for g in found[-1].groups() if g is not None).strip()
    said = list(_ANSWER_IS.finditer(content))
    if said:
        content = content[said[-1].end() :].strip(" :*")
    if not content or not re.search(r"[\d\\$]|^\W*\w\W*$|^\w+$", content):
        return None
    if is_prose(content):
        return _number(content)
    return Extraction(content, "bold")


def _denied(text: str, start: int) -> bool:
    """Whether "not" stands before the number at `start`, or "is not" after it."""
    if re.search(r"(?:\bnot|n't)\s+(?:be\s+)?$", text[max(start - 20, 0) : start]):
        return True
    return (
        re.compile(r"\S{1,100}\s+(?:(?:is|was|are|were)\s+not|(?:is|was|are|were)n't)\b").match(text, start)
        is not None
    )


def _number(text: str) -> Extraction:
    """Return the last number with its unit; numbers listed with it ("17, 18 or 19") come along."""
    found = [m for m in _NUMBER.finditer(text) if m.group().strip() and not _denied(text, m.start())]
    if not found:
        return MISSING
    chain = [found[-1]]
    for match in reversed(found[:-1]):
        if _BETWEEN.fullmatch(text[match.end() : chain[0].start()]) is None:
            break
        chain.insert(0, match)
    unit = _UNIT.match(text, chain[-1].end())
    last = chain[-1].group().strip() + (" " + unit.group().strip() if unit else "")
    return Extraction(", ".join([*(m.group().strip() for m in chain[:-1]), last]), "number")
