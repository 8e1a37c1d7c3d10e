"""Play a stored episode again: the same start, the stored replies, the environment as it is now.

What the environment says and pays is compared with what was stored, so a replay shows whether an environment is
deterministic, and what a change to it does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..verifiers.base import Score
from .stored import StoredRun
from .trajectory import TOO_LONG, StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that went otherwise."""

    where: str
    """`opening`, `turn 2: messages`, `turn 2: reward`, `end` or `score`."""
    stored: Any
    """As it was."""
    now: Any
    """As it is."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay went."""

    turns: int
    """How many of the stored replies the environment took."""
    score: Score | None
    """The judgement now; None if the episode did not come to an end."""
    differences: tuple[Difference, ...]
    """What was otherwise, in the order of the episode; empty if all was equal."""


async def replay(run: StoredRun, trajectory: Trajectory) -> Replayed:
    """Play the episode again with its stored replies and compare.

    The reply that a token limit cut was never given to the environment and is not given now. Raises `UserError` if
    the task is not there any more, and whatever the environment raises.
    """
    run.task_of(trajectory)
    env = run.env_of(trajectory).fresh()
    try:
        options = None if trajectory.task is None else {"task": trajectory.task}
        _, info = env.reset(seed=trajectory.seed % 2**32, options=options)
        differences: list[Difference] = []

        def compare(where: str, stored: Any, now: Any) -> None:
            if stored != (now := json.loads(json.dumps(now))):  # as it would be read back
                differences.append(Difference(where, stored, now))

        told = _told(trajectory)
        compare("opening", told[0], list(info["messages"]))
        replies = run.replies(trajectory)
        if trajectory.stop in TOO_LONG and trajectory.messages[-1]["role"] == "assistant":
            replies = replies[:-1]
        score: Score | None = None
        turns = 0
        for number, text in enumerate(replies):
            if score is not None:
                compare("end", f"{len(replies)} turns", f"{turns} turns")
                break
            _, reward, terminated, truncated, info = await env.astep(text)
            turns += 1
            stored = told[number + 1] if number + 1 < len(told) else []
            compare(f"turn {turns}: messages", stored, list(info["messages"]))
            compare(f"turn {turns}: reward", trajectory.turns[number].reward, float(reward))
            if terminated or truncated:
                score = info["score"]
        over = trajectory.stop in (StopReason.TERMINATED, StopReason.TRUNCATED)
        if over and score is None:
            compare("end", str(trajectory.stop), "the episode goes on")
        elif over and score is not None:
            compare("score", _verdict(trajectory.score), _verdict(score))
        return Replayed(turns, score, tuple(differences))
    finally:
        await env.aclose()


def _told(trajectory: Trajectory) -> list[list[Any]]:
    """Return the environment's messages: before the first reply, after it, and so on."""
    found: list[list[Any]] = [[]]
    for message in trajectory.messages:
        if message["role"] == "assistant":
            found.append([])
        else:
            found[-1].append(message)
    return found


def _verdict(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "status": str(score.status),
        "parts": dict(score.parts),
        "reason": score.reason,
    }
