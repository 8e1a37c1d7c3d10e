"""Over-optimisation in minutes on one core: proxy and gold of GRPO, PPO and DPO, on a long and on a short leash.

python benchmarks/overoptimisation.py docs/overoptimisation.png

The task is `examples/notes.py`. A Bradley-Terry model learns from pairs of demonstrations ordered by the verifier;
then the embedded model is trained against it by GRPO and PPO, and on the same pairs by DPO. The gold is the verifier,
which the runs never see. Draws the curves and prints where they begin and end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import at_least, finish, machine, parser, table, written

from quintain.rl.chat import ChatCodec
from quintain.rl.checkpoint import checkpoints
from quintain.rl.config import Config, EngineConfig, ModelConfig, RolloutConfig
from quintain.rl.engines import make_engine
from quintain.rl.judged import judge_all
from quintain.rl.metrics import read_metrics
from quintain.rl.models import load_model
from quintain.rl.overoptimisation import Point, clustered_mean, points_of
from quintain.rl.rollout import Start, rollout
from quintain.rl.seeds import derive, generator
from quintain.rl.stages.dpo_config import DpoConfig
from quintain.rl.stages.preference import Preference, Tokens, write_preferences
from quintain.rl.stages.reward_model_config import RewardModelConfig
from quintain.rl.stages.stage import run_stage
from quintain.rl.stages.token_logps import answer_logps
from quintain.rl.train import train
from quintain.rl.trajectory import Trajectory
from quintain.tools.chat import user
from quintain.verifiers import Score
from quintain.verifiers.reward_model import RewardModel

TINY = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "mlp": 128, "vocabulary": 320, "context": 96}
LIMITS = {"turn_tokens": 40, "episode_tokens": 80}
LEASH = 0.15
"""The weight of the KL divergence, nats of it a token against a reward of deviation 1."""
BETAS = (0.1, 1.0)
"""The long and the short leash of DPO."""


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
            "rollout": LIMITS,
            "eval": {"problems": 2, "every": 0, "greedy": False},
        }
    )


def warm_start(folder: Path) -> Path:
    """Make the model that the runs of GRPO and PPO begin with by themselves, and return its folder."""
    folder.mkdir(parents=True)
    whole = run_config(folder, "grpo", 0.0, 1)
    own = whole.env.model_copy(update={"verifier": None})
    train(whole.model_copy(update={"rl": None, "env": own}), folder)
    return checkpoints(folder)[-1].path


def dpo_curve(
    folder: Path, warm: Path, proxy: Path, beta: float, steps: int = 45, every: int = 5
) -> list[Point]:
    """Learn the proxy's own pairs by DPO, and return what is measured at the start and every so many steps."""
    folder.mkdir(parents=True)
    config = DpoConfig.model_validate(
        {
            "threads": 1,
            "run": {"checkpoint_every": every, "keep_checkpoints": steps},
            "model": {"device": "cpu", "path": str(warm)},
            "data": {"path": str(proxy.parent / "pairs.jsonl"), "held_out": 0.2},
            "dpo": {"beta": beta},
            "optim": {"steps": steps, "batch": 32, "micro_batch": 32, "lr": 5e-4, "lr_final": 1.0},
        }
    )
    run_stage(config, folder)
    judge = RewardModel(str(proxy), device="cpu", batch_size=64)
    policies = {0: warm} | {one.step: one.path for one in checkpoints(folder)}
    return [measured(step, path, warm, judge) for step, path in policies.items()]


def measured(step: int, path: Path, warm: Path, proxy: RewardModel, tasks: int = 24, size: int = 8) -> Point:
    """Sample replies to held-out tasks; return what proxy and gold make of them, and the distance from `warm`."""
    env = notes().Notes(split="test")
    (model, tokenizer), (start, _) = (
        load_model(ModelConfig(path=str(folder), device="cpu"), seed=0) for folder in (path, warm)
    )
    model.eval()
    codec = ChatCodec(tokenizer)
    starts = [
        Start(f"{task}-{member}", task, derive(0, "sampled", task, member), task)
        for task in range(tasks)
        for member in range(size)
    ]

    async def play() -> tuple[list[Trajectory], list[Score]]:
        engine = make_engine(EngineConfig(), model, tokenizer, seed=0)
        try:
            await engine.load(model, step)
            played = await rollout(env, engine, codec, starts, RolloutConfig.model_validate(LIMITS))
        finally:
            await engine.close()
        return played, await judge_all(env, codec, proxy, played)

    played, proxies = asyncio.run(play())
    sides = [Tokens(tuple(one.ids), tuple(one.mask)) for one in played]
    moved = [a - b for a, b in zip(answer_logps(model, sides), answer_logps(start, sides), strict=True)]
    groups = [one.group for one in played]
    proxy_mean, proxy_se = clustered_mean([score.value for score in proxies], groups)
    gold, gold_se = clustered_mean([one.score.value for one in played], groups)
    return Point(step, proxy_mean, gold, proxy_se, gold_se, math.sqrt(max(sum(moved) / len(moved), 0.0)))


