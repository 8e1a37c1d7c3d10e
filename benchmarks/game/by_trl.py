"""TRL: the tool loop of `GRPOTrainer` with a script where the model would sample; tokens are part of what it does."""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import version
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import parse_response, qwen3_chat_template

from quintain.rl.config import TinyModelConfig
from quintain.rl.tiny import build_model, build_tokenizer

from . import QUESTION, SECRET, Row, answer, cpu_us
from .by_quintain import GUESSES, called


def guess(n: int) -> str:
    """Guess the number.

    Args:
        n: The number.
    """
    return answer(str(n))[0]


def make_trainer(folder: str) -> Any:
    """Return a trainer of a model that is never asked."""
    shape = TinyModelConfig(layers=1, width=32, heads=2, kv_heads=2, mlp=32, vocabulary=320, context=4096)
    texts = [QUESTION, "I think it is 22.", '<tool_call>{"name": "guess", "arguments"']
    tokenizer = build_tokenizer(texts, shape)
    tokenizer.chat_template = qwen3_chat_template
    config = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=4, num_generations=4, max_steps=1, report_to="none",
        use_cpu=True, bf16=False, max_completion_length=3000, disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(
        build_model(shape, tokenizer, torch.Generator().manual_seed(0)),
        reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config, tools=[guess],
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": QUESTION}]}]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer._sync_tool_dicts = [{"guess": guess}]
    trainer._async_tool_dicts = [{}]
    return trainer


def play() -> list[Row]:
    """Measure a whole turn with a tool call."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
    replies = [*(f"{called('guess', n)}<|im_end|>" for n in GUESSES), f"{SECRET}<|im_end|>"]
    encoded = [trainer.processing_class(text, add_special_tokens=False)["input_ids"] for text in replies]
    asked = 0

    def generate(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return [list(encoded[asked % len(encoded)]) for _ in prompt_ids], None

    trainer._generate_single_turn = generate

    def episode() -> int:
        nonlocal asked
        asked = 0
        prompts = [[{"role": "user", "content": QUESTION}]]
        prompt_ids, images, fields = trainer._tokenize_prompts(prompts)
        first = list(encoded[0])
        completions = [[parse_response(trainer._tokenizer, first, prefix=prompt_ids[0], tools=[guess])]]
        trainer._tool_call_loop(prompts, prompt_ids, [first], completions, None, images, fields)
        return len(replies)

    what = f"TRL {version('trl')}: its tool loop, tokens counted in"
    return [(what, "tools", cpu_us({what: episode}, 10)[what])]
