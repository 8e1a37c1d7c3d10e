"""The text space: what is in it, what it draws, and how it behaves in Gymnasium's vector environments."""

from __future__ import annotations

import copy
import pickle

import gymnasium
import pytest
from gymnasium.vector.utils import batch_space, concatenate, iterate

import quintain.envs  # noqa: F401 - registers the environments
from quintain.envs import TextSpace
from quintain.tools import Reply


def shouting(text: str) -> bool:
    return text == text.upper()


def test_membership_is_a_length_and_a_predicate():
    space = TextSpace(1, 5, shouting)
    assert "ÄB\n" in space
    assert "" not in space
    assert "ABCDEF" not in space
    assert "abc" not in space
    assert b"AB" not in space
    assert Reply("AB") in space


def test_samples_are_in_the_space_and_follow_the_seed():
    space, same = TextSpace(2, 9, seed=1), TextSpace(2, 9, seed=1)
    samples = [space.sample() for _ in range(200)]
    assert samples == [same.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert {len(sample) for sample in samples} == set(range(2, 10))
    assert TextSpace(0, 3, shouting, seed=0).sample() in TextSpace(0, 3, shouting)


def test_a_predicate_that_nothing_satisfies_is_told():
    with pytest.raises(ValueError, match="override `sample`"):
        TextSpace(predicate=bool.__instancecheck__, seed=0).sample()


def test_equality_is_by_bounds_and_predicate():
    assert TextSpace(0, 5) == TextSpace(0, 5, seed=3)
    assert TextSpace(0, 5) != TextSpace(0, 6)
    assert TextSpace(0, 5) != TextSpace(0, 5, shouting)
    assert TextSpace() != gymnasium.spaces.Discrete(2)


def test_it_is_short_to_read_and_copies_and_pickles():
    space = TextSpace(0, 5, shouting)
    assert repr(TextSpace()) == "TextSpace(0, None)"
    assert pickle.loads(pickle.dumps(space)) == copy.deepcopy(space) == space


def test_wrong_bounds_are_refused():
    with pytest.raises(ValueError, match="needs 0 <= min_length <= max_length, got 3, 2"):
        TextSpace(3, 2)


def test_gymnasium_batches_it():
    batched = batch_space(TextSpace(), 3)
    texts = batched.sample()
    assert list(iterate(batched, texts)) == list(texts)
    assert concatenate(TextSpace(), ["a", "b"], None) == ("a", "b")
