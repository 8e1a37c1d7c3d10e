"""How much of vLLM multi-turn episodes use: the calculator's, against the same requests sent as plain prompts.

An embedded model is warmed up on demonstrations until it writes tool calls, and plays episodes on vLLM in this
process: environment, parsing, calculator and bookkeeping included. Then the same vLLM gets every request of these
episodes at once, as it would from its own `LLM.generate`: the same prompts, the same numbers of tokens. The prefix
cache is empty at the beginning of both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ratios

from quintain.envs import registry
from quintain.rl.chat import ChatCodec
from quintain.rl.config import Config, ModelConfig, VllmConfig, load_config
from quintain.rl.engines.scripted import DemonstratorEngine
from quintain.rl.engines.vllm import VllmEngine
from quintain.rl.models import load_model, read_template
from quintain.rl.prepare import demonstrator, load_policy
from quintain.rl.rollout import Start, raise_if_ungraded, rollout
from quintain.rl.seeds import derive
from quintain.rl.stages.sft import warm_start
from quintain.rl.trajectory import Trajectory

EXAMPLE = Path(__file__).parent.parent / "examples" / "calculator_agent.toml"
SEQUENCES = 64


def warmed_up(steps: int) -> tuple[Any, Any, Config]:
    """Return the embedded model after `steps` of supervised training on the calculator, and its tokenizer."""
    config = load_config(EXAMPLE, ["--sft.steps", str(steps), "--sft.episodes", "1000"])
    assert config.sft is not None
    env = registry.make(config.env.id, **config.env.kwargs)
    model, tokenizer = load_policy(config, env)
    codec = ChatCodec(tokenizer)
    starts = [Start(f"s{n}", n, derive(1, n)) for n in range(config.sft.episodes)]
    engine = DemonstratorEngine(demonstrator(env), codec)
    played = asyncio.run(rollout(env, engine, codec, starts, config.rollout))
    warm_start(model, tokenizer, played, config.sft, seed=1)
    return model.eval(), tokenizer, config


def plainly(engine: VllmEngine, played: Sequence[Trajectory]) -> int:
    """Send every request of the episodes at once, and return how many tokens came back."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    inner = engine._engine
    number = 0
    for trajectory in played:
        for turn in trajectory.turns:
            parameters = SamplingParams(
                max_tokens=turn.end - turn.start, temperature=1.0, ignore_eos=True, logprobs=0, detokenize=False,
                seed=number, output_kind=RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
            prompt = {"prompt_token_ids": list(trajectory.ids[: turn.start])}
            inner.add_request(f"plain-{number}", prompt, parameters)
            number += 1
    tokens = 0
    while inner.has_unfinished_requests():
        for output in inner.step():
            if output.finished:
                tokens += len(output.outputs[0].token_ids)
    return tokens


def compare(name: str, episodes: int, rounds: int) -> dict[str, Any]:
    """Play episodes and send their requests, in turn; return the best rates of each."""
    config = load_config(EXAMPLE)
    if name == "tiny":
        model, tokenizer, config = warmed_up(60)
        template, context = None, 512
        limits = config.rollout
    else:
        settings = ModelConfig(path="smollm2", dtype="bfloat16", device="cpu")
        model, tokenizer = load_model(settings, seed=0)
        template, context = read_template(settings), 1024
        limits = config.rollout.model_copy(update={"turn_tokens": 48, "episode_tokens": 700})
    codec = ChatCodec(tokenizer, template)
    env = registry.make(config.env.id, **config.env.kwargs)
    options = VllmConfig(kv_cache_gb=0.5, max_model_len=context)
    engine = VllmEngine(model, tokenizer, options, max_sessions=SEQUENCES)
    starts = [
        Start(f"e{n}", n // 8, derive(2, n // 8), sampler_seed=derive(2, "s", n)) for n in range(episodes)
    ]

    async def play(count: int) -> list[Trajectory]:
        found = await rollout(env, engine, codec, starts[:count], limits, breaker=True)
        raise_if_ungraded(found, 0)
        return found

    rates: dict[str, list[tuple[float, float]]] = {"episodes": [], "plain": []}
    with asyncio.Runner() as runner:
        plainly(engine, runner.run(play(min(episodes, 8))))
        for _ in range(rounds):
            assert engine._engine.reset_prefix_cache()
            cpu, wall = time.process_time(), time.perf_counter()
            played = runner.run(play(episodes))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            tokens = sum(t.sampled_tokens for t in played)
            rates["episodes"].append((tokens / spent[0], tokens / spent[1]))
            assert engine._engine.reset_prefix_cache()
            cpu, wall = time.process_time(), time.perf_counter()
            assert plainly(engine, played) == tokens
            spent = time.perf_counter() - wall, time.process_time() - cpu
            rates["plain"].append((tokens / spent[0], tokens / spent[1]))
        runner.run(engine.close())
    best = {side: (max(r[0] for r in found), max(r[1] for r in found)) for side, found in rates.items()}
    return {
        "model": name,
        "episodes": episodes,
        "requests": sum(len(t.turns) for t in played),
        "tokens": tokens,
        "episodes_tokens_per_s": best["episodes"][0],
        "plain_tokens_per_s": best["plain"][0],
        "episodes_tokens_per_cpu_s": best["episodes"][1],
        "plain_tokens_per_cpu_s": best["plain"][1],
        "utilisation_wall": ratios(*([wall for wall, _ in rates[side]] for side in ("episodes", "plain"))),
        "utilisation_cpu": ratios(*([cpu for _, cpu in rates[side]] for side in ("episodes", "plain"))),
    }
