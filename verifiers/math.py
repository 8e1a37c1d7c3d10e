"""`MathAnswer`: is the final answer of a reply the task's answer?

The path of a verdict: one answer is extracted, read into a typed tree, and compared by the rules of the
gold's type. No text is ever executed; budgets, not clocks, bound the time, so a verdict is the same on any
machine, from any thread, under any load.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .base import Episode, Score, Task, Verifier
from .final_answer import boxes
from .math_compare import Verdict, compare
from .math_equal import Decider, Rules, TooLargeToCompare
from .math_extract import Extraction, extract
from .math_meaning import meaning
from .math_nodes import Node, Sym, Text, Unreadable, show
from .math_reader import plain_words, read
from .math_tidy import tidy


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold answer, read once."""

    text: str
    """As the task gives it."""
    readings: tuple[Node, ...]
    """What it may mean: more than one only where a comma may group digits or separate answers."""
    words: str
    """Its words, in lower case."""

    @property
    def wants_words(self) -> bool:
        """Whether the answer is a word, a sentence or a choice letter."""
        return any(isinstance(r, Text) for r in self.readings) or self.choice is not None

    @property
    def choice(self) -> str | None:
        """The letter, if the answer is one capital letter."""
        letter = re.fullmatch(r"\W*(?:\\text(?:bf|rm|it)?\s*\{)?\W*([A-J])\W*", self.text.strip())
        return letter[1] if letter else None


@dataclass(frozen=True, slots=True)
class MathVerdict:
    """What came of judging a reply, with everything needed to see why."""

    status: str
    """`equal`, `different`, `hedged`, `missing`, `unparsable` or `too large`."""
    extraction: Extraction
    """The answer found and where."""
    why: str
    """What was compared and what differed."""

    @property
    def right(self) -> bool:
        """Whether the reply counts as right."""
        return self.status == "equal"


@dataclass(frozen=True)
class MathAnswer(Verifier):
    """Is the final answer of the reply the task's answer? For anything from `18` to matrices.

    `task.answer` is LaTeX or plain text, or a number; a text that holds a `\\boxed{}` means what is in it.
    Found is the last complete box, else `<answer>`, `####`, "the answer is", the last formula, the last
    bold text, the last number; thinking blocks do not count. Several answers for one are hedging and wrong.

        MathAnswer()("so it is \\boxed{\\frac{1}{2}}", Task("t", "...", "0.5")).value  # 1.0
    """

    digits: int = 6
    """Significant digits to which a decimal must agree with the exact value that it stands for."""
    units: bool = True
    """Whether a different unit is a different answer; a missing one is forgiven."""
    require_units: bool = False
    """Whether a unit of the gold answer must be written."""
    percent_as_number: bool = False
    """Whether `50` and `0.5` both count for `50 %`."""
    ordered_lists: bool = False
    """Whether the order of a list of solutions matters."""
    unfinished: bool = False
    """Whether an answer may leave a sum, integral, limit or determinant undone."""
    tolerance: float = 0.0
    """Relative difference between numbers that still counts as equal."""
    boxed_only: bool = False
    """Whether an answer outside `\\boxed{}` counts as missing."""
    symbolic: bool = True
    """Whether SymPy decides, in a guarded process, what evaluation leaves open (it seldom does)."""

    @property
    def rules(self) -> Rules:
        """The rules of comparison that the options stand for."""
        return Rules(
            digits=self.digits,
            units=self.units,
            require_units=self.require_units,
            percent_as_number=self.percent_as_number,
            ordered_lists=self.ordered_lists,
            unfinished=self.unfinished,
            relative_tolerance=self.tolerance,
        )

    def score(self, episode: Episode) -> Score:
        """Judge the reply; the reason begins with the status of the verdict."""
        verdict = self.judge(episode.reply, gold_of(episode.task))
        return Score(
            float(verdict.right), reason=f"{verdict.status} ({verdict.extraction.how}): {verdict.why}"
        )

    def judge(self, reply: str, gold: Gold) -> MathVerdict:
        """Judge a reply against a gold answer that `read_gold` has read."""
        found = extract(reply, words=gold.wants_words)
        if self.boxed_only and found.how != "boxed":
            return MathVerdict("missing", found, "no complete \\boxed{} in the reply")
        if not found.text.strip():
            return MathVerdict("missing", found, "no answer in the reply")
        decide = in_guard if self.symbolic else None
        status, why = match(gold, found.text, self.rules, decide)
        return MathVerdict(status, found, why)

    def check(self, task: Task) -> None:
        """Refuse a task whose answer cannot be read."""
        gold_of(task)


