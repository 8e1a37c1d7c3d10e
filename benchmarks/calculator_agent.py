"""The main job on several seeds: success before and after, its cost, and how long it takes to 90 %.

python benchmarks/calculator_agent.py
python benchmarks/calculator_agent.py --seeds 1 --eval.every 10     # further options go to `quintain train`
python benchmarks/calculator_agent.py --config examples/calculator_ppo.toml
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import file, finish, machine, own_cpu, parser, table

from quintain.rl.metrics import Record, read_metrics

EXAMPLES = Path(__file__).parents[1] / "examples"
GOAL = 0.9


def success(record: Record) -> float:
    """Return the share of held-out problems that were solved."""
    name = "success_greedy" if "success_greedy" in record.metrics else "success_sampled"
    return record.metrics[name]


def trained(config: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """Run once; seconds to the goal are those of the first evaluation that met it, with all that came before."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        began, used = time.monotonic(), own_cpu()
        command = [sys.executable, "-m", "quintain", "train", str(config), "--seed", str(seed)]
        done = subprocess.run([*command, "--run-dir", str(run), *options], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(
                f"seed {seed}: quintain train ended with {done.returncode}, its message is above"
            )
        wall, cpu = time.monotonic() - began, own_cpu() - used
        found = [r for r in read_metrics(run / "metrics.jsonl") if r.phase == "eval"]
    there = next((record for record in found if success(record) >= GOAL), None)
    return {
        "seed": seed,
        "before": success(found[0]),
        "after": success(found[-1]),
        "low": found[-1].metrics["ci_low"],
        "high": found[-1].metrics["ci_high"],
        "curve": [[record.step, round(record.time_s, 1), success(record)] for record in found],
        "goal_s": None if there is None else there.time_s,
        "goal_step": None if there is None else there.step,
        "wall_s": wall,
        "cpu_s": cpu,
    }


def show(figures: dict[str, Any]) -> None:
    """Print a row for each seed."""
    rows = [
        (
            str(one["seed"]),
            f"{100 * one['before']:.1f} %",
            f"{100 * one['after']:.1f} %",
            f"{100 * one['low']:.0f}-{100 * one['high']:.0f}",
            "not reached" if one["goal_s"] is None else f"{one['goal_s']:.0f} (step {one['goal_step']})",
            f"{one['wall_s']:.0f}",
            f"{one['cpu_s']:.0f}",
        )
        for one in figures["runs"]
    ]
    head = ("seed", "before RL", "after", "95 % interval", f"wall s to {100 * GOAL:.0f} %", "wall s", "CPU s")
    table(f"`quintain train examples/{figures['config']}`:", head, rows)


def main() -> None:
    """Run every seed and print a row for each."""
    made = parser(__doc__)
    made.add_argument("--config", type=file, default=EXAMPLES / "calculator_agent.toml")
    made.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen, options = made.parse_known_args()
    before = machine()
    figures = {
        "config": chosen.config.name,
        "runs": [trained(chosen.config, seed, options) for seed in chosen.seeds],
    }
    show(figures)
    finish(chosen, before, figures)


if __name__ == "__main__":
    main()
