"""An agent written with the OpenAI SDK, recorded token by token and trained on, without a change to the agent.

python examples/openai_agent.py          # half a minute on one core; needs `pip install openai`

The gateway stands in front of the model that is being trained. The agent sees a base URL and nothing else; what the
model sampled, and with which log-probabilities, is kept for each session. Then GRPO, on the learner of
`quintain train`.
"""

import asyncio
import string

import numpy as np
import openai
import torch

from quintain import Score
from quintain.rl import credit
from quintain.rl.chat import ChatCodec
from quintain.rl.config import TinyModelConfig
from quintain.rl.engines.transformers import TransformersEngine
from quintain.rl.gateway import Gateway
from quintain.rl.learner import Learner
from quintain.rl.rl_config import RlConfig
from quintain.rl.tiny import build_model, build_tokenizer

STEPS, GROUPS, GROUP_SIZE = 16, 2, 16


async def agent(base_url, seed):
    """Ask twice and return all that was written: somebody's program, which knows nothing of Quintain."""
    messages, written = [], ""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        for question in ("Write figures.", "More."):
            messages.append({"role": "user", "content": question})
            answer = await client.chat.completions.create(
                model="any", messages=messages, max_tokens=6, seed=seed + len(messages)
            )
            messages.append(answer.choices[0].message.model_dump(exclude_none=True))
            written += answer.choices[0].message.content or ""
    return written


async def episode(gateway, name, group, seed):
    gateway.begin(name, group=group)
    written = await agent(gateway.url(name), seed)
    right = sum(character in string.digits for character in written)
    return gateway.finish(name, Score(right / max(len(written), 1)))


async def main():
    torch.set_num_threads(1)
    shape = TinyModelConfig(width=64, mlp=128)
    tokenizer = build_tokenizer([], shape)
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0))
    engine = TransformersEngine(model)
    config = RlConfig(algorithm="dapo", resample_rounds=0, overlong_buffer=0.0, steps=STEPS, groups=GROUPS,
                      group_size=GROUP_SIZE, lr=1e-2, warmup_steps=0)  # fmt: skip
    learner = Learner(model, config, temperature=1.0, generator=np.random.default_rng(0))
    async with Gateway(engine, ChatCodec(tokenizer)) as gateway:
        for step in range(1, STEPS + 1):
            batch = await asyncio.gather(
                *(
                    episode(
                        gateway, f"{step}-{group}-{member}", group, seed=1000 * step + 50 * group + member
                    )
                    for group in range(GROUPS)
                    for member in range(GROUP_SIZE)
                )
            )
            learner.update(batch, credit.assign(batch, config))
            await engine.load(model, step)
            if step == 1 or step % 4 == 0:
                mean = sum(trajectory.reward for trajectory in batch) / len(batch)
                print(f"step {step:2d}  reward {mean:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
