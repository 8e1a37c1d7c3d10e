"""Draw what stands in `results`: what the same work costs elsewhere, how often judges are right, and the demo.

    python benchmarks/pictures.py                     # docs/beside.png, from benchmarks/results
    python benchmarks/pictures.py --results DIR --out FILE

A row whose figure is not in the results is left out, which is said.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
MORE, LESS, GREY, GRID = "#0f766e", "#b45309", "#8a847b", "#e6e2dc"
RIGHT, WRONG = MORE, "#9f1239"
"""Theirs costs more, theirs costs less, remarks, lines; a verdict."""


@dataclass(frozen=True)
class Bar:
    """How many times the processor time of ours something else takes."""

    label: str
    middle: float
    low: float
    high: float


def inverse(spread: dict[str, Any]) -> dict[str, Any]:
    """Return the spread of theirs over ours from that of ours over theirs."""
    return {
        "low": 1 / spread["high"],
        "median": 1 / spread["median"],
        "high": 1 / spread["low"],
        "rounds": [1 / value for value in spread["rounds"]],
    }


class Results:
    """The files of a folder, by the name of the benchmark."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

    def figures(self, name: str) -> dict[str, Any]:
        """Return the figures of a benchmark, none where it was not run."""
        found: dict[str, Any] = self.files.get(name, {}).get("figures", {})
        return found

    def environment(self, begins: str) -> dict[str, Any]:
        """Return the first row of `environments` whose name begins so."""
        for row in self.figures("environments")["rows"]:
            if row["what"].startswith(begins):
                found: dict[str, Any] = row
                return found
        raise KeyError(begins)

    def environments(self, begins: str) -> dict[str, Any]:
        """Return its ratio to ours."""
        found: dict[str, Any] = self.environment(begins)["to_ours"]
        return found

    def sandboxes(self, begins: str) -> dict[str, Any]:
        """Return the processor time of a row over that of a fresh box of ours, round by round."""
        rows = self.figures("sandboxes")["rows"]
        (ours,) = (row for row in rows if row["what"] == "ours: a fresh box, Python")
        (other,) = (row for row in rows if row["what"].startswith(begins) and "cpu_ms" in row)
        pairs = zip(other["cpu_ms"]["rounds"], ours["cpu_ms"]["rounds"], strict=True)
        found = sorted(a / b for a, b in pairs)
        return {"low": found[0], "median": found[len(found) // 2], "high": found[-1]}

    def trl(self, part: str, side: str) -> dict[str, Any]:
        """Return TRL's processor time over ours in a part of the learner's benchmark."""
        return inverse(self.figures("learner")[part][side]["to_trl"]["cpu_s"])


BY_HAND = "the same as `gymnasium.make` gives it: order, limit and types checked"
Source = Callable[[Results], dict[str, Any]]
SECTIONS: list[tuple[str, list[tuple[str, Source]]]] = [
    (
        "a step of an environment",
        [
            ("GEM", lambda r: r.environments("GEM: step")),
            ("Gymnasium, conversation by hand", lambda r: r.environments(BY_HAND)),
            ("skyrl-gym", lambda r: r.environments("skyrl-gym")),
            ("GEM with its history", lambda r: r.environments("GEM: step, history")),
            ("OpenEnv without its server", lambda r: r.environments("OpenEnv: `Env")),
        ],
    ),
    (
        "a turn of a rollout, no model",
        [
            ("verifiers 0.3.1", lambda r: r.environments("verifiers 0.3")),
            ("OpenEnv, client and server", lambda r: r.environments("OpenEnv: client")),
            ("TRL's tool loop, tokens included", lambda r: r.environments("TRL")),
        ],
    ),
    (
        "a program in a fresh sandbox",
        [
            ("a fork, not isolated (EvalPlus)", lambda r: r.sandboxes("multiprocessing fork, Value")),
            ("a new interpreter, not isolated", lambda r: r.sandboxes("python -I -S -c pass")),
            ("a manager, not isolated (human-eval)", lambda r: r.sandboxes("multiprocessing fork and")),
        ],
    ),
    (
        "sampling and learning",
        [
            ("32 episodes with a slow tool, TRL", lambda r: r.figures("rollouts")["tools"]["ratio_cpu"]),
            ("episodes, padded `generate`", lambda r: r.figures("rollouts")["generate"]["smollm2"]["ratio_cpu"]),
            ("vLLM, the same as plain prompts", lambda r: r.figures("rollouts")["vllm"]["smollm2"]["utilisation_cpu"]),
            ("a whole single-turn step, TRL", lambda r: r.trl("step", "step ours")),
            ("a GRPO update, TRL", lambda r: r.trl("update", "ours")),
        ],
    ),
]  # fmt: skip
"""What is compared: section, label, and where its spread stands."""


def bars(results: Results) -> list[tuple[str, list[Bar]]]:
    """Return the sections with what was measured."""
    found = []
    for title, rows in SECTIONS:
        section = []
        for label, source in rows:
            try:
                spread = source(results)
            except KeyError:
                print(f"left out, not in the results: {title}: {label}", file=sys.stderr)
                continue
            section.append(Bar(label, spread["median"], spread["low"], spread["high"]))
        if section:
            found.append((title, section))
    return found


def draw_costs(axes: Axes, sections: list[tuple[str, list[Bar]]]) -> None:
    """Draw a bar from 1 to each ratio, its range as a line, and the number beside it."""
    at, ticks, labels = 0.0, [], []
    for title, section in sections:
        axes.text(-0.015, at, title, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8.5,
                  fontweight="bold")  # fmt: skip
        at += 1
        for bar in section:
            colour = MORE if bar.middle >= 1 else LESS
            axes.barh(at, bar.middle - 1, left=1, height=0.62, color=colour, alpha=0.85)
            axes.plot([bar.low, bar.high], [at, at], color="#1c1917", linewidth=1.2)
            edge = max(bar.high, bar.middle, 1.0)
            axes.text(edge * 1.07, at, f"{bar.middle:.2g} ×", va="center", fontsize=8.5, color=colour)
            ticks.append(at)
            labels.append(bar.label)
            at += 1
        at += 0.35
    axes.set_yticks(ticks, labels, fontsize=8.5)
    axes.set_ylim(at - 0.5, -0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.25, 30)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "ours = 1", "2", "5", "10", "20"], fontsize=8)
    axes.minorticks_off()
    axes.axvline(1, color="#1c1917", linewidth=1)
    axes.set_title("Processor time for the same work, theirs / ours", fontsize=10, loc="left", pad=8)