def gold_of(task: Task) -> Gold:
    """Read the gold answer of a task.

    Raises `ValueError` naming the task for an answer that is missing or cannot be read.
    """
    answer = task.answer
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(
            f"task {task.id!r}: the answer must be a text or a number, got {answer!r:.100}; correct the row"
        )
    try:
        return read_gold(str(answer))
    except Unreadable as error:
        raise ValueError(
            f"task {task.id!r}: the answer {str(answer)[:100]!r} cannot be read: {error}; correct the row "
            "or use a verifier of texts"
        ) from None


@lru_cache(maxsize=20_000)
def read_gold(text: str) -> Gold:
    """Read a gold answer; cached. Raises `Unreadable` for one that means nothing."""
    found = boxes(text)
    content = extract(text).text if found else text
    if not tidy(content):
        raise Unreadable("it is empty")
    words = plain_words(content)
    try:
        return Gold(content, readings(content), words)
    except Unreadable:
        if re.search(r"[\\^_{}]", re.sub(r"\\text\w*\s*\{[^{}]*\}|\$[^$]*\$", "", content)) or not words:
            raise
        return Gold(content, (Text(words),), words)


def readings(text: str) -> tuple[Node, ...]:
    """Read a text; twice where `1,234` may be one number or two. Raises `Unreadable`."""
    if decimal_comma := _DECIMAL_COMMA.fullmatch(tidy(text)):
        return (read(f"{decimal_comma[1]}.{decimal_comma[2]}"), read(text))
    first = read(text)
    if not re.search(r"\d,\d{3}(?!\d)", text):
        return (first,)
    try:
        second = read(text, thousands=False)
    except Unreadable:
        return (first,)
    return (first,) if first == second else (first, second)


_DECIMAL_COMMA = re.compile(r"(-?(?:0(?=,\d\d)|\d{4,})),(\d+)")  # 0,25 and 1000,99; 2,74 may be two answers


def match(gold: Gold, answer: str, rules: Rules, decide: Decider | None = None) -> tuple[str, str]:
    """Compare a gold answer with the text of an answer: the status, and what was compared."""
    if (verdict := _by_text(gold, answer, rules)) is not None:
        return _worded(verdict, gold.text, answer)
    try:
        given = readings(answer)
    except Unreadable as error:
        stripped = _unlabelled(answer)
        if stripped == answer:
            return "unparsable", f"{_cut(answer)}: {error}"
        try:
            given = readings(stripped)
        except Unreadable:
            return "unparsable", f"{_cut(answer)}: {error}"
    if any(isinstance(node, Text) for node in given) and not gold.wants_words:
        stripped = _unlabelled(answer)
        if stripped != answer and not _NEGATIVE.search(answer.replace(stripped, " ")):
            with contextlib.suppress(Unreadable):
                given = readings(stripped)
    verdict = Verdict(False, "different")
    try:
        for one in gold.readings:
            for other in given:
                verdict = compare(one, other, rules, decide)
                if verdict.equal:
                    return _worded(verdict, show(one), show(other))
    except TooLargeToCompare as error:
        return "too large", f"{_cut(answer)}: {error}"
    except RecursionError:
        return "unparsable", f"{_cut(answer)}: nested too deep"
    return _worded(verdict, show(gold.readings[0]), show(given[0]))


def _unlabelled(answer: str) -> str:
    """Return an answer without the words before it: `\\text{The answer is } 5`, `\\text{Total: 5}`."""
    inside = re.fullmatch(r"\s*\\text\w*\s*\{([^{}]*)\}\s*", answer)
    stripped = _label.sub("", inside[1] if inside else answer, count=1)
    return answer if inside and stripped == inside[1] else stripped


_label = re.compile(
    r"^\s*(?:\\text\w*\s*\{[^{}]*?(?:\b(?:is|are|equals)\b|[:=])\s*\}|[A-Za-z ]{2,40}(?:\bis\b|\bare\b|:))\s*"
)
_NEGATIVE = re.compile(
    r"\b(?:not|no|never|less|more|greater|fewer|least|most|under|over|between|either|neither|except)\b|n't"
)
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)


