"""What an environment says about itself, for people who choose one and for the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Card:
    """The description of an environment: a class attribute, `card = Card(...)`. Every text is a sentence or two."""

    what: str
    """What the model is asked to do."""
    reward: str
    """What is paid for, and what is not."""
    difficulty: str
    """What makes a task harder, and which options control it."""
    oracle: str
    """Where right answers come from: a solver, the data set, none."""
    source: str = "generated; no data set"
    """Where the tasks come from, with the licence of the data."""
    tags: tuple[str, ...] = ()
    """Words to find it by: `math`, `code`, `tools`, `game`, `instructions`, `multi-turn` ..."""
    accepted: Mapping[str, tuple[float, str]] = field(default_factory=dict, hash=False)
    """Findings of the audit that are as they should be here, `probe/code` to the largest number that is accepted and
    why: `{"trivial/empty": (0.3, "a fifth of the tasks want no call")}`."""
