"""A whole single-turn GRPO step of SmolLM2-135M, generation and update: ours and TRL's, run by `learner.py step`.

The same prompts, the same replies (see `forced`; their lengths spread from 16 to 128 tokens as those of a policy do),
the same bfloat16 weights. TRL generates with `model.generate`, ours with the `transformers` engine.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from typing import Any

import numpy as np

GROUP = 8
STEPS = 2
LONGEST = 128


def questions(groups: int, seed: int = 0) -> list[tuple[int, list[int], list[int]]]:
    """Return the group, the prompt and the reply of each episode, as token ids; a reply ends with 2."""
    rng = np.random.default_rng(seed)
    made = []
    for group in range(groups):
        prompt = rng.integers(100, 40_000, int(rng.integers(60, 150))).tolist()
        for _ in range(GROUP):
            length = int(np.exp(rng.uniform(np.log(16), np.log(LONGEST + 1))))
            made.append((group, prompt, [*rng.integers(100, 40_000, length - 1).tolist(), 2]))
    return made


def rewards(count: int) -> list[float]:
    return [float(index % 3 == 0) for index in range(count)]


def run_ours(groups: int, *, masters: bool, budget: int) -> dict[str, float]:
    from forced import ForcedEngine

    from quintain.rl.config import ModelConfig
    from quintain.rl.credit import assign
    from quintain.rl.engines.base import Sampling
    from quintain.rl.learner import Learner
    from quintain.rl.models import load_model
    from quintain.rl.rl_config import RlConfig
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers import Score

    data = questions(groups)
    model, _ = load_model(ModelConfig(path="smollm2", dtype="bfloat16", device="cpu"), seed=0)
    config = RlConfig.model_validate(
        {
            "algorithm": "grpo",
            "groups": groups,
            "group_size": GROUP,
            "lr": 1e-6,
            "micro_batch_tokens": budget,
            "masters": masters,
            "kl": {"coef": 0.0, "measure_every": 0},
        }
    )
    learner = Learner(model, config, temperature=1.0, generator=np.random.default_rng(0), longest=LONGEST)
    engine = ForcedEngine(model, {index: reply for index, (_, _, reply) in enumerate(data)})
    worth = rewards(len(data))

    async def sampled(index: int) -> Trajectory:
        group, prompt, _ = data[index]
        sampling = Sampling(max_tokens=LONGEST, stop_ids=(2,), seed=index)
        found = await engine.generate(prompt, sampling, session=str(index))
        engine.release(str(index))
        return Trajectory(
            id=str(index), task_id=str(group), group=group, ids=[*prompt, *found.ids],
            mask=[False] * len(prompt) + [True] * len(found.ids),
            logprobs=[0.0] * len(prompt) + list(found.logprobs), versions=[0] * (len(prompt) + len(found.ids)),
            turns=[Turn(len(prompt), len(prompt) + len(found.ids), worth[index])], messages=[],
            score=Score(worth[index]), stop=StopReason.TERMINATED,
        )  # fmt: skip

    async def sample_all() -> list[Trajectory]:
        return list(await asyncio.gather(*map(sampled, range(len(data)))))

    found = []
    for step in range(STEPS):
        began = time.process_time()
        batch = asyncio.run(sample_all())
        generated = time.process_time()
        measured = learner.measure(batch)
        learner.update(batch, assign(batch, config, measured), measured)
        asyncio.run(engine.load(model, step + 1))
        found.append((time.process_time() - began, generated - began))
    return _result(data, found)


def run_trl(groups: int, *, batch_size: int) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from forced import Forced
    from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from quintain.rl.models import smollm2_folder

    data = questions(groups)
    folder = str(smollm2_folder())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    forced = Forced([[reply for _, _, reply in data]] * STEPS, filler=2)
    plain = type(model).generate
    generation: list[float] = []

    @functools.wraps(plain)
    def generate(**options: Any) -> Any:
        forced.next_round()
        began = time.process_time()
        made = plain(model, **options, logits_processor=LogitsProcessorList([forced]))
        generation.append(time.process_time() - began)
        return made

    marks: list[float] = []
    whole: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole.append(time.process_time() - marks[-1])

    with tempfile.TemporaryDirectory() as scratch:
        arguments = GRPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=len(data) // batch_size,
            num_generations=GROUP,
            max_completion_length=LONGEST,
            top_k=0,
            learning_rate=1e-6,
            beta=0.0,
            loss_type="grpo",
            max_steps=STEPS,
            bf16=False,
            fp16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: rewards(len(completions)),
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(n) for n in range(len(data))]}),
            processing_class=tokenizer,
            callbacks=[Watch()],
        )
        trainer._tokenize_prompts = lambda prompts: ([list(prompt) for _, prompt, _ in data], None, {})
        trainer.model.generate = generate
        trainer.train()
    assert not forced.rounds and len(whole) == STEPS
    return _result(data, list(zip(whole, generation, strict=True)))


def _result(
    data: list[tuple[int, list[int], list[int]]], found: list[tuple[float, float]]
) -> dict[str, float]:
    whole, generation = min(found)
    return {
        "cpu_s": whole,
        "generate_cpu_s": generation,
        "update_cpu_s": whole - generation,
        "trained": sum(len(reply) for _, _, reply in data),
        "prompt_tokens": sum(len(prompt) for _, prompt, _ in data),
    }