def _by_text(gold: Gold, answer: str, rules: Rules) -> Verdict | None:
    """Decide by the words alone where that is what the gold is; None to go on with mathematics."""
    words = plain_words(answer)
    if _squashed(gold.text) == _squashed(answer) and "=" not in words:
        return Verdict(True, "the same text")
    time = _time(gold.words)
    if time is not None:
        given = _time(words)
        if given is not None:
            equal = time[:3] == given[:3] and (time[3] == given[3] or not (time[3] and given[3]))
            return Verdict(equal, "times")
    if gold.choice is not None:
        chosen = _choice(answer)
        if chosen is not None:
            return Verdict(chosen == gold.choice, "choice letters")
    if any(isinstance(reading, Text) for reading in gold.readings):
        if len(gold.words) == 1 or not rules.ignore_case:
            return Verdict(_cased(gold.text) == _cased(answer), "words")
        if _articleless(gold.words) == _articleless(words):
            return Verdict(True, "words")
        return None if meaning(Text(gold.words)) is not None else Verdict(False, "words")
    if len(words) > 1 and words == gold.words and words.isalpha() and isinstance(gold.readings[0], Sym):
        return Verdict(_cased(gold.text) == _cased(answer), "words")
    return None


def _choice(answer: str) -> str | None:
    """Return the one choice letter that an answer names: `D`, `(D)`, `D. 42`, `\\text{(d)}`; None for none."""
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|bf|rm)\w*", " ", tidy(answer))
    text = re.sub(r"[{}$*~]|\\[ ,;:!]|\\q?quad", " ", text).strip(" .")
    text = re.sub(r"^(?:option|choice|answer)\s*:?\s*", "", text, flags=re.IGNORECASE)
    if alone := re.fullmatch(r"\(?\s*([A-J])\s*\)?[.:]?", text) or re.fullmatch(
        r"\(\s*([a-j])\s*\)|([a-j])\)", text
    ):
        return (alone[1] or alone[2]).upper()
    labelled = re.match(r"(?:\(([A-J])\)|([A-J])[).:])\s*\S", text)
    if labelled and not re.search(r"\([A-J]\)|\b[A-J][).:]|\bor\b|\band\b", text[labelled.end() - 1 :]):
        return labelled[1] or labelled[2]
    return None


def _time(words: str) -> tuple[str, str, str, str] | None:
    match_ = _TIME.fullmatch(words)
    if match_ is None or int(match_[2]) > 59 or int(match_[1]) > 24:
        return None
    return match_[1].lstrip("0"), match_[2], match_[3] or "", (match_[4] or "").lower()


def _squashed(text: str) -> str:
    if len(text) > 10_000:
        return text
    return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])|(?<=[A-Za-z])\s+(?=\d)", "", tidy(text))


def _cased(text: str) -> str:
    """Return the words of a text with their case."""
    text = re.sub(r"\\(?:text|math)\w*|\\mbox|\\boxed|[{}$()]|\\[,;:! ]", " ", tidy(text))
    return re.sub(r"\s+", " ", text).strip(" .")


def _articleless(words: str) -> str:
    """Return words without what carries nothing: articles, commas, the "and" of a list."""
    return re.sub(r"^(?:the|an?)\s+", "", re.sub(r"(?:[\s,.]|\band\b)+", " ", words)).strip()


def _worded(verdict: Verdict, gold: str, answer: str) -> tuple[str, str]:
    status = "equal" if verdict.equal else "hedged" if verdict.why.startswith("hedged") else "different"
    note = "" if verdict.why in {"equal", "different"} else f" ({verdict.why})"
    return status, f"got {_cut(answer)}, wanted {_cut(gold)}{note}"


def _cut(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def in_guard(gold: Node, answer: Node) -> bool | None:
    """Let SymPy decide in the shared guard; an answer that it cannot decide in time stays undecided.

    Raises `GuardError` for a failure of ours, which leaves the reply ungraded.
    """
    from .guard import GuardMemory, GuardRaised, GuardTimeout, shared_guard

    try:
        verdict = shared_guard().call(_decide_symbolically, gold, answer, wall_s=5.0)
    except (GuardTimeout, GuardMemory, GuardRaised):
        return None
    return None if verdict is None else bool(verdict)


def _decide_symbolically(gold: Node, answer: Node) -> bool | None:
    from .math_symbolic import decide

    return decide(gold, answer)


__all__: Sequence[str] = ["Gold", "MathAnswer", "MathVerdict", "gold_of", "match", "read_gold", "readings"]
