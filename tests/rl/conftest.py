"""A model of some ten thousand weights, and trajectories written by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from quintain.rl.trajectory import Trajectory

if importlib.util.find_spec("torch") is None:  # without the `train` extra there is nothing to test here
    collect_ignore_glob = ["test_*.py"]

TEXTS = [
    "Ann has 3 boxes of 4 pens. She gets 5 more. How many pens does Ann have?",
    "<think>3*4</think>\n<tool_call>\n",
    '{"name": "calculator", "arguments": {"expression": "3*4"}}\n</tool_call>',
    "The answer is 17.",
    "system user assistant tool calculator(expression)\n",
] * 4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Exact equality needs one order of summation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the embedded model, trained on a few lines."""
    from quintain.rl.config import TinyModelConfig
    from quintain.rl.tiny import build_tokenizer

    return build_tokenizer(TEXTS, TinyModelConfig(vocabulary=320, context=512))


@pytest.fixture
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """Make a small model; the same seed gives the same weights."""
    import torch

    from quintain.rl.config import TinyModelConfig
    from quintain.rl.tiny import build_model

    def make(seed: int = 0, context: int = 512) -> LlamaForCausalLM:
        shape = TinyModelConfig(
            layers=2, width=32, heads=4, kv_heads=2, mlp=64, vocabulary=320, context=context
        )
        model = build_model(shape, tokenizer, torch.Generator().manual_seed(seed))
        with torch.no_grad():  # sharper than an untrained one, so that what comes before matters
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(3)
        return model.eval()

    return make


@pytest.fixture
def model(make_model: Callable[..., LlamaForCausalLM]) -> LlamaForCausalLM:
    """The model with seed 0."""
    return make_model()


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    """Make a trajectory from ids and a mask written as a string: `x` was sampled, `.` was given."""
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers.base import Score

    def make(
        ids: Sequence[int], mask: str, *, logprobs: Sequence[float] | None = None, group: int = 0
    ) -> Trajectory:
        sampled = [mark == "x" for mark in mask]
        return Trajectory(
            id=f"t-{group}-{ids[0]}",
            task_id="1",
            group=group,
            ids=list(ids),
            mask=sampled,
            logprobs=[0.0] * len(ids) if logprobs is None else list(logprobs),
            versions=[0 if mine else -1 for mine in sampled],
            turns=[Turn(mask.index("x"), len(ids), 1.0)],
            messages=[],
            score=Score(1.0),
            stop=StopReason.TERMINATED,
        )

    return make
