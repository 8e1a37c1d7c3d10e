"""The kinds of values that a config is made of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
File = Annotated[Path, Field(strict=False), AfterValidator(Path.expanduser)]


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be plain JSON data ({error})") from None
    if re.search(r"\bnull\b", re.sub(r'"(\\.|[^"\\])*"', "", text)):
        raise ValueError("must not hold a null: leave the key out instead")
    return value


Kwargs = Annotated[dict[str, Any], AfterValidator(_plain_json)]


class Section(BaseModel):
    """A part of the config: frozen, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class BoardsConfig(Section):
    """Where metrics go besides `metrics.jsonl`; nowhere by default."""

    tensorboard: bool = False
    """Write TensorBoard event files beside `metrics.jsonl`."""
    wandb: bool = False
    """Log to Weights & Biases too; without a login, or with WANDB_MODE=offline, nothing leaves the run folder."""
    trackio: bool = False
    """Log to trackio too, on this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names another place."""
    project: Name = "quintain"
    """The project that the run belongs to there; its name is that of the run folder."""


S = TypeVar("S", bound=Section)


def warmup_fits(section: S, warmup: int, steps: int) -> S:
    """Refuse a warm-up that does not end; a validator calls it."""
    if warmup >= steps:
        raise ValueError(f"warmup_steps must be below steps, got {warmup} and {steps}")
    return section
