"""From a model's description to the engine and the codec that play its episodes."""

from __future__ import annotations

from typing import Any

from ..chat import ChatCodec
from ..config import EngineConfig, ModelConfig
from ..engines import Engine, make_engine
from ..models import load_model, read_template
from ..text_codec import TextCodec
from .suite import EvalModel


def open_player(model: EvalModel, *, seed: int) -> tuple[Engine, Any]:
    """Return the engine and the codec of a model; close the engine after use.

    Raises `UserError` for a model that is not there.
    """
    if model.engine == "openai":
        from ..engines.openai import OpenAIChatEngine

        return OpenAIChatEngine(model.server), TextCodec()
    config = ModelConfig(path=model.path, device=model.device, dtype=model.dtype)
    network, tokenizer = load_model(config, seed=seed)
    engine = make_engine(EngineConfig(kind=model.engine, vllm=model.vllm), network, tokenizer, seed=seed)
    return engine, ChatCodec(tokenizer, read_template(config))
