"""What turns token ids into sampled token ids with log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Completion, Engine, EngineError, FinishReason, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..config import EngineConfig

__all__ = ["Completion", "Engine", "EngineError", "FinishReason", "Sampling", "make_engine"]


def make_engine(
    config: EngineConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> Engine:
    """Return the engine that `config` names, sampling from `model`."""
    if config.kind == "vllm":
        from .vllm import VllmEngine

        return VllmEngine(model, tokenizer, config.vllm, max_sessions=config.max_sessions, seed=seed)
    if config.kind == "vllm-server":
        from .vllm_server import VllmServerEngine

        return VllmServerEngine(
            model, tokenizer, config.server, config.vllm, max_sessions=config.max_sessions, seed=seed
        )
    if config.kind == "openai":
        from .openai import OpenAIEngine

        return OpenAIEngine(config.openai)
    from .transformers import TransformersEngine

    return TransformersEngine(model, max_sessions=config.max_sessions)
