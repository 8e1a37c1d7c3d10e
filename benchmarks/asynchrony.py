"""Sampling while the learner trains: what it gains where tools wait, and what it costs where nothing does.

    python benchmarks/asynchrony.py                  # some three minutes on two quiet cores
    python benchmarks/asynchrony.py --rounds 1 --steps 6
    python benchmarks/asynchrony.py --sides turn,turn2,ahead

The tiny calculator agent, warmed up once, then the same RL steps again and again: with `rl.staleness` 0 and 1, with a
calculator that answers at once and with one that takes 0.2 s. The sides take turns, round by round, in one process: a
load on the machine hits all of them. The learning rate is next to nothing: all sides play about the same
episodes. A time is that of all RL steps together, from the first rollout to the last update.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import at_least, finish, machine, names, parser, ratio, spread, table

from quintain.envs import registry
from quintain.envs.library.calculator import Calculator
from quintain.rl.config import Config
from quintain.rl.metrics import Event
from quintain.rl.train import train

SIDES = {
    "turn": ("in turn, 1 thread", 0, 1),
    "turn2": ("in turn, 2 threads", 0, 2),
    "ahead": ("ahead (staleness 1), 1 thread each", 1, 1),
}
"""What is compared: name, `rl.staleness`, `threads`."""
WAITS = (0.0, 0.2)
"""Seconds that a call of the calculator takes."""


class Waiting(Calculator):
    """Takes its time for every tool call."""

    def __init__(self, *, wait_s: float, **options):
        super().__init__(**options)
        self.wait_s = wait_s

    async def arespond(self, reply):
        """Wait, then answer."""
        if self.wait_s and reply.tool_calls:
            await asyncio.sleep(self.wait_s)
        return await super().arespond(reply)


registry.register("quintain-benchmarks/Waiting-v0", Waiting)


@dataclass
class Took:
    """What the RL steps of a run took, in seconds."""

    wall: float
    cpu: float
    rollout: float
    learn: float
    waited: float


def config(wait_s: float, **sections: object) -> Config:
    """The demo of the README with other steps; see `examples/calculator_agent.toml`."""
    return Config.model_validate(
        {
            "seed": 1,
            "threads": 1,
            "run": {"checkpoint_every": 1000, "save_trajectories_every": 0},
            "model": {"device": "cpu"},
            "env": {"id": "quintain-benchmarks/Waiting-v0", "kwargs": {"max_steps": 2, "wait_s": wait_s}},
            "rollout": {"turn_tokens": 40, "episode_tokens": 256},
            "eval": {"problems": 1, "every": 0, "samples": 0},
            **sections,
        }
    )


def warmed_up(folder: Path) -> Path:
    """Return a model that knows how to call the calculator."""
    sft = {"episodes": 1000, "steps": 100, "tokens_per_step": 2048}
    train(config(0.0, sft=sft), folder)
    return folder / "checkpoints" / "step-000000"


def measured(model: Path, wait_s: float, side: str, steps: int, folder: Path) -> Took:
    """Run the RL steps once."""
    _, staleness, threads = SIDES[side]
    began: list[tuple[float, float]] = []
    took: list[dict[str, float]] = []
    ended: list[tuple[float, float]] = []

    def watch(event: Event) -> None:
        now = (time.perf_counter(), time.process_time())
        if event.phase == "eval" and event.metrics and not began:
            began.append(now)
        if event.phase == "rl" and event.metrics:
            took.append(dict(event.metrics))
            ended.append(now)

    rl = {
        "staleness": staleness,
        "steps": steps,
        "groups": 12,
        "group_size": 8,
        "minibatches": 4,
        "lr": 1e-9,
        "kl": {"measure_every": 0},
    }
    own = {"path": str(model), "device": "cpu"}
    train(config(wait_s, rl=rl, model=own, threads=threads), folder, watch)
    wall, cpu = (ended[-1][n] - began[0][n] for n in range(2))
    total = {name: sum(step[name] for step in took) for name in ("rollout_s", "learn_s", "wait_s")}
    return Took(wall, cpu, total["rollout_s"], total["learn_s"], total["wait_s"])


def summed_up(found: dict[tuple[float, str], list[Took]], sides: list[str]) -> list[dict[str, Any]]:
    """Return a row for each tool and side: medians in seconds, and the ratio of wall time to the first side."""
    rows = []
    for wait_s in WAITS:
        base = [took.wall for took in found[wait_s, sides[0]]]
        for side in sides:
            rounds = found[wait_s, side]
            middle = {
                name: statistics.median(asdict(took)[name] for took in rounds) for name in asdict(rounds[0])
            }
            ratios = spread([took.wall / other for took, other in zip(rounds, base, strict=True)])
            rows.append({"tool_s": wait_s, "side": SIDES[side][0], **middle, "to_first": ratios})
    return rows


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    rows = [
        (
            f"{row['tool_s']:g} s",
            row["side"],
            *(f"{row[name]:.1f}" for name in ("wall", "cpu", "rollout", "learn", "waited")),
            ratio(row["to_first"]),
        )
        for row in figures["rows"]
    ]
    head = (
        "tool",
        "side",
        "wall s",
        "CPU s",
        "sampling s",
        "learning s",
        "learner waited s",
        "wall / in turn",
    )
    table(f"{figures['steps']} RL steps of 12 x 8 episodes, the middle of the rounds:", head, rows)


def main() -> None:
    """Print a row for each side and each tool."""
    made = parser(__doc__)
    made.add_argument("--steps", type=at_least(1), default=10)
    made.add_argument("--rounds", type=at_least(1), default=3)
    made.add_argument("--sides", type=names(SIDES), default=["turn", "ahead"], help=", ".join(SIDES))
    options = made.parse_args()
    sides = options.sides
    before = machine()
    found: dict[tuple[float, str], list[Took]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = warmed_up(_made(Path(scratch) / "warm"))
        for number in range(options.rounds):
            for wait_s in WAITS:
                for side in sides if number % 2 == 0 else reversed(sides):
                    folder = _made(Path(scratch) / f"{number}-{wait_s}-{side}")
                    found.setdefault((wait_s, side), []).append(
                        measured(model, wait_s, side, options.steps, folder)
                    )
    torch.set_num_threads(1)
    rows = summed_up(found, sides)
    figures = {"steps": options.steps, "rows": rows}
    show(figures)
    finish(options, before, figures)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
