"""*Informative*: there is something to learn: rewards differ, length alone is not paid, tasks are many and apart."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from ...tools.errors import UserError
from ...verifiers.base import Task
from ..base import TextEnv
from ..tasks import TaskSet
from .findings import Finding, Severity
from .played import Played, plain, short
from .probe import cannot_tell
from .similar import near_pairs, normal
from .subject import OutOfTime, Subject
from .within import TookTooLong, within

_SAMPLE = (
    20  # for each task of the settings: tasks of an endless set, and tasks that are compared with each other
)
_ALL = 20_000  # a set of so many tasks is looked at as a whole
T = TypeVar("T")
_PADDING = "Let me think about this again, step by step and with care. "
_DATA_OPTIONS = {"path", "file", "data", "dataset", "train_path", "rows"}


class Informative:
    """Plays a weak policy, pads replies, and compares tasks with each other."""

    name = "informative"
    promise = "rewards of a weak policy differ, padding is not paid, tasks are distinct and splits disjoint"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Look at rewards, then at tasks."""
        yield from _variance(subject)
        yield from _length(subject)
        tasks = _sample(subject.env, subject)
        if tasks:
            yield from _answers(tasks, subject)
            yield from _duplicates(tasks, subject)
            yield from _splits(subject)
        else:
            yield cannot_tell(
                "tasks", "Whether tasks are distinct: the environment makes its own and lists none."
            )


# --- rewards ------------------------------------------------------------------------------------------------------


def _variance(subject: Subject) -> Iterator[Finding]:
    """Mix the oracle, a careless version of it and garbage; a reward that is always the same teaches nothing."""
    env = subject.env
    if env.oracle is None:
        yield cannot_tell("variance", "Whether a weak policy's rewards differ: there is no oracle to weaken.")
        return
    episodes: list[Played] = []
    for start in subject.few:
        right = subject.oracle(start)
        assert right is not None
        episodes.append(right)
        rng = subject.rng("weak", start.seed)
        if env.demonstrator is not None:
            episodes.append(subject.play(env.demonstrator, start, turns=max(30, env.max_turns or 0)))
        episodes.append(subject.play([_careless(reply, rng) for reply in right.replies] or "", start))
        episodes.append(subject.play("I do not know.", start))
    worths = [played.worth for played in episodes if played.worth is not None]
    if len(worths) < 2:
        yield cannot_tell("variance", "Whether a weak policy's rewards differ: nothing was graded.")
    elif float(np.std(worths)) < 1e-6:
        text = f"Oracle, careless oracle and garbage all earn {worths[0]:g}: there is nothing to learn from."
        yield Finding("no-variance", Severity.FAULT, text, 0.0, tuple(episodes[:1]))


