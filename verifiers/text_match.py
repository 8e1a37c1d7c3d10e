"""Texts against a wanted text: exact, choice letter, pattern, fuzzy, overlap of words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .base import Episode, Score, Task, Verifier
from .final_answer import answer_tag, boxes, without_thinking
from .patterns import search_safely, simple_pattern

_MAX_CHARACTERS = 20_000
_MAX_WORDS = 4_000


def normalised(text: str) -> str:
    """Return a text in lower case, without accents, articles, punctuation and runs of space (as for SQuAD)."""
    text = unicodedata.normalize("NFKD", text[:_MAX_CHARACTERS].lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"[^\w\s]", " ", text)
    return " ".join(word for word in text.split() if word not in {"a", "an", "the"})


def answer_text(reply: str) -> str:
    """Return what a reply answers: its last box, else its `<answer>`, else all of it; no thinking."""
    text = without_thinking(reply)
    if found := boxes(text):
        return found[-1].content
    tagged = answer_tag(text)
    return text if tagged is None else tagged


def wanted_texts(task: Task) -> list[str]:
    """Return the texts that a task accepts: its answer, or the list of them.

    Raises `ValueError` naming the task where there is none.
    """
    answer = task.answer
    listed = [answer] if isinstance(answer, str) else answer
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(a, str) and a.strip() for a in listed)
    ):
        raise ValueError(
            f"task {task.id!r}: the answer must be a text or a list of texts, got {answer!r:.100}"
        )
    return listed


class _Texts(Verifier):
    """What verifiers of texts share: the task's answer is a text or a list of accepted ones."""

    def check(self, task: Task) -> None:
        """Refuse a task without an accepted text."""
        wanted_texts(task)


@dataclass(frozen=True)
class ExactMatch(_Texts):
    """Is the answer (last box, `<answer>`, or the whole reply) one of the accepted texts?

    `normalise=False` compares every character but space at the ends.
    """

    normalise: bool = True
    """Whether case, accents, articles and punctuation do not matter."""

    def score(self, episode: Episode) -> Score:
        """Compare with each accepted text."""
        clean = normalised if self.normalise else str.strip
        given = clean(answer_text(episode.reply))
        wanted = [clean(text) for text in wanted_texts(episode.task)]
        equal = bool(given) and given in wanted
        return Score(
            float(equal),
            reason=f"{'equal' if equal else 'different'}: got {given!r:.100}, wanted {wanted[0]!r:.100}",
        )


@dataclass(frozen=True)
class FuzzyMatch(_Texts):
    """How close is the answer to an accepted text: 1 less edit distance over length, 0 below `threshold`."""

    threshold: float = 0.8
    """The least similarity that counts."""
    graded: bool = False
    """Whether the value is the similarity; else 1 from the threshold on."""

    def score(self, episode: Episode) -> Score:
        """Take the best similarity over the accepted texts."""
        given = normalised(answer_text(episode.reply))
        best = max(similarity(given, normalised(text)) for text in wanted_texts(episode.task))
        good = best >= self.threshold
        return Score(
            (best if self.graded else 1.0) if good else 0.0,
            {"similarity": best},
            reason=f"similarity {best:.3f}",
        )


def similarity(one: str, other: str) -> float:
    """Return 1 less edit distance over the longer length; texts are cut to 2,000 characters."""
    one, other = one[:2000], other[:2000]
    longest = max(len(one), len(other))
    if not longest:
        return 1.0
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return 1 - row[-1] / longest


@dataclass(frozen=True)
class WordOverlap(_Texts):
    """How many words does the answer share with an accepted text: F1 of words, or ROUGE-L's of their order."""

    measure: Literal["f1", "rouge_l"] = "f1"
    """Bag of words, or longest common subsequence."""

    def __post_init__(self) -> None:
        if self.measure not in {"f1", "rouge_l"}:
            raise ValueError(f"measure must be 'f1' or 'rouge_l', got {self.measure!r}")

    def score(self, episode: Episode) -> Score:
        """Take the best F1 over the accepted texts."""
        given = normalised(answer_text(episode.reply)).split()[:_MAX_WORDS]
        count = common_words if self.measure == "f1" else common_subsequence
        best = 0.0
        for text in wanted_texts(episode.task):
            wanted = normalised(text).split()[:_MAX_WORDS]
            shared = count(given, wanted)
            if shared:
                best = max(best, 2 * shared / (len(given) + len(wanted)))
        return Score(best, {self.measure: best}, reason=f"{self.measure} {best:.3f}")


