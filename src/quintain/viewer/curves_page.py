"""The page of curves: any metric of any of the runs, smoothed, over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..charts import Point, Series, chart, smooth
from ..curves import compact
from ..tools.errors import UserError
from .runs import OpenRun

COLOURS = 8
"""Colours that the style sheet has; more runs begin again."""
POINTS = 400
"""Points of a line that are drawn at most: more than that and it is drawn in buckets."""
SMOOTHEST = 200
"""Neighbours that a mean is taken over at most."""
FIRST = (
    "eval/success_greedy",
    "eval/success_sampled",
    "rl/reward",
    "rl/success",
    "rl/kl",
    "rl/entropy",
    "rl/reply_tokens",
    "rl/zero_variance",
    "sft/loss",
    "train/loss",
    "train/rewards/accuracies",
    "check/loss",
)
"""What is shown where nothing is chosen."""
AXES = {"step": "step", "time": "minutes"}


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart."""

    name: str
    """`phase/metric`."""
    svg: str
    latest: Sequence[tuple[str, int, str]]
    """(run, colour, last value) of each run that has it."""


def metric_names(runs: Sequence[OpenRun]) -> dict[str, list[str]]:
    """Return the metrics of all runs by phase, each as `phase/metric`."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for record in run.records:
            for name in record.metrics:
                found.setdefault(record.phase, {})[f"{record.phase}/{name}"] = None
    order = ["eval", "rl", "sft", "train", "check"]
    return {
        phase: sorted(found[phase])
        for phase in sorted(found, key=lambda p: order.index(p) if p in order else len(order))
    }


def first_choice(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the metrics that are shown where the URL names none."""
    known = [name for group in names.values() for name in group]
    return [name for name in FIRST if name in known] or known[:6]


def curves(
    runs: Sequence[tuple[int, OpenRun]], metrics: Sequence[str], *, width: int = 0, axis: str = "step"
) -> list[Curve]:
    """Draw a chart for each metric.

    Args:
        runs: the runs with the number of their colour.
        metrics: names as `phase/metric`; one that no run has is left out.
        width: neighbours that the running mean is taken over; below 2 nothing is smoothed.
        axis: a name of `AXES`.

    Raises `UserError` for another axis or width.
    """
    if axis not in AXES:
        raise UserError(f"x must be one of {', '.join(AXES)}, got {axis!r}")
    if not 0 <= width <= SMOOTHEST:
        raise UserError(f"smooth must be from 0 to {SMOOTHEST}, got {width}")
    drawn = []
    for name in metrics:
        series: list[Series] = []
        latest = []
        for colour, run in runs:
            points = _points(run, name, axis)
            finite = [y for _, y in points if math.isfinite(y)]
            if not finite:
                continue
            latest.append((run.key, colour % COLOURS, compact(finite[-1])))
            style = "dots" if name.startswith("eval/") and len(points) <= 40 else "line"
            if width > 1 and style == "line":
                series.append(Series(run.key, _thinned(points), "faint", colour % COLOURS))
                points = smooth(points, width)
            series.append(Series(run.key, _thinned(points), style, colour % COLOURS))
        if latest:
            svg = chart(series, title=f"{name} by {AXES[axis]}", width=440, height=210)
            drawn.append(Curve(name, svg, latest))
    return drawn


def _points(run: OpenRun, name: str, axis: str) -> list[Point]:
    phase, _, metric = name.partition("/")
    points = [
        (float(record.step) if axis == "step" else record.time_s / 60, record.metrics[metric])
        for record in run.records
        if record.phase == phase and metric in record.metrics
    ]
    return sorted(points, key=lambda point: point[0])


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most about `POINTS` points: of each bucket the lowest and the highest, so that no spike is lost."""
    if len(points) <= POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / POINTS)
    kept: list[Point] = []
    for begin in range(0, len(points), size):
        bucket = points[begin : begin + size]
        ends = {
            min(bucket, key=_height),
            max(bucket, key=_height),
            *(p for p in bucket if not math.isfinite(p[1])),
        }
        kept += sorted(ends, key=lambda point: point[0])
    return kept


def _height(point: Point) -> float:
    return point[1] if math.isfinite(point[1]) else 0.0
