"""A GRPO update of SmolLM2-135M on multi-turn episodes: ours against TRL's, in one run.

    python benchmarks/learner.py                 # both, and how cost grows with tokens (some ten minutes on two cores)
    python benchmarks/learner.py --groups 2      # less of it

Both learn from the same episodes (lengths 100 to 600, most of the tokens a tool's), with the same bfloat16 weights, the
same optimiser and no generation. Each side runs in a process of its own, whose CPU seconds and peak memory above
the loaded weights are compared. TRL gets the episodes through its `rollout_func`. "ours, float32 masters" is what a
run does by default and TRL does not: its optimiser state is float32.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

GROUP = 8
SIDES = ("ours", "ours, float32 masters", "TRL")


def episodes(groups: int, seed: int = 0, scale: float = 1.0) -> list[dict[str, list[int]]]:
    """Make episodes as token ids with a mask: a prompt, then replies and tool results in turn."""
    rng = np.random.default_rng(seed)
    made = []
    for group in range(groups):
        prompt = rng.integers(100, 40_000, int(rng.integers(60, 150) * scale)).tolist()
        for _ in range(GROUP):
            ids, mask = list(prompt), [0] * len(prompt)
            length = max(len(prompt) + 24, int(np.exp(rng.uniform(np.log(100), np.log(600))) * scale))
            while len(ids) < length:
                reply, result = int(rng.integers(12, 30)), int(rng.integers(40, 90))
                ids += rng.integers(100, 40_000, reply + result).tolist()
                mask += [1] * reply + [0] * result
            ids, mask = ids[:length], mask[:length]
            ids[-8:], mask[-8:] = rng.integers(100, 40_000, 8).tolist(), [1] * 8
            made.append({"ids": ids, "mask": mask, "prompt": len(prompt), "group": group})
    return made


def rewards(count: int) -> list[float]:
    return [float(index % 3 == 0) for index in range(count)]


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_ours(data: list[dict[str, list[int]]], *, masters: bool, budget: int) -> dict[str, float]:
    from quintain.rl.config import ModelConfig
    from quintain.rl.credit import assign
    from quintain.rl.learner import Learner
    from quintain.rl.models import load_model
    from quintain.rl.packing import pack
    from quintain.rl.rl_config import RlConfig
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers import Score

    model, _ = load_model(ModelConfig(path="smollm2", dtype="bfloat16", device="cpu"), seed=0)
    before = rss_mb()
    config = RlConfig.model_validate(
        {
            "algorithm": "grpo",
            "groups": len(data) // GROUP,
            "group_size": GROUP,
            "lr": 1e-6,
            "micro_batch_tokens": budget,
            "masters": masters,
            "kl": {"coef": 0.0, "measure_every": 0},
        }
    )
    batch = [
        Trajectory(
            id=str(index),
            task_id=str(row["group"]),
            group=row["group"],
            ids=row["ids"],
            mask=[bool(m) for m in row["mask"]],
            logprobs=[-1.0 * m for m in row["mask"]],
            versions=[0] * len(row["ids"]),
            turns=[Turn(row["prompt"], len(row["ids"]), reward)],
            messages=[],
            score=Score(reward),
            stop=StopReason.TERMINATED,
        )
        for index, (row, reward) in enumerate(zip(data, rewards(len(data)), strict=True))
    ]
    learner = Learner(model, config, temperature=1.0, generator=np.random.default_rng(0), longest=600)
    forwarded = sum(b.ids_RT.numel() for b in pack(batch, budget))
    used = sum(b.segments[-1].end for b in pack(batch, budget))
    seconds = []
    for _ in range(2):
        cpu, wall = time.process_time(), time.perf_counter()
        measured = learner.measure(batch)
        learner.update(batch, assign(batch, config, measured), measured)
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return _result(data, min(seconds), before, forwarded, used / forwarded)


def run_trl(data: list[dict[str, list[int]]], *, batch_size: int) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from quintain.rl.models import smollm2_folder

    folder = str(smollm2_folder())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = rss_mb()
    marks: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []

    def play(prompts, trainer):
        marks.append((time.process_time(), time.perf_counter()))
        return {
            "prompt_ids": [row["ids"][: row["prompt"]] for row in data],
            "completion_ids": [row["ids"][row["prompt"] :] for row in data],
            "logprobs": [[-1.0] * (len(row["ids"]) - row["prompt"]) for row in data],
            "env_mask": [row["mask"][row["prompt"] :] for row in data],
        }

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            cpu, wall = marks[-1]
            seconds.append((time.process_time() - cpu, time.perf_counter() - wall))

    arguments = GRPOConfig(
        output_dir="/tmp/quintain-benchmark-trl",
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=len(data) // batch_size,
        num_generations=GROUP,
        max_completion_length=600,
        learning_rate=1e-6,
        beta=0.0,
        loss_type="grpo",
        max_steps=2,
        bf16=False,
        fp16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
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
        rollout_func=play,
        callbacks=[Watch()],
    )
    trainer.train()
    prompt = max(row["prompt"] for row in data)
    longest = max(len(row["ids"]) - row["prompt"] for row in data)
    tokens = sum(len(row["ids"]) for row in data)
    forwarded = (prompt + longest) * len(data)
    return _result(data, min(seconds), before, forwarded, tokens / forwarded)


def _result(data, seconds, before, forwarded, efficiency) -> dict[str, float]:
    trained = sum(sum(row["mask"]) for row in data)
    return {
        "cpu_s": seconds[0],
        "wall_s": seconds[1],
        "peak_mb": peak_mb() - before,
        "forwarded": forwarded,
        "forwarded_per_trained": forwarded / trained,
        "efficiency": efficiency,
        "trained": trained,
        "tokens_per_cpu_s": sum(len(row["ids"]) for row in data) / seconds[0],
    }


def matmul_rate() -> float:
    """Return GFLOP per CPU second of a bfloat16 product in the shape of this model's MLP."""
    import torch

    a, b = torch.randn(2048, 576).bfloat16(), torch.randn(576, 1536).bfloat16()
    a @ b
    began, rounds = time.process_time(), 40
    for _ in range(rounds):
        a @ b
    return 2 * 2048 * 576 * 1536 * rounds / (time.process_time() - began) / 1e9


