"""Numbers with error bars, as pure functions. A problem is a cluster: its samples are no independent trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""


def pass_hat_k(samples: int, successes: int, k: int) -> float:
    """Return the unbiased estimate of the probability that all of `k` samples succeed: C(c, k) / C(n, k).

    What an agent must do to be relied on (tau-bench, arXiv 2406.12045, section 5.1). Raises `ValueError` unless
    1 <= k <= n and 0 <= c <= n.
    """
    _check(samples, k)
    if not 0 <= successes <= samples:
        raise ValueError(f"successes must lie in 0..{samples}, got {successes}")
    return math.comb(successes, k) / math.comb(samples, k)


def best_at_k(values: Sequence[float], k: int) -> float:
    """Return the unbiased estimate of the best value among `k` samples, from n >= k values.

    The i-th smallest value is the best of a k-subset in C(i - 1, k - 1) of the C(n, k) cases. With values of 0 and 1 it
    is pass@k. Raises `ValueError` unless 1 <= k <= n.
    """
    _check(len(values), k)
    ranked = sorted(values)
    cases = math.comb(len(values), k)
    return math.fsum(value * math.comb(i, k - 1) / cases for i, value in enumerate(ranked))


def majority_at_k(answers: Sequence[str | None], right: Sequence[bool], k: int) -> float:
    """Return how often the answer given most often among `k` samples is right (self-consistency, arXiv 2203.11171).

    The n samples are split into n // k blocks of k in their order: unbiased, as samples are exchangeable. None is no
    answer and casts no vote; of answers with equally many votes the one that was given first wins; a block without
    any answer is wrong. Raises `ValueError` unless 1 <= k <= n and there are as many verdicts as answers.
    """
    _check(len(answers), k)
    if len(answers) != len(right):
        raise ValueError(f"each answer needs a verdict, got {len(answers)} answers and {len(right)} verdicts")
    won = 0
    blocks = len(answers) // k
    for block in range(blocks):
        places = range(block * k, (block + 1) * k)
        votes: dict[str, list[int]] = {}
        for place in places:
            answer = answers[place]
            if answer is not None:
                votes.setdefault(answer, []).append(place)
        if votes:
            winner = max(votes.values(), key=len)  # of equals the first
            won += right[winner[0]]
    return won / blocks


def bootstrap(
    means: Sequence[float], rng: np.random.Generator, *, resamples: int = 2000, least: float = 0.0
) -> Estimate:
    """Return the mean of problems' means with the percentile interval of a bootstrap over problems.

    Problems are drawn with replacement, whole, with all their samples (Efron 1979; Cameron, Gelbach and Miller 2008 on
    clusters). Where all n problems agree a bootstrap would be sure of it; they leave room for a share of
    1 - 0.025^(1/n) of other problems (Clopper and Pearson 1934, for 0 of n), whose means are from `least` to 1. With
    fewer than two problems the interval is [-inf, inf]: nothing is known. Raises `ValueError` without any problem.
    """
    if not means:
        raise ValueError("there is no problem to take the mean of")
    values = np.asarray(means, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf)
    if np.ptp(values) == 0:
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / len(values))
        return Estimate(mean, mean + unseen * (least - mean), mean + unseen * (1 - mean))
    drawn = rng.integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high))


def paired_difference(
    first: Sequence[float], second: Sequence[float], rng: np.random.Generator, *, resamples: int = 2000
) -> Estimate:
    """Return the mean of `second` minus `first` over problems both were asked, with its bootstrap interval.

    Pairing takes the difficulty of the problems out of the interval. Raises `ValueError` for lists of other lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need both sides, got {len(first)} and {len(second)} problems")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    return bootstrap(differences, rng, resamples=resamples, least=-1.0)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p-value of the exact McNemar test: do the two succeed equally often on the same problems?

    Only problems on which they differ count; under the null each side wins one with probability 1/2 (McNemar 1947). 1.0
    where they never differ. Raises `ValueError` for lists of other lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need both sides, got {len(first)} and {len(second)} problems")
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differing = only_first + only_second
    fewer = min(only_first, only_second)
    tail: float = sum(math.comb(differing, i) for i in range(fewer + 1)) / 2**differing
    return min(1.0, 2 * tail)


def _check(samples: int, k: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k must lie in 1..{samples}, the number of samples, got {k}")