def curve(folder: Path, config: Config) -> tuple[list[Point], list[int]]:
    """Run and return what the guard has measured, and the steps at which it reported."""
    folder.mkdir(parents=True)
    train(config, folder)
    records = [r for r in read_metrics(folder / "metrics.jsonl") if r.phase == "rl"]
    return points_of(records), [r.step for r in records if r.metrics.get("guard/alarm_gold")]


def show(figures: dict[str, Any]) -> None:
    """Print a row for each curve."""
    rows = []
    for title, curve in figures["curves"].items():
        points, alarms = curve["points"], curve["reported"]
        best, first, last = max(points, key=lambda p: p["gold"]), points[0], points[-1]
        rows.append(
            (
                title,
                f"{first['gold']:.3f}",
                f"{best['gold']:.3f} ({best['step']})",
                f"{last['gold']:.3f} ± {1.96 * last['gold_se']:.3f}",
                f"{first['proxy']:.3f}, {last['proxy']:.3f}",
                f"{last['distance']:.2f}",
                alarms[0] if alarms else "not",
            )
        )
    head = (
        "run",
        "gold, first",
        "best (step)",
        "last",
        "proxy, first and last",
        "sqrt(KL)",
        "reported at step",
    )
    table("Gold and proxy:", head, rows)
    right, pairs = 100 * figures["reward_model_accuracy"], figures["held_out_pairs"]
    print(f"\nThe reward model puts {right:.1f} % of {pairs} held-out pairs in the right order.")
    print(f"All of it took {figures['cpu_s']:.0f} CPU-seconds.")


def main() -> None:
    """Train the proxy and the runs, print the numbers and draw the picture."""
    options = parser(__doc__)
    options.add_argument("out", type=written, help="the picture to draw")
    options.add_argument("--steps", type=at_least(1), default=45)
    arguments = options.parse_args()
    before = machine()
    notes()
    began = time.process_time()
    found: dict[str, tuple[list[Point], list[int]]] = {}

    def keep(title: str, points: list[Point], alarms: list[int]) -> None:
        found[title] = points, alarms
        print(f"{title}: done, {time.process_time() - began:.0f} CPU-seconds", file=sys.stderr)

    with tempfile.TemporaryDirectory() as scratch:
        model, report = reward_model(Path(scratch) / "rm")
        warm = warm_start(Path(scratch) / "warm")
        for leash, beta in zip((0.0, LEASH), BETAS, strict=True):
            for algorithm in ("grpo", "ppo"):
                config = run_config(model, algorithm, leash, arguments.steps)
                title = f"{algorithm.upper()}, KL weight {leash:g}"
                keep(title, *curve(Path(scratch) / title.replace(" ", "-"), config))
            title = f"DPO, beta {beta:g}"
            keep(
                title,
                dpo_curve(Path(scratch) / title.replace(" ", "-"), warm, model, beta, arguments.steps),
                [],
            )
    spent = time.process_time() - began
    draw(found, arguments.out)
    curves = {
        title: {"points": [asdict(point) for point in points], "reported": alarms}
        for title, (points, alarms) in found.items()
    }
    figures = {
        "reward_model_accuracy": report["accuracy"],
        "held_out_pairs": report["count"],
        "cpu_s": spent,
        "curves": curves,
    }
    show(figures)
    finish(arguments, before, figures)


def draw(found: dict[str, tuple[list[Point], list[int]]], out: Path) -> None:
    """Draw proxy, gold and distance of each run over its steps, the first report as a line; three runs a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.6), dpi=150, layout="constrained")
    for axes, (title, (points, alarms)) in zip(
        figure.subplots(2, 3, sharey=True).flat, found.items(), strict=True
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
        axes.set_xlabel("step", fontsize=8)
    figure.axes[2].legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(out)


if __name__ == "__main__":
    main()
