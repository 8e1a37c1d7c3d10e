"""The 25 kinds of checkable instruction of IFEval (Zhou et al., 2023), one function each.

Every rule takes the reply, the arguments of the instruction, and whether to be hard. Soft, it decides as the
official checker does, its oddities included; hard, it also asks that the instruction be followed in earnest:
whole words, bullets with something in them, a language that shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .languages import identify
from .texts import count_sentences, treebank_tokens, words

Arguments = Mapping[str, Any]
Rule = Callable[[str, Arguments, bool], bool]


def _compare(count: int, relation: str, wanted: int) -> bool:
    if relation == "at least":
        return count >= wanted
    if relation == "less than":
        return count < wanted
    raise ValueError(f"the relation must be 'at least' or 'less than', got {relation!r}")


def _count_keyword(text: str, keyword: str, hard: bool) -> int:
    if hard:  # whole words: `party` does not hold `art`
        return len(re.findall(rf"(?<!\w){re.escape(keyword)}(?!\w)", text, re.IGNORECASE))
    return len(re.findall(_pattern(keyword), text, re.IGNORECASE))


def _pattern(keyword: str) -> str:
    """The official checker takes keywords as patterns; one that is no valid pattern is taken literally."""
    try:
        re.compile(keyword)
    except re.error:
        return re.escape(keyword)
    return keyword


def keywords_exist(text: str, given: Arguments, hard: bool) -> bool:
    """All keywords occur."""
    return all(_count_keyword(text, keyword, hard) for keyword in given["keywords"])


def keyword_frequency(text: str, given: Arguments, hard: bool) -> bool:
    """A keyword occurs at least, or less than, so often."""
    count = _count_keyword(text, given["keyword"].strip(), hard)
    return _compare(count, given["relation"], given["frequency"])


def forbidden_words(text: str, given: Arguments, hard: bool) -> bool:
    """None of the words occurs."""
    if hard:
        text = re.sub(r"[\u200b\u200c\u200d\u2060\u00ad*_`]", "", text)
    return not any(
        re.search(rf"\b{_pattern(word)}\b", text, re.IGNORECASE) for word in given["forbidden_words"]
    )


def letter_frequency(text: str, given: Arguments, hard: bool) -> bool:
    """A letter occurs at least, or less than, so often."""
    lowered = text.lower()
    if hard:  # a run of one letter is no text
        lowered = re.sub(r"(\w)\1{3,}", r"\1", lowered)
    return _compare(lowered.count(given["letter"].lower()), given["let_relation"], given["let_frequency"])


def language(text: str, given: Arguments, hard: bool) -> bool:
    """The reply is in a language. What cannot be told passes softly and fails hard."""
    found = identify(text)
    if found is None:
        return not hard and not any(c.isalpha() for c in text)
    return found == str(given["language"])


def number_sentences(text: str, given: Arguments, hard: bool) -> bool:
    """At least, or less than, so many sentences."""
    if hard:
        text = " ".join(part for part in re.split(r"(?<=[.?!])\s+", text) if len(words(part)) > 1)
    return _compare(count_sentences(text), given["relation"], given["num_sentences"])


def number_paragraphs(text: str, given: Arguments, hard: bool) -> bool:
    """So many paragraphs, parted by `***`."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    number = len(parts)
    for index, part in enumerate(parts):
        if not part.strip():
            if index not in {0, len(parts) - 1}:
                return False
            number -= 1
        elif hard and len(words(part)) < 3:
            return False
    return number == int(given["num_paragraphs"])


def number_words(text: str, given: Arguments, hard: bool) -> bool:
    """At least, or less than, so many words."""
    return _compare(len(words(text)), given["relation"], given["num_words"])


def nth_paragraph_first_word(text: str, given: Arguments, hard: bool) -> bool:
    """So many paragraphs, parted by an empty line, one of which begins with a word."""
    parts = re.split(r"\n\n", text)
    number = sum(1 for part in parts if part.strip())
    nth = given["nth_paragraph"]
    if nth > number:
        return False
    paragraph = parts[nth - 1].strip()
    if not paragraph or (hard and any(part.strip() and len(words(part)) < 2 for part in parts)):
        return False
    first = re.split(r"[.,?!'\"]", paragraph.split()[0].strip().lstrip("'").lstrip('"'))[0].lower()
    return number == int(given["num_paragraphs"]) and first == str(given["first_word"]).lower()


