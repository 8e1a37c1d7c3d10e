"""The plainest verifier of mathematics: the final number of the reply against the number of the task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .base import Episode, Score, Task, Verifier
from .final_answer import after_hashes, answer_tag, boxes, without_thinking

_NUMBER = re.compile(  # digits of ASCII only: characters that look like digits, or are those of other scripts, are none
    r"(?<![\w.])(?=[-−+]?[$€£¥]?\.?[0-9])(?P<sign>[-−+]?)[$€£¥]?"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?!\d)|[0-9]+)?(?P<decimals>\.[0-9]+)?"
    r"(?:[eE](?P<exponent>[-+]?[0-9]{1,3})(?!\w)|/(?P<denominator>[0-9]+)(?![\d.]))?"
)
_MARKUP = str.maketrans({"{": " ", "}": " ", "*": " ", "_": " ", "`": " "})
_MAX_CHARACTERS = 200_000  # from the end of a reply; the final number is not before
_MAX_DIGITS = 1000  # longer digit strings are no answers; the bound keeps integer arithmetic cheap


@dataclass(frozen=True)
class FinalNumber(Verifier):
    """Is the final number of the reply the task's number? For grade-school problems and calculators.

    The last `\\boxed{}` counts, else `<answer>`, else what follows `####`, else the last number of the
    reply. Thousands commas, currency signs, a percent sign, units and trailing zeros do not matter;
    numbers compare exactly as fractions. The task's answer is a number or a text that ends in one
    (`#### 18`). For anything beyond one number use `MathAnswer`.
    """

    tolerance: float = 0.0
    """Relative difference that still counts as equal."""

    def score(self, episode: Episode) -> Score:
        """Compare the reply's final number with the task's."""
        gold = gold_number(episode.task)
        found = final_number(episode.reply)
        if found is None:
            return Score(0.0, reason="missing: no number in the reply")
        equal = found == gold or abs(found - gold) <= Fraction(self.tolerance) * abs(gold)
        verdict = "equal" if equal else "different"
        return Score(float(equal), reason=f"{verdict}: got {short(found)}, wanted {short(gold)}")

    def check(self, task: Task) -> None:
        """Refuse a task whose answer holds no number."""
        gold_number(task)


def gold_number(task: Task) -> Fraction:
    """Return the number of `task.answer`. Raises `ValueError` where there is none."""
    answer = task.answer
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        try:
            return Fraction(str(answer)) if isinstance(answer, float) else Fraction(answer)
        except ValueError:
            pass
    elif isinstance(answer, str):
        found = final_number(answer)
        if found is not None:
            return found
    raise ValueError(
        f"task {task.id!r}: the answer must be a finite number or a text that ends in one, "
        f"got {answer!r:.150}; correct the row or use another verifier"
    )


def final_number(text: str) -> Fraction | None:
    """Return the final number of `text`, or None where it has none."""
    text = without_thinking(text[-_MAX_CHARACTERS:])
    boxed = boxes(text)
    marked = (boxed[-1].content if boxed else None, answer_tag(text), after_hashes(text))
    for part in marked:
        if part is not None:
            return _last_number(part)
    return _last_number(text)


def _last_number(text: str) -> Fraction | None:
    for match in reversed(list(_NUMBER.finditer(_latex_fractions(text).translate(_MARKUP)))):
        number = _as_fraction(match)
        if number is not None:
            return number
    return None


_FRACTION = re.compile(r"(-?)\s?\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))")


def _latex_fractions(text: str) -> str:
    text = text.replace("{,}", ",").replace(r",\!", ",")
    if "\\" not in text:
        return text
    text = _FRACTION.sub(lambda m: f" {m[1]}{m[2] or m[4]}/{m[3] or m[5]} ", text)
    return text.replace(r"\$", "$").replace(r"\%", "%")


def _as_fraction(match: re.Match[str]) -> Fraction | None:
    whole, decimals = match["whole"] or "", match["decimals"] or ""
    if (not whole and not decimals) or len(whole) + len(decimals) > _MAX_DIGITS:
        return None
    denominator = match["denominator"] or "1"
    if len(denominator) > _MAX_DIGITS or not int(denominator):
        return None
    whole = whole.replace(",", "") or "0"
    number = (
        Fraction(whole + decimals) / int(denominator) if decimals else Fraction(int(whole), int(denominator))
    )
    if match["exponent"]:
        number *= Fraction(10) ** int(match["exponent"])
    return -number if match["sign"] in {"-", "−"} else number


def short(number: Fraction) -> str:
    """Return a number for a reason: a decimal where it ends, else a fraction; at most 40 characters."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    text = str(number)
    if denominator == 1 and number.denominator < 10**15 and abs(number) < 10**15:
        text = f"{float(number):.15g}"
    return text if len(text) <= 40 else text[:37] + "..."
