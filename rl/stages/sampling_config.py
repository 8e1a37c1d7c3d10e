"""What a stage that plays episodes is told: where, with which engine, how many."""

from __future__ import annotations

from ..config import EngineConfig, EnvConfig, EvalConfig, ModelConfig, RolloutConfig
from ..config_types import Count, Fraction, Section


class PlayConfig(Section):
    """Episodes on an environment."""

    env: EnvConfig
    """Where they are played."""
    engine: EngineConfig = EngineConfig()
    """What samples them."""
    rollout: RolloutConfig = RolloutConfig()
    """How they are sampled."""


class TeacherConfig(PlayConfig):
    """Demonstrations sampled from a model and kept where the verifier says that they are right.

    With a model of its own this is distillation by rejection sampling; without one the model teaches itself: STaR
    (arXiv 2203.14465) without its hints, and RFT (arXiv 2308.01825).
    """

    model: ModelConfig | None = None
    """The teacher; none is the stage's own model."""
    tasks: Count = 200
    """Tasks that are played."""
    samples: Count = 4
    """Episodes of each."""
    min_score: Fraction = 1.0
    """Episodes with a lower score are left out; ungraded ones always."""
    per_task: Count | None = None
    """The most episodes kept of one task, distinct ones, in the order they were drawn; none keeps all distinct ones."""


class StageEvalConfig(PlayConfig):
    """Held-out problems that are played before and after: the gold score of the stage."""

    eval: EvalConfig = EvalConfig()
    """How many, and how; `every` is not used here."""
