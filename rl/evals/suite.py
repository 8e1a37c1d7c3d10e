"""What is evaluated: models, environments, how many problems and samples. Read from a TOML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, model_validator

from ...tools.errors import UserError
from ..config import OpenAIConfig, VllmConfig
from ..config_file import build, read_toml
from ..config_types import Count, Device, Kwargs, Name, NotNegative, Section


class EvalModel(Section):
    """A model that is evaluated."""

    name: Name
    """What it is called in results and files."""
    path: Annotated[str, Field(min_length=1)]
    """A folder (a checkpoint of a run is one), `smollm2` or a Hugging Face id; with engine = "openai" the name on the
    server."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """What samples."""
    device: Device = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the weights."""
    base_url: Annotated[str, Field(pattern=r"^https?://")] = "http://127.0.0.1:8000/v1"
    """With engine = "openai": where the server is."""
    api_key_env: Annotated[str, Field(min_length=1)] = "OPENAI_API_KEY"
    """With engine = "openai": the environment variable that holds the key."""
    vllm: VllmConfig = VllmConfig()
    """With engine = "vllm"."""
    price_in: NotNegative = 0.0
    """Money for a million tokens of input, for the cost."""
    price_out: NotNegative = 0.0
    """Money for a million tokens of output."""

    @property
    def server(self) -> OpenAIConfig:
        """The server's description."""
        return OpenAIConfig(base_url=self.base_url, model=self.path, api_key_env=self.api_key_env)


class EvalEnv(Section):
    """An environment that is played."""

    id: Annotated[str, Field(min_length=1)]
    """A registered id."""
    name: Name | None = None
    """What it is called in results; none is the id without its namespace."""
    kwargs: Kwargs = Field(default_factory=dict)
    """What it is made with, for example {split = "test"}."""
    problems: Count | None = None
    """How many; none is the suite's number."""
    samples: Count | None = None
    """Episodes of each problem; none is the suite's number."""

    @property
    def label(self) -> str:
        """The name in results."""
        return self.name or self.id.rpartition("/")[2]


class Suite(Section):
    """An evaluation."""

    name: Name = "suite"
    """Of the results folder."""
    seed: int = 0
    """Everything random follows from it; the same seed asks the same problems."""
    problems: Count = 50
    """Problems of each environment; fewer where it has fewer."""
    samples: Count = 1
    """Episodes of each problem."""
    temperature: NotNegative = 0.0
    """Divides the logits; 0 is greedy, and then one sample says all."""
    turn_tokens: Count = 512
    """The most tokens of one reply."""
    episode_tokens: Count = 4096
    """The most tokens of one episode."""
    concurrency: Count = 64
    """Episodes that run at the same time."""
    answers: Literal["number", "text", "math"] = "number"
    """What counts as one answer in a majority vote."""
    max_ungraded: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The largest share of ungraded episodes of an environment with which the results still stand."""
    model: Annotated[list[EvalModel], Field(min_length=1)]
    """The models."""
    env: Annotated[list[EvalEnv], Field(min_length=1)]
    """The environments."""

    @model_validator(mode="after")
    def _fits(self) -> Suite:
        for kind, names in (
            ("models", [m.name for m in self.model]),
            ("environments", [e.label for e in self.env]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {kind} are called {', '.join(twice)}: give them a `name` each")
        if self.temperature == 0 and any((env.samples or self.samples) > 1 for env in self.env):
            raise ValueError(
                "several samples of a problem are all the same at temperature 0: set temperature, or samples = 1"
            )
        if self.turn_tokens > self.episode_tokens:
            raise ValueError(
                f"turn_tokens must not exceed episode_tokens, got {self.turn_tokens} and {self.episode_tokens}"
            )
        return self

    def to_toml(self) -> str:
        """Return the suite with every value, as a TOML file that reads to the same."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_suite(
    path: Path | None, overrides: Sequence[str] = (), table: dict[str, Any] | None = None
) -> Suite:
    """Read a suite from a TOML file; what is in `table` replaces or adds to it, and dotted overrides come last.

    Paths in `kwargs.path` and of models may use environment variables (`$DATA/gsm8k.jsonl`).

    Raises `UserError` with one line for each thing that is wrong.
    """
    found = {} if path is None else {"name": path.stem, **read_toml(path)}
    found |= table or {}
    return build(Suite, _expanded(found), overrides, source=str(path) if path else "the options")


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if isinstance(value, str) and "$" in value:
        text = os.path.expandvars(value)
        if text == value and value.startswith("$"):
            name = value[1:].partition("/")[0].strip("{}")
            raise UserError(f"{value}: the environment variable {name} is not set; set it, or write the path")
        return text
    return value