def number_placeholders(text: str, given: Arguments, hard: bool) -> bool:
    """At least so many `[placeholders]`."""
    found = _bracketed(text, r"\[[^\]\n]*\]", "]")
    if hard:
        found = list(
            {inner.lower() for part in found if (inner := part[1:-1].strip()) and re.search(r"\w", inner)}
        )
    return len(found) >= int(given["num_placeholders"])


def _bracketed(text: str, pattern: str, closer: str) -> list[str]:
    """Return the matches of a pattern that ends with `closer`, line by line: what never closes is not searched."""
    found: list[str] = []
    for line in text.split("\n"):
        end = line.rfind(closer)
        if end >= 0:
            found.extend(re.findall(pattern, line[: end + len(closer)]))
    return found


def postscript(text: str, given: Arguments, hard: bool) -> bool:
    """A postscript, begun by its marker."""
    marker = given["postscript_marker"].strip()
    lowered = text.lower()
    if marker == "P.P.S":
        pattern = r"p\.\s?p\.\s?s.*$"
    elif marker == "P.S.":
        pattern = r"p\.\s?s\..*$"
    else:
        pattern = rf"{re.escape(marker.lower()) if hard else _pattern(marker.lower())}.*$"
    if not hard:
        return re.search(pattern, lowered, re.MULTILINE) is not None
    found = list(re.finditer(r"^[ \t]*" + pattern, lowered, re.MULTILINE))
    return bool(found) and len(words(lowered[found[-1].start() :])) > len(words(marker)) + 1


def number_bullets(text: str, given: Arguments, hard: bool) -> bool:
    """Exactly so many bullet points."""
    text = re.sub(
        r"\n\s+", "\n", text
    )  # what stands before a bullet does not matter, and costs nothing this way
    found = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE) + re.findall(r"^\s*-.*$", text, re.MULTILINE)
    if hard and any(not words(bullet) for bullet in found):
        return False
    return len(found) == int(given["num_bullets"])


_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def constrained_response(text: str, given: Arguments, hard: bool) -> bool:
    """One of three fixed answers."""
    if hard:
        return sum(text.count(option) for option in _OPTIONS) == 1
    return any(option in text.strip() for option in _OPTIONS)


def number_highlights(text: str, given: Arguments, hard: bool) -> bool:
    """At least so many *highlighted* sections."""
    single = [h for h in re.findall(r"\*[^\n\*]*\*", text) if h.strip("*").strip()]
    double = [h for h in re.findall(r"\*\*[^\n\*]*\*\*", text) if h[2:-2].strip()]
    if hard:
        inside = {h.strip("*").strip().lower() for h in single + double}
        return sum(1 for h in inside if words(h)) >= int(given["num_highlights"])
    return len(single) + len(double) >= int(given["num_highlights"])


def multiple_sections(text: str, given: Arguments, hard: bool) -> bool:
    """At least so many numbered sections."""
    splitter = str(given["section_spliter"]).strip()
    parts = re.split(rf"\s?{_pattern(splitter)}\s?\d+\s?", text)[1:]
    if hard:
        parts = [part for part in parts if len(words(part)) > 1]
    return len(parts) >= int(given["num_sections"])


