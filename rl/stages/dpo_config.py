"""The config of `quintain dpo`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config_types import Count, File, NotNegative, Positive, Section
from .sampling_config import PlayConfig, StageEvalConfig
from .stage_config import OptimConfig, RowsConfig, StageConfig

PAIRED = ("sigmoid", "ipo", "hinge", "robust")
"""The losses of TRL's `DPOTrainer`."""
FREE = ("simpo", "orpo")
"""Losses without a reference model."""


class PreferenceDataConfig(RowsConfig):
    """The preferences that are learned."""

    path: File | None = None
    """A JSONL file of preferences; for the loss `kto` of single answers with a label too."""
    ties: Literal["refuse", "skip", "both"] = "refuse"
    """What a tie gets: `refuse`, `skip` (left out and counted) or `both` (learned in both orders)."""
    on_foreign: Literal["refuse", "skip", "render"] = "refuse"
    """Rows with tokens of another tokenizer: `render` writes their messages with this model's template."""
    min_margin: NotNegative = 0.0
    """Rows with a margin below it are left out and counted; rows without one stay."""


class DpoLossConfig(Section):
    """The loss, and what the policy is held to."""

    loss: Literal["sigmoid", "ipo", "hinge", "robust", "kto", "simpo", "orpo"] = "sigmoid"
    """`sigmoid` (DPO, arXiv 2305.18290), `ipo` (2310.12036), `hinge` (SLiC, 2305.10425), `robust` (2403.00409), `kto`
    (2402.01306), `simpo` (2405.14734) or `orpo` (2403.07691)."""
    beta: Positive = 0.1
    """How tightly the policy is held to the reference; of `ipo` tau, of `orpo` the weight of the odds ratio."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Of `robust` and `simpo`: the share of labels that are taken to be wrong."""
    gamma: NotNegative = 0.5
    """Of `simpo`: the margin that is asked for."""
    nll: NotNegative = 0.0
    """The weight of the negative log-likelihood of the chosen answer beside the loss; `orpo` has it already."""
    desirable: Positive = 1.0
    """Of `kto`: the weight of wanted answers."""
    undesirable: Positive = 1.0
    """Of `kto`: the weight of unwanted ones."""
    reference: str | None = None
    """A model folder or id to hold the policy to; none is the model that the stage starts from."""

    @model_validator(mode="after")
    def _options_fit_the_loss(self) -> DpoLossConfig:
        if self.label_smoothing and self.loss not in ("robust", "simpo"):
            raise ValueError(
                f"label_smoothing is of the losses robust and simpo alone, got {self.label_smoothing} with {self.loss}"
            )
        if self.reference is not None and self.loss in FREE:
            raise ValueError(f"{self.loss} has no reference: leave reference out, got {self.reference!r}")
        if self.nll and self.loss in ("kto", "orpo"):
            raise ValueError(f"nll is not for the loss {self.loss}, got {self.nll}")
        return self


class OnlineConfig(PlayConfig):
    """Preferences made round by round: sample groups, score, pair, learn, and again with the better model."""

    rounds: Count = 3
    """Rounds of sampling and learning; `optim.steps` is of each."""
    groups: Count = 32
    """Tasks of a round."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Episodes of each."""
    choose: Literal["best_worst", "all", "best_rest"] = "best_worst"
    """Which pairs of a group: the best and the worst, all that differ, or the best with each other one."""
    gap: NotNegative = 0.0
    """Episodes whose scores differ by no more are a tie and no pair."""
    hold_to: Literal["round", "start"] = "round"
    """The reference of each round: the model at its beginning, or that of the whole stage."""


class DpoConfig(StageConfig):
    """Learning from preferences without a reward model: `quintain dpo`."""

    stage: Literal["dpo"] = "dpo"
    """Which stage this is."""
    data: PreferenceDataConfig = PreferenceDataConfig()
    """The preferences that are learned."""
    online: OnlineConfig | None = None
    """Make the preferences while learning; in place of `data.path`."""
    dpo: DpoLossConfig = DpoLossConfig()
    """The loss, and what the policy is held to."""
    optim: OptimConfig = OptimConfig(lr=1e-6)
    """How the weights are changed."""
    eval: StageEvalConfig | None = None
    """Held-out problems that are played before and after."""

    @model_validator(mode="after")
    def _one_source(self) -> DpoConfig:
        if (self.data.path is None) == (self.online is None):
            raise ValueError(
                "give the preferences with data.path, or a section [online] that makes them: one of the two"
            )
        if self.online is not None and self.optim.steps is None:
            raise ValueError("[online] needs optim.steps, the steps of each round")
        if self.online is not None and self.dpo.loss == "kto":
            raise ValueError(
                "the loss kto learns from rows with labels: give them with data.path, not [online]"
            )
        if self.dpo.loss == "kto" and self.optim.micro_batch < 2:
            raise ValueError(
                f"the loss kto needs optim.micro_batch of 2 or more, got {self.optim.micro_batch}"
            )
        return self
