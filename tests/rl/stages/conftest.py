"""Preferences and answers, short to write."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quintain.rl.trajectory import Trajectory

if importlib.util.find_spec("torch") is None:  # without the `train` extra there is nothing to test here
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def episode() -> Callable[..., Trajectory]:
    """Make a trajectory of one group: a question, a reply of its tokens, a score (None: ungraded)."""
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers.base import Score

    def make(text: str, score: float | None, group: int = 0, **more: object) -> Trajectory:
        reply = [100 + ord(c) for c in text]
        return Trajectory(
            **{  # type: ignore[arg-type]
                "id": f"e-{group}-{text}",
                "task_id": f"task{group}",
                "group": group,
                "ids": [1, 2, 3, *reply, 9],
                "mask": [False] * 3 + [True] * (len(reply) + 1),
                "logprobs": [0.0] * (len(reply) + 4),
                "versions": [0] * (len(reply) + 4),
                "turns": [Turn(3, len(reply) + 4, 0.0)],
                "messages": [
                    {"role": "user", "content": f"question {group}"},
                    {"role": "assistant", "content": text},
                ],
                "score": Score.ungraded("a judge failed") if score is None else Score(score),
                "stop": StopReason.TERMINATED,
                **more,
            }
        )

    return make
