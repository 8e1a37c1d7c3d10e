"""Pairs out of groups of trajectories: the higher score of the verifier is the better answer, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

from ...tools.chat import Message
from ..trajectory import Trajectory
from .preference import Preference, Tokens, says_something

Choose = Literal["best_worst", "all", "best_rest"]
"""Which pairs of a group: the best against the worst, all that differ, or the best against each other one."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Pairs out of groups of trajectories, and what did not become one."""

    preferences: list[Preference]
    """The pairs."""
    groups: int
    """How many groups there were."""
    ungraded: int
    """Trajectories without a judgement: they are in no pair."""
    tied: int
    """Pairs whose scores are closer than the gap: they are left out."""
    identical: int
    """Pairs of the same answer with different scores: a verifier that is not deterministic."""
    silent: int
    """Groups that gave no pair."""
    unwritten: int = 0
    """Trajectories in which the model wrote nothing, or whose template rewrote what was said: they are in no pair."""


def pairs_from_groups(
    trajectories: Iterable[Trajectory],
    *,
    choose: Choose = "best_worst",
    gap: float = 0.0,
    source: str = "verifier",
    tools: Sequence[dict[str, Any]] = (),
    tokenizer: str = "",
) -> Paired:
    """Return pairs of trajectories that have one `group` and one task, the higher score first.

    Args:
        trajectories: Of any number of groups, in any order.
        choose: `best_worst` (one pair a group), `all` that differ, or `best_rest` (the best against each other one).
        gap: Pairs whose scores differ by no more than this are ties and left out.
        source: Goes into the preferences.
        tools: The schemas that the prompts show.
        tokenizer: The mark of the tokenizer (`tokenizer_mark`); empty leaves the tokens out of the preferences.

    Ungraded trajectories are in no pair. Among equal scores the one that comes first counts as the best, and the one
    that comes last as the worst, so the choice does not depend on anything but the order. The margin is the
    difference of the scores. Raises `ValueError` for another `choose`, or a `gap` below 0.
    """
    if choose not in get_args(Choose) or not gap >= 0:
        raise ValueError(
            f"choose must be one of {', '.join(get_args(Choose))} and gap at least 0, got {choose!r}, {gap}"
        )
    groups: dict[tuple[int, str], list[Trajectory]] = {}
    ungraded = unwritten = 0
    for one in trajectories:
        members = groups.setdefault((one.group, one.task_id), [])
        if not one.graded:
            ungraded += 1
        elif not _usable(one, bool(tokenizer)):
            unwritten += 1
        else:
            members.append(one)
    found: list[Preference] = []
    tied = identical = silent = 0
    for (number, task), members in groups.items():
        before = len(found)
        for better, worse in _chosen_pairs(members, choose):
            margin = better.score.value - worse.score.value
            if margin <= gap:
                tied += 1
            elif list(better.ids) == list(worse.ids) or (not tokenizer and _answer(better) == _answer(worse)):
                identical += 1
            else:
                name = f"{task}/{number}/{len(found) - before}"
                found.append(_pair(better, worse, margin, name, source, tuple(tools), tokenizer))
        silent += len(found) == before
    return Paired(found, len(groups), ungraded, tied, identical, silent, unwritten)


def _usable(one: Trajectory, as_tokens: bool) -> bool:
    if len(one.samples) > 1 or not any(one.mask) or not _answer(one):
        return False
    return as_tokens or any(says_something(message) for message in _answer(one))


def _chosen_pairs(members: list[Trajectory], choose: Choose) -> list[tuple[Trajectory, Trajectory]]:
    ranked = sorted(members, key=lambda one: -one.score.value)
    if len(ranked) < 2:
        return []
    if choose == "best_worst":
        return [(ranked[0], ranked[-1])]
    if choose == "best_rest":
        return [(ranked[0], other) for other in ranked[1:]]
    return list(combinations(ranked, 2))


def _pair(
    better: Trajectory,
    worse: Trajectory,
    margin: float,
    name: str,
    source: str,
    tools: tuple[dict[str, Any], ...],
    tokenizer: str,
) -> Preference:
    sides = [Tokens(tuple(one.ids), tuple(one.mask)) for one in (better, worse)]
    return Preference(
        _prompt(better),
        _answer(better),
        _answer(worse),
        margin=margin,
        source=source,
        tools=tools,
        id=name,
        tokens=(sides[0], sides[1]) if tokenizer else None,
        tokenizer=tokenizer,
        info={"scores": [better.score.value, worse.score.value], "trajectories": [better.id, worse.id]},
    )


def _prompt(trajectory: Trajectory) -> tuple[Message, ...]:
    return tuple(trajectory.messages[: _begin(trajectory)])


def _answer(trajectory: Trajectory) -> tuple[Message, ...]:
    """Return the messages from the first of the assistant's to the last: what follows it nobody answered."""
    messages = trajectory.messages[_begin(trajectory) :]
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return tuple(messages[: last + 1])


def _begin(trajectory: Trajectory) -> int:
    roles = [message["role"] for message in trajectory.messages]
    return roles.index("assistant") if "assistant" in roles else len(roles)
