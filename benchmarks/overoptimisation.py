"""Over-optimisation in minutes on one core: proxy and gold over KL, with and without a leash, by GRPO and PPO.

python benchmarks/overoptimisation.py docs/overoptimisation.png

The task is `examples/notes.py`. A Bradley-Terry model learns from pairs of demonstrations ordered by the verifier;
then the embedded model is trained against it. The gold is the verifier, which the runs never see. Prints the numbers
that the picture shows.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import finish, machine, parser

from quintain.rl.config import Config
from quintain.rl.metrics import read_metrics
from quintain.rl.overoptimisation import Point, fit_law, points_of
from quintain.rl.seeds import generator
from quintain.rl.stages.preference import Preference, write_preferences
from quintain.rl.stages.reward_model_config import RewardModelConfig
from quintain.rl.stages.stage import run_stage
from quintain.rl.train import train
from quintain.tools.chat import user

TINY = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "mlp": 128, "vocabulary": 320, "context": 96}
LEASH = 0.15
"""The weight of the KL divergence, nats of it a token against a reward of deviation 1."""


def notes() -> Any:
    """Return the module of the example, its environment registered."""
    path = Path(__file__).resolve().parents[1] / "examples" / "notes.py"
    spec = importlib.util.spec_from_file_location("notes", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules.get("notes") or importlib.util.module_from_spec(spec)
    if "notes" not in sys.modules:
        sys.modules["notes"] = module
        spec.loader.exec_module(module)
    return module


def pairs(count: int, seed: int = 0) -> list[Preference]:
    """Return pairs of demonstrations of one task, ordered by the verifier; equal ones are drawn again."""
    example = notes()
    env, worth = example.Notes(), example.Worth()
    found: list[Preference] = []
    number = 0
    while len(found) < count:
        task, rng = env.tasks[number], generator(seed, "pairs", number)
        texts = [example.sloppy(task, [], rng) for _ in range(2)]
        values = [worth(text, task).value for text in texts]
        number += 1
        if values[0] == values[1]:
            continue
        better, worse = (0, 1) if values[0] > values[1] else (1, 0)
        sides = [({"role": "assistant", "content": texts[at]},) for at in (better, worse)]
        found.append(
            Preference(
                (user(task.prompt),),
                sides[0],  # type: ignore[arg-type]
                sides[1],  # type: ignore[arg-type]
                margin=values[better] - values[worse],
                source="verifier",
                id=f"notes-{number}/0",
                info={"category": task.answer},
            )
        )
    return found


def reward_model(
    folder: Path, count: int = 1000, steps: int = 80, seed: int = 0
) -> tuple[Path, dict[str, Any]]:
    """Train the proxy; return its folder and its report."""
    folder.mkdir(parents=True)
    write_preferences(folder / "pairs.jsonl", pairs(count))
    config = RewardModelConfig.model_validate(
        {
            "seed": seed,
            "threads": 1,
            "model": {"device": "cpu", "tiny": TINY},
            "data": {"path": str(folder / "pairs.jsonl")},
            "rows": {"held_out": 0.2},
            "optim": {
                "steps": steps,
                "batch": 32,
                "micro_batch": 32,
                "optimizer": "muon",
                "lr": 4e-3,
                "muon_lr": 2e-2,
            },
        }
    )
    model = run_stage(config, folder)
    return model, json.loads((folder / "reward_model.json").read_text())


def run_config(model: Path, algorithm: str, leash: float, steps: int, **guard: Any) -> Config:
    """Return the config of a run against the proxy."""
    where = "reward" if algorithm == "ppo" else "loss"
    more: dict[str, Any] = {"minibatches": 2, "critic": {"lr": 2e-3}} if algorithm == "ppo" else {}
    return Config.model_validate(
        {
            "threads": 1,
            "env": {
                "id": "examples/Notes-v0",
                "eval_kwargs": {"split": "test"},
                "verifier": {"id": "reward_model", "model": str(model), "device": "cpu", "batch_size": 64},
            },
            "model": {"device": "cpu", "tiny": TINY},
            "sft": {"episodes": 1000, "steps": 120, "tokens_per_step": 1024},
            "rl": {
                "algorithm": algorithm,
                "steps": steps,
                "groups": 12,
                "group_size": 8,
                "lr": 5e-4,
                "lr_final": 1.0,
                "kl": {"coef": leash, "where": where},
                "guard": {"gold": {"id": "environment"}, "episodes": 96, **guard},
                **more,
            },
            "rollout": {"turn_tokens": 40, "episode_tokens": 80},
            "eval": {"problems": 2, "every": 0, "greedy": False},
        }
    )


def curve(folder: Path, config: Config) -> tuple[list[Point], list[int]]:
    """Run and return what the guard has measured, and the steps at which it reported."""
    folder.mkdir(parents=True)
    train(config, folder)
    records = [r for r in read_metrics(folder / "metrics.jsonl") if r.phase == "rl"]
    return points_of(records), [r.step for r in records if r.metrics.get("guard/alarm_gold")]


def main() -> None:
    """Train the proxy and the runs against it, print the numbers and draw the picture."""
    options = parser(__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("--steps", type=int, default=60)
    arguments = options.parse_args()
    before = machine()
    notes()
    began = time.process_time()
    found: dict[str, tuple[list[Point], list[int]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model, report = reward_model(Path(scratch) / "rm")
        print(f"reward model: {report['accuracy']:.3f} of {report['count']} held-out pairs", flush=True)
        for algorithm in ("grpo", "ppo"):
            for name, leash in (("without a leash", 0.0), ("with a leash", LEASH)):
                title = f"{algorithm.upper()} {name}"
                config = run_config(model, algorithm, leash, arguments.steps)
                found[title] = curve(Path(scratch) / title.replace(" ", "-"), config)
                points, alarms = found[title]
                best = max(points, key=lambda p: p.gold)
                law = fit_law(points)
                print(
                    f"{title}: gold {points[0].gold:.3f} -> best {best.gold:.3f} (step {best.step}) -> "
                    f"{points[-1].gold:.3f}; proxy {points[0].proxy:.3f} -> {points[-1].proxy:.3f}; sqrt(KL) "
                    f"{points[-1].distance:.2f}; reported at step {alarms[0] if alarms else 'none'}; law {law}",
                    flush=True,
                )
    print(f"{time.process_time() - began:.0f} CPU-seconds")
    draw(found, arguments.out)
    curves = {
        title: {"points": [asdict(point) for point in points], "reported": alarms}
        for title, (points, alarms) in found.items()
    }
    finish(arguments, before, {"reward_model_accuracy": report["accuracy"], "curves": curves})


def draw(found: dict[str, tuple[list[Point], list[int]]], out: Path) -> None:
    """Draw proxy and gold of each run over the distance, the first report as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    for axes, (title, (points, alarms)) in zip(
        figure.subplots(2, 2, sharey=True).flat, found.items(), strict=True
    ):
        steps = [p.step for p in points]
        axes.plot(steps, [p.proxy for p in points], color="#b45309", label="proxy: the reward model")
        axes.plot(steps, [p.gold for p in points], color="#0f766e", label="gold: the verifier")
        farthest = max(p.distance for p in points)
        axes.plot(
            steps, [p.distance / 10 for p in points], color="#8a847b", linewidth=0.9, label="sqrt(KL) / 10"
        )
        if alarms:
            axes.axvline(alarms[0], color="#9f1239", linewidth=0.9, linestyle=":")
            axes.text(alarms[0], 1.02, " reported", color="#9f1239", fontsize=8, va="bottom")
        axes.set_title(f"{title} (sqrt(KL) up to {farthest:.1f})", fontsize=10, loc="left", pad=14)
        axes.set_ylim(0, 1.02)
        axes.grid(axis="y", color="#e6e2dc", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("RL step", fontsize=8)
    figure.axes[0].legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(out)


if __name__ == "__main__":
    main()
