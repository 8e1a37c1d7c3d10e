"""Curricula: tasks within the band come, others do not; what was seen fades; a checkpoint goes on exactly."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from quintain.envs import Curriculum, TaskSet
from quintain.tools import UserError
from quintain.verifiers import Task


def train(curriculum: Curriculum, rates: dict[int, float], steps: int, batch: int = 8) -> Counter:
    """Play tasks with the given success rates and return how often each came in the last third."""
    rng = np.random.default_rng(0)
    came = Counter()
    for step in range(steps):
        for index in curriculum.next(batch):
            curriculum.update(index, rng.binomial(8, rates[index]) / 8, 8)
            came[index] += step >= steps * 2 // 3
    return came


def test_tasks_within_the_band_come_most():
    rates = {i: (0.0, 0.5, 1.0)[i % 3] for i in range(60)}
    came = train(Curriculum(60, explore=0.1), rates, 90)
    middle = sum(count for index, count in came.items() if index % 3 == 1)
    assert middle / came.total() > 0.8
    assert len([index for index in came if index % 3 == 1]) == 20


def test_without_a_band_and_with_full_exploration_all_come_alike():
    rates = dict.fromkeys(range(20), 1.0)
    for curriculum in (Curriculum(20, low=0, high=1), Curriculum(20, explore=1.0)):
        came = train(curriculum, rates, 300)
        assert max(came.values()) < 3 * min(came.values())


def test_what_was_too_hard_comes_again_when_it_is_half_forgotten():
    curriculum = Curriculum(2, half_life=5)
    curriculum.next(1)
    curriculum.update(0, 0.0, 16)
    assert curriculum.rate(0) == pytest.approx(1 / 18)
    for _ in range(5):
        curriculum.next(1)
    assert curriculum.rate(0) == pytest.approx(1 / 10)
    for _ in range(100):
        curriculum.next(1)
    assert curriculum.rate(0) == pytest.approx(0.5, abs=0.01)
    assert curriculum.rate(1) == 0.5


def test_a_batch_holds_different_tasks_as_long_as_there_are_enough():
    curriculum = Curriculum(5)
    assert sorted(curriculum.next(5)) == [0, 1, 2, 3, 4]
    assert Counter(Counter(curriculum.next(10)).values()) == {2: 5}


def test_tasks_of_a_bucket_share_what_is_known():
    tasks = TaskSet.generated(
        lambda rng, index: Task("", "x", 0, {"difficulty": int(rng.integers(4))}), name="levels"
    )
    curriculum = Curriculum(tasks, bucket="difficulty")
    rates = {0: 1.0, 1: 0.6, 2: 0.1, 3: 0.0}
    rng = np.random.default_rng(1)
    came = Counter()
    for step in range(60):
        for index in curriculum.next(8):
            level = tasks[index].info["difficulty"]
            curriculum.update(index, rng.random() < rates[level])
            came[level] += step >= 30
    assert came[1] / came.total() > 0.7
    assert curriculum.summary()["seen"] == 4


def test_a_bucket_may_be_a_function_of_the_index():
    curriculum = Curriculum(100, bucket=lambda index: index // 50, explore=0)
    curriculum.update(3, 0.0, 1000)
    assert curriculum.rate(49) < 0.01
    assert all(index >= 50 for index in curriculum.next(20))


def test_a_checkpoint_goes_on_exactly_where_it_was_taken():
    rates = {i: i / 20 for i in range(20)}
    one = Curriculum(20, seed=3)
    train(one, rates, 10)
    state = json.loads(json.dumps(one.state_dict()))
    other = Curriculum(20, seed=99)
    other.load_state_dict(state)
    assert train(one, rates, 10) == train(other, rates, 10)
    assert one.state_dict() == other.state_dict()


def test_the_seed_decides_and_nothing_global_is_touched():
    before = np.random.get_state()[1].copy()
    assert (
        Curriculum(50, seed=1).next(20) == Curriculum(50, seed=1).next(20) != Curriculum(50, seed=2).next(20)
    )
    assert (np.random.get_state()[1] == before).all()


def test_if_nothing_lies_in_the_band_the_nearest_comes():
    curriculum = Curriculum(3, low=0.4, high=0.6, explore=0)
    for index, rate in enumerate((0.0, 0.3, 1.0)):
        curriculum.update(index, rate, 10_000)
    assert [curriculum.next(1) for _ in range(5)] == [[1]] * 5


def test_the_summary_tells_the_shares():
    curriculum = Curriculum(10)
    for index, rate in enumerate((0.0, 0.5, 1.0, 1.0)):
        curriculum.update(index, rate, 100)
    assert curriculum.summary() == {"seen": 4.0, "easy": 0.5, "in_band": 0.25, "hard": 0.25}
    assert repr(curriculum) == "Curriculum(span=10, low=0.2, high=0.8, seen=4)"


def test_no_episode_says_nothing():
    curriculum = Curriculum(2)
    curriculum.update(0, 0.0, 0)
    assert curriculum.summary()["seen"] == 0


ENDLESS = TaskSet.generated(lambda rng, index: Task("", "x"), name="x")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Curriculum(5, low=0.8, high=0.2), "needs 0 <= low < high <= 1, got low=0.8, high=0.2"),
        (lambda: Curriculum(5, explore=2), "explore is a share from 0 to 1, got 2"),
        (lambda: Curriculum(5, half_life=0), "half_life must be more than 0 calls, got 0"),
        (lambda: Curriculum(0), "a number of tasks of at least 1, got 0"),
        (lambda: Curriculum(5, bucket="difficulty"), "needs the TaskSet itself, not its size"),
        (lambda: Curriculum(ENDLESS), "the tasks of x-train are endless, none comes twice; give bucket="),
        (lambda: Curriculum(ENDLESS, bucket="level").next(1), r"has no info\['level'\] to sort it"),
        (lambda: Curriculum(5).next(0), "at least 1, got 0"),
        (lambda: Curriculum(5).update(5, 1.0), "there is no task 5, the indices are 0 to 4"),
        (lambda: Curriculum(5).update(1, float("nan")), "success is a share from 0 to 1, got nan"),
        (lambda: Curriculum(5).update(1, 1.5), "success is a share from 0 to 1, got 1.5"),
        (lambda: Curriculum(5).update(1, 1.0, -1), "count must be at least 0, got -1"),
        (lambda: Curriculum(5).load_state_dict({}), "this is no state of a Curriculum"),
        (lambda: Curriculum(5).load_state_dict(Curriculum(6).state_dict()), "of 6 tasks, and this one has 5"),
    ],
)
def test_wrong_use_is_told(wrong, said):
    with pytest.raises(UserError, match=said):
        wrong()
