"""Proxy against gold: what counts as a fall, what as drift, and the law of the curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quintain.rl.drift import refuses, repetition, signs
from quintain.rl.overoptimisation import Law, Point, clustered_mean, correlation, drifted, fallen, fit_law
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.verifiers.base import Score


def curve(proxy: list[float], gold: list[float], se: float = 0.0) -> list[Point]:
    return [Point(n + 1, p, g, se, se) for n, (p, g) in enumerate(zip(proxy, gold, strict=True))]


def test_a_gold_that_falls_while_the_proxy_rises_is_seen() -> None:
    found = fallen(curve([0.1, 0.2, 0.4, 0.6, 0.7, 0.8], [0.3, 0.3, 0.3, 0.3, 0.1, 0.1]), window=2)
    assert found is not None
    assert str(found) == (
        "the gold has fallen from 0.300 (step 2) to 0.100 while the proxy went from 0.150 to 0.750"
    )


@pytest.mark.parametrize(
    ("proxy", "gold"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ([0.6, 0.6, 0.5, 0.4, 0.2, 0.1], [0.6, 0.6, 0.5, 0.4, 0.2, 0.1]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.50, 0.50, 0.49, 0.49, 0.48, 0.48]),
        ([0.1, 0.9, 0.9], [0.9, 0.1, 0.1]),
    ],
    ids=["both rise", "both fall", "less than the fall that counts", "too few measurements"],
)
def test_what_is_no_over_optimisation(proxy: list[float], gold: list[float]) -> None:
    assert fallen(curve(proxy, gold), window=2) is None


def test_noise_is_no_fall() -> None:
    """A gold that stays at 0.5 and is measured with an error of 0.06, while the proxy climbs: 100 runs of 60 steps."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        gold = (0.5 + 0.06 * rng.standard_normal(60)).tolist()
        points = curve(np.linspace(0.2, 0.9, 60).tolist(), gold, se=0.06)
        alarms += any(fallen(points[:end]) is not None for end in range(6, 61))
    assert alarms <= 1


def test_drift_is_told_by_sign_and_length_counts_both_ways() -> None:
    early = {"length": 10.0, "repetition": 0.05, "refusals": 0.0, "format": 0.1, "disagreement": 0.1}
    late = {"length": 4.0, "repetition": 0.4, "refusals": 0.1, "format": 0.15, "disagreement": 0.5}
    points = [Point(n, 0, 0, signs=early if n < 4 else late) for n in range(1, 7)]
    assert drifted(points) == {
        "length": (10.0, 4.0),
        "disagreement": (pytest.approx(0.1), 0.5),
        "repetition": (pytest.approx(0.05), pytest.approx(0.4)),
    }
    assert drifted(points[:5]) == {}
    assert drifted([Point(n, 0, 0) for n in range(8)]) == {}


def test_the_law_is_found_again_in_its_own_curve() -> None:
    law = Law(0.2, 1.0, 0.6)
    points = [Point(n, 0, law(d), distance=d) for n, d in enumerate(np.linspace(0, 6, 20))]
    found = fit_law(points)
    assert found is not None
    assert (found.alpha, found.beta) == (pytest.approx(1.0), pytest.approx(0.6))
    assert found.peak == pytest.approx(math.exp(1 / 0.6 - 1))
    assert fit_law(points[:3]) is None
    assert Law(0, 1, -1).peak is None


def test_statistics_over_groups_and_scores_that_do_not_vary() -> None:
    assert clustered_mean([0, 0, 1, 1], [1, 1, 2, 2]) == (0.5, 0.5)
    assert math.isnan(clustered_mean([1, 1], [1, 1])[1])
    assert correlation([0, 1, 2], [2, 1, 0]) == pytest.approx(-1)
    assert math.isnan(correlation([1, 1], [0, 1]))


def test_repetition_is_the_share_of_ngrams_seen_before() -> None:
    assert repetition([1, 2, 3, 1, 2, 3], n=3) == 0.25
    assert repetition([7] * 10, n=2) == pytest.approx(8 / 9)
    assert repetition([1, 2], n=3) == 0.0


def test_refusals_by_phrase() -> None:
    assert refuses("I'm sorry, but I can't help with that.")
    assert refuses("As an AI language model, I")
    assert not refuses("I am sure that it is 7; sorry, Tom loses.")


def test_the_signs_of_episodes() -> None:
    def episode(text: str, ids: list[int], stop: StopReason, parts: dict[str, float]) -> Trajectory:
        own = [True] * len(ids)
        return Trajectory(
            id=text, task_id="", group=0, ids=ids, mask=own, logprobs=[0.0] * len(ids), versions=[0] * len(ids),
            turns=[Turn(0, len(ids), 0.0)], messages=[{"role": "assistant", "content": text}],
            score=Score(0.5, parts), stop=stop,
        )  # fmt: skip

    found = signs(
        [
            episode("I cannot help", [1, 2, 1, 2], StopReason.TERMINATED, {"learned.sigma": 0.3}),
            episode("seven", [1, 2], StopReason.TURN_TOKENS, {"learned.sigma": 0.1}),
        ],
        n=2,
    )
    assert found == {
        "length": 3.0,
        "repetition": pytest.approx(1 / 6),
        "refusals": 0.5,
        "format": 0.5,
        "disagreement": pytest.approx(0.2),
    }
    assert signs([]) == {}
