"""How much of vLLM multi-turn episodes use, against the same requests sent as plain prompts.

A model plays episodes on vLLM in this process: environment, parsing, tools and bookkeeping included. SmolLM2 and the
embedded model, warmed up on demonstrations until they write tool calls, play the calculator; SmolLM2 also guesses
numbers as it comes, four turns at most. Then the same vLLM gets every request of these episodes at once, as from its
own `LLM.generate`: the same prompts, numbers of tokens and parameters. The prefix cache is empty before both.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from common import ratios

from quintain.envs import registry
from quintain.envs.base import TextEnv
from quintain.rl.chat import ChatCodec
from quintain.rl.config import Config, ModelConfig, RolloutConfig, VllmConfig, load_config
from quintain.rl.engines.scripted import DemonstratorEngine
from quintain.rl.engines.vllm import VllmEngine
from quintain.rl.models import load_model, read_template
from quintain.rl.prepare import demonstrator, load_policy
from quintain.rl.rollout import Start, raise_if_ungraded, rollout
from quintain.rl.seeds import derive
from quintain.rl.stages.sft import warm_start
from quintain.rl.trajectory import Trajectory

T = TypeVar("T")
EXAMPLE = Path(__file__).parent.parent / "examples" / "calculator_agent.toml"
PLACES = {"tiny": 64, "smollm2": 16, "guess": 16}
"""Sequences of a batch: fewer than episodes, so that some always wait."""
WARM_UP = {
    "tiny": "--sft.steps 60 --sft.episodes 1000",
    "smollm2": "--model.path smollm2 --sft.optimizer adamw --sft.lr 2e-4 --sft.warmup_steps 3 --sft.steps 6 "
    "--sft.episodes 100 --sft.tokens_per_step 1024 --rollout.turn_tokens 96 --rollout.episode_tokens 900",
}
"""How a model learns to write the calculator's calls."""


def warmed_up(name: str) -> tuple[Any, Any, Config]:
    """Return a model after a short supervised training on the calculator, and its tokenizer."""
    config = load_config(EXAMPLE, WARM_UP[name].split())
    assert config.sft is not None
    env = registry.make(config.env.id, **config.env.kwargs)
    model, tokenizer = load_policy(config, env)
    codec = ChatCodec(tokenizer, read_template(config.model))
    starts = [Start(f"s{n}", n, derive(1, n)) for n in range(config.sft.episodes)]
    engine = DemonstratorEngine(demonstrator(env), codec)
    played = asyncio.run(rollout(env, engine, codec, starts, config.rollout))
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    warm_start(model, tokenizer, played, config.sft, seed=1)
    torch.set_num_threads(threads)
    return model.eval(), tokenizer, config


def plainly(engine: VllmEngine, played: Sequence[Trajectory]) -> int:
    """Send every request of the episodes at once, and return how many tokens came back."""
    inner = engine._engine
    number = 0
    for trajectory in played:
        for turn in trajectory.turns:
            parameters = engine._parameters(max_tokens=turn.end - turn.start, temperature=1.0, seed=number)
            prompt = {"prompt_token_ids": list(trajectory.ids[: turn.start])}
            inner.add_request(f"plain-{number}", prompt, parameters)
            number += 1
    tokens = 0
    while inner.has_unfinished_requests():
        for output in inner.step():
            if output.finished:
                tokens += len(output.outputs[0].token_ids)
    return tokens


def setting(name: str) -> tuple[Any, Any, str | None, TextEnv, RolloutConfig, int]:
    """Return model, tokenizer, chat template, environment, limits and context length."""
    if name != "guess":
        model, tokenizer, config = warmed_up(name)
        env = registry.make(config.env.id, **config.env.kwargs)
        if name == "smollm2":
            model.to(torch.bfloat16)
        return (
            model,
            tokenizer,
            read_template(config.model),
            env,
            config.rollout,
            512 if name == "tiny" else 1024,
        )
    settings = ModelConfig(path="smollm2", dtype="bfloat16", device="cpu")
    model, tokenizer = load_model(settings, seed=0)
    env = registry.make("quintain/GuessNumber-v0", max_turns=4)
    limits = RolloutConfig(turn_tokens=96, episode_tokens=900)
    return model, tokenizer, read_template(settings), env, limits, 1024


def compare(name: str, episodes: int, rounds: int) -> dict[str, Any]:
    """Play episodes and send their requests, in turn; return the best rates of each."""
    model, tokenizer, template, env, limits, context = setting(name)
    codec = ChatCodec(tokenizer, template)
    options = VllmConfig(kv_cache_gb=0.5, max_model_len=context)
    engine = VllmEngine(model, tokenizer, options, max_sessions=PLACES[name])
    starts = [
        Start(f"e{n}", n // 8, derive(2, n // 8), sampler_seed=derive(2, "s", n)) for n in range(episodes)
    ]
    steps, step = [0], engine._engine.step

    def counted() -> Any:
        steps[0] += 1
        return step()

    engine._engine.step = counted

    async def play(count: int) -> list[Trajectory]:
        found = await rollout(env, engine, codec, starts[:count], limits, breaker=True)
        raise_if_ungraded(found, 0)
        return found

    def measured(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
        """Return what `work` returns, and what it cost: seconds, and of this thread; steps of the engine."""
        assert engine._engine.reset_prefix_cache()
        steps[0] = 0
        cpu, wall, here = time.process_time(), time.perf_counter(), time.thread_time()
        found = work()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        return found, {**spent, "here": time.thread_time() - here, "steps": steps[0]}

    ours, plain = [], []
    with asyncio.Runner() as runner:
        plainly(engine, runner.run(play(min(episodes, 8))))
        for _ in range(rounds):
            played, cost = measured(lambda: runner.run(play(episodes)))
            ours.append(cost)
            tokens, cost = measured(lambda played=played: plainly(engine, played))
            plain.append(cost)
            assert tokens == sum(t.sampled_tokens for t in played)
        runner.run(engine.close())
    best = {
        side: {what: min(cost[what] for cost in found) for what in ("wall", "cpu", "here", "steps")}
        for side, found in (("episodes", ours), ("plain", plain))
    }
    return {
        "model": name,
        "episodes": episodes,
        "requests": sum(len(t.turns) for t in played),
        "tokens": tokens,
        "episodes_tokens_per_s": tokens / best["episodes"]["wall"],
        "plain_tokens_per_s": tokens / best["plain"]["wall"],
        "episodes_tokens_per_cpu_s": tokens / best["episodes"]["cpu"],
        "plain_tokens_per_cpu_s": tokens / best["plain"]["cpu"],
        "episodes_steps": best["episodes"]["steps"],
        "plain_steps": best["plain"]["steps"],
        "event_loop_cpu": best["episodes"]["here"] / best["episodes"]["cpu"],
        "utilisation_wall": ratios([cost["wall"] for cost in plain], [cost["wall"] for cost in ours]),
        "utilisation_cpu": ratios([cost["cpu"] for cost in plain], [cost["cpu"] for cost in ours]),
    }
