"""Several samples of one task, and one of them chosen: best of n, majority, weighted vote, rejection sampling.

Pure functions of what was sampled. An ungraded sample is never chosen by its score and never outvotes another: it is
left out and counted. Ties go to what was sampled first, so equal samples give equal choices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..tools.errors import UserError
from ..verifiers.base import Score
from ..verifiers.final_answer import without_thinking
from ..verifiers.numbers import final_number, short
from .trajectory import StopReason, Trajectory

Method = Literal["best_of", "majority", "weighted", "rejection"]
METHODS: tuple[Method, ...] = ("best_of", "majority", "weighted", "rejection")
Answers = Literal["text", "number", "math"]
ANSWERS: tuple[Answers, ...] = ("text", "number", "math")
CUT_SHORT = frozenset(StopReason) - {StopReason.TERMINATED, StopReason.TRUNCATED}
"""Ends after which the last thing written is no final reply."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen among the samples of one task."""

    chosen: tuple[int, ...]
    """The places of the chosen samples, best first: one, none, or for rejection sampling several."""
    samples: int
    """How many there were."""
    ungraded: int = 0
    """How many had no score and were left out for that; votes that use no score leave none out."""
    silent: int = 0
    """How many gave no answer and so cast no vote."""
    votes: tuple[tuple[str, float], ...] = field(default=())
    """For votes: each answer and its weight, the winner first."""

    @property
    def best(self) -> int | None:
        """The place of the first chosen sample; None where nothing could be chosen."""
        return self.chosen[0] if self.chosen else None


def best_of(scores: Sequence[Score]) -> Choice:
    """Choose the sample with the highest score; of equal ones the first. Ungraded ones are left out."""
    graded = [place for place, score in enumerate(scores) if score.graded]
    best = min(graded, key=lambda place: (-scores[place].value, place), default=None)
    return Choice(() if best is None else (best,), len(scores), ungraded=len(scores) - len(graded))


def majority(answers: Sequence[str | None]) -> Choice:
    """Choose the answer given most often (self-consistency, arXiv 2203.11171) and the first sample that gives it.

    None is no answer and casts no vote. Of answers with equally many votes the one that was sampled first wins.
    """
    return _voted(answers, [1.0] * len(answers), ungraded=0)


def weighted_vote(answers: Sequence[str | None], scores: Sequence[Score]) -> Choice:
    """Choose the answer whose samples have the largest sum of scores, and the best-scored sample that gives it.

    An ungraded sample casts no vote (arXiv 2206.02336, section 3.2, with the verifier's score as the weight). Of
    answers with equal sums the one sampled first wins; so it does where all scores are 0.

    Raises `ValueError` for as many scores as there are not answers.
    """
    if len(answers) != len(scores):
        raise ValueError(f"each answer needs a score, got {len(answers)} answers and {len(scores)} scores")
    kept = [answer if score.graded else None for answer, score in zip(answers, scores, strict=True)]
    ungraded = sum(not score.graded for score in scores)
    choice = _voted(kept, [score.value for score in scores], ungraded=ungraded)
    if not choice.chosen:
        return choice
    winner = kept[choice.chosen[0]]
    givers = [place for place, answer in enumerate(kept) if answer == winner]
    best = min(givers, key=lambda place: (-scores[place].value, place))
    return Choice((best,), choice.samples, ungraded, choice.silent, choice.votes)


