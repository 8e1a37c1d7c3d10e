"""Evaluate a model behind an OpenAI-style endpoint on an environment with tools.

python examples/evaluate_endpoint.py                                      # against a small server of our own; seconds
python examples/evaluate_endpoint.py http://localhost:8000/v1 my-model    # yours; the key is in OPENAI_API_KEY

Success has an interval, and what failed for a reason of the server's is ungraded, not wrong.
"""

import asyncio
import contextlib
import sys

from quintain import make
from quintain.rl.chat import ChatCodec
from quintain.rl.config import EvalConfig, OpenAIConfig, RolloutConfig, TinyModelConfig
from quintain.rl.engines.openai import OpenAIChatEngine
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.evaluate import evaluate
from quintain.rl.gateway import Gateway
from quintain.rl.text_codec import TextCodec
from quintain.rl.tiny import build_tokenizer

PROBLEMS = 20


@contextlib.asynccontextmanager
async def small_server():
    """Serve a policy that always answers 42, so that this file runs without a model."""
    codec = ChatCodec(build_tokenizer([], TinyModelConfig()))
    engine = ScriptedEngine(lambda ids, sampling: codec.encode_reply("The answer is 42."))
    async with Gateway(engine, codec) as gateway:
        yield gateway.url("evaluation")


async def main(url=None, model="my-model"):
    async with contextlib.AsyncExitStack() as stack:
        if url is None:
            url = await stack.enter_async_context(small_server())
        engine = OpenAIChatEngine(OpenAIConfig(base_url=url, model=model))
        stack.push_async_callback(engine.close)
        env = make("quintain/GuessNumber-v0", max_turns=3)
        metrics, episodes = await evaluate(
            env,
            engine,
            TextCodec(),
            EvalConfig(problems=PROBLEMS, samples=0),
            RolloutConfig(turn_tokens=256, episode_tokens=4096, concurrency=8),
            seed=0,
            label="evaluation",
        )
    low, high = metrics["ci_low"], metrics["ci_high"]
    print(
        f"success {metrics['success_greedy']:.2f} (95 %: {low:.2f} to {high:.2f}), {len(episodes)} episodes"
    )
    print(
        f"ungraded {metrics['ungraded']:.2f}, turns {sum(len(e.turns) for e in episodes) / len(episodes):.1f}"
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
