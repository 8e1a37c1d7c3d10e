"""A model of some ten thousand weights, and trajectories written by hand."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
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


@pytest.fixture(scope="session")
def vllm_contract() -> Callable[[str], Awaitable[list[str]]]:
    """Ask a server, real or not, what the engine asks; return where it does not answer as vLLM 0.32 does."""
    steps = json.loads((Path(__file__).parent / "vllm_contract.json").read_text())

    def fits(answer: object, expected: object) -> bool:
        if isinstance(expected, dict):
            return isinstance(answer, dict) and all(
                fits(answer.get(key), value) for key, value in expected.items()
            )
        if isinstance(expected, list):
            return isinstance(answer, list) and bool(answer) and all(fits(one, expected[0]) for one in answer)
        return type(answer).__name__ == expected if isinstance(expected, str) else answer == expected

    async def differences(url: str) -> list[str]:
        import aiohttp

        found = []
        once = aiohttp.TCPConnector(force_close=True)  # after a 500 the real one hangs up
        patience = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(timeout=patience, connector=once) as session:
            for step in steps:
                async with session.request(step["method"], url + step["path"], json=step.get("body")) as got:
                    raw = await got.read()
                    answer = json.loads(raw) if raw else {}
                if got.status != step["status"] or not fits(answer, step["answer"]):
                    found.append(f"{step['method']} {step['path']}: {got.status} {answer!s:.200}")
        return found

    return differences
