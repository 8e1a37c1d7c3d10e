"""What a step's episodes say by themselves, on three that are written out."""

from __future__ import annotations

import dataclasses

import pytest

from quintain.rl.batch_metrics import batch_metrics, time_split
from quintain.rl.trajectory import StopReason, Timing, Turn
from quintain.verifiers.base import Score


@pytest.fixture
def batch(trajectory):
    right = dataclasses.replace(
        trajectory([1, 2, 3, 4], "..xx", logprobs=[0, 0, -1.0, -3.0]),
        turns=[Turn(2, 4, 1.0, tool_calls=2, tool_errors=1)],
        score=Score(1.0, {"style": 0.5}),
    )
    wrong = dataclasses.replace(
        trajectory([1, 2, 3, 4, 5, 6], "..xxxx", logprobs=[0, 0, -1.0, -1.0, -1.0, -1.0]),
        turns=[Turn(2, 6, 0.0, parse_error=True)],
        score=Score(0.0, {"style": 0.1}),
        stop=StopReason.TURN_TOKENS,
    )
    broken = dataclasses.replace(
        wrong, score=Score.ungraded("infrastructure: sandbox: gone"), stop=StopReason.ERROR
    )
    return [right, wrong, broken]


def test_the_metrics_of_a_batch(batch):
    assert batch_metrics(batch) == pytest.approx(
        {
            "reward": 0.5,
            "reward_std": 0.5,
            "success": 0.5,
            "part/style": 0.3,
            "entropy": 8 / 6,
            "sampled_tokens": 6.0,
            "episode_tokens": 5.0,
            "turns": 1.0,
            "reply_tokens": 3.0,
            "truncated": 0.5,
            "stop/terminated": 0.5,
            "stop/turn_tokens": 0.5,
            "parse_errors": 0.5,
            "tool_errors": 0.5,
            "ungraded": 1 / 3,
            "engine_wait_s": 0.0,
            "environment_wait_s": 0.0,
            "verifier_wait_s": 0.0,
            "retried": 0.0,
            "ungraded/infrastructure": 1 / 3,
        }
    )


def test_an_ungraded_episode_is_in_no_other_metric(batch):
    without = batch_metrics(batch[:2])
    with_it = batch_metrics(batch)
    assert {k: v for k, v in with_it.items() if not k.startswith("ungraded")} == {
        k: v for k, v in without.items() if not k.startswith("ungraded")
    }


def test_the_time_of_a_rollout_is_shared_out_by_what_its_episodes_waited_for(batch):
    waits = [Timing(3.0, 1.0, verifier_s=0.0), Timing(3.0, 0.5, verifier_s=0.5)]
    played = [dataclasses.replace(t, timing=waited) for t, waited in zip(batch, waits, strict=False)]
    assert time_split(played, 4.0) == {
        "rollout_engine_s": 3.0,
        "rollout_environment_s": 0.75,
        "rollout_verifier_s": 0.25,
    }


def test_episodes_that_waited_for_nothing_are_the_engines_time(batch):
    assert time_split(batch, 2.0) == {
        "rollout_engine_s": 2.0,
        "rollout_environment_s": 0.0,
        "rollout_verifier_s": 0.0,
    }
