"""*Deterministic*: the same seed and the same replies give the same transcript and the same score, anywhere."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..base import TextEnv
from ..parcel import Unable
from .elsewhere import Elsewhere, Script, packed
from .findings import Finding, Severity
from .played import Played, Start, short
from .probe import cannot_tell
from .subject import Subject
from .within import TookTooLong, within

_EPISODES = 4
_PAUSE_S = 1.1  # so that a clock that is read in whole seconds has moved on


class Deterministic:
    """Plays the same scripts again: at once, later, after other episodes, interleaved, and in other processes."""

    name = "deterministic"
    promise = "the same seed and replies give the same transcript and score, in any order and process"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Record scripts, then play them again under changed circumstances."""
        before = _global_states()
        first = [subject.play(replies, start, turns=len(replies)) for start, replies in _scripts(subject)]
        after = _global_states()
        began = time.monotonic()
        yield from _touched(before, after, first)
        pair = _first_change(subject, first)
        if pair is not None:  # all further comparisons would say it once more
            yield _found("again", "The same episode, played again in another copy, goes another way.", pair)
            return
        found = 0
        for look in (_global_seeds, _order, _interleaved, _asynchronous):
            for finding in look(subject, first):
                found += 1
                yield finding
        if found:  # what differs here differs elsewhere too
            return
        # A clock hides in what moves with time: play once more after it has moved.
        time.sleep(max(began + _PAUSE_S - time.monotonic(), 0.0))
        pair = _first_change(subject, first)
        if pair is not None:
            text = "The same episode goes another way a second later: something reads a clock."
            yield _found("clock", text, pair)
            return
        yield from _processes(subject, first)


def _scripts(subject: Subject) -> list[Script]:
    """Return episodes with fixed replies: what the oracle said, and junk with a call in it."""
    scripts: list[Script] = []
    for start in subject.few[:_EPISODES]:
        played = subject.oracle(start)
        if played is not None and played.steps:
            scripts.append((start, played.replies))
        junk = ["I try 7.", "<answer>7</answer>", "", _some_call(subject, start), "\\boxed{7}", "7"]
        rng = subject.rng("junk", start.seed)
        scripts.append((start, tuple(junk[int(i)] for i in rng.permutation(len(junk)))))
    return scripts


def _some_call(subject: Subject, start: Start) -> str:
    from ...tools.chat import ToolCall

    tools = subject.env.tools
    name = tools[start.seed % len(tools)].name if tools else "nothing"
    return subject.env.format.render("", None, [ToolCall("", name, {})])


def _again_on(subject: Subject, played: Played, env: TextEnv | None = None) -> Played:
    return subject.play(played.replies, played.start, env=env, turns=len(played.replies))


def _first_change(
    subject: Subject, first: Sequence[Played], env: TextEnv | None = None
) -> tuple[Played, Played] | None:
    for played in first:
        other = _again_on(subject, played, env)
        if other.key() != played.key():
            return played, other
    return None


def _found(code: str, text: str, pair: tuple[Played, Played]) -> Finding:
    one, other = pair
    return Finding(code, Severity.FAULT, f"{text} {difference(one.key(), other.key())}", None, pair)


def difference(one: list[Any], other: list[Any]) -> str:
    """Say in a sentence where two keys of episodes differ first."""
    names = ["The opening", "The info of reset"]
    for i, (left, right) in enumerate(zip(one, other, strict=False)):
        if left == right:
            continue
        if i < 2:
            return f"{names[i]} differs: {_two(left, right)}."
        if isinstance(left, list) and isinstance(right, list):
            parts = ("observation", "reward", "terminated", "truncated", "info")
            part, a, b = next((p, a, b) for p, a, b in zip(parts, left, right, strict=True) if a != b)
            if part == "info":
                key = next(k for k in [*a, *b] if a.get(k) != b.get(k))
                part, a, b = f"info[{key!r}]", a.get(key), b.get(key)
            return f"After reply {i - 1} the {part} differs: {_two(a, b)}."
        return f"The end differs: {_two(left, right)}."
    return "One episode is longer than the other."


def _two(left: Any, right: Any) -> str:
    a, b = (item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in (left, right))
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    cut = max(same - 30, 0)
    return f"{short(a[cut:], 100)!r} and {short(b[cut:], 100)!r}"


def _order(subject: Subject, first: Sequence[Played]) -> Iterator[Finding]:
    """Play all backwards in one copy, with a stray episode between: nothing may be left over."""
    with subject.copy() as env:
        for played in [*reversed(first), *first]:
            subject.play("stray 1", Start(played.start.seed + 1, played.start.task), env=env, turns=1)
            other = _again_on(subject, played, env)
            if other.key() != played.key():
                text = "After other episodes in the same environment the same episode goes another way."
                yield _found("order", text, (played, other))
                return


