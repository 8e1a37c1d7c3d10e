"""Which curves a run has: success over its phases, the small charts of the report, the picture for a README."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .charts import Series, Zone, chart, smooth
from .rl.metrics import Record
from .rl.overoptimisation import points_of
from .run_folder import Stages, headline_metric, records_of, stages
from .tools.errors import UserError


def _points(records: Sequence[Record], phase: str, name: str) -> list[tuple[float, float]]:
    points = [(float(r.step), r.metrics[name]) for r in records if r.phase == phase and name in r.metrics]
    return sorted(points, key=lambda point: point[0])


def _evaluations(records: Sequence[Record], told: Stages, start: float) -> list[tuple[float, Record]]:
    """Place the evaluations on the axis of RL steps; those before a warm start stand at `start`."""
    placed: list[tuple[float, Record]] = []
    if told.before is not None:
        placed.append((start, told.before))
    middle = told.after_sft or (told.after if not any(r.phase == "rl" for r in records) else None)
    if middle is not None:
        placed.append((0.0, middle))
    began = False
    for record in records:
        began = began or record.phase == "rl"
        if began and record.phase == "eval":
            placed.append((float(record.step), record))
    return placed


LEGEND = {
    "success_greedy": ("held-out, most likely answer", 0),
    "success_sampled": ("held-out, sampled", 1),
    "success": ("training problems, sampled", 2),
}


def legend(records: Sequence[Record]) -> list[tuple[str, int]]:
    """Return the (label, colour) of the lines in the learning curve of a run."""
    present = {name for record in records if record.phase in ("eval", "rl") for name in record.metrics}
    return [entry for name, entry in LEGEND.items() if name in present]


def learning_curve(records: Sequence[Record], *, width: int, height: int) -> str:
    """Draw success over the run: a narrow zone for the warm start, then the RL steps."""
    told = stages(records)
    warmed = max((r.step for r in records if r.phase == "sft"), default=0)
    learned = max((r.step for r in records if r.phase == "rl"), default=0)
    span = float(learned or 1)
    wide = width > 600
    compared = warmed > 0 and told.before is not None
    start = -span * (0.22 if wide else 0.34) if compared else 0.0
    zones = [Zone(f"warm start, {warmed} steps" if wide else "warm start", start, 0.0)] if compared else []
    if learned:
        zones.append(Zone(f"{'reinforcement learning' if wide else 'RL'}, {learned} steps", 0.0, span))
    placed = _evaluations(records, told, start)
    head = headline_metric(records)
    series = []
    training = _points(records, "rl", "success")
    if training:
        series.append(Series("each step", training, "faint", LEGEND["success"][1]))
        series.append(Series(LEGEND["success"][0], smooth(training), "line", LEGEND["success"][1]))
    for name in ("success_sampled", "success_greedy"):
        points = [(x, r.metrics[name]) for x, r in placed if name in r.metrics]
        whiskers = [
            (x, r.metrics["ci_low"], r.metrics["ci_high"])
            for x, r in placed
            if name == head
            and {name, "ci_low", "ci_high"} <= r.metrics.keys()
            and math.isfinite(r.metrics["ci_low"] + r.metrics["ci_high"])
        ]
        if points:
            label, colour = LEGEND[name]
            series.append(Series(label, points, "dots", colour, whiskers))
    ticks = [(float(t), str(t)) for t in range(0, learned + 1, max(1, _tick(learned, 10 if wide else 5)))]
    return chart(
        series,
        title="Success over the run",
        width=width,
        height=height,
        y_range=(0.0, 1.0),
        percent=True,
        zones=zones,
        x_ticks=ticks if learned else [],
    )


def _tick(steps: int, count: int) -> int:
    rough = max(1, steps / count)
    magnitude = 10 ** math.floor(math.log10(rough))
    return int(next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough))


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart."""

    title: str
    """What is drawn."""
    note: str
    """What it means, in a few words."""
    latest: str
    """The last value."""
    svg: str
    """The chart itself."""
    legend: Sequence[tuple[str, int]]
    """(label, colour); empty for a single line."""


