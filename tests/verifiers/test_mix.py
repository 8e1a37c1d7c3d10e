"""Verifiers made of verifiers."""

from __future__ import annotations

import asyncio

import pytest

from quintain.tools.chat import Reply
from quintain.verifiers import FirstGraded, Gate, Minimum, Score, Task, Verifier, WeightedSum, verifier
from quintain.verifiers.base import Episode

TASK = Task("t", "say something")


@verifier
def polite(reply: Reply, task: Task) -> bool:
    return "please" in reply


@verifier
def brief(reply: Reply, task: Task) -> float:
    return 1 / max(len(reply.split()), 1)


@verifier
def broken(reply: Reply, task: Task) -> float:
    raise RuntimeError("the judge is down")


@verifier
def nan(reply: Reply, task: Task) -> float:
    return float("nan")


class Slow(Verifier):
    """Waits until two of it run at once."""

    def __init__(self, barrier: asyncio.Barrier) -> None:
        self.barrier = barrier

    def score(self, episode: Episode) -> Score:
        raise AssertionError("asked synchronously")

    async def ascore(self, episode: Episode) -> Score:
        await asyncio.wait_for(self.barrier.wait(), 5)
        return Score(1.0)


def test_a_weighted_sum_is_written_as_one() -> None:
    score = (0.8 * polite + 0.2 * brief)("please go", TASK)
    assert score.value == pytest.approx(0.9)
    assert score.parts == {"polite": 1.0, "brief": 0.5}


def test_three_terms_and_an_outer_factor() -> None:
    score = (0.5 * (0.5 * polite + 0.5 * brief) + 0.5 * polite)("go", TASK)
    assert score.value == pytest.approx(0.25)
    assert set(score.parts) == {"polite", "brief", "polite_2"}


def test_weights_have_names_for_a_config() -> None:
    mixed = WeightedSum({"manners": (0.7, polite), "length": (0.3, brief)})
    assert mixed("please", TASK).parts == {
        "manners": 1.0,
        "length": 1.0,
    }


def test_weights_beyond_one_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"sum to at most 1, got 1\.3 \(polite 0\.8, brief 0\.5\)"):
        0.8 * polite + 0.5 * brief
    with pytest.raises(ValueError, match=r"weight of 'polite' must be in \[0, 1\], got -1"):
        -1 * polite


def test_a_lost_term_makes_the_sum_ungraded() -> None:
    score = (0.5 * polite + 0.5 * broken)("please", TASK)
    assert not score.graded
    assert "the judge is down" in score.reason


def test_nan_is_stopped_and_ungraded() -> None:
    assert not nan("x", TASK).graded
    assert not (1.0 * nan)("x", TASK).graded


def test_a_closed_gate_scores_zero_and_never_asks_the_reward() -> None:
    score = Gate(polite, broken)("go", TASK)
    assert score.graded
    assert score.value == 0
    assert Gate(polite, brief)("please go", TASK).value == 0.5
    assert not Gate(polite, broken)("please", TASK).graded
    assert not Gate(broken, polite)("please", TASK).graded


def test_a_gate_may_open_below_one() -> None:
    assert Gate(brief, polite, threshold=0.5)("please go", TASK).value == 1


def test_the_minimum_needs_every_score_unless_one_is_zero() -> None:
    assert Minimum([polite, brief])("please go now friend", TASK).value == 0.25
    assert not Minimum([polite, broken])("please", TASK).graded
    assert Minimum([polite, broken])("go", TASK).value == 0


def test_the_first_that_decides() -> None:
    assert FirstGraded([broken, polite])("please", TASK).value == 1
    assert FirstGraded([polite, broken])("go", TASK).value == 0
    assert not FirstGraded([broken, nan])("go", TASK).graded


async def test_terms_are_judged_concurrently() -> None:
    barrier = asyncio.Barrier(2)
    assert (await (0.5 * Slow(barrier) + 0.5 * Slow(barrier)).acall("x", TASK)).value == 1
    assert (await Minimum([Slow(barrier), Slow(barrier)]).acall("x", TASK)).value == 1


def test_compositions_check_all_their_parts() -> None:
    class Picky(Verifier):
        def score(self, episode: Episode) -> Score:
            return Score(1.0)

        def check(self, task: Task) -> None:
            raise ValueError("no answer")

    for composed in (1 * Picky(), Gate(polite, Picky()), Minimum([Picky()]), FirstGraded([Picky()])):
        with pytest.raises(ValueError, match="no answer"):
            composed.check(TASK)


def test_something_else_than_a_verifier_is_refused() -> None:
    with pytest.raises(TypeError, match="takes verifiers"):
        Minimum([len])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one"):
        FirstGraded([])