def _interleaved(subject: Subject, first: Sequence[Played]) -> Iterator[Finding]:
    """Start an episode in one copy while another is played in a second one."""
    for played, between in zip(first, [*first[1:], *first[:1]], strict=True):
        with subject.copy() as env, subject.copy() as neighbour:
            meddler = _Meddler(subject, between, neighbour, played.replies)
            other = subject.play(meddler, played.start, env=env, turns=len(played.replies))
            if other.key() != played.key():
                text = "Copies (`fresh`) share state: while another one plays, the same episode goes another way."
                yield _found("shared", text, (played, other))
                return


class _Meddler:
    """Replies by a script, and before each reply plays a whole episode in a neighbouring environment."""

    def __init__(self, subject: Subject, between: Played, neighbour: TextEnv, replies: Sequence[str]) -> None:
        self.subject, self.between, self.neighbour = subject, between, neighbour
        self.waiting = list(replies)

    def __call__(self, task: object, messages: object, rng: object) -> str:
        _again_on(self.subject, self.between, self.neighbour)
        return self.waiting.pop(0)


def _asynchronous(subject: Subject, first: Sequence[Played]) -> Iterator[Finding]:
    """Play through `astep`: rollouts do."""
    for played in first[:2]:
        with subject.copy() as env:
            try:
                other = within(subject.settings.step_s * 2, _astepped, subject, env, played)
            except TookTooLong:
                text = f"With `astep` the episode takes longer than {subject.settings.step_s * 2:g} s."
                yield Finding("astep", Severity.FAULT, text, None, (played,))
                return
            except Exception as error:
                text = f"`astep` raises {type(error).__name__} where `step` does not: {str(error)[:300]}."
                if not played.error:
                    yield Finding("astep", Severity.FAULT, text, None, (played,))
                return
            if other.key() != played.key() and not played.error:
                yield _found(
                    "astep",
                    "With `astep` the same episode goes another way than with `step`.",
                    (played, other),
                )
                return


def _astepped(subject: Subject, env: TextEnv, played: Played) -> Played:
    class Through:
        """The environment with `astep` in the place of `step`."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.loop = loop

        def __getattr__(self, name: str) -> Any:
            return getattr(env, name)

        def step(self, reply: str) -> Any:
            return self.loop.run_until_complete(env.astep(reply))

    loop = asyncio.new_event_loop()
    try:
        through: Any = Through(loop)
        return subject.play(played.replies, played.start, env=through, turns=len(played.replies))
    finally:
        loop.close()


# --- global generators ----------------------------------------------------------------------------------------


def _global_states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": _numpy_state()}
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        states["torch"] = torch.get_rng_state().tolist()
    return states


def _numpy_state() -> Any:
    state: Any = np.random.get_state()
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in state]


def _touched(before: dict[str, Any], after: dict[str, Any], first: Sequence[Played]) -> Iterator[Finding]:
    moved = [name for name in before if before[name] != after.get(name)]
    if moved:
        yield Finding(
            "global-rng",
            Severity.FAULT,
            f"Playing an episode draws from, or seeds, the global generator of {', '.join(moved)}: episodes then "
            "depend on everything else in the process. Draw from `self.np_random`.",
            None,
            tuple(first[:1]),
        )


def _global_seeds(subject: Subject, first: Sequence[Played]) -> Iterator[Finding]:
    state, legacy = random.getstate(), np.random.get_state()
    try:
        random.seed(subject.settings.seed + 1)
        np.random.seed((subject.settings.seed + 1) % 2**32)
        pair = _first_change(subject, first)
    finally:
        random.setstate(state)
        np.random.set_state(legacy)
    if pair is not None:
        yield _found(
            "global-seed",
            "With the global generators seeded otherwise the same episode goes another way.",
            pair,
        )


# --- other processes ------------------------------------------------------------------------------------------


def _processes(subject: Subject, first: Sequence[Played]) -> Iterator[Finding]:
    scripts = [(played.start, played.replies) for played in first]
    limit = min(subject.left_s, 120.0)
    try:
        payload = packed(subject.source, subject.settings, scripts)
    except Unable as why:
        yield cannot_tell("processes", f"Whether another process plays the same episodes: {why}.")
        return
    others = [Elsewhere(payload, hash_seed) for hash_seed in (1, 2)]
    try:
        yield from _compared(first, [other.keys(limit) for other in others])
    except Unable as why:
        yield cannot_tell("processes", f"Whether another process plays the same episodes: {why}.")
    finally:
        for other in others:
            other.close()


def _compared(first: Sequence[Played], elsewhere: Sequence[list[Any]]) -> Iterator[Finding]:
    for keys in elsewhere:
        for played, key in zip(first, keys, strict=True):
            mine = json.loads(json.dumps(played.key()))
            if key != mine:
                yield Finding(
                    "process",
                    Severity.FAULT,
                    "In another process (other hash seed, time zone and locale) the same episode goes another way: "
                    f"{difference(mine, key)}",
                    None,
                    (played,),
                )
                return
