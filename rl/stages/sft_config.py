"""The config of `quintain sft`."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ..config_types import Count, File, Fraction, Section
from .sampling_config import StageEvalConfig, TeacherConfig
from .stage_config import OptimConfig, RowsConfig, StageConfig


class SftDataConfig(RowsConfig):
    """The rows that are learned."""

    path: File | None = None
    """A JSONL file of messages, of prompts and completions, of texts or of trajectories; or the folder of a run."""
    form: Literal["chat", "plain"] = "chat"
    """`chat` puts texts of prompts and completions into the chat template, `plain` takes them as they stand."""
    learn: Literal["all", "last"] = "all"
    """Which of the assistant's messages of a conversation are learned: all of them or the last one."""
    kind: str = "rl"
    """Of a run's folder: which of its trajectories (`rl`, `eval`, `sft`)."""
    min_score: Fraction = 1.0
    """Of trajectories: those with a lower score are left out, ungraded ones always."""
    per_task: Count | None = None
    """Of trajectories: the most that are kept of one task; identical ones count once. None keeps all."""


class SftLossConfig(Section):
    """What is beside the loss of the tokens."""

    loss: Literal["nll", "dft"] = "nll"
    """`nll`, or `dft`: each token's loss weighted with its own probability (arXiv 2508.05629)."""


class SftStageConfig(StageConfig):
    """Supervised fine-tuning: `quintain sft`."""

    stage: Literal["sft"] = "sft"
    """Which stage this is."""
    data: SftDataConfig = SftDataConfig()
    """The rows that are learned."""
    teacher: TeacherConfig | None = None
    """Sample the rows from a model and let a verifier choose; in place of `data.path`."""
    sft: SftLossConfig = SftLossConfig()
    """The loss."""
    optim: OptimConfig = OptimConfig(lr=2e-5)
    """How the weights are changed."""
    eval: StageEvalConfig | None = None
    """Held-out problems that are played before and after."""

    @model_validator(mode="after")
    def _one_source(self) -> SftStageConfig:
        if (self.data.path is None) == (self.teacher is None):
            raise ValueError(
                "give the rows with data.path, or a section [teacher] that samples them: one of the two"
            )
        return self
