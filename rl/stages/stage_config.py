"""What the configs of all stages share: the run, the model, the optimiser and the data's bad rows.

Nothing here imports torch, so that a config is read and checked in no time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field, model_validator

from ..config import ModelConfig
from ..config_types import (
    BoardsConfig,
    Count,
    CountOrNone,
    File,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Rate,
    Section,
)


class StageRunConfig(BoardsConfig):
    """Where the run of a stage is written and how often."""

    dir: File = Path("runs")
    """The folder that runs are made in; a run becomes `<name>-seed<seed>-<n>` there."""
    keep_checkpoints: Count = 2
    """How many of the newest checkpoints stay."""
    checkpoint_every: Count = 50
    """Optimiser steps between two checkpoints."""


class OptimConfig(Section):
    """How the weights are changed."""

    epochs: Positive = 1.0
    """How often every row is learned; used where `steps` is none."""
    steps: Count | None = None
    """Optimiser steps; none follows from `epochs`."""
    batch: Count = 32
    """Rows of one step."""
    micro_batch: Count = 8
    """Rows of one forward pass; it divides `batch`."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw` (everything) or `muon` (matrices; AdamW for the rest)."""
    lr: Rate = 1e-5
    """The peak learning rate of AdamW."""
    muon_lr: Rate = 1e-3
    """The peak learning rate of Muon."""
    lr_final: Fraction = 0.1
    """The learning rate at the end, as a fraction of the peak."""
    warmup: Fraction = 0.05
    """The share of the steps over which the learning rate rises to its peak."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""

    @model_validator(mode="after")
    def _parts_fill_the_batch(self) -> OptimConfig:
        if self.batch % self.micro_batch:
            raise ValueError(
                f"batch must be a multiple of micro_batch, got {self.batch} and {self.micro_batch}"
            )
        return self


class RowsConfig(Section):
    """What happens to rows that cannot be used, and how many are held out."""

    on_bad: Literal["refuse", "skip"] = "refuse"
    """`refuse` stops with the numbers of the rows; `skip` leaves them out, counts them and says so."""
    on_long: Literal["refuse", "skip", "cut"] = "refuse"
    """The same for rows of more than `max_tokens`; `cut` takes what is beyond away."""
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """The longest row in tokens, prompt included; none takes the model's context."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the rows that is kept for evaluation; rows of one group stay together."""
    eval_every: CountOrNone = 0
    """Optimiser steps between two evaluations; 0 evaluates before and after only."""


class StageConfig(Section):
    """The part of a stage's config that all stages share; a subclass fixes `stage` and adds its sections."""

    stage: str
    """Which stage this is: `sft`, `dpo` ..."""
    name: Name = "run"
    """The first part of the run folder's name; the config file's name by default."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random in the run follows from it."""
    threads: Count | None = None
    """Threads of torch; none takes all cores."""
    run: StageRunConfig = StageRunConfig()
    """Where the run is written and how often."""
    model: ModelConfig = ModelConfig()
    """Which model the stage starts from, and where."""

    def to_toml(self) -> str:
        """Return the config as TOML, every value spelled out; what is none is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
