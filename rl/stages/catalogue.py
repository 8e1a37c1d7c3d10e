"""The stages that there are. A new one is a line here, a config, and a module with `run_stage`."""

from __future__ import annotations

from typing import Any

from .constitution_config import FeedbackConfig, ReviseConfig
from .dpo_config import DpoConfig
from .pairs_config import PairsConfig
from .reward_model_config import RewardModelConfig
from .sft_config import SftStageConfig
from .stage import Stage

STAGES: dict[str, Stage[Any]] = {
    "sft": Stage("sft", SftStageConfig, ".sft"),
    "dpo": Stage("dpo", DpoConfig, ".dpo"),
    "reward-model": Stage("reward-model", RewardModelConfig, ".reward_model"),
    "pairs": Stage("pairs", PairsConfig, ".pair_episodes", "pairs.jsonl"),
    "revise": Stage("revise", ReviseConfig, ".revise", "rows.jsonl"),
    "feedback": Stage("feedback", FeedbackConfig, ".feedback", "pairs.jsonl"),
}
"""By name, which is the command too."""
