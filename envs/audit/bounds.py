"""*Bounded*: rewards in range, time and memory for each step, no reply that breaks it, nothing left open."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from .findings import Finding, Severity
from .fuzz import random_reply
from .played import Played
from .probe import cannot_tell
from .resources import Held, held
from .subject import Subject
from .within import TookTooLong, within

_SLOW_S = 3.0  # seconds of processor time for one step on a long reply
_TIGHT = 1e-9
_OBSERVATION = 100_000  # characters of one observation: more than most context windows hold
_ROUNDS = 6
_GROWN_MB = 64.0


class Bounded:
    """Sends fuzzed and giant replies, watches rewards, time, memory and what is left open."""

    name = "bounded"
    promise = "rewards are finite and within [0, 1], no reply breaks or stalls it, and nothing is left open"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Look at ordinary episodes, fuzz, giants, and what a few episodes and `close` leave behind."""
        episodes = [subject.play(reply, start) for start in subject.few for reply in ("I do not know.", "7")]
        episodes += [played for start in subject.starts if (played := subject.oracle(start)) is not None]
        episodes += _fuzzed(subject)
        yield from _rewards(episodes)
        yield from _breaks(episodes)
        yield from _giants(subject)
        yield from _long_texts(episodes)
        yield from _leftovers(subject)


# --- rewards ------------------------------------------------------------------------------------------------------


def _rewards(episodes: list[Played]) -> Iterator[Finding]:
    odd = _first(episodes, lambda p: any(not _is_number(step.reward) for step in p.steps))
    if odd is not None:
        value = next(step.reward for step in odd.steps if not _is_number(step.reward))
        yield Finding("nan", Severity.FAULT, f"A reward is no finite number: {value!r}.", None, (odd,))
        return
    out = _first(episodes, lambda p: not -_TIGHT <= p.reward <= 1 + _TIGHT and p.ended)
    if out is not None:
        text = f"The rewards of an episode add up to {out.reward:g}, outside [0, 1]."
        yield Finding("range", Severity.FAULT, text, out.reward, (out,))
    unlike = _first(episodes, _disagrees)
    if unlike is not None and unlike.score is not None:
        text = f"The score says {unlike.score.value:g}, the rewards add up to {unlike.reward:g}."
        yield Finding("score", Severity.WARNING, text, unlike.reward, (unlike,))
    flags = _first(
        episodes,
        lambda p: any(type(s.terminated) is not bool or type(s.truncated) is not bool for s in p.steps),
    )
    if flags is not None:
        yield Finding(
            "flags", Severity.FAULT, "`terminated` or `truncated` is not a plain bool.", None, (flags,)
        )
    ungraded = [p for p in episodes if p.ended and not p.error and p.score is not None and not p.score.graded]
    if ungraded and ungraded[0].score is not None:
        why = ungraded[0].score.reason.strip().splitlines()
        yield Finding(
            "ungraded",
            Severity.WARNING,
            f"{len(ungraded)} of {len(episodes)} episodes are not graded: what a policy writes must be judged, "
            f"only a failure of ours is not: {why[-1][:300] if why else ''}",
            len(ungraded) / len(episodes),
            tuple(ungraded[:1]),
        )


def _is_number(reward: object) -> bool:
    return isinstance(reward, int | float | np.number) and math.isfinite(reward)


def _disagrees(played: Played) -> bool:
    score = played.score
    if score is None or not score.graded or played.error:
        return False
    return abs(min(max(played.reward, 0.0), 1.0) - score.value) > 1e-6


def _first(episodes: list[Played], odd: Callable[[Played], bool]) -> Played | None:
    return next((played for played in episodes if odd(played)), None)


# --- replies that break it ------------------------------------------------------------------------------------------


def _fuzzed(subject: Subject) -> list[Played]:
    """Send random replies until `settings.fuzz` of them are answered."""
    rng = subject.rng("fuzz")
    episodes: list[Played] = []
    sent = 0

    def policy(task: object, messages: object, _: object) -> str:
        return random_reply(rng, subject.env)

    starts = subject.starts
    while sent < subject.settings.fuzz:
        start = starts[len(episodes) % len(starts)]
        played = subject.play(policy, start, turns=min(20, subject.settings.fuzz - sent))
        sent += max(len(played.steps), 1)
        episodes.append(played)
        if played.late:
            break
    return episodes


def _breaks(episodes: list[Played]) -> Iterator[Finding]:
    raised = [played for played in episodes if played.error and not played.late]
    raised = [played for played in raised if not played.error.startswith("the policy raised")]
    if raised:
        line = raised[0].error.splitlines()[0]
        text = f"A reply breaks it: it {line}. Answer a senseless reply with a text that says what is wanted."
        yield Finding("crash", Severity.FAULT, text, float(len(raised)), tuple(raised[:1]))
    late = [played for played in episodes if played.late]
    if late:
        yield Finding("hang", Severity.FAULT, f"A reply stalls it: {late[0].error}.", None, tuple(late[:1]))