def _careless(reply: str, rng: np.random.Generator) -> str:
    """Return a reply with a part cut off or a digit changed."""
    digits = [i for i, char in enumerate(reply) if char.isdecimal()]
    if digits and rng.random() < 0.7:
        at = digits[int(rng.integers(len(digits)))]
        return reply[:at] + str((int(reply[at]) + 1) % 10) + reply[at + 1 :]
    return reply[: len(reply) // 2]


def _length(subject: Subject) -> Iterator[Finding]:
    """Say nothing at growing length; and the right thing after much padding."""
    lengths = (1, 4, 16, 64, 256)
    means = []
    last: list[Played] = []
    for count in lengths:
        last = [subject.play(_PADDING * count, start) for start in subject.few]
        means.append(sum(played.earned for played in last) / len(last))
    gain = means[-1] - means[0]
    if gain > 0.02:
        steps = ", ".join(
            f"{count * len(_PADDING)}: {mean:.2f}" for count, mean in zip(lengths, means, strict=True)
        )
        paid = max(last, key=lambda played: played.earned)
        severity = Severity.FAULT if gain >= 0.3 else Severity.WARNING if gain >= 0.05 else Severity.NOTE
        text = (
            f"Length is paid: empty talk earns the more the longer it is (characters: mean reward): {steps}."
        )
        yield Finding("length", severity, text, gain, (paid,))


# --- tasks --------------------------------------------------------------------------------------------------------


def _sample(env: TextEnv, subject: Subject, key: str = "tasks") -> list[Task]:
    tasks = env.tasks
    if not isinstance(tasks, TaskSet):
        return []
    most = _SAMPLE * subject.settings.tasks
    if tasks.size is not None and tasks.size <= max(_ALL, most):
        indices: Sequence[int] = range(tasks.size)
    else:
        drawn = subject.rng(key).choice(tasks.size or 2**31, size=most, replace=False)
        indices = sorted(int(i) for i in drawn)
    found = []
    for i, index in enumerate(indices):
        if i % 20 == 0 and subject.left_s < subject.settings.probe_s * 0.3:
            break
        found.append(within(subject.settings.step_s, tasks.__getitem__, index))
    return found


def _answers(tasks: Sequence[Task], subject: Subject) -> Iterator[Finding]:
    """Look how often the most common answer is right."""
    answers = [_key(task.answer) for task in tasks if isinstance(task.answer, str | int | float)]
    if len(answers) < 10 or len(answers) < 0.9 * len(tasks):
        return
    (answer, count), *_ = Counter(answers).most_common(1)
    share = count / len(answers)
    kinds = len(set(answers))
    if share > 0.35:
        severity = Severity.FAULT if share >= 0.9 else Severity.WARNING if share > 0.55 else Severity.NOTE
        of = f"{share:.0%} of {len(answers)} tasks ({kinds} different answers)"
        text = f"The answer {short(answer, 60)} is right on {of}."
        yield Finding("constant-answer", severity, text, share)


def _key(value: Any) -> str:
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


def _duplicates(tasks: Sequence[Task], subject: Subject) -> Iterator[Finding]:
    finite = isinstance(subject.env.tasks, TaskSet) and subject.env.tasks.size is not None
    firsts = [subject.play("x", start, turns=1) for start in subject.draw(8, "turns")]
    one_turn = all(step.terminated for played in firsts for step in played.steps)
    whole = Counter((normal(task.prompt), _key(task.answer)) for task in tasks)
    again = sum(count - 1 for count in whole.values())
    share = again / len(tasks)
    if again and finite:
        (prompt, _), count = whole.most_common(1)[0]
        severity = Severity.WARNING if share > 0.01 else Severity.NOTE
        text = f"{again} of {len(tasks)} tasks are copies of others; {short(prompt, 100)!r} is there {count} times."
        yield Finding("duplicates", severity, text, share)
    elif share > 0.05:
        text = f"The tasks are few: {again} of {len(tasks)} that were drawn at random had been drawn before."
        yield Finding("duplicates", Severity.NOTE, text, share)
    if one_turn:
        yield from _contradictions(tasks)
    contents: dict[str, set[tuple[str, str]]] = {}
    for task in tasks:
        contents.setdefault(task.id, set()).add((task.prompt, _key(task.answer)))
    torn = [name for name, found in contents.items() if len(found) > 1]
    if torn:
        text = f"{len(torn)} ids stand for different tasks, {torn[0]!r} for example: an id must name one task, always."
        yield Finding("task-ids", Severity.FAULT, text, float(len(torn)))
    distinct = {normal(task.prompt): task for task in tasks}
    kept = _some(list(distinct.values()), subject)
    pairs = near_pairs([task.prompt for task in kept])
    if pairs:
        share = len({i for i, *_ in pairs}) / len(kept)
        i, j, alike = max(pairs, key=lambda pair: pair[2])
        severity = Severity.WARNING if finite and share > 0.05 else Severity.NOTE
        a, b = short(kept[i].prompt, 160), short(kept[j].prompt, 160)
        text = f"{len(pairs)} pairs of {len(kept)} tasks are nearly the same; {alike:.0%} alike: {a!r} and {b!r}."
        yield Finding("near-duplicates", severity, text, share)


def _contradictions(tasks: Sequence[Task]) -> Iterator[Finding]:
    answers: dict[str, set[str]] = {}
    for task in tasks:
        if task.answer is not None:
            answers.setdefault(normal(task.prompt), set()).add(_key(task.answer))
    torn = [prompt for prompt, found in answers.items() if len(found) > 1]
    if torn:
        text = f"{len(torn)} prompts stand there with different answers, for example {short(torn[0], 160)!r}."
        yield Finding("contradictions", Severity.WARNING, text, len(torn) / len(answers))


def _splits(subject: Subject) -> Iterator[Finding]:
    """Make the environment with two splits and compare their tasks."""
    parameter = _split_parameter(subject)
    if parameter is None:
        return
    sampled: list[list[Task]] = []
    endless = False
    for split in ("train", "test"):
        try:
            env = within(60.0, subject.source.make, split=split)
        except OutOfTime:
            raise
        except (UserError, Exception, TookTooLong) as error:
            yield cannot_tell(
                "overlap", f"Whether the splits overlap: split={split!r} cannot be made: {str(error)[:300]}"
            )
            return
        try:
            sampled.append(_sample(env, subject, f"split-{split}"))
            endless = endless or (env.tasks is not None and env.tasks.size is None)
        finally:
            env.close()
    train, test = ([(normal(task.prompt), _key(task.answer)) for task in tasks] for tasks in sampled)
    if not train or not test:
        return
    if sorted(train) == sorted(test) and _DATA_OPTIONS & set(subject.source.kwargs):
        text = "Whether the splits overlap: the rows are those of a file, and the option `split` does not divide them."
        yield cannot_tell("overlap", text)
        return
    known = set(train)
    shared = [task for task in test if task in known]
    share = len(shared) / len(test)
    if shared:
        severity = Severity.FAULT if share > 0.05 else Severity.WARNING
        if endless and share < 0.02:  # tasks that are drawn apart meet by chance
            severity = Severity.NOTE
        text = (
            f"Train and test overlap: {len(shared)} of {len(test)} test tasks are in the training set too: "
        )
        yield Finding("overlap", severity, f"{text}{short(shared[0][0], 160)!r}.", share)
        return
    old, new = (_some(list(dict(tasks)), subject) for tasks in (train, test))
    across = {j for i, j, _ in near_pairs([*old, *new]) if i < len(old) <= j}
    if across:
        share = len(across) / len(new)
        severity = Severity.WARNING if share > 0.05 and not endless else Severity.NOTE
        text = f"{len(across)} of {len(new)} test tasks are nearly the same as one of the training set."
        yield Finding("near-overlap", severity, text, share)


def _some(items: list[T], subject: Subject) -> list[T]:
    """Return at most as many as are compared with each other, in their order."""
    most = _SAMPLE * subject.settings.tasks
    if len(items) <= most:
        return items
    return [items[i] for i in sorted(subject.rng("some").choice(len(items), size=most, replace=False))]


def _split_parameter(subject: Subject) -> str | None:
    from ..registry import load

    factory: Any = subject.source.factory
    if factory is None:
        return None
    with suppress(UserError):
        factory = load(subject.source.name)
    try:
        return "split" if "split" in inspect.signature(factory).parameters else None
    except (TypeError, ValueError):
        return None
