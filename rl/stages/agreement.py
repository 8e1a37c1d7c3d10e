"""How far people agree: Cohen's and Fleiss' kappa, Krippendorff's alpha. Pure functions of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal

Level = Literal["nominal", "ordinal", "interval"]
"""What a difference between two labels is: any, of ranks, of numbers."""


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """Return the agreement of two people on the same items beyond chance (Cohen 1960); 1 is all, 0 is chance.

    None where it is not defined: no items, or both always say the same one thing. Raises `ValueError` for labels of
    different length.
    """
    if len(one) != len(other):
        raise ValueError(f"both must have labelled the same items, got {len(one)} and {len(other)} labels")
    total = len(one)
    if not total:
        return None
    agreed = sum(a == b for a, b in zip(one, other, strict=True)) / total
    first, second = Counter(one), Counter(other)
    chance = sum(first[label] * second[label] for label in first) / total**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def fleiss_kappa(items: Sequence[Sequence[Hashable]]) -> float | None:
    """Return the agreement beyond chance where each item has the labels of equally many people (Fleiss 1971).

    None where it is not defined. Raises `ValueError` if the items have different numbers of labels, or fewer than 2.
    """
    sizes = {len(labels) for labels in items}
    if not items:
        return None
    if len(sizes) > 1 or sizes == {0} or sizes == {1}:
        raise ValueError(f"each item needs the same number of labels, 2 or more, got {sorted(sizes)}")
    (raters,) = sizes
    counts = [Counter(labels) for labels in items]
    agreed = sum(sum(n * n for n in c.values()) - raters for c in counts) / (
        len(items) * raters * (raters - 1)
    )
    whole: Counter[Hashable] = Counter()
    for each in counts:
        whole.update(each)
    chance = sum((n / (len(items) * raters)) ** 2 for n in whole.values())
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def krippendorff_alpha(items: Sequence[Sequence[float]], level: Level = "nominal") -> float | None:
    """Return Krippendorff's alpha: 1 minus the disagreement found over that of chance (Krippendorff 2011).

    `items` holds the labels that each item got, in any number; an item with fewer than two says nothing. None where
    it is not defined: nothing to compare, or only one label in use.
    """
    units = [list(labels) for labels in items if len(labels) > 1]
    totals = Counter(label for unit in units for label in unit)
    number = sum(totals.values())
    distance = _distance(totals, level)
    expected = sum(totals[a] * totals[b] * distance(a, b) for a, b in combinations(totals, 2))
    if number < 2 or expected == 0:
        return None
    found = sum(sum(distance(a, b) for a, b in combinations(unit, 2)) / (len(unit) - 1) for unit in units)
    return 1 - (number - 1) * found / expected


def _distance(totals: Mapping[float, int], level: Level) -> Callable[[float, float], float]:
    if level == "nominal":
        return lambda a, b: float(a != b)
    if level == "interval":
        return lambda a, b: (a - b) ** 2
    ranked = sorted(totals)

    def ordinal(a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(totals[label] for label in ranked if low <= label <= high)
        return (between - (totals[low] + totals[high]) / 2) ** 2

    return lambda a, b: 0.0 if a == b else ordinal(a, b)
