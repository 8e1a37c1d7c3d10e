"""The learner on SmolLM2-135M, ours and TRL's. Each part runs alone, or all.

    python benchmarks/learner.py update      # a GRPO update on multi-turn episodes: 3 minutes
    python benchmarks/learner.py cost        # how its cost grows with tokens: 2 minutes
    python benchmarks/learner.py step        # a whole single-turn step, generation and update: 3 minutes

`update`: both learn from the same episodes (lengths 100 to 600, most of the tokens a tool's), with the same bfloat16
weights, the same optimiser and no generation; TRL gets the episodes through its `rollout_func`. `cost`: our update with
four times the groups. `step`: see `grpo_step`. Each side runs in a process of its own, whose CPU seconds and peak
memory above the loaded weights are compared. "float32 masters" is what a run does by default and TRL does not: its
optimiser state is float32. `--groups` makes all parts larger in proportion.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import at_least, finish, machine, one_of, parser, ratio, ratios, spread, table

from quintain.rl.rl_config import RlConfig
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.verifiers import Score

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback
    from trl import GRPOTrainer

    from quintain.rl.learner import Learner

GROUP = 8
STEPS = 2
"""Steps of each side; the better one counts."""
SIDES = ("ours", "ours, float32 masters", "TRL")
NAMES = {
    "ours": "**ours**, bfloat16 optimiser as TRL's",
    "ours, float32 masters": "**ours**, float32 masters (the default)",
    "TRL": "TRL",
}
STEP_SIDES = ("step ours", "step ours, float32 masters", "step TRL")


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


def trajectories(data: list[dict[str, Any]]) -> list[Trajectory]:
    """Return episodes as our learner takes them."""
    return [
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


def grpo(*, groups: int, **more: Any) -> RlConfig:
    """Return the settings of a plain GRPO update without a leash."""
    plain = {"algorithm": "grpo", "group_size": GROUP, "lr": 1e-6, "kl": {"coef": 0.0, "measure_every": 0}}
    return RlConfig.model_validate({**plain, "groups": groups, **more})


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def our_student() -> PreTrainedModel:
    """Return the model that both sides train, with bfloat16 weights, as a run of ours loads it."""
    from quintain.rl.config import ModelConfig
    from quintain.rl.models import load_model

    return load_model(ModelConfig(path="smollm2", dtype="bfloat16", device="cpu"), seed=0)[0]


def trl_student() -> PreTrainedModel:
    """Return the same as users of TRL load it."""
    import torch
    from transformers import AutoModelForCausalLM

    from quintain.rl.models import smollm2_folder

    return AutoModelForCausalLM.from_pretrained(str(smollm2_folder()), dtype=torch.bfloat16)


def our_learner(model: PreTrainedModel, config: RlConfig, *, longest: int, **more: Any) -> Learner:
    """Return our learner of the model; `more` goes to it."""
    from quintain.rl.learner import Learner

    return Learner(
        model, config, temperature=1.0, generator=np.random.default_rng(0), longest=longest, **more
    )


def trl_trainer(model: PreTrainedModel, folder: str, *, batch_size: int, episodes: int, longest: int,
                callback: TrainerCallback, **more: Any) -> GRPOTrainer:  # fmt: skip
    """Return TRL's trainer of the model with the settings of `grpo`; `more` goes to it."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from quintain.rl.models import smollm2_folder

    arguments = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=episodes // batch_size,
        num_generations=GROUP,
        max_completion_length=longest,
        top_k=0,
        learning_rate=1e-6,
        beta=0.0,
        loss_type="grpo",
        max_steps=STEPS,
        bf16=False,
        fp16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: rewards(len(completions)),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(n) for n in range(episodes)]}),
        processing_class=AutoTokenizer.from_pretrained(str(smollm2_folder())),
        callbacks=[callback],
        **more,
    )