def draw_judges(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw the share of labelled answers that each judge got right, and the two ways to be wrong."""
    short = {
        "MathAnswer": "ours: MathAnswer",
        "math-verify 0.9, limits of 5 s": "math-verify 0.9",
        "math scorer of inspect_ai 0.3.285": "inspect_ai 0.3.285",
        "MathRubric of verifiers 0.1.8": "verifiers 0.1.8",
        "TRL's accuracy_reward": "TRL accuracy_reward",
    }
    kept = [row for row in rows if row["judge"] in short]
    for at, row in enumerate(kept):
        total = row["answers"]
        parts = [row["right"], row["fails_right"] / total, row["passes_wrong"] / total]
        left = 0.0
        for share, colour in zip(parts, (RIGHT, "#e7b27a", WRONG), strict=True):
            axes.barh(at, share, left=left, height=0.62, color=colour, alpha=0.9)
            left += share
        axes.text(0.02, at, f"{row['right']:.1%}", va="center", fontsize=8.5, color="white")
    axes.set_yticks(range(len(kept)), [short[row["judge"]] for row in kept], fontsize=8.5)
    axes.set_ylim(len(kept) - 0.5, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
    axes.set_title(f"{kept[0]['answers']} answers judged", fontsize=10, loc="left", pad=8)
    for place, text, colour in ((-0.24, "fails right ones", LESS), (-0.35, "passes wrong ones", WRONG)):
        axes.text(0, place, text, color=colour, fontsize=8, transform=axes.transAxes)


def draw_demo(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Draw the success of each seed of the demo over its wall time, warm start included."""
    for run in runs:
        _, seconds, success = zip(*run["curve"], strict=True)
        axes.plot(seconds, success, color=MORE, linewidth=1.2, marker="o", markersize=3.5)
    axes.axhline(0.9, color=WRONG, linewidth=0.9, linestyle=":")
    axes.set_ylim(min(0.4, *(value for run in runs for *_, value in run["curve"])), 1)
    axes.set_xlim(0, max(run["curve"][-1][1] for run in runs) * 1.2)
    axes.set_yticks([0.5, 0.7, 0.9], ["50 %", "70 %", "90 %"], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("seconds, warm start included", fontsize=8)
    axes.set_title(f"The demo, {len(runs)} seeds: success", fontsize=10, loc="left", pad=8)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "beside.png")
    asked = parser.parse_args()
    results = Results(asked.results)
    sections = bars(results)
    if not sections:
        raise SystemExit(
            f"nothing to draw in {asked.results}: run a benchmark with --json {asked.results}/NAME.json"
        )
    judged = results.figures("judges").get("mathematics", {}).get("mathematics")
    runs = results.figures("calculator_agent").get("runs")
    figure = Figure(figsize=(9.2, 6), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.5, 1])
    draw_costs(figure.add_subplot(grid[:, 0]), sections)
    if judged:
        draw_judges(figure.add_subplot(grid[0, 1]), judged)
    if runs:
        draw_demo(figure.add_subplot(grid[1, 1]), runs)
    for axes in figure.axes:
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(96).save(asked.out, optimize=True)  # a third of the size
    print(f"{asked.out}: {asked.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
