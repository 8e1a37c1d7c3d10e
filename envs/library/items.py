"""Which items belong to training and which are held out: by a hash of the item alone, whatever the seed.

Two ways. Where the items can be counted (codes, words, positions), `numbered` deals them out: every index is another
item, and no item is in both splits. Where they are drawn, `in_split` says where a drawn one belongs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

from ...tools.errors import UserError
from ...verifiers.base import Task
from ..tasks import TaskSet

Split = Literal["train", "test"]

TEST_SHARE = 5
"""One item in so many is held out."""

_ROUNDS = 4


def check_split(name: str, split: str) -> None:
    """Raise `UserError` if `split` is not "train" or "test"; `name` is the environment's."""
    if split not in ("train", "test"):
        raise UserError(f"{name}: split must be 'train' or 'test', got {split!r}")


def in_split(split: Split, *key: str | int) -> bool:
    """Return whether the item that `key` identifies belongs to `split`."""
    return (_hashed(*key) % TEST_SHARE == 0) == (split == "test")


def numbered(
    make: Callable[[int], Task], count: int, *, name: str, split: Split = "train", seed: int = 0
) -> TaskSet:
    """Return the finite set of the items of a split, in an order that the seed shuffles.

    Args:
        make: Makes the task of an item, 0 to `count - 1`; an empty id becomes `name-split-seed-index`.
        count: How many items there are in both splits together, at least 2.
        name: The family of items: what is held out depends on it and on nothing else.
        split, seed: As everywhere.
    """
    held_out = max(1, count // TEST_SHARE)
    first, size = (0, held_out) if split == "test" else (held_out, count - held_out)

    def get(index: int) -> Task:
        task = make(shuffled(first + shuffled(index, size, name, split, seed), count, name))
        return Task(f"{name}-{split}-{seed}-{index}", task.prompt, task.answer, task.info)

    return TaskSet(get, size, f"{name}-{split}")


def shuffled(index: int, count: int, *key: str | int) -> int:
    """Return where a shuffle of 0 to `count - 1` puts `index`, without making the list; `key` names the shuffle.

    A Feistel network over the next larger power of four, walked until it lands in range (Black and Rogaway,
    "Ciphers with Arbitrary Finite Domains", 2002).
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_hashed(turn, right, *key) & mask)
        index = left << half | right
        if index < count:
            return index


def _hashed(*key: str | int) -> int:
    text = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
