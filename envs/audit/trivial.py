"""*Not trivial*: replies that hold no thought, and right answers that are hidden among wrong ones, earn nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...tools.chat import Message
from ...verifiers.base import Task
from ..base import Policy
from .answers import CALL, Solved, gold_text, is_code, solved
from .findings import Finding, Severity
from .played import Played, Start, short
from .probe import weighed
from .replies import CONSTANTS, FIXED, dressed, lookalikes
from .subject import Subject

Replies = Policy | Sequence[str] | str
Variant = tuple[str, Callable[[Start], Replies | None]]
"""What it is, and what is said in an episode; None leaves the episode out."""

_ASKS = {
    "empty": "An empty reply",
    "garbage": "Garbage",
    "refusal": "A reply that says nothing",
    "format": "The form of an answer without an answer",
    "giant": "A giant reply",
    "constant": "A constant",
    "echo": "The prompt itself",
    "task-id": "The id of the task",
    "system-prompt": "The system prompt",
    "other-answer": "The right reply to another task",
    "candidates": "A list of many answers with the right one in the middle",
    "lookalike": "The right answer in characters that only look like it",
    "hedge": "A right answer that is taken back",
}
_AT_MOST = {"lookalike": Severity.WARNING, "hedge": Severity.NOTE}
_AT_LEAST = {"empty": Severity.WARNING}
_RANK = [Severity.NOTE, Severity.WARNING, Severity.FAULT]


class NotTrivial:
    """Says thoughtless things and looks whether they are paid."""

    name = "trivial"
    promise = "no reply without thought, and no list of guesses, earns anything"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Say each kind of thing; give the worst of each kind."""
        for kind, texts in FIXED.items():
            yield from _worst(subject, kind, [_always(text) for text in texts])
        constants = [_always(text) for text in CONSTANTS] + [_always(dressed(text)) for text in CONSTANTS]
        yield from _worst(subject, "constant", constants)
        yield from _worst(
            subject, "echo", [("the last message", lambda _: _echo), ("its last line", lambda _: _echo_line)]
        )
        yield from _worst(subject, "task-id", [("its id", lambda start: _task_id(subject, start))])
        if subject.env.system_prompt:
            yield from _worst(subject, "system-prompt", [_always(subject.env.system_prompt)])
        right = solved(subject)
        yield from _worst(subject, "other-answer", _of_others(right))
        # Where any text does in the answer's place (a task that wants no call) a changed answer shows nothing.
        exact = [item for item in right if not subject.play(item.answering("zzzz"), item.played.start).earned]
        # Several programs in one file are one program: the last definition of a name holds.
        listable = [item for item in exact if not is_code(item.last)]
        yield from _worst(subject, "candidates", _candidates(listable))
        yield from _worst(subject, "lookalike", _looking_alike(exact))
        yield from _worst(subject, "hedge", _hedged(exact))


def _always(text: str) -> Variant:
    return repr(short(text, 60)), lambda _: text


