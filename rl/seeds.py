"""Seeds for parts of a run, derived by hashing: neighbouring seeds and parts share nothing."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """Return a seed in [0, 2**63) for the part of a run that `path` names."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator for the part of a run that `path` names."""
    return np.random.default_rng(derive(seed, *path))