def rejection(scores: Sequence[Score], *, threshold: float = 1.0, keep: int | None = None) -> Choice:
    """Keep the samples that reach `threshold`, best first, at most `keep` of them (all by default).

    What rejection-sampling fine-tuning learns from. Raises `ValueError` for a threshold outside [0, 1], where every
    score lies, and for `keep` below 1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"scores lie in [0, 1], so must the threshold, got {threshold}")
    if keep is not None and keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    passed = [place for place, score in enumerate(scores) if score.graded and score.value >= threshold]
    passed.sort(key=lambda place: (-scores[place].value, place))
    return Choice(tuple(passed[:keep]), len(scores), ungraded=sum(not score.graded for score in scores))


def _voted(answers: Sequence[str | None], weights: Sequence[float], *, ungraded: int) -> Choice:
    sums: dict[str, list[float]] = {}
    first: dict[str, int] = {}
    for place, (answer, weight) in enumerate(zip(answers, weights, strict=True)):
        if answer is not None:
            first.setdefault(answer, place)
            sums.setdefault(answer, []).append(weight)
    totals = {
        answer: math.fsum(found) for answer, found in sums.items()
    }  # the order of samples must not matter
    ranked = sorted(totals, key=lambda answer: (-totals[answer], first[answer]))
    silent = sum(answer is None for answer in answers) - ungraded
    return Choice(
        (first[ranked[0]],) if ranked else (),
        len(answers),
        ungraded=ungraded,
        silent=silent,
        votes=tuple((answer, totals[answer]) for answer in ranked),
    )


# --- what a sample answers


def last_reply(trajectory: Trajectory) -> str:
    """Return what the model wrote last, without thinking; empty where it wrote nothing."""
    said = [m["content"] for m in trajectory.messages if m["role"] == "assistant"]
    return without_thinking(said[-1]).strip() if said else ""


def answers_of(texts: Sequence[str], kind: Answers) -> list[str | None]:
    """Return the answer in each text as a word that is the same for equal answers; None where there is none.

    `text` is the whole text, blanks and letter case aside; `number` the final number; `math` the final answer as
    `MathAnswer` finds and compares it: each takes the writing of the first one that it equals.

    Raises `UserError` for another kind.
    """
    if kind == "text":
        return [re.sub(r"\s+", " ", text).strip().casefold() or None for text in texts]
    if kind == "number":
        found = [final_number(text) for text in texts]
        return [None if number is None else short(number) for number in found]
    if kind == "math":
        return _math_answers(texts)
    raise UserError(f"the kind of answer must be one of {', '.join(ANSWERS)}, got {kind!r}")


def _math_answers(texts: Sequence[str]) -> list[str | None]:
    from ..verifiers.math import MathAnswer, read_gold
    from ..verifiers.math_extract import extract
    from ..verifiers.math_nodes import Unreadable

    judge = MathAnswer(symbolic=False)
    known: list[str] = []
    answers: list[str | None] = []

    def equal(text: str, gold: str) -> bool:
        try:
            return judge.judge(text, read_gold(gold)).right
        except Unreadable:
            return False

    for text in texts:
        written = extract(text, words=True).text.strip()
        same = next((gold for gold in known if gold == written or equal(text, gold)), None)
        if same is None and written:
            known.append(written)
            same = written
        answers.append(same)
    return answers


def choose(
    trajectories: Sequence[Trajectory],
    method: Method,
    *,
    scores: Sequence[Score] | None = None,
    answers: Answers = "number",
    threshold: float = 1.0,
    keep: int | None = None,
) -> Choice:
    """Choose among the episodes of one task by `method`.

    Args:
        trajectories: the samples, in the order in which they were drawn.
        method: one of `METHODS`.
        scores: what a verifier or a reward model gave for each; None takes their own scores.
        answers: for votes, what counts as an answer; see `answers_of`.
        threshold: for rejection sampling, the least score.
        keep: for rejection sampling, the most samples of a task.

    An episode that a limit has cut has no final reply: it casts no vote. Raises `UserError` for an unknown method.
    """
    given = [t.score for t in trajectories] if scores is None else list(scores)
    if method == "best_of":
        return best_of(given)
    if method == "rejection":
        return rejection(given, threshold=threshold, keep=keep)
    if method not in METHODS:
        raise UserError(f"the method must be one of {', '.join(METHODS)}, got {method!r}")
    finished = ["" if t.stop in CUT_SHORT else last_reply(t) for t in trajectories]
    found = [
        answer if text else None for answer, text in zip(answers_of(finished, answers), finished, strict=True)
    ]
    return majority(found) if method == "majority" else weighted_vote(found, given)