PANELS: Sequence[tuple[str, str, str, Mapping[str, str], bool]] = (
    ("rl", "Reward", "mean of a step's episodes", {"reward": "reward"}, False),
    (
        "rl",
        "Proxy and gold",
        "the reward that is trained on, and the judgement that is not",
        {"guard/proxy": "proxy", "guard/gold": "gold"},
        False,
    ),
    (
        "rl",
        "Drift",
        "signs that a reward is being played",
        {
            "guard/repetition": "repeated n-grams",
            "guard/refusals": "refusals",
            "guard/format": "broken form",
        },
        True,
    ),
    ("rl", "Disagreement", "of the reward models, in logits", {"guard/disagreement": "sigma"}, False),
    ("rl", "KL", "from the model at the start of RL, nats per token", {"kl": "KL"}, False),
    ("rl", "Teacher", "divergence from it, nats per token", {"teacher_divergence": "divergence"}, False),
    ("rl", "Entropy", "how undecided the policy is, nats per token", {"entropy": "entropy"}, False),
    ("rl", "Length", "sampled tokens of a reply", {"reply_tokens": "tokens"}, False),
    ("rl", "Turns", "replies of an episode", {"turns": "turns"}, False),
    (
        "rl",
        "Trouble",
        "shares of the episodes, replies and calls",
        {
            "truncated": "episodes cut off",
            "parse_errors": "unreadable replies",
            "tool_errors": "failed calls",
            "ungraded": "ungraded",
        },
        True,
    ),
    ("rl", "Groups without signal", "all of a group scored alike", {"zero_variance": "share"}, True),
    ("rl", "Clipped tokens", "ratio outside the clip range", {"clip_fraction": "share"}, True),
    ("rl", "Gradient norm", "before clipping", {"grad_norm": "norm"}, False),
    ("rl", "Speed", "tokens per second", {"tokens_per_s": "tokens/s"}, False),
    ("rl", "Time of a step", "seconds", {"rollout_s": "rollout", "learn_s": "learning"}, False),
    (
        "rl",
        "Sampler mismatch",
        "log-probability, sampler against learner",
        {"sampler_mismatch": "nats"},
        False,
    ),
    ("sft", "Warm start: loss", "nats per token", {"loss": "loss"}, False),
    ("sft", "Warm start: token accuracy", "", {"token_accuracy": "share"}, True),
    ("sft", "Warm start: speed", "tokens per second", {"tokens_per_s": "tokens/s"}, False),
    ("train", "Loss", "", {"loss": "loss"}, False),
    ("check", "Loss on held-out rows", "", {"loss": "loss"}, False),
    ("train", "Chosen above rejected", "share of the pairs", {"rewards/accuracies": "share"}, True),
    ("check", "Chosen above rejected, held out", "share of the pairs", {"rewards/accuracies": "share"}, True),
    ("train", "Margin", "of the implicit rewards", {"rewards/margins": "margin"}, False),
    (
        "train",
        "Implicit rewards",
        "",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
        False,
    ),
    ("train", "Token accuracy", "most likely token is the right one", {"token_accuracy": "share"}, True),
    ("train", "Gradient norm of the stage", "before clipping", {"grad_norm": "norm"}, False),
)


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the small charts that a run has numbers for."""
    shown = []
    for phase, title, note, names, percent in PANELS:
        found = {label: _points(records, phase, name) for name, label in names.items()}
        found = {label: points for label, points in found.items() if any(math.isfinite(y) for _, y in points)}
        if not found:
            continue
        alone = len(found) == 1
        series: list[Series] = []
        for colour, (label, points) in enumerate(found.items()):
            if alone and len(points) >= 12:
                series.append(Series(label, points, "faint", colour))
                series.append(Series(label, smooth(points), "line", colour))
            else:
                series.append(Series(label, points, "line", colour))
        low = min(y for points in found.values() for _, y in points if math.isfinite(y))
        svg = chart(series, title=title, percent=percent, y_range=(0.0 if low >= 0 else None, None))
        last = next(y for _, y in reversed(next(iter(found.values()))) if math.isfinite(y))
        latest = "" if not alone else f"{100 * last:.1f} %" if percent else compact(last)
        names_shown = [] if alone else [(label, colour) for colour, label in enumerate(found)]
        shown.append(Panel(title, note, latest, svg, names_shown))
        if title == "Proxy and gold" and (over := _over_distance(records)) is not None:
            shown.append(over)
    return shown


def _over_distance(records: Sequence[Record]) -> Panel | None:
    """Draw proxy and gold over the distance from the first policy; None where it was not measured."""
    points = sorted(
        (p for p in points_of(records) if math.isfinite(p.distance)), key=lambda point: point.distance
    )
    if len(points) < 2:
        return None
    named = {"proxy": [(p.distance, p.proxy) for p in points], "gold": [(p.distance, p.gold) for p in points]}
    series = [Series(label, found, "dots", colour) for colour, (label, found) in enumerate(named.items())]
    title, last = "Proxy and gold over KL", points[-1].distance
    svg = chart(
        series,
        title=title,
        y_range=(0.0, None),
        x_ticks=[(at, f"{at:.2g}") for at in (last * part / 4 for part in range(5))],
    )
    note = "by the square root of an episode's KL from the first policy"
    return Panel(title, note, "", svg, [(label, colour) for colour, label in enumerate(named)])


def plot_learning_curve(run_dir: Path, out: Path) -> None:
    """Write success over the RL steps of a run as a picture (PNG, SVG or PDF by the suffix of `out`).

    Raises `UserError` where the run has nothing to draw or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('matplotlib is not installed: pip install "quintain[train]"') from None

    records = records_of(run_dir)
    training = _points(records, "rl", "success")
    told = stages(records)
    warmed = told.before is not None and any(r.phase == "sft" for r in records)
    learned = max((r.step for r in records if r.phase == "rl"), default=0)
    start = -max(1.0, learned * 0.12) if warmed else 0.0
    placed = _evaluations(records, told, start)
    if not training and not placed:
        raise UserError(f"{run_dir} has no success to draw: neither RL steps nor evaluations are recorded")

    figure = Figure(figsize=(8, 4), dpi=160, layout="constrained")
    axes = figure.subplots()
    if training:
        axes.plot(*zip(*training, strict=True), color="#c9c4bc", linewidth=0.9)
        axes.plot(
            *zip(*smooth(training), strict=True), color="#8a847b", linewidth=1.8, label=LEGEND["success"][0]
        )
    for name, colour in (("success_sampled", "#b45309"), ("success_greedy", "#0f766e")):
        points = [(x, r.metrics[name]) for x, r in placed if name in r.metrics]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker="o",
                markersize=5,
                clip_on=False,
                label=LEGEND[name][0],
            )
    if warmed:
        axes.axvspan(start, 0, color="#f3efe8", zorder=0)
        axes.text(start / 2, 1.0, "warm\nstart", ha="center", va="top", fontsize=8, color="#6f6b66")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(start, max(1, learned))
    axes.set_xlabel("RL step")
    axes.set_ylabel("problems solved")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xticks([t for t in axes.get_xticks() if 0 <= t <= max(1, learned)])
    axes.grid(axis="y", color="#e6e2dc", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="lower right", frameon=False)
    figure.savefig(out)


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `48 s`, `2 min 41 s`, `1 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def compact(value: float) -> str:
    """Return a number in few characters: `0.0123`, `1,234`, `56 k`, `1.2 M`."""
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if sign != 'k' else 1e3):.3g} {sign}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