def _giants(subject: Subject) -> Iterator[Finding]:
    """Send very long replies of shapes that slow parsers meet, each in an episode of its own."""
    start, long = subject.starts[0], subject.settings.long
    shapes = {
        "letters": "a" * long,
        "digits": "9" * long,
        "spaces": " " * long + "x",
        "lines": "a\n" * (long // 2),
        "opening brackets": "(" * long,
        "open tags": "<answer>" * (long // 8),
        "open boxes": "\\boxed{" * (long // 7),
        "open calls": '<tool_call>{"name": "' * (long // 21),
        "open thoughts": "<think>" * (long // 7),
        "open fences": "```\n" * (long // 4),
        "numbers": "1 " * (long // 2),
        "sums": "1+" * (long // 2) + "1",
        "commas": "1," * (long // 2),
        "words": "word " * (long // 5),
    }
    for name, text in shapes.items():
        played = subject.play(text, start, turns=1)
        if played.late:
            yield Finding(
                "slow",
                Severity.FAULT,
                f"{long} characters of {name} stall it: {played.error}.",
                None,
                (played,),
            )
            return
        if played.error:
            line = played.error.splitlines()[0]
            yield Finding(
                "crash", Severity.FAULT, f"{long} characters of {name} break it: it {line}.", None, (played,)
            )
            return
        took = max((step.cpu_s for step in played.steps), default=0.0)
        if took > _SLOW_S:
            again = subject.play(text, start, turns=1)  # once more: the first may have loaded a library
            took = min(took, max((step.cpu_s for step in again.steps), default=0.0))
        if took > _SLOW_S:
            text = f"{long} characters of {name} take {took:.1f} s of processor time in one step (limit {_SLOW_S:g})."
            yield Finding("slow", Severity.FAULT, text, None, (played,))
            return


def _long_texts(episodes: list[Played]) -> Iterator[Finding]:
    for played in episodes:
        texts = [played.opening, *(step.observation for step in played.steps)]
        longest = max(map(len, texts))
        if longest > _OBSERVATION:
            text = f"An observation has {longest} characters: no model reads that. Cut it."
            yield Finding("long-observation", Severity.WARNING, text, float(longest), (played,))
            return


# --- what is left open ------------------------------------------------------------------------------------------


def _leftovers(subject: Subject) -> Iterator[Finding]:
    """Play rounds of episodes in copies, then make, use and close whole environments; count what is open after each."""

    def episodes() -> None:
        for start in subject.few[:3]:
            if subject.oracle(start) is None:
                subject.play("7", start)
            subject.play("x y z", start)

    yield from _grown(subject, episodes, "episodes", "Episodes leave something open")
    if subject.source.factory is None:
        yield cannot_tell(
            "close", "Whether `close` frees everything: an instance was given; give what makes it."
        )
        return
    failed: list[str] = []

    def lifetimes() -> None:
        env = within(60.0, subject.source.make)
        try:
            subject.play("7", subject.starts[0], env=env)
        finally:
            try:
                within(subject.settings.step_s, env.close)
                within(subject.settings.step_s, env.close)
            except (Exception, TookTooLong) as error:
                failed.append(f"{type(error).__name__}: {error}"[:300])

    yield from _grown(subject, lifetimes, "close", "`close` does not free everything")
    if failed:
        yield Finding(
            "close-raises", Severity.FAULT, f"`close` fails, or a second `close` does: {failed[0]}."
        )


def _grown(subject: Subject, round_: Callable[[], None], code: str, what: str) -> Iterator[Finding]:
    """Find what grows with every round; the first two rounds may open what is then shared."""

    def played(rounds: int) -> None:
        for _ in range(rounds):
            round_()
            gc.collect()

    with _all_there_set_aside():
        played(2)
        before = held()
        played(_ROUNDS)
        after = _settled(before)
    parts = []
    for name, unit in (
        ("descriptors", "file descriptors"),
        ("threads", "threads"),
        ("processes", "processes"),
    ):
        first, last = getattr(before, name), getattr(after, name)
        if last - first >= _ROUNDS:
            parts.append(f"{unit} from {first} to {last}")
    grown = after.memory_mb - before.memory_mb
    if parts:
        text = f"{what}: over {_ROUNDS} rounds the number of {' and of '.join(parts)}."
        yield Finding(f"{code}-open", Severity.FAULT, text)
    if grown > _GROWN_MB:
        of = "episodes" if code == "episodes" else "environments"
        text = f"Memory grows: by {grown:.0f} MiB over {_ROUNDS} rounds of {of}."
        yield Finding(f"{code}-memory", Severity.WARNING, text)


@contextmanager
def _all_there_set_aside() -> Iterator[None]:
    """Spare the collector what is there already: with PyTorch in the process each look at it takes half a second."""
    ours = gc.get_freeze_count() == 0  # what somebody else has set aside stays so
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def _settled(before: Held) -> Held:
    """Count; what is more than before gets a moment to end."""
    count = held()
    for _ in range(20):
        if (
            count.descriptors <= before.descriptors
            and count.threads <= before.threads
            and count.processes <= before.processes
        ):
            break
        time.sleep(0.05)
        count = held()
    return count
