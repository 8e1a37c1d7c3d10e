"""The `[rl.guard]` section: a gold that is never trained on, how often it is asked, and what happens when it falls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .config_types import Count, Kwargs, NotNegative, Positive, Section
from .drift import REFUSALS

Sign = Literal["gold", "length", "disagreement", "repetition", "refusals", "format"]
_GOLD: list[Sign] = ["gold"]


class GuardConfig(Section):
    """Proxy against gold: notices that the reward is being played instead of earned."""

    gold: Kwargs = Field(default_factory=lambda: {"id": "environment"})
    """The spec of the gold verifier; `environment` is the environment's own. It must not be what is trained on."""
    every: Count = 1
    """RL steps between two times that the gold is asked."""
    episodes: Count = 64
    """The most episodes of a step that it is asked about, whole groups."""
    window: Count = 3
    """Measurements whose mean is compared; an alarm needs twice as many."""
    fall: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The least fall of the gold, from its best, that counts."""
    sigmas: NotNegative = 5.0
    """That fall in standard errors: the best of many measurements is partly luck."""
    action: Literal["report", "stop", "raise_kl"] = "report"
    """What an alarm does: it is shown; the run ends with a checkpoint; or `kl.coef` is raised."""
    act_on: Annotated[list[Sign], Field(min_length=1)] = Field(default_factory=lambda: _GOLD[:])
    """Which alarms do that; the others are shown."""
    kl_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    """With raise_kl: what the coefficient is multiplied by, at most once a window."""
    kl_floor: Positive = 0.02
    """With raise_kl: the least coefficient after an alarm."""
    kl_max: Positive = 1.0
    """With raise_kl: the largest coefficient."""
    ngram: Count = 3
    """Tokens of the n-grams whose repetition is watched."""
    refusals: list[str] = Field(default_factory=lambda: list(REFUSALS))
    """Regular expressions of refusals."""