def _echo(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return messages[-1]["content"]


def _echo_line(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    lines = messages[-1]["content"].strip().splitlines()
    return lines[-1] if lines else ""


def _task_id(subject: Subject, start: Start) -> str | None:
    task = subject.task(start)
    return None if task is None else task.id


def _worst(subject: Subject, kind: str, variants: Sequence[Variant]) -> Iterator[Finding]:
    """Play every variant on the first few starts and give the one that earned most, measured on all starts."""
    paid = []
    for name, says in variants:
        episodes = _plays(subject, says, subject.few)
        earned = sum(played.earned for played in episodes)
        if earned > 0:
            paid.append((earned / len(episodes), name, says, episodes))
    if not paid:
        return
    _, name, says, episodes = max(paid, key=lambda entry: entry[0])
    episodes += _plays(subject, says, subject.starts[len(subject.few) :])
    mean = sum(played.earned for played in episodes) / len(episodes)
    hits = [played for played in episodes if played.earned > 0]
    severity = weighed(mean, len(hits) if len(episodes) > 1 else 2 * len(hits))
    if severity is None:
        return
    severity = min(severity, _AT_MOST.get(kind, Severity.FAULT), key=_RANK.index)
    severity = max(severity, _AT_LEAST.get(kind, Severity.NOTE), key=_RANK.index)
    others = f"; {len(paid) - 1} more of {len(variants)} such replies are paid too" if len(paid) > 1 else ""
    yield Finding(
        kind,
        severity,
        f"{_ASKS[kind]} is paid: {name} earns {mean:.2f} on average, on {len(hits)} of {len(episodes)} tasks{others}.",
        mean,
        tuple(hits[:1]),
    )


def _plays(
    subject: Subject, says: Callable[[Start], Replies | None], starts: Sequence[Start]
) -> list[Played]:
    chosen = [(start, says(start)) for start in starts]
    return [subject.play(replies, start) for start, replies in chosen if replies is not None]


# --- right answers in the wrong place -------------------------------------------------------------------------


def _by_start(
    right: Sequence[Solved], make: Callable[[Solved], Replies | None]
) -> Callable[[Start], Replies | None]:
    known = {item.played.start: item for item in right}
    return lambda start: make(known[start]) if start in known else None


def _differ(one: Solved, other: Solved) -> bool:
    a, b = one.played.task, other.played.task
    return a is not None and b is not None and one.last != other.last and a.answer != b.answer


def _of_others(right: Sequence[Solved]) -> list[Variant]:
    """The right reply to another task; where an answer takes several turns it may well help in another task."""

    def other(item: Solved) -> Replies | None:
        if len(item.played.replies) > 1:
            return None
        return next((one.last for one in right if _differ(item, one)), None)

    return [("the oracle's reply", _by_start(right, other))]


def _candidates(right: Sequence[Solved]) -> list[Variant]:
    """Lists with the right answer neither first nor last: a verifier that takes either is not fooled."""

    def wrong(item: Solved) -> list[str]:
        gold = gold_text(item.played.task)
        found = [one.answer for one in right if _differ(item, one) and one.answer != item.answer]
        made = [str(int(gold) + step) for step in (1, -1, 10, 7)] if gold.lstrip("-").isdecimal() else []
        return list(dict.fromkeys([*found[:6], *made]))

    def listed(form: str, join: str) -> Callable[[Solved], Replies | None]:
        def make(item: Solved) -> Replies | None:
            others = wrong(item)
            if len(others) < 2 or CALL in item.last or len(item.answer) > 2_000:
                return None
            half = len(others) // 2
            texts = [*others[:half], item.answer, *others[half:]]
            return item.saying(join.join(form.replace("@", text) for text in texts))

        return make

    def counted(item: Solved) -> Replies | None:
        gold = gold_text(item.played.task)
        if not gold.isdecimal() or int(gold) > 5_000:
            return None
        return item.saying(" ".join(str(i) for i in range(int(gold) + 500)))

    def whole(item: Solved) -> Replies | None:
        others = [one.last for one in right if _differ(item, one)]
        if len(others) < 2 or any(CALL in text for text in (*others, item.last)):
            return None
        return item.saying("\n\n".join([others[0], item.last, others[1]]))

    forms = [
        ("@", "\n"),
        ("@", ", "),
        ("@", " or "),
        ("<answer>@</answer>", "\n"),
        ("\\boxed{@}", " "),
        ("#### @", "\n"),
    ]
    variants: list[Variant] = [
        (f"{form.replace('@', 'A')!r} joined by {join!r}", _by_start(right, listed(form, join)))
        for form, join in forms
    ]
    variants.append(("every number from 0 up", _by_start(right, counted)))
    variants.append(("the oracle's reply between two of other tasks", _by_start(right, whole)))
    return variants


def _looking_alike(right: Sequence[Solved]) -> list[Variant]:
    names = sorted({name for item in right for name in lookalikes(item.answer)})

    def changed(name: str) -> Callable[[Solved], Replies | None]:
        def make(item: Solved) -> Replies | None:
            other = lookalikes(item.answer).get(name)
            if other is None or CALL in item.last or is_code(item.last):
                return None  # in JSON and in programs most characters may be others and mean the same
            return item.answering(other)

        return make

    return [(name, _by_start(right, changed(name))) for name in names]


def _hedged(right: Sequence[Solved]) -> list[Variant]:
    forms = ("It is certainly not @", "I do not know. Perhaps @, perhaps not.", "@ is wrong.")

    def made(form: str) -> Callable[[Solved], Replies | None]:
        return lambda item: None if CALL in item.last else item.saying(form.replace("@", item.last))

    return [(repr(form.replace("@", "...")), _by_start(right, made(form))) for form in forms]
