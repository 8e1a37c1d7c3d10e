"""Every hostile program is held, the host is untouched, and the next job is unharmed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack import LIMITS, Host, planted, try_all
from hostile import CASES, Hostile
from ordinary_user import as_ordinary_user

from quintain.sandboxes import Pool, SandboxUnavailable, open_pool


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with planted(tmp_path_factory.mktemp("host")) as found:
        yield found


@pytest.fixture(scope="module")
def on_local(pool: Pool, host: Host) -> dict[str, str]:
    return asyncio.run(try_all(pool, host))


@pytest.fixture(scope="module")
def on_docker(docker_pool: Pool, host: Host) -> dict[str, str]:
    return asyncio.run(try_all(docker_pool, host))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_held_on_local(case: Hostile, on_local: dict[str, str]) -> None:
    assert not on_local[case.id], on_local[case.id]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_held_on_docker(case: Hostile, on_docker: dict[str, str]) -> None:
    assert not on_docker[case.id], on_docker[case.id]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("tier", ["bwrap-per-box", "landlock"])
def test_held_on_the_lesser_tiers(tier: str, host: Host) -> None:
    try:
        pool = open_pool("local", limits=LIMITS, tier=tier)
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    with pool:
        found = asyncio.run(try_all(pool, host))
    assert {name: text for name, text in found.items() if text} == {}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="is about what root can start as another user")
@pytest.mark.parametrize("tier", ["full", "landlock"])
def test_held_for_an_ordinary_user(tier: str) -> None:
    done = as_ordinary_user([str(Path(__file__).with_name("attack.py")), tier])
    uid, count, wrong = json.loads(done)
    assert (uid, count, wrong) == (65534, len(CASES), {})


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)
