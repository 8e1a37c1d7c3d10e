"""`Turn`: what an environment answers to one reply, and the check of what a subclass returned."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..tools.chat import Message
from ..tools.errors import UserError
from ..verifiers.base import Score


@dataclass(frozen=True, slots=True)
class Turn:
    """What an environment answers to one reply, when a text alone does not say it."""

    text: str | Sequence[Message] = ""
    """What the model sees next: a user message, or the messages themselves."""
    reward: float = 0.0
    """Reward of this turn; a score at the end adds its value."""
    done: bool = False
    """Whether the episode is over."""
    score: Score | None = None
    """The judgement at the end; None lets the environment's verifier judge."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """More entries for the step's `info`; nothing that depends on the clock."""


def checked(turn: Any, env: object) -> Turn:
    """Return what `respond` of `env` returned as a `Turn` of plain values.

    Raises `UserError` for anything that is neither a text nor a `Turn` of the right types.
    """
    if isinstance(turn, str):
        return Turn(turn)
    name = type(env).__name__
    if not isinstance(turn, Turn):
        if inspect.iscoroutine(turn):
            turn.close()
            raise UserError(f"{name}.respond is asynchronous: name it `arespond`")
        raise UserError(
            f"{name}.respond must return a text or a Turn, got {type(turn).__name__}; "
            'write, for example, `return Turn("Right.", reward=1.0, done=True)`'
        )
    reward = turn.reward
    if not isinstance(reward, int | float | np.number) or not math.isfinite(reward):
        raise UserError(f"{name}.respond: the reward must be a finite number, got {reward!r}")
    if turn.score is not None and not isinstance(turn.score, Score):
        raise UserError(
            f"{name}.respond: score must be a Score, got {type(turn.score).__name__}; write `Score(1.0)`"
        )
    if not isinstance(turn.info, Mapping):
        raise UserError(
            f'{name}.respond: info must be a mapping such as {{"moves": 3}}, got {type(turn.info).__name__}'
        )
    done: Any = turn.done
    if isinstance(done, bool):
        return turn
    if isinstance(done, np.bool_):  # what a comparison of NumPy numbers gives
        return Turn(turn.text, turn.reward, bool(done), turn.score, turn.info)
    raise UserError(f"{name}.respond: done must be True or False, got {done!r}")