def common_words(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of shared words, each as often as both have it."""
    return sum((Counter(one) & Counter(other)).values())


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by bits: a row is one integer."""
    places: dict[str, int] = {}
    for index, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << index
    row = full = (1 << len(one)) - 1
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(one) - row.bit_count()


@dataclass(frozen=True)
class Choice(Verifier):
    """Does the reply choose the task's letter? One letter must be chosen; naming several is hedging.

    Read are the last box, `<answer>`, "the answer is (B)", "Answer: B", a last line that is only a letter.
    `task.answer` is the letter, or its index from 0.
    """

    letters: str = "ABCDEFGHIJ"
    """The letters there are."""

    def score(self, episode: Episode) -> Score:
        """Compare the chosen letter."""
        wanted = self._wanted(episode.task)
        chosen = self.chosen(episode.reply)
        if len(chosen) > 1:
            return Score(0.0, reason=f"hedged: {', '.join(chosen)} where one is wanted")
        if not chosen:
            return Score(0.0, reason="missing: no choice in the reply")
        equal = chosen[0] == wanted
        return Score(
            float(equal), reason=f"{'equal' if equal else 'different'}: got {chosen[0]}, wanted {wanted}"
        )

    def chosen(self, reply: str) -> list[str]:
        """Return the letters that a reply chooses: one, none, or several."""
        text = without_thinking(reply)[-_MAX_CHARACTERS:]
        letter = f"[{self.letters}]"
        boxed = boxes(text)
        marked = boxed[-1].content if boxed else answer_tag(text)
        if marked is None:
            said = list(
                re.finditer(
                    r"\b(?:answer|choice|option)\b\W{0,4}(?:is|:|=)?\W{0,6}(.{0,60})", text, re.IGNORECASE
                )
            )
            marked = next((m[1] for m in reversed(said) if re.match(rf"\W*{letter}\b", m[1])), None)
        if marked is None:
            lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
            marked = lines[-1] if lines and re.fullmatch(rf"\W*{letter}\W*", lines[-1]) else ""
        bare = re.sub(r"\\(?:text|textbf|mathrm|mathbf)", " ", marked)
        first = re.match(rf"[\W_]*({letter})\b", bare)
        if first is None:
            return []
        rest = bare[first.end() :]
        joined = re.findall(rf"(?:\bor\b|\band\b|[,/&])\W*({letter})\b", rest)
        return list(dict.fromkeys([first[1], *joined]))

    def _wanted(self, task: Task) -> str:
        answer = task.answer
        if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(self.letters):
            return self.letters[answer]
        if (
            isinstance(answer, str)
            and (bare := answer.strip(" ()."))
            and len(bare) == 1
            and bare.upper() in self.letters
        ):
            return bare.upper()
        raise ValueError(
            f"task {task.id!r}: the answer must be one of {self.letters} or an index, got {answer!r:.60}"
        )

    def check(self, task: Task) -> None:
        """Refuse a task whose answer is no letter."""
        self._wanted(task)


@dataclass(frozen=True)
class RegexMatch(Verifier):
    """Does the answer match a pattern? `pattern`, or the task's answer where it is None.

    A pattern that could take exponential time on a hostile reply runs in a guarded process.
    """

    pattern: str | None = None
    """The pattern of every task; None: each task's answer is one."""
    whole: bool = False
    """Whether all of the answer must match; else a part of it."""
    ignore_case: bool = False
    """Whether case does not matter."""

    def score(self, episode: Episode) -> Score:
        """Search for the pattern."""
        pattern = self._pattern(episode.task)
        text = answer_text(episode.reply)[:_MAX_CHARACTERS].strip()
        found = search_safely(pattern, text, whole=self.whole, ignore_case=self.ignore_case)
        return Score(float(found), reason=f"{'matches' if found else 'does not match'} {pattern!r:.100}")

    def _pattern(self, task: Task) -> str:
        pattern = task.answer if self.pattern is None else self.pattern
        if not isinstance(pattern, str):
            raise ValueError(f"task {task.id!r}: the answer must be a pattern, got {pattern!r:.100}")
        try:
            simple_pattern(pattern)
        except re.error as error:
            raise ValueError(
                f"task {task.id!r}: the pattern {pattern!r:.100} is not valid: {error}"
            ) from None
        return pattern

    def check(self, task: Task) -> None:
        """Refuse a task without a valid pattern."""
        self._pattern(task)
