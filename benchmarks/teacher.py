"""What a teacher costs: a learner's step on multi-turn episodes of SmolLM2-135M, without one and with one of its size.

    python benchmarks/teacher.py

The episodes are those of `learner`. Each side takes its steps in a process of its own, whose CPU seconds and peak
memory above the loaded weights (the teacher's included) are compared. There is no generation: it costs all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from common import at_least, finish, machine, parser, table
from learner import STEPS, episodes, grpo, our_learner, peak_mb, rss_mb, trajectories

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIDES = {
    "no teacher": None,
    "sampled": {"over": "sampled"},
    "vocabulary, beta = 1": {},
    "vocabulary, beta = 0.5": {"beta": 0.5},
    "vocabulary, teacher alone": {"reward_coef": 0.0},
}


def play(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Be one side: the better of two steps."""
    import torch

    from quintain.rl.config import ModelConfig
    from quintain.rl.credit import assign
    from quintain.rl.models import load_model
    from quintain.rl.teacher import load_teacher

    torch.set_num_threads(options.threads)
    model, tokenizer = load_model(ModelConfig(path="smollm2", dtype="bfloat16", device="cpu"), seed=0)
    said = SIDES[side]
    named = None if said is None else {"path": "smollm2", "dtype": "bfloat16", **said}
    config = grpo(groups=options.groups, micro_batch_tokens=options.budget, teacher=named)
    teacher = None if config.teacher is None else load_teacher(config.teacher, model, tokenizer, longest=600)
    batch = trajectories(episodes(options.groups))
    before = rss_mb()
    learner = our_learner(model, config, longest=600, teacher=teacher)
    seconds = []
    for _ in range(STEPS):
        began = time.process_time()
        measured = learner.measure(batch)
        learner.update(batch, assign(batch, config, measured), measured)
        seconds.append(time.process_time() - began)
    trained = sum(t.sampled_tokens for t in batch)
    return {"cpu_s": min(seconds), "peak_mb": peak_mb() - before, "trained": trained}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    base = figures["no teacher"]
    rows = [
        (side, f"{r['cpu_s']:.1f}", f"{r['cpu_s'] / base['cpu_s']:.2f}", f"{r['peak_mb']:,.0f}")
        for side, r in figures.items()
    ]
    title = f"An update on episodes of several turns, {base['trained']:,} trained tokens:"
    table(title, ("`rl.teacher`", "CPU s", "/ no teacher", "peak MB"), rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--groups", type=at_least(1), default=1, help="groups of eight episodes")
    options.add_argument("--budget", type=at_least(1), default=2048, help="tokens of a micro-batch")
    options.add_argument("--threads", type=at_least(1), default=1, help="of torch")
    options.add_argument("--side", choices=[*SIDES], help="be one side: its figures as JSON")
    chosen = options.parse_args()
    if chosen.side:
        print(json.dumps(play(chosen.side, chosen)))
        return
    before = machine()
    found: dict[str, dict[str, float]] = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--groups", str(chosen.groups)]
        command += ["--budget", str(chosen.budget), "--threads", str(chosen.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        found[side] = json.loads(done.stdout.splitlines()[-1])
    show(found)
    finish(chosen, before, found)


if __name__ == "__main__":
    main()