def run_ours(data: list[dict[str, Any]], *, masters: bool, budget: int) -> dict[str, float]:
    from quintain.rl.credit import assign
    from quintain.rl.packing import pack

    model = our_student()
    before = rss_mb()
    config = grpo(groups=len(data) // GROUP, micro_batch_tokens=budget, masters=masters)
    batch = trajectories(data)
    learner = our_learner(model, config, longest=600)
    forwarded = sum(b.ids_RT.numel() for b in pack(batch, budget))
    used = sum(b.segments[-1].end for b in pack(batch, budget))
    seconds = []
    for _ in range(STEPS):
        cpu, wall = time.process_time(), time.perf_counter()
        measured = learner.measure(batch)
        learner.update(batch, assign(batch, config, measured), measured)
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return _result(data, min(seconds), before, forwarded, used / forwarded)


def run_trl(data: list[dict[str, Any]], *, batch_size: int) -> dict[str, float]:
    from transformers import TrainerCallback

    model = trl_student()
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

    with tempfile.TemporaryDirectory() as scratch:
        trainer = trl_trainer(
            model, scratch, batch_size=batch_size, episodes=len(data), longest=600, callback=Watch(), rollout_func=play
        )  # fmt: skip
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


def child(side: str, options: argparse.Namespace, *, groups: int) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--groups", str(groups)]
    command += ["--budget", str(options.budget), "--threads", str(options.threads)]
    command += ["--trl-batch", str(options.trl_batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def play(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Be one side."""
    import torch

    torch.set_num_threads(options.threads)
    masters = "masters" in side
    if side.startswith("step"):
        import grpo_step

        if side == "step TRL":
            return grpo_step.run_trl(options.groups, batch_size=options.trl_batch)
        return grpo_step.run_ours(options.groups, masters=masters, budget=options.budget)
    data = episodes(options.groups)
    if side == "TRL":
        result = run_trl(data, batch_size=options.trl_batch)
    else:
        result = run_ours(data, masters=masters, budget=options.budget)
    return result | {"gflop_per_cpu_s": matmul_rate()}


def compared(sides: Sequence[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the best round of each side, the last being TRL's, with ratios to TRL's of every round."""
    rounds = [
        {side: child(side, options, groups=options.groups) for side in sides} for _ in range(options.rounds)
    ]
    timed = [name for name in rounds[0][sides[-1]] if name.endswith("cpu_s") and "per" not in name]
    found: dict[str, dict[str, Any]] = {}
    for side in sides:
        found[side] = dict(min((one[side] for one in rounds), key=lambda r: r["cpu_s"]))
        found[side]["to_trl"] = {
            name: ratios([one[side][name] for one in rounds], [one[sides[-1]][name] for one in rounds])
            for name in timed
        }
    return found


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Compare an update with one of four times the groups, by turns."""
    sizes: dict[str, list[dict[str, float]]] = {"small": [], "large": []}
    for _ in range(options.rounds):
        for name, groups in (("small", options.groups), ("large", 4 * options.groups)):
            sizes[name].append(child("ours", options, groups=groups))
    found: dict[str, Any] = {name: min(rounds, key=lambda r: r["cpu_s"]) for name, rounds in sizes.items()}
    tokens = found["large"]["trained"] / found["small"]["trained"]
    of_a_token = [
        large["cpu_s"] / small["cpu_s"] / tokens
        for small, large in zip(sizes["small"], sizes["large"], strict=True)
    ]
    return {**found, "large_to_small_of_a_token": spread(of_a_token)}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "update": lambda options: compared(SIDES, options),
    "cost": cost,
    "step": lambda options: compared(STEP_SIDES, options),
}


def show_update(figures: dict[str, Any]) -> None:
    """Print what an update costs."""
    if "update" not in figures:
        return
    found = figures["update"]
    base = found["TRL"]
    rows = [
        (
            NAMES[side],
            f"{r['cpu_s']:.1f}",
            ratio(r["to_trl"]["cpu_s"]),
            f"{r['peak_mb']:,.0f}",
            f"{r['peak_mb'] / base['peak_mb']:.2f}",
            f"{r['forwarded_per_trained']:.1f}",
            f"{r['efficiency']:.0%}",
            f"{_share(r):.0%}",
        )
        for side, r in found.items()
    ]
    head = ("", "CPU s", "/ TRL", "peak MB", "/ TRL", "forwarded / trained", "packed", "of matmul rate")
    table(f"An update on episodes of several turns, {base['trained']:,} trained tokens:", head, rows)


def _share(result: dict[str, float]) -> float:
    """Return the rate of the update against that of a plain matrix product: all weights, forward and backward."""
    return 6 * 134.5e6 * result["forwarded"] / result["cpu_s"] / 1e9 / result["gflop_per_cpu_s"]


def show_cost(figures: dict[str, Any]) -> None:
    """Print how the cost of an update grows with its tokens."""
    if "cost" not in figures:
        return
    found = figures["cost"]
    rows = [
        (name, int(r["trained"]), int(r["forwarded"]), f"{r['cpu_s']:.1f}", f"{r['efficiency']:.0%}")
        for name, r in (("one group", found["small"]), ("four times the groups", found["large"]))
    ]
    head = ("", "trained tokens", "forwarded", "CPU s", "packed")
    table("Our update by size:", head, rows)
    each = ratio(found["large_to_small_of_a_token"])
    print(f"\nCPU time of a trained token, the larger update / the smaller: {each} (at most 1.05)")


def show_step(figures: dict[str, Any]) -> None:
    """Print what a whole step costs."""
    if "step" not in figures:
        return
    found = figures["step"]
    names = ("generate_cpu_s", "update_cpu_s", "cpu_s")
    rows = [
        (
            NAMES[side.removeprefix("step ")],
            *(f"{r[name]:.1f}" for name in names),
            *(ratio(r["to_trl"][name]) for name in names),
        )
        for side, r in found.items()
    ]
    head = ("", "generate, CPU s", "update", "whole", "generate / TRL", "update", "whole")
    tokens = found["step TRL"]["trained"]
    table(f"A whole step of one turn, replies of {tokens:,} tokens together:", head, rows)


SHOWN = {"update": show_update, "cost": show_cost, "step": show_step}
"""What prints the table of a part."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", type=one_of(PARTS), metavar="PART", help=", ".join(PARTS))
    options.add_argument("--groups", type=at_least(1), default=1, help="groups of eight episodes")
    options.add_argument("--rounds", type=at_least(1), default=1, help="rounds of all sides; the best counts")
    options.add_argument("--budget", type=at_least(1), default=2048, help="tokens of our micro-batches")
    options.add_argument("--threads", type=at_least(1), default=1, help="of torch")
    options.add_argument("--trl-batch", type=at_least(1), default=8, help="TRL's per_device_train_batch_size")
    options.add_argument(
        "--side", choices=[*SIDES, *STEP_SIDES], help="be one side of a comparison: its figures as JSON"
    )
    chosen = options.parse_args()
    if chosen.side:
        print(json.dumps(play(chosen.side, chosen)))
        return
    before = machine()
    found = {}
    for name in chosen.parts or PARTS:
        found[name] = PARTS[name](chosen)
        SHOWN[name](found)
    finish(chosen, before, found)


if __name__ == "__main__":
    main()
