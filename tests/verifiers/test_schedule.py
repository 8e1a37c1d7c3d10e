"""Weights over the steps of a run."""

from __future__ import annotations

import pytest

from quintain.verifiers import Gate, Task, WeightedSum, verifier
from quintain.verifiers.schedule import ScheduledSum, weight_at

TASK = Task("t", "?")


@verifier
def right(reply, task):
    return 1.0


@verifier
def wrong(reply, task):
    return 0.0


def fading(start: float = 1.0, end: float = 0.5) -> ScheduledSum:
    """All for `right` at first, then less of it."""
    return ScheduledSum(
        {
            "right": {"weight": [[10, start], [20, end]], "verifier": right},
            "wrong": {"weight": 0.0, "verifier": wrong},
        }
    )


def test_a_weight_is_linear_between_points_and_constant_outside() -> None:
    points = [(10, 1.0), (20, 0.5), (30, 0.5)]
    found = [weight_at(points, step) for step in (0, 10, 14, 20, 25, 99)]
    assert found == [1.0, 1.0, pytest.approx(0.8), 0.5, 0.5, 0.5]


def test_the_step_is_given_from_outside_so_the_same_step_has_the_same_weights() -> None:
    mixed = fading()
    assert mixed("x", TASK).value == 1.0  # outside of a run: step 0
    assert mixed.at_step(15)("x", TASK).value == 0.75
    assert mixed.at_step(99).at_step(15).weights == {"right": 0.75, "wrong": 0.0}
    assert mixed.weights == {"right": 1.0, "wrong": 0.0}


def test_a_schedule_inside_a_composition_follows_too() -> None:
    whole = Gate(right, WeightedSum({"mixed": (0.5, fading())})).at_step(20)
    assert whole("x", TASK).value == 0.25


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "needs at least one term"),
        ({"a": {"weight": [[0, 0.5], [0, 1.0]], "verifier": right}}, "the steps of 'a' must ascend"),
        (
            {"a": {"weight": [[0, 0.5], [9, 1.2]], "verifier": right}},
            r"at step 9: the weight of 'a' must be in",
        ),
        ({"a": {"weight": "much", "verifier": right}}, "must be a number or points such as"),
        (
            {n: {"weight": [[0, 0.5], [5, 0.8]], "verifier": right} for n in ("a", "b")},
            "at step 5: the weights must sum to at most 1, got 1.6",
        ),
    ],
    ids=["none", "not ascending", "above one", "no number", "too much together"],
)
def test_what_is_no_schedule_is_refused(terms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduledSum(terms)


def test_a_part_of_another_scale_is_kept_for_trainers() -> None:
    """A reward model's value is squashed; its logit stays among the parts of a mixture, so it can be normalised."""
    from quintain.verifiers.base import Score

    @verifier
    def learned(reply, task):
        return Score(0.5, {"logit": 0.0})

    mixed = WeightedSum({"right": (0.5, right), "learned": (0.5, learned)})
    assert mixed("x", TASK).parts == {"right": 1.0, "learned": 0.5, "learned.logit": 0.0}
