"""The config of the stage `pairs`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..config_types import Count, NotNegative
from .pairs import Choose
from .sampling_config import PlayConfig
from .stage_config import StageConfig


class PairsPlayConfig(PlayConfig):
    """Groups of episodes that are paired by their scores; `env.verifier` puts another judge in the place of its own."""

    groups: Count = 64
    """Tasks that are played."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Episodes of each."""
    choose: Choose = "best_worst"
    """Which pairs of a group: the best and the worst, all that differ, or the best with each other one."""
    gap: NotNegative = 0.0
    """Episodes whose scores differ by no more are a tie and no pair."""


class PairsConfig(StageConfig):
    """Preferences out of a model's own episodes: `pairs.jsonl`."""

    stage: Literal["pairs"] = "pairs"
    """Which stage this is."""
    play: PairsPlayConfig
    """What is played."""
