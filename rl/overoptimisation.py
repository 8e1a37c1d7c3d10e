"""Proxy against gold: has a run gone past the point where the reward it learns from still means what is wanted?

Pure functions of what was measured. The proxy is the reward that is optimised, the gold a judgement that nothing is
trained on. Goodhart's law here has a shape: over the distance d = sqrt(KL) from the first policy, the proxy goes on
rising while the gold rises, bends and falls (Gao et al. 2022, arXiv 2210.10760, sections 2.2 and 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .metrics import Record


PREFIX = "guard/"
"""What the names of a guard's metrics begin with."""


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one step of a run."""

    step: int
    """The RL step."""
    proxy: float
    """The mean proxy score of the episodes that the gold judged too, in [0, 1]."""
    gold: float
    """Their mean gold score, in [0, 1]."""
    proxy_se: float = 0.0
    """The standard error of `proxy`, over the tasks."""
    gold_se: float = 0.0
    """The standard error of `gold`, over the tasks."""
    distance: float = math.nan
    """sqrt(KL) of a whole episode from the reference, in nats^1/2; NaN where it is not known."""
    signs: Mapping[str, float] | None = None
    """What else is watched: `length`, `repetition`, `refusals`, `format`, `disagreement`."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A gold that has fallen while the proxy has not."""

    peak_step: int
    """The last step of the window in which the gold was best."""
    gold_from: float
    """The gold there."""
    gold_to: float
    """The gold now."""
    proxy_from: float
    """The proxy there."""
    proxy_to: float
    """The proxy now."""

    def __str__(self) -> str:
        """Say it in one sentence."""
        return (
            f"the gold has fallen from {self.gold_from:.3f} (step {self.peak_step}) to {self.gold_to:.3f} "
            f"while the proxy went from {self.proxy_from:.3f} to {self.proxy_to:.3f}"
        )


def fallen(
    points: Sequence[Point], *, window: int = 3, fall: float = 0.05, sigmas: float = 5.0
) -> Fall | None:
    """Say whether the gold has fallen from its best while the proxy has risen or stayed.

    Means of `window` points are compared: the last ones with the best of those before that overlap with none of them.
    The gold must be lower by `fall`, and by `sigmas` standard errors of the difference, as the best of many windows
    is partly luck. Where the proxy has fallen as well, the run has another trouble than its reward.

    Raises `ValueError` for a window below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if len(points) < 2 * window:
        return None
    now = points[-window:]
    earlier = [points[at : at + window] for at in range(len(points) - 2 * window + 1)]
    best = max(earlier, key=lambda part: _mean([p.gold for p in part]))
    gold, peak = _mean([p.gold for p in now]), _mean([p.gold for p in best])
    proxy, then = _mean([p.proxy for p in now]), _mean([p.proxy for p in best])
    error = math.hypot(_error([p.gold_se for p in now]), _error([p.gold_se for p in best]))
    if peak - gold < max(fall, sigmas * error) or proxy < then:
        return None
    return Fall(best[-1].step, peak, gold, then, proxy)


DRIFTS: Mapping[str, tuple[float, float]] = {
    "length": (2.0, 0.0),
    "disagreement": (2.0, 0.05),
    "repetition": (1.0, 0.2),
    "refusals": (1.0, 0.2),
    "format": (1.0, 0.2),
}
"""For each sign the least factor and the least difference between the first window and the last that is a drift."""


def drifted(points: Sequence[Point], *, window: int = 3) -> dict[str, tuple[float, float]]:
    """Return the signs that have moved far from where the run began, each with its first and its last mean.

    Length counts both ways: twice as long, or half as long; all others only upwards.
    """
    if len(points) < 2 * window:
        return {}
    found = {}
    for name, (factor, difference) in DRIFTS.items():
        first = _mean([(p.signs or {}).get(name, math.nan) for p in points[:window]])
        last = _mean([(p.signs or {}).get(name, math.nan) for p in points[-window:]])
        up = last >= factor * first and last - first >= difference and last > first
        down = name == "length" and last <= first / factor
        if up or down:
            found[name] = (first, last)
    return found


@dataclass(frozen=True, slots=True)
class Law:
    """R(d) = R0 + d (alpha - beta log d): the gold over the distance under RL (arXiv 2210.10760, section 3.1)."""

    start: float
    """R0: the gold at distance 0."""
    alpha: float
    """How quickly it rises at first, a unit of distance."""
    beta: float
    """How it bends: what is lost to the proxy's errors."""

    def __call__(self, distance: float) -> float:
        """Return the gold at a distance of at least 0."""
        return (
            self.start
            if distance <= 0
            else self.start + distance * (self.alpha - self.beta * math.log(distance))
        )

    @property
    def peak(self) -> float | None:
        """The distance at which the gold is highest, exp(alpha / beta - 1); None where it does not bend down."""
        return math.exp(min(self.alpha / self.beta - 1, 50.0)) if self.beta > 0 else None


def fit_law(points: Sequence[Point]) -> Law | None:
    """Fit the law to a run by least squares; the first point is the start. None for fewer than 4 usable points."""
    usable = [p for p in points[1:] if math.isfinite(p.distance) and p.distance > 0]
    if len(usable) < 4:
        return None
    d = np.array([p.distance for p in usable])
    rise = np.array([p.gold for p in usable]) - points[0].gold
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -d * np.log(d)], axis=1), rise, rcond=None)
    return Law(points[0].gold, float(alpha), float(beta))


def points_of(records: Sequence[Record]) -> list[Point]:
    """Return what a guard has measured, from the records of a run."""
    found = []
    for record in records:
        named: dict[str, Any] = {
            name.removeprefix(PREFIX): value
            for name, value in record.metrics.items()
            if name.startswith(PREFIX)
        }
        if record.phase == "rl" and {"proxy", "gold"} <= named.keys():
            found.append(
                Point(
                    record.step,
                    named["proxy"],
                    named["gold"],
                    named.get("proxy_se", math.nan),
                    named.get("gold_se", math.nan),
                    named.get("distance", math.nan),
                    {name: named[name] for name in DRIFTS if name in named},
                )
            )
    return found


def correlation(proxy: Sequence[float], gold: Sequence[float]) -> float:
    """Return Pearson's correlation of two scores over episodes; NaN where one of them is constant."""
    if len(proxy) < 2 or np.std(proxy) < 1e-12 or np.std(gold) < 1e-12:
        return math.nan
    return float(np.corrcoef(np.asarray(proxy), np.asarray(gold))[0, 1])


def clustered_mean(values: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """Return the mean of the clusters' means and its standard error; NaN for the error of a single cluster."""
    by_cluster: dict[int, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(value)
    means = np.array([np.mean(found) for found in by_cluster.values()])
    if not len(means):
        return math.nan, math.nan
    error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
    return float(means.mean()), error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _error(errors: Sequence[float]) -> float:
    """Return the standard error of the mean of independent means; unknown ones count as none."""
    known = [e for e in errors if math.isfinite(e)]
    return math.sqrt(sum(e * e for e in known)) / len(errors) if known else 0.0
