"""A reward model of SmolLM2-135M on real solutions of grade-school problems: accuracy, calibration, length bias.

python benchmarks/gsm8k_reward_model.py gsm8k_solutions_a.jsonl --pairs 320

Rows have `question`, `response`, `is_correct` and `model`. Pairs are a right and a wrong solution of one question; all
pairs of a question are on one side of the split. `--json` keeps the whole report.
Most of the time is one forward and backward pass over `--pairs` pairs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import at_least, file, finish, machine, parser, table

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


def show(figures: dict[str, Any]) -> None:
    """Print what the report says of held-out pairs."""
    report = figures["report"]
    length = report["length"]

    def right(found: dict[str, Any]) -> str:
        interval = f"{100 * found['low']:.0f}-{100 * found['high']:.0f}"
        return f"{100 * found['accuracy']:.1f} % of {found['count']} ({interval})"

    rows = [
        ("right on held-out pairs (95 %)", right(report)),
        ("calibration error (ECE)", f"{report['calibration']['error']:.3f}"),
        *(
            (f"right where the better side is the {name} one", right(length[f"better_is_{name}"]))
            for name in ("longer", "shorter")
            if length.get(f"better_is_{name}", {}).get("count")
        ),
        ("prefers the longer side", f"{100 * length['longer_wins']:.1f} %"),
        ("correlation of logit and length", f"{length['logit_correlation']:.2f}"),
        ("CPU-seconds, evaluations included", f"{figures['cpu_s']:,.0f}"),
    ]
    table(f"A reward model of {figures['pairs']} pairs:", ("", "measured"), rows)


def main() -> None:
    """Make the pairs, train one epoch, print the report."""
    options = parser(__doc__)
    options.add_argument("path", type=file, help="the labelled solutions")
    options.add_argument("--pairs", type=at_least(1), default=320)
    options.add_argument("--held-out", type=float, default=0.25)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--lr", type=float, default=3e-5)
    options.add_argument(
        "--frozen", type=int, default=20, help="Of the 30 blocks, how many stay as they are."
    )
    options.add_argument("--model", default="smollm2")
    options.add_argument("--dtype", default="bfloat16", help="Of the weights; their masters are float32.")
    options.add_argument("--threads", type=at_least(1), default=1)
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

        def tell(event: Any) -> None:
            if event.phase == "check" or (event.phase == "train" and event.step % 4 == 0):
                kept = ("loss", "accuracy", "margin", "calibration_error", "low", "high")
                numbers = {name: round(event.metrics[name], 3) for name in kept if name in event.metrics}
                print(
                    event.phase, event.step, numbers, f"{time.process_time() - began:.0f} CPU-s", flush=True
                )

        run_stage(config, folder, tell)
        report = json.loads((folder / "reward_model.json").read_text())
    figures = {"pairs": count, "cpu_s": time.process_time() - began, "report": report}
    show(figures)
    finish(arguments, before, figures)


if __name__ == "__main__":
    main()
