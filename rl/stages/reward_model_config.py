"""The config of the stage `quintain reward-model`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config_types import Count, CountOrNone, File, NotNegative, Section
from .preference import Ties
from .stage_config import OptimConfig, RowsConfig, StageConfig

RewardKind = Literal["pairs", "outcome", "steps"]


class RewardDataConfig(Section):
    """What the reward model learns from."""

    path: File
    """A JSONL file: preferences (`pairs`), `prompt`, `response`, `label` (`outcome`) or `prompt`, `steps`, `labels`
    (`steps`); labels are true and false, or a share of successes in [0, 1]."""
    kind: RewardKind = "pairs"
    """`pairs` (Bradley-Terry), `outcome` (whether an answer is right) or `steps` (whether each step is)."""
    ties: Ties = "refuse"
    """With pairs: what a tie gets."""
    margin: NotNegative = 0.0
    """With pairs: the logits have to be apart by this times the pair's own margin (arXiv 2307.09288, eq. 2)."""
    category: Annotated[str, Field(min_length=1)] = "category"
    """The key of a row's `info`, or of the row, by which accuracy is told apart."""


class RewardModelConfig(StageConfig):
    """Trains a model with one output to tell better answers from worse ones."""

    stage: Literal["reward-model"] = "reward-model"
    """Which stage this is."""
    data: RewardDataConfig
    """What it learns from."""
    rows: RowsConfig = RowsConfig(held_out=0.1)
    """Bad rows, long rows and how many are held out."""
    optim: OptimConfig = OptimConfig(lr=2e-5)
    """How the weights are changed."""
    center: NotNegative = 0.01
    """With pairs: the weight of the squared sum of a pair's logits, to keep them around 0 (arXiv 2312.09244, eq. 2)."""
    frozen_layers: CountOrNone = 0
    """The first blocks that stay as they are, the embeddings with them: less time for a little less fit."""
    members: Count = 1
    """Models of an ensemble, with the seeds from `seed` on; all hold out the same rows."""
    bootstrap: bool | None = None
    """Learn from rows drawn with replacement by the seed, so that members differ more; none does so with `members`."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """What draws the rows that are held out; none is `seed`."""

    @model_validator(mode="after")
    def _goes_together(self) -> RewardModelConfig:
        if self.model.lora is not None:
            raise ValueError(
                "a reward model is trained whole: leave [model.lora] out, and use frozen_layers for less work"
            )
        if self.data.margin and self.data.kind != "pairs":
            raise ValueError(f"data.margin goes with kind = 'pairs', got {self.data.kind!r}")
        return self
