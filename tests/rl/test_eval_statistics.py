"""Numbers of an evaluation, by hand and by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from quintain.rl.evals.statistics import (
    best_at_k,
    bootstrap,
    majority_at_k,
    mcnemar,
    paired_difference,
    pass_hat_k,
)
from quintain.rl.evaluate import pass_at_k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_hat_and_best_are_means_over_all_subsets(k: int) -> None:
    outcomes = [1.0, 0.0, 1.0, 1.0, 0.0]
    scores = [0.2, 0.9, 0.9, 0.0, 0.5]
    subsets = list(itertools.combinations(range(5), k))
    assert pass_hat_k(5, 3, k) == pytest.approx(
        sum(all(outcomes[i] for i in s) for s in subsets) / len(subsets)
    )
    assert best_at_k(scores, k) == pytest.approx(
        sum(max(scores[i] for i in s) for s in subsets) / len(subsets)
    )
    assert best_at_k(outcomes, k) == pytest.approx(pass_at_k(5, 3, k))


def test_majority_of_blocks() -> None:
    answers = ["7", "7", "8", None, "8", "8", "9"]  # blocks of three: 7 wins, 8 wins, the rest is left out
    right = [True, True, False, False, False, False, True]
    assert majority_at_k(answers, right, 3) == 0.5
    assert majority_at_k(["8", "7"], [False, True], 2) == 0.0  # a tie goes to what was said first
    assert majority_at_k([None, None], [True, True], 2) == 0.0  # no answer, no vote


def test_the_bootstrap_draws_problems_and_covers_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    means = [0.0, 1.0] * 50
    found = bootstrap(means, rng, resamples=4000)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.015)
    assert bootstrap([1.0], rng) == type(found)(1.0, -math.inf, math.inf)


def test_the_same_generator_gives_the_same_interval() -> None:
    means = [0.1, 0.5, 0.9, 0.4]
    assert bootstrap(means, np.random.default_rng(3)) == bootstrap(means, np.random.default_rng(3))


def test_problems_that_all_agree_leave_room_for_others() -> None:
    rng = np.random.default_rng(0)
    none, every = bootstrap([0.0] * 10, rng), bootstrap([1.0] * 10, rng)
    assert (none.low, none.high) == (0.0, pytest.approx(0.3085, abs=1e-4))  # Clopper-Pearson, 0 of 10
    assert (every.low, every.high) == (pytest.approx(0.6915, abs=1e-4), 1.0)
    same = paired_difference([1.0] * 10, [1.0] * 10, rng)
    assert (same.value, same.low, same.high) == (0.0, pytest.approx(-none.high), pytest.approx(none.high))


def test_pairing_takes_out_how_hard_the_problems_are() -> None:
    first = [0.0, 0.2, 0.5, 0.8, 1.0]
    second = [value + 0.1 for value in first]
    found = paired_difference(first, second, np.random.default_rng(0))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (0, 5, 2 * 1 / 32), (1, 9, 2 * (1 + 10) / 1024), (4, 4, 1.0)],
)
def test_mcnemar_is_the_binomial_of_the_problems_on_which_they_differ(
    only_first: int, only_second: int, p: float
) -> None:
    first = [True] * only_first + [False] * only_second + [True] * 7
    second = [False] * only_first + [True] * only_second + [True] * 7
    assert mcnemar(first, second) == pytest.approx(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pass_hat_k(4, 2, 5), r"k must lie in 1\.\.4"),
        (lambda: pass_hat_k(4, 5, 2), r"successes must lie in 0\.\.4, got 5"),
        (lambda: best_at_k([], 1), r"k must lie in 1\.\.0"),
        (lambda: majority_at_k(["1"], [], 1), "each answer needs a verdict, got 1 answers and 0 verdicts"),
        (lambda: bootstrap([], np.random.default_rng(0)), "no problem"),
        (lambda: paired_difference([1.0], [], np.random.default_rng(0)), "got 1 and 0 problems"),
        (lambda: mcnemar([True], []), "got 1 and 0 problems"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
