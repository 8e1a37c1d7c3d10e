from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quintain.sandboxes import Pool, SandboxUnavailable, open_pool

sys.path.insert(0, str(Path(__file__).parent))  # for the tables of cases beside the tests

from attack import LIMITS


@pytest.fixture(scope="session")
def image() -> str:
    """An image in the engine that DOCKER_HOST (or the default socket) names."""
    from docker_image import make_image

    from quintain.sandboxes.docker import connect

    try:
        return make_image(connect())
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def docker_pool(image: str) -> Iterator[Pool]:
    with open_pool("docker", limits=LIMITS, image=image, size=4, spares=3) as opened:
        yield opened


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool("local", limits=LIMITS)
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    with opened:
        yield opened
