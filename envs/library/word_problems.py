"""`quintain/WordProblems-v0`: arithmetic word problems, composed as they are asked for.

A story is an amount and what happens to it. Scene, opening, steps, their order, verbs, names and distractors are drawn
apart, so there are millions of different texts. The answer is exact, an integer or a short decimal. It is no number of
the text, no result on the way and no small or famous number: copying, stopping early and constant guesses do not pay.
The split of a problem is a hash of its numbers: no held-out problem shares its numbers with one of training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Task
from ...verifiers.numbers import FinalNumber
from ..card import Card
from ..single_turn import SingleTurnEnv
from ..tasks import TaskSet
from .items import Split, check_split, in_split
from .word_problem_scenes import DISTRACTORS, FRACTIONS, HER, PEOPLE, SCENES, WHEN, Scene

MAX_STEPS = 5
MAX_AMOUNT = 10_000
"""No amount on the way is larger."""
_GUESSES = frozenset({42, 50, 99, 100, 123, 500, 999, 1000, 1234})  # with all up to 10: never an answer
_FORM = "Write the answer in the last line: #### and then the number alone."


@dataclass
class _Story:
    """A story that is being written."""

    rng: np.random.Generator
    scene: Scene
    who: str
    pronoun: str
    full: str
    short: str
    other: str
    when: list[str] = field(default_factory=list)
    """What steps may still open with."""
    amount: Fraction = Fraction(0)
    sentences: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)
    """One line of arithmetic for each step."""
    numbers: list[Fraction] = field(default_factory=list)
    """The numbers that matter, as drawn."""
    sound: bool = True
    """False once an amount is out of range or not exact."""

    def pick(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def whole(self, low: int, high: int) -> Fraction:
        return self.use(Fraction(int(self.rng.integers(low, high + 1))))

    def drawn_amount(self, low: int, high: int) -> Fraction:
        """Draw an amount with as many decimal places as the scene has."""
        unit = 10**self.scene.decimals
        return self.use(Fraction(int(self.rng.integers(low * unit, high * unit + 1)), unit))

    def use(self, number: Fraction) -> Fraction:
        self.numbers.append(number)
        return number

    def calculate(self, left: Fraction, sign: str, right: Fraction) -> Fraction:
        """Do one step and note it."""
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[sign]
        self.work.append(f"{shown(left)} {sign} {shown(right)} = {shown(result)}")
        exact = (result * 10 ** (2 if self.scene.decimals else 0)).denominator == 1
        self.sound = self.sound and exact and 0 < result <= MAX_AMOUNT
        return result

    def tell(self, sentence: str) -> None:
        """Write a sentence, mostly with a word of time, each only once."""
        if self.rng.random() < 0.7:
            self.when = self.when or list(WHEN)
            self.sentences.append(f"{self.when.pop(int(self.rng.integers(len(self.when))))} {sentence}.")
        else:
            self.sentences.append(_capital(sentence) + ".")


def shown(number: Fraction) -> str:
    """Return a number as a person writes it: 12, 3.5, 4.25 (at most six decimals)."""
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.6f}".rstrip("0")


# --- openings: the first amount. The number is how many steps of arithmetic they are.


def _plain(story: _Story) -> None:
    story.amount = story.drawn_amount(*story.scene.start)
    story.sentences.append(
        f"{_capital(story.who)} {story.scene.verbs[0]} {shown(story.amount)} {story.full}."
    )


def _in_groups(story: _Story) -> None:
    count, each = story.whole(3, 15), story.drawn_amount(4, 24)
    groups = story.pick(story.scene.groups)
    story.amount = story.calculate(count, "*", each)
    story.sentences.append(
        f"{_capital(story.who)} {story.scene.verbs[0]} {shown(count)} {groups} of {shown(each)} {story.full} each."
    )


def _in_two_places(story: _Story) -> None:
    first, second = (story.drawn_amount(*story.scene.start) for _ in range(2))
    here, there = story.scene.places
    story.amount = story.calculate(first, "+", second)
    story.sentences.append(
        f"{_capital(story.who)} {story.scene.verbs[0]} {shown(first)} {story.full} {here} and {shown(second)} {there}."
    )


_OPENINGS = ((_plain, 0), (_in_groups, 1), (_in_two_places, 1))

# --- steps: what happens to the amount


def _gain(story: _Story) -> None:
    number = story.drawn_amount(3, max(10, int(story.amount)))
    story.amount = story.calculate(story.amount, "+", number)
    story.tell(f"{story.pronoun} {story.pick(story.scene.gains)} {shown(number)} more {story.short}")


def _lose(story: _Story) -> None:
    number = story.drawn_amount(2, max(3, int(story.amount) - 1))
    story.amount = story.calculate(story.amount, "-", number)
    story.tell(f"{story.pronoun} {story.pick(story.scene.losses)} {shown(number)} {story.short}")


def _times(story: _Story) -> None:
    factor = story.whole(2, 6)
    story.amount = story.calculate(story.amount, "*", factor)
    story.tell(
        f"{story.pronoun} {story.scene.verbs[0]} {shown(factor)} times as {story.scene.much} as before"
    )


def _split(story: _Story) -> None:
    parts = story.whole(2, 9)
    story.amount = story.calculate(story.amount, "/", parts)
    what, kind = (
        ("everything is", "parts") if story.scene.measured else (f"all the {story.short} are", "groups")
    )
    story.tell(
        f"{what} split into {shown(parts)} equal {kind}, and {story.who} keeps only one of these {kind}"
    )


def _gain_groups(story: _Story) -> None:
    count, each = story.whole(2, 9), story.drawn_amount(3, 20)
    groups = story.pick(story.scene.groups)
    story.amount = story.calculate(story.amount, "+", story.calculate(count, "*", each))
    story.tell(
        f"{story.pronoun} {story.pick(story.scene.gains)} {shown(count)} {groups} of {shown(each)} {story.short} each"
    )


def _lose_groups(story: _Story) -> None:
    count, each = story.whole(2, 6), story.drawn_amount(2, 12)
    groups = story.pick(story.scene.groups)
    story.amount = story.calculate(story.amount, "-", story.calculate(count, "*", each))
    story.tell(
        f"{story.pronoun} {story.pick(story.scene.losses)} {shown(count)} {groups} of {shown(each)} {story.short} each"
    )


def _lose_a_part(story: _Story) -> None:
    parts = story.whole(2, 5)
    story.amount = story.calculate(story.amount, "-", story.calculate(story.amount, "/", parts))
    all_of_it = "everything that is there" if story.scene.measured else f"all the {story.short}"
    story.tell(f"{story.pronoun} {story.pick(story.scene.losses)} {FRACTIONS[int(parts)]} of {all_of_it}")


def _join(story: _Story) -> None:
    factor = story.whole(2, 4)
    more = story.calculate(story.amount, "*", factor)
    story.amount = story.calculate(story.amount, "+", more)
    scene = story.scene
    other = f"another {story.who.removeprefix('the ')}, which" if scene.holders else f"{story.other}, who"
    all_of_it = "everything" if scene.measured else "all of them"
    has = f"{scene.verbs[0]} {shown(factor)} times as {scene.much}"
    story.tell(f"{other} {has}, hands {all_of_it} over to {HER[story.pronoun]}")


def _percent(story: _Story) -> None:
    share = story.use(Fraction(int(story.pick(("5", "10", "20", "25", "30", "40", "50")))))
    grows = story.rng.random() < 0.5
    part = story.calculate(story.amount, "*", share / 100)
    story.amount = story.calculate(story.amount, "+" if grows else "-", part)
    what = "amount" if story.scene.measured else f"number of {story.short}"
    story.tell(f"the {what} {'grows' if grows else 'shrinks'} by {shown(share)} percent")


_STEPS = (
    (_gain, 1), (_lose, 1), (_times, 1), (_split, 1),
    (_gain_groups, 2), (_lose_groups, 2), (_lose_a_part, 2), (_join, 2), (_percent, 2),
)  # fmt: skip


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _question(story: _Story) -> str:
    full, have = story.full, story.scene.verbs[1]
    return story.pick(
        (
            f"How many {full} does {story.who} {have} now?",
            f"How many {full} does {story.who} {have} in the end?",
            f"In the end, how many {full} does {story.who} {have}?",
        )
    )


# --- problems


def draw_problem(rng: np.random.Generator, steps: int, distractors: int) -> tuple[Task, list[str]] | None:
    """Draw a problem of so many steps; None if its numbers are not sound.

    Returns the task, with an empty id, and the numbers that matter, sorted.
    """
    story = _begun(rng)
    opening, taken = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    if taken > steps:
        opening, taken = _plain, 0
    opening(story)
    while taken < steps and story.sound:
        fitting = [step for step in _STEPS if taken + step[1] <= steps]
        step, cost = fitting[int(rng.integers(len(fitting)))]
        step(story)
        taken += cost
    if not story.sound:
        return None
    for which in rng.choice(len(DISTRACTORS), size=distractors, replace=False):
        place = int(rng.integers(1, len(story.sentences) + 1))
        number = int(rng.integers(3, 100))
        story.sentences.insert(place, DISTRACTORS[int(which)].format(other=story.other, n=number))
    text = " ".join([*story.sentences, _question(story)])
    if not _is_sound(text, story):
        return None
    info = {"work": story.work, "tag": "1 step" if steps == 1 else f"{steps} steps"}
    task = Task("", f"{text}\n\n{_FORM}", shown(story.amount), info)
    return task, sorted(map(shown, story.numbers))


def _begun(rng: np.random.Generator) -> _Story:
    scene = SCENES[int(rng.integers(len(SCENES)))]
    (name, pronoun), (other, _) = (PEOPLE[int(k)] for k in rng.choice(len(PEOPLE), size=2, replace=False))
    full, short = scene.things[int(rng.integers(len(scene.things)))]
    if not scene.holders:
        return _Story(rng, scene, name, pronoun, full, short, other)
    holder = scene.holders[int(rng.integers(len(scene.holders)))]
    return _Story(rng, scene, f"the {holder}", "it", full, short, other)


def _is_sound(text: str, story: _Story) -> bool:
    answer = story.amount
    if answer <= 10 or answer in _GUESSES:
        return False
    seen = {Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}
    on_the_way = {Fraction(line.rpartition(" ")[2]) for line in story.work[:-1]}
    return answer not in seen and answer not in on_the_way


class WordProblems(SingleTurnEnv):
    """Arithmetic word problems of one to five steps in one reply; see the module.

    Args:
        min_steps, max_steps: Steps of arithmetic, 1 to 5.
        distractors: Sentences with a number that does not matter, 0 to 3.
        split: "train" or "test": no problem of one has the numbers of one of the other.
        seed: Of the problem set.
    """

    card = Card(
        what="Solve an arithmetic word problem: an amount, and what happens to it in one to five steps.",
        reward="1 if the final number of the reply is the exact answer, else 0; stopping early pays nothing.",
        difficulty="`min_steps` and `max_steps`, and `distractors`: sentences with numbers that do not matter.",
        oracle="The amount that the story was composed with; the demonstrator writes its steps, with slips.",
        tags=("math", "single-turn", "procedural"),
    )

    def __init__(
        self,
        min_steps: int = 1,
        max_steps: int = 3,
        distractors: int = 0,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 1 <= min_steps <= max_steps <= MAX_STEPS:
            raise UserError(
                f"WordProblems: needs 1 <= min_steps <= max_steps <= {MAX_STEPS}, got {min_steps} and {max_steps}"
            )
        if not 0 <= distractors <= 3:
            raise UserError(f"WordProblems: distractors must be 0 to 3, got {distractors}")
        check_split("WordProblems", split)

        def problem(rng: np.random.Generator, index: int) -> Task:
            steps = int(rng.integers(min_steps, max_steps + 1))
            while True:
                drawn = draw_problem(rng, steps, distractors)
                if drawn is not None and in_split(split, "word-problems", *drawn[1]):
                    return drawn[0]

        tasks = TaskSet.generated(
            problem, name=f"word-problems-{min_steps}-{max_steps}-{distractors}", split=split, seed=seed
        )
        super().__init__(tasks, FinalNumber(), render_mode=render_mode)
        self.oracle = SloppySolver(slip=0, stop=0)
        self.demonstrator = SloppySolver()


@dataclass(frozen=True, slots=True)
class SloppySolver:
    """Writes the steps of a problem and its answer, with slips: a source of imperfect demonstrations."""

    slip: float = 0.15
    """Chance that the result of a step is a little off; the answer then is too."""
    stop: float = 0.15
    """Chance to forget the last step of a problem of several."""

    def __call__(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        """Return the reply."""
        work = list(task.info["work"])
        if len(work) > 1 and rng.random() < self.stop:
            work.pop()
        if rng.random() < self.slip:
            formula, _, result = work[-1].rpartition(" ")
            work[-1] = f"{formula} {shown(Fraction(result) + int(rng.integers(1, 10)))}"
        answer = work[-1].rpartition(" ")[2]
        return "\n".join([*work, f"#### {answer}"])
