"""The main job on several seeds: success before and after, and its cost.

python benchmarks/calculator_agent.py
python benchmarks/calculator_agent.py --config examples/calculator_ppo.toml
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quintain.rl.metrics import Record, read_metrics

EXAMPLES = Path(__file__).parents[1] / "examples"


def success(record: Record) -> float:
    name = "success_greedy" if "success_greedy" in record.metrics else "success_sampled"
    return 100 * record.metrics[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=EXAMPLES / "calculator_agent.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen, options = parser.parse_known_args()
    print("| seed | before RL % | after % | 95 % interval | wall s | CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "quintain", "train", str(chosen.config), "--seed", str(seed)]
            subprocess.run([*command, "--run-dir", str(run), *options], check=True, stdout=subprocess.DEVNULL)
            wall, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
            found = [r for r in read_metrics(run / "metrics.jsonl") if r.phase == "eval"]
        last = found[-1].metrics
        interval = f"{100 * last['ci_low']:.0f}-{100 * last['ci_high']:.0f}"
        print(
            f"| {seed} | {success(found[0]):.1f} | {success(found[-1]):.1f} | {interval} | {wall:.0f} | {cpu:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
