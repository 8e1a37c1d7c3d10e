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
from learner import GROUP, STEPS, grpo, our_learner, our_student, rewards, trl_student, trl_trainer

LONGEST = 128
"""Tokens of a reply at most."""


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


def run_ours(groups: int, *, masters: bool, budget: int) -> dict[str, float]:
    from forced import ForcedEngine

    from quintain.rl.credit import assign
    from quintain.rl.engines.base import Sampling
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers import Score

    data = questions(groups)
    model = our_student()
    config = grpo(groups=groups, micro_batch_tokens=budget, masters=masters)
    learner = our_learner(model, config, longest=LONGEST)
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
    from forced import Forced
    from transformers import LogitsProcessorList, TrainerCallback

    data = questions(groups)
    model = trl_student()
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
        trainer = trl_trainer(
            model, scratch, batch_size=batch_size, episodes=len(data), longest=LONGEST, callback=Watch()
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
