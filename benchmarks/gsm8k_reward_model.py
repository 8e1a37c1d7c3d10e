"""A reward model of SmolLM2-135M on real solutions of grade-school problems: accuracy, calibration, length bias.

python benchmarks/gsm8k_reward_model.py gsm8k_solutions_a.jsonl --pairs 320

Rows have `question`, `response`, `is_correct` and `model`. Pairs are a right and a wrong solution of one question; all
pairs of a question are on one side of the split. Prints the report as JSON.
Most of the time is one forward and backward pass over `--pairs` pairs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import finish, machine, parser

from quintain.rl.seeds import generator
from quintain.rl.stages.preference import Preference, write_preferences
from quintain.rl.stages.reward_model_config import RewardModelConfig
from quintain.rl.stages.stage import run_stage
from quintain.tools.chat import user


def pairs(path: Path, count: int, seed: int) -> list[Preference]:
    """Return at most `count` pairs, at most two of a question, in an order drawn from the seed."""
    by_question: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        by_question[row["question"]].append(row)
    found: list[Preference] = []
    for number, (question, rows) in enumerate(by_question.items()):
        right = [row for row in rows if row["is_correct"]]
        wrong = [row for row in rows if not row["is_correct"]]
        for place, (better, worse) in enumerate(list(zip(right, wrong, strict=False))[:2]):
            if better["response"].strip() == worse["response"].strip():
                continue
            found.append(
                Preference(
                    (user(question),),
                    ({"role": "assistant", "content": better["response"]},),
                    ({"role": "assistant", "content": worse["response"]},),
                    source="answer",
                    id=f"gsm8k-{number}/{place}",
                    info={"category": "same model" if better["model"] == worse["model"] else "two models"},
                )
            )
    order = generator(seed, "gsm8k pairs").permutation(len(found))[:count]
    return [found[place] for place in order]


def main() -> None:
    """Make the pairs, train one epoch, print the report."""
    options = parser(__doc__)
    options.add_argument("path", type=Path)
    options.add_argument("--pairs", type=int, default=320)
    options.add_argument("--held-out", type=float, default=0.25)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--lr", type=float, default=3e-5)
    options.add_argument(
        "--frozen", type=int, default=20, help="Of the 30 blocks, how many stay as they are."
    )
    options.add_argument("--model", default="smollm2")
    options.add_argument("--dtype", default="bfloat16", help="Of the weights; their masters are float32.")
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    before = machine()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        count = write_preferences(
            folder / "pairs.jsonl", pairs(arguments.path, arguments.pairs, arguments.seed)
        )
        config = RewardModelConfig.model_validate(
            {
                "seed": arguments.seed,
                "threads": arguments.threads,
                "model": {"path": arguments.model, "dtype": arguments.dtype, "device": "cpu"},
                "data": {"path": str(folder / "pairs.jsonl")},
                "rows": {
                    "held_out": arguments.held_out,
                    "max_tokens": 480,
                    "on_long": "skip",
                    "on_bad": "skip",
                },
                "optim": {"batch": 16, "micro_batch": 4, "lr": arguments.lr},
                "frozen_layers": arguments.frozen,
            }
        )

        def show(event: Any) -> None:
            if event.phase == "check" or (event.phase == "train" and event.step % 4 == 0):
                kept = ("loss", "accuracy", "margin", "calibration_error", "low", "high")
                numbers = {name: round(event.metrics[name], 3) for name in kept if name in event.metrics}
                print(
                    event.phase, event.step, numbers, f"{time.process_time() - began:.0f} CPU-s", flush=True
                )

        run_stage(config, folder, show)
        report = json.loads((folder / "reward_model.json").read_text())
    print(json.dumps(report, indent=1))
    print(f"{count} pairs, {time.process_time() - began:.0f} CPU-seconds")
    finish(arguments, before, {"pairs": count, "cpu_s": time.process_time() - began, "report": report})


if __name__ == "__main__":
    main()
