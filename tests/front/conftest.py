"""A made-up run: what the report and the display are shown in tests, without training anything."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quintain.rl.config import Config, EnvConfig, RlConfig, SftConfig
from quintain.rl.metrics import Event, MetricsLog
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.tools.chat import Message
from quintain.verifiers.base import Score

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run of a word-problem agent into a folder and returns the folder."""

    def make(
        name: str = "calculator_agent-seed0-1", rl_steps: int = 60, sft: bool = True, **more: Any
    ) -> Path:
        folder = tmp_path / name
        write_run(folder, rl_steps=rl_steps, sft=sft, **more)
        return folder

    return make


def write_run(
    folder: Path, *, rl_steps: int = 60, sft: bool = True, model_text: str = "", stop_after: int | None = None
) -> None:
    """Write config, metrics and trajectories; `model_text` goes into everything that a model writes."""
    rng = random.Random(7)
    config = Config(
        name="calculator_agent",
        env=EnvConfig(id="quintain/Calculator-v0", eval_kwargs={"split": "test"}),
        sft=SftConfig(steps=270) if sft else None,
        rl=RlConfig(steps=rl_steps, minibatches=4) if rl_steps else None,
    )
    (folder / "trajectories").mkdir(parents=True)
    (folder / "config.toml").write_text(config.to_toml())
    with MetricsLog(folder / "metrics.jsonl") as log:
        log.write(_evaluation(0, 0.0, "before"))
        for step in range(1, 271 if sft else 1):
            fade = math.exp(-step / 45)
            loss = 0.28 + 3.2 * fade + rng.gauss(0, 0.05 * fade + 0.012)
            accuracy = 0.93 - 0.9 * fade + rng.gauss(0, 0.006)
            log.write(
                Event(
                    "sft",
                    step,
                    270,
                    {"loss": loss, "token_accuracy": accuracy, "lr": 0.004, "tokens_per_s": 14000.0},
                )
            )
        if sft:
            log.write(_evaluation(0, 0.41, "after SFT"))
        for step in range(1, (stop_after or rl_steps) + 1):
            log.write(_rl_step(step, rl_steps, rng))
            if step % 20 == 0:
                log.write(_evaluation(step, 0.41 + 0.56 * (1 - math.exp(-step / 18)), f"step {step}"))
    for step in range(1, (stop_after or rl_steps) + 1, 10):
        path = folder / "trajectories" / f"rl-{step:06}.jsonl"
        with path.open("w") as file:
            for group in range(6):
                for member in range(2):
                    trajectory = episode(rng, step, group, member, 0.3 + 0.01 * step, model_text)
                    file.write(trajectory.to_json() + "\n")


def _evaluation(step: int, success: float, message: str) -> Event:
    metrics = {
        "success_greedy": success,
        "success_sampled": 0.93 * success,
        "ci_low": max(0.0, success - 0.07),
        "ci_high": min(1.0, success + 0.06),
        "problems": 200.0,
        "success_greedy/1 step": min(1.0, success * 1.2),
        "success_greedy/2 steps": success,
        "success_greedy/3 steps": success * 0.9,
    }
    return Event("eval", step, 60, metrics, message)


def _rl_step(step: int, steps: int, rng: random.Random) -> Event:
    share = 1 - math.exp(-step / 18)
    reward = 0.31 + 0.62 * share + rng.gauss(0, 0.025)
    metrics = {
        "reward": reward,
        "success": reward,
        "kl": 0.004 + 0.01 * rng.random() * (1 - share),
        "entropy": 0.42 - 0.24 * share + rng.gauss(0, 0.008),
        "clip_fraction": 0.02 + 0.02 * rng.random(),
        "ratio_max": 2.1,
        "grad_norm": 0.5 + 0.3 * rng.random(),
        "loss": rng.gauss(0, 0.01),
        "lr": 5e-4 * (1 - 0.9 * step / steps),
        "sampled_tokens": 9000.0 + rng.gauss(0, 300),
        "tokens_per_s": 7800.0 + rng.gauss(0, 500),
        "turns": 2.4 + 0.5 * share,
        "reply_tokens": 47 + 9 * share + rng.gauss(0, 1),
        "truncated": 0.03 * (1 - share),
        "ungraded": 0.0,
        "parse_errors": 0.11 * (1 - share),
        "tool_errors": 0.02,
        "zero_variance": 0.2 + 0.5 * share,
        "sampler_mismatch": 2e-6 * rng.random(),
        "rollout_s": 0.9 + 0.1 * rng.random(),
        "learn_s": 0.8 + 0.1 * rng.random(),
    }
    return Event("rl", step, steps, metrics)


def episode(
    rng: random.Random, step: int, group: int, member: int, skill: float, model_text: str = ""
) -> Trajectory:
    """Return one episode: a word problem, a calculator call for each of its steps, an answer."""
    boxes, pens, lost = rng.randint(3, 60), rng.randint(3, 60), rng.randint(1, 9)
    right = rng.random() < skill
    broken = not right and rng.random() < 0.3
    ungraded = group == 5 and member == 1
    answer = boxes * pens - lost if right else boxes * pens + lost
    messages: list[Message] = [
        {"role": "system", "content": "Solve the problem. Use the calculator for every step.\n# Tools\n..."},
        {
            "role": "user",
            "content": f"Mia has {boxes} boxes of {pens} pens and loses {lost}. How many pens are left?",
        },
    ]
    if broken:
        messages += [
            {"role": "assistant", "content": f'<tool_call>{{"name": "calculator", "argum{model_text}'},
            {"role": "user", "content": "The call could not be read: the JSON ends too early."},
        ]
    for expression, result in [(f"{boxes}*{pens}", boxes * pens), (f"{boxes * pens}-{lost}", answer)]:
        messages += [
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": f"now {expression}{model_text}",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {
                            "name": f"calculator{model_text}",
                            "arguments": {"expression": expression + model_text},
                        },
                    }
                ],
            },
            {"role": "tool", "content": f"{result}{model_text}", "tool_call_id": "c1", "name": "calculator"},
        ]
    messages.append({"role": "assistant", "content": f"The answer is {answer}.{model_text}"})
    replies = sum(message["role"] == "assistant" for message in messages)
    turns = [
        Turn(4 * i, 4 * i + 4, float(right) if i == replies - 1 else 0.0, 1, 0, broken and i == 0)
        for i in range(replies)
    ]
    count = 4 * replies
    score = (
        Score.ungraded("the sandbox was gone: connection reset by peer")
        if ungraded
        else Score(
            float(right),
            {"final_number": float(right), "brevity": 0.75},
            reason=f"the last number of the reply is {answer}, expected {boxes * pens - lost}{model_text}",
        )
    )
    return Trajectory(
        id=f"rl-{step}-{group}-{member}",
        task_id=f"train/{step}-{group}-{member}",
        group=group,
        ids=list(range(count)),
        mask=[True] * count,
        logprobs=[-0.1] * count,
        versions=[step] * count,
        turns=turns,
        messages=messages,
        score=score,
        stop=StopReason.ERROR if ungraded else StopReason.TERMINATED,
    )
