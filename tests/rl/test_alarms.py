"""Alarms: each sign by name, on metrics that are written out."""

from __future__ import annotations

import pytest

from quintain.rl.alarms import ADVICE, raised

CALM = {
    "reward": 0.5,
    "entropy": 0.8,
    "reply_tokens": 30.0,
    "truncated": 0.1,
    "sampler_mismatch": 1e-6,
    "zero_variance": 0.3,
    "kl": 0.05,
    "parse_errors": 0.1,
    "ungraded": 0.0,
}


def steps(count: int, **last: float) -> list[dict[str, float]]:
    """Calm steps, of which the last five differ."""
    return [dict(CALM) for _ in range(count - 5)] + [CALM | last for _ in range(5)]


def ever(history, evaluations=()) -> set[str]:
    return {name for n in range(1, len(history) + 1) for name in raised(history[:n], evaluations)}


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("entropy collapse", {"entropy": 0.02}),
        ("longer replies", {"reply_tokens": 70.0}),
        ("shorter replies", {"reply_tokens": 10.0}),
        ("cut episodes", {"truncated": 0.6}),
        ("sampler mismatch", {"sampler_mismatch": 0.2}),
        ("nothing to learn", {"zero_variance": 1.0}),
        ("far from the start", {"kl": 3.0}),
        ("broken calls", {"parse_errors": 0.8}),
        ("ungraded episodes", {"ungraded": 0.2}),
    ],
)
def test_a_sign_raises_its_alarm_and_no_other(name, sign):
    assert ever(steps(20, **sign)) == {name}


def test_a_calm_run_raises_none():
    assert ever(steps(30)) == set()


def test_an_alarm_is_raised_once_while_its_sign_stays():
    history = steps(20, kl=3.0) + [CALM | {"kl": 3.0}] * 10
    times = [n for n in range(1, len(history) + 1) if "far from the start" in raised(history[:n])]
    assert len(times) == 1


def test_reward_that_rises_while_held_out_success_falls_is_a_sign_of_hacking():
    history = steps(20, reward=0.8)
    assert raised(history, [(0, 0.5), (10, 0.6), (20, 0.4)]) == {}  # the sign was there a step before
    assert "reward hacking" in ever(history, [(0, 0.5), (10, 0.6), (20, 0.4)])
    assert ever(history, [(0, 0.5), (10, 0.6), (20, 0.65)]) == set()


def test_the_first_steps_raise_nothing():
    assert raised([CALM | {"kl": 9.0}] * 9) == {}


def test_metrics_that_are_missing_raise_nothing():
    assert ever([{"reward": 0.5}] * 20) == set()


def test_an_alarm_comes_with_advice():
    history = [dict(CALM)] * 10 + [CALM | {"zero_variance": 1.0}] * 5
    assert raised(history)["nothing to learn"] == ADVICE["nothing to learn"]
