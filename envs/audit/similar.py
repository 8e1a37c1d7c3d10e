"""Near-duplicates among texts: words in runs of three, compared by MinHash and then exactly."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

_RUN = 3
_HASHES, _BANDS = 64, 16  # pairs of Jaccard similarity 0.8 meet in a band with probability 0.9998
_COMMON = 0.2  # runs that so many texts share are the form of the task, not its content
_PRIME = (1 << 61) - 1
_BUCKET = 50
_LEAST = 10  # runs of its own that a text needs to be compared: boards and lists of numbers have fewer


def normal(text: str) -> str:
    """Return a text without white space round its lines; within a line it may be part of a board."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def runs(text: str) -> set[str]:
    """Return the runs of three words of a text; all its words if there are fewer."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return {" ".join(words[i : i + _RUN]) for i in range(max(len(words) - _RUN + 1, 1))} - {""}


def near_pairs(texts: Sequence[str], alike: float = 0.8) -> list[tuple[int, int, float]]:
    """Return the pairs (i, j, Jaccard similarity) of texts at least so alike but for the form that many share.

    Texts that are form alone, and texts that are equal, are left out. Deterministic.
    """
    sets = [runs(text) for text in texts]
    spread = Counter(run for one in sets for run in one)
    common = {run for run, count in spread.items() if count > max(_COMMON * len(texts), 2)}
    own = [one - common for one in sets]
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    rng = np.random.default_rng(7)  # the hash functions, the same always
    a, b = (rng.integers(1, 1 << 31, size=(_HASHES, 1), dtype=np.uint64) for _ in range(2))
    for i, one in enumerate(own):
        if len(one) < _LEAST:
            continue
        values = np.array([_hash(run) for run in one], dtype=np.uint64)[None, :]
        least = ((a * values + b) % np.uint64(_PRIME)).min(axis=1)
        for band, rows in enumerate(least.reshape(_BANDS, -1)):
            buckets[band, rows.tobytes()].append(i)
    seen = {pair for bucket in buckets.values() for pair in combinations(bucket[:_BUCKET], 2)}
    found = []
    for i, j in sorted(seen):
        if normal(texts[i]) == normal(texts[j]):
            continue
        jaccard = len(own[i] & own[j]) / len(own[i] | own[j])
        if jaccard >= alike:
            found.append((i, j, jaccard))
    return found


def _hash(run: str) -> int:
    return int.from_bytes(hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=4).digest())
