"""Figures of an evaluation, worked by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from quintain.rl.evaluate import _interval, _passes, clustered, pass_at_k, wilson
from quintain.verifiers.base import Score


@pytest.mark.parametrize(
    ("samples", "successes", "k", "expected"),
    [
        (4, 1, 1, 0.25),
        (4, 1, 2, 0.5),  # 1 - C(3, 2) / C(4, 2)
        (4, 2, 2, 5 / 6),  # 1 - 1 / 6
        (4, 3, 2, 1.0),
        (4, 0, 4, 0.0),
        (4, 4, 1, 1.0),
        (8, 2, 4, 1 - 15 / 70),
    ],
)
def test_pass_at_k(samples, successes, k, expected):
    assert pass_at_k(samples, successes, k) == pytest.approx(expected)


@pytest.mark.parametrize(("samples", "successes", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_of_what_cannot_be_is_refused(samples, successes, k):
    with pytest.raises(ValueError, match="1 <= k <= samples"):
        pass_at_k(samples, successes, k)


def test_the_wilson_interval():
    low, high = wilson(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_clustered_interval_is_over_problems():
    # means 0, 0.5, 1: mean 0.5, variance 0.25, spread 1.96 sqrt(0.25 / 3)
    spread = 1.96 * math.sqrt(0.25 / 3)
    assert clustered([0.0, 0.5, 1.0]) == pytest.approx((max(0, 0.5 - spread), min(1, 0.5 + spread)))
    assert clustered([0.5]) == (0.0, 1.0)


@pytest.fixture
def played(trajectory):
    """Two problems with four samples each: one success and three; one more of the first could not be graded."""

    def one(group: int, value: float | None):
        score = Score.ungraded("gone") if value is None else Score(value)
        return dataclasses.replace(trajectory([1, 2], ".x", group=group), score=score)

    return [one(0, v) for v in (1.0, 0.0, 0.0, 0.0, None)] + [one(1, v) for v in (1.0, 1.0, 1.0, 0.0)]


def test_pass_at_k_is_the_mean_over_problems_and_ungraded_episodes_are_left_out(played):
    assert _passes(played, 4) == pytest.approx({"pass@1": 0.5, "pass@2": 0.75, "pass@4": 1.0})


def test_several_samples_of_a_problem_are_no_independent_trials(played):
    assert _interval(played) == clustered([0.25, 0.75])
    assert _interval([played[0], played[8]]) == wilson(1, 2)
