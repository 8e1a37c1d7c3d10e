from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quintain.sandboxes import Limits, Pool, SandboxUnavailable, open_pool

sys.path.insert(0, str(Path(__file__).parent))  # for the tables of cases beside the tests

LIMITS = Limits(wall_s=3, memory_mb=256, processes=64, output_bytes=1 << 20, disk_mb=64)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool("local", limits=LIMITS)
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    with opened:
        yield opened
