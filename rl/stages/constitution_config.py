"""The configs of the stages `revise` and `feedback`: what a constitution says becomes rows and preferences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import EngineConfig, ModelConfig
from ..config_types import Count, File, NotNegative, Section
from .stage_config import StageConfig


class SpeakerConfig(Section):
    """Who answers, criticises or judges."""

    rules: bool = False
    """Go by the patterns of the constitution instead of asking a model; for critics and judges."""
    model: ModelConfig | None = None
    """A model of its own; none is the stage's."""
    engine: EngineConfig = EngineConfig()
    """What samples; with kind = "openai" any server is asked, and no model is loaded."""
    max_tokens: Count = 256
    """The most tokens of one answer."""
    temperature: NotNegative = 1.0
    """Divides the logits; 0 takes the most likely tokens."""
    concurrency: Count = 16
    """Prompts in work at the same time."""

    @model_validator(mode="after")
    def _one_kind(self) -> SpeakerConfig:
        if self.rules and self.model is not None:
            raise ValueError("rules = true asks no model: leave model out")
        return self


class PromptsConfig(Section):
    """What is answered."""

    path: File
    """A JSONL file with a `prompt` on each line, a text or messages; for `revise` an `answer` too, if there is one."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """`refuse` stops with the numbers of the rows that cannot be used; `skip` leaves them out and counts them."""
    on_failed: Literal["refuse", "skip"] = "refuse"
    """The same for rows whose critic or judge failed or could not be understood; what was said is kept either way."""


class _ConstitutionStageConfig(StageConfig):
    """What both stages share."""

    constitution: File
    """A TOML or JSON file of principles."""
    data: PromptsConfig
    """What is answered."""
    answer: SpeakerConfig = SpeakerConfig()
    """Who answers the prompts."""

    @model_validator(mode="after")
    def _a_rule_has_no_answers(self) -> _ConstitutionStageConfig:
        if self.answer.rules:
            raise ValueError("answer.rules: rules criticise and compare, they cannot answer")
        return self


class ReviseConfig(_ConstitutionStageConfig):
    """Answers criticised and revised by principles: rows for SFT (arXiv 2212.08073, section 3.1)."""

    stage: Literal["revise"] = "revise"
    """Which stage this is."""
    critic: SpeakerConfig = SpeakerConfig()
    """Who criticises and revises."""
    rounds: Count = 1
    """Critiques and revisions of each answer, one after another, each by a principle that is drawn."""


class FeedbackConfig(_ConstitutionStageConfig):
    """Two answers to each prompt, compared by a principle: preferences (arXiv 2212.08073, section 4.1)."""

    stage: Literal["feedback"] = "feedback"
    """Which stage this is."""
    judge: SpeakerConfig = SpeakerConfig(temperature=0.0)
    """Who compares, in both orders."""
    pairs: Annotated[int, Field(ge=1)] = 1
    """Pairs of answers to each prompt."""
    ties: Literal["skip", "keep"] = "skip"
    """Pairs without a better answer, also by a judge that goes by the order: left out and counted, or kept."""
