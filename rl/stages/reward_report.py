"""How good a reward model is, from its logits on rows it has not seen: accuracy, calibration, length bias."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..evaluate import wilson

BINS = 10
"""Bins of equal width that the calibration is told in."""


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """What a reward model said about a pair, the better side first."""

    better: float
    """The logit of the better side."""
    worse: float
    """The logit of the other."""
    lengths: tuple[int, int]
    """The tokens of both."""
    margin: float = 0.0
    """By how much the better side is better, for its source."""
    category: str = ""
    """What accuracy is told apart by."""


def pair_report(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """Return the report on pairs, in plain JSON data; `accuracy` is None without any.

    A pair with equal logits counts as half right. `calibration` compares the probability sigmoid(difference) of the
    side that the model prefers with how often that is the better one; its error (ECE) is the mean distance, by bin.
    `length`: accuracy where the better side is the longer or the shorter one, and the correlation of logit and length.
    `by_margin`: accuracy by thirds of the source's margin, the smallest first: the agreement with a verifier. Pairs of
    one margin are in one part, so there may be fewer.
    """
    right = [_right(pair.better, pair.worse) for pair in pairs]
    by_length: dict[str, list[float]] = defaultdict(list)
    for pair, found in zip(pairs, right, strict=True):
        longer, other = pair.lengths
        by_length["longer" if longer > other else "shorter" if longer < other else "equal"].append(found)
    logits = [v for p in pairs for v in (p.better, p.worse)]
    lengths = [float(v) for p in pairs for v in p.lengths]
    confident = [1 / (1 + math.exp(-min(abs(p.better - p.worse), 60.0))) for p in pairs]
    by_category: dict[str, list[float]] = defaultdict(list)
    for pair, found in zip(pairs, right, strict=True):
        by_category[pair.category or "none"].append(found)
    return {
        **_accuracy(right),
        "calibration": calibration(confident, right),
        "by_category": {name: _accuracy(found) for name, found in sorted(by_category.items())},
        "length": {
            **{f"better_is_{name}": _accuracy(found) for name, found in sorted(by_length.items())},
            "logit_correlation": _correlation(logits, lengths),
            "longer_wins": _mean([_right(*_longer_first(p)) for p in pairs if p.lengths[0] != p.lengths[1]]),
        },
        "by_margin": _by_margin(pairs, right),
    }


def label_report(
    logits: Sequence[float], labels: Sequence[float], lengths: Sequence[int], categories: Sequence[str]
) -> dict[str, Any]:
    """Return the report on judged answers or steps: accuracy at 0.5, AUC, calibration of sigmoid(logit), length.

    `majority` is the accuracy of always saying what is more frequent. AUC is the probability that a right answer has
    the higher logit than a wrong one, ties half; None where one of the two is missing.
    """
    right = [float((logit > 0) == (label >= 0.5)) for logit, label in zip(logits, labels, strict=True)]
    good = [v for v, label in zip(logits, labels, strict=True) if label >= 0.5]
    bad = [v for v, label in zip(logits, labels, strict=True) if label < 0.5]
    by_category: dict[str, list[float]] = defaultdict(list)
    for category, found in zip(categories, right, strict=True):
        by_category[category or "none"].append(found)
    share = len(good) / len(labels) if labels else 0.0
    return {
        **_accuracy(right),
        "majority": max(share, 1 - share),
        "auc": _auc(good, bad),
        "calibration": calibration([_sigmoid(v) for v in logits], labels),
        "by_category": {name: _accuracy(found) for name, found in sorted(by_category.items())},
        "length": {
            "logit_correlation": _correlation(logits, [float(n) for n in lengths]),
            "label_correlation": _correlation(labels, [float(n) for n in lengths]),
        },
    }


def calibration(probabilities: Sequence[float], outcomes: Sequence[float]) -> dict[str, Any]:
    """Return the curve (bins of equal width: mean probability, share of outcomes, count) and its error (ECE).

    The error is the mean over all rows of the distance between both in their bin (Guo et al. 2017, arXiv 1706.04599).
    """
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for probability, outcome in zip(probabilities, outcomes, strict=True):
        bins[min(int(probability * BINS), BINS - 1)].append((probability, outcome))
    curve = [
        {"said": _mean([p for p, _ in found]), "was": _mean([o for _, o in found]), "count": len(found)}
        for _, found in sorted(bins.items())
    ]
    total = sum(point["count"] or 0 for point in curve)
    distances = [(point["count"] or 0) * abs((point["said"] or 0) - (point["was"] or 0)) for point in curve]
    return {"curve": curve, "error": sum(distances) / total if total else None}


def _by_margin(pairs: Sequence[JudgedPair], right: Sequence[float]) -> list[dict[str, Any]]:
    known = sorted(
        ((pair.margin, found) for pair, found in zip(pairs, right, strict=True) if pair.margin > 0),
        key=lambda one: one[0],
    )
    margins = [margin for margin, _ in known]
    thirds = [-(-len(known) * part // 3) for part in (1, 2, 3) if known]
    ends = {bisect_right(margins, margins[end - 1]) for end in thirds}
    parts = [range(low, high) for low, high in pairwise([0, *sorted(ends)])]
    return [
        {
            "from": known[part[0]][0],
            "to": known[part[-1]][0],
            **_accuracy([known[place][1] for place in part]),
        }
        for part in parts
    ]


def _longer_first(pair: JudgedPair) -> tuple[float, float]:
    first, second = pair.better, pair.worse
    return (first, second) if pair.lengths[0] > pair.lengths[1] else (second, first)


def _right(better: float, worse: float) -> float:
    return 1.0 if better > worse else 0.5 if better == worse else 0.0


def _accuracy(right: Sequence[float]) -> dict[str, Any]:
    if not right:
        return {"accuracy": None, "count": 0}
    low, high = wilson(round(sum(right)), len(right))
    return {"accuracy": _mean(right), "low": low, "high": high, "count": len(right)}


def _auc(good: Sequence[float], bad: Sequence[float]) -> float | None:
    if not good or not bad:
        return None
    order = np.sort(np.asarray(bad))
    below = np.searchsorted(order, good, "left") + np.searchsorted(order, good, "right")
    return float(below.mean() / (2 * len(bad)))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))


def _correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(one) < 2 or np.std(one) < 1e-12 or np.std(other) < 1e-12:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