def child(side: str, groups: int, scale: float, budget: int, threads: int) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--groups", str(groups), "--scale", str(scale)]
    command += ["--budget", str(budget), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=4, help="groups of eight episodes")
    parser.add_argument("--budget", type=int, default=2048, help="tokens of our micro-batches")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=[*SIDES, "matmul"], help=argparse.SUPPRESS)
    parser.add_argument("--trl-batch", type=int, default=8, help="TRL's per_device_train_batch_size")
    options = parser.parse_args()
    if options.side:
        import torch

        torch.set_num_threads(options.threads)
        data = episodes(options.groups, scale=options.scale)
        if options.side == "TRL":
            result = run_trl(data, batch_size=options.trl_batch)
        else:
            result = run_ours(data, masters=options.side != "ours", budget=options.budget)
        result["gflop_per_cpu_s"] = matmul_rate()
        print(json.dumps(result))
        return

    found = {side: child(side, options.groups, 1.0, options.budget, options.threads) for side in SIDES}
    base = found["TRL"]
    print(f"{options.groups} groups x {GROUP} episodes, {options.threads} threads")
    print(f"{'':24}{'CPU s':>8}{'x TRL':>8}{'peak MB':>9}{'x TRL':>8}{'forwarded/trained':>19}{'packed':>8}")
    for side, r in found.items():
        print(
            f"{side:24}{r['cpu_s']:8.1f}{r['cpu_s'] / base['cpu_s']:8.2f}{r['peak_mb']:9.0f}"
            f"{r['peak_mb'] / base['peak_mb']:8.2f}{r['forwarded_per_trained']:19.2f}{r['efficiency']:8.1%}"
        )
    ours = found["ours"]
    flops = 6 * 134.5e6 * ours["forwarded"]  # all weights, forward and backward
    print(
        f"ours runs at {flops / ours['cpu_s'] / 1e9 / ours['gflop_per_cpu_s']:.0%} of the machine's matmul rate"
    )
    four = child("ours", 4 * options.groups, 1.0, options.budget, options.threads)
    tokens = four["trained"] / ours["trained"]
    print(f"{tokens:.2f} x the trained tokens take {four['cpu_s'] / ours['cpu_s']:.2f} x the CPU time")


if __name__ == "__main__":
    main()