def json_format(text: str, given: Arguments, hard: bool) -> bool:
    """The whole reply is JSON, a Markdown fence aside."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        value = json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return not hard or (isinstance(value, dict | list) and bool(value))


def title(text: str, given: Arguments, hard: bool) -> bool:
    """A title in <<double angle brackets>>."""
    found = [t.lstrip("<").rstrip(">").strip() for t in _bracketed(text, r"<<[^\n]+>>", ">>")]
    return any(words(t) for t in found) if hard else any(found)


def two_responses(text: str, given: Arguments, hard: bool) -> bool:
    """Two different responses, parted by six asterisks."""
    parts = text.split("******")
    valid = []
    for index, part in enumerate(parts):
        if part.strip():
            valid.append(part.strip())
        elif index not in {0, len(parts) - 1}:
            return False
    if len(valid) != 2 or valid[0] == valid[1]:
        return False
    if not hard:
        return True
    first, second = ([word.lower() for word in words(part)] for part in valid)
    return bool(first) and bool(second) and first != second


def repeat_prompt(text: str, given: Arguments, hard: bool) -> bool:
    """The reply begins with the prompt, word for word."""
    prompt = given["prompt_to_repeat"].strip().lower()
    begins = text.strip().lower().startswith(prompt)
    return begins and (not hard or len(words(text.strip()[len(prompt) :])) > 0)


def end_phrase(text: str, given: Arguments, hard: bool) -> bool:
    """The reply ends with a phrase."""
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def capital_words(text: str, given: Arguments, hard: bool) -> bool:
    """At least, or less than, so many words in capitals."""
    found = [token for token in treebank_tokens(text) if token.isupper()]
    if hard:
        found = [token for token in found if len(token) > 1 or token in {"I", "A"}]
    return _compare(len(found), given["capital_relation"], given["capital_frequency"])


def english_capital(text: str, given: Arguments, hard: bool) -> bool:
    """English, in capitals only."""
    return text.isupper() and _english(text, hard)


def english_lowercase(text: str, given: Arguments, hard: bool) -> bool:
    """English, in small letters only."""
    return text.islower() and _english(text, hard)


def _english(text: str, hard: bool) -> bool:
    found = identify(text.lower())
    return found == "en" or (found is None and not hard)


def no_comma(text: str, given: Arguments, hard: bool) -> bool:
    """No comma; hard, none of any script."""
    return not re.search("[,،，、﹐]" if hard else ",", text)


def quotation(text: str, given: Arguments, hard: bool) -> bool:
    """The whole reply stands in double quotation marks."""
    text = text.strip()
    wrapped = len(text) > 1 and text[0] == '"' and text[-1] == '"'
    return wrapped and (not hard or bool(words(text)))


RULES: dict[str, tuple[Rule, frozenset[str]]] = {
    "keywords:existence": (keywords_exist, frozenset({"keywords"})),
    "keywords:frequency": (keyword_frequency, frozenset({"keyword", "relation", "frequency"})),
    "keywords:forbidden_words": (forbidden_words, frozenset({"forbidden_words"})),
    "keywords:letter_frequency": (letter_frequency, frozenset({"letter", "let_relation", "let_frequency"})),
    "language:response_language": (language, frozenset({"language"})),
    "length_constraints:number_sentences": (number_sentences, frozenset({"relation", "num_sentences"})),
    "length_constraints:number_paragraphs": (number_paragraphs, frozenset({"num_paragraphs"})),
    "length_constraints:number_words": (number_words, frozenset({"relation", "num_words"})),
    "length_constraints:nth_paragraph_first_word": (
        nth_paragraph_first_word,
        frozenset({"first_word", "num_paragraphs", "nth_paragraph"}),
    ),
    "detectable_content:number_placeholders": (number_placeholders, frozenset({"num_placeholders"})),
    "detectable_content:postscript": (postscript, frozenset({"postscript_marker"})),
    "detectable_format:number_bullet_lists": (number_bullets, frozenset({"num_bullets"})),
    "detectable_format:constrained_response": (constrained_response, frozenset()),
    "detectable_format:number_highlighted_sections": (number_highlights, frozenset({"num_highlights"})),
    "detectable_format:multiple_sections": (
        multiple_sections,
        frozenset({"section_spliter", "num_sections"}),
    ),
    "detectable_format:json_format": (json_format, frozenset()),
    "detectable_format:title": (title, frozenset()),
    "combination:two_responses": (two_responses, frozenset()),
    "combination:repeat_prompt": (repeat_prompt, frozenset({"prompt_to_repeat"})),
    "startend:end_checker": (end_phrase, frozenset({"end_phrase"})),
    "change_case:capital_word_frequency": (
        capital_words,
        frozenset({"capital_relation", "capital_frequency"}),
    ),
    "change_case:english_capital": (english_capital, frozenset()),
    "change_case:english_lowercase": (english_lowercase, frozenset()),
    "punctuation:no_comma": (no_comma, frozenset()),
    "startend:quotation": (quotation, frozenset()),
}
"""Each kind by its official id, with the arguments that it needs."""
