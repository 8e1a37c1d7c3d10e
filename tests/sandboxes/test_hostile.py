"""Every hostile program is held, the host is untouched, and the next job is unharmed."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile import CASES, Hostile

from quintain.sandboxes import Pool, Reason, Result

NEXT_JOB = (
    "import sys; sys.path.pop(0); import json; print(json.loads('[7]'))"  # the folder may hold a json.py
)
SECRET = "quintain-secret-5d1f0c"


@dataclass
class Host:
    """What the host has that no program may find, reach or change."""

    secret: Path
    writable: Path
    path_socket: Path
    port: int
    visits: list[str]

    def fill(self, code: str) -> str:
        for name, value in (
            ("{SECRET}", self.secret),
            ("{WRITABLE}", self.writable),
            ("{SOCKET}", self.path_socket),
            ("{PORT}", self.port),
        ):
            code = code.replace(name, str(value))
        return code


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    secret = folder / "secret.txt"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    writable = folder / "writable"
    writable.mkdir(mode=0o777)
    writable.chmod(0o777)
    os.environ["QUINTAIN_TEST_SECRET"] = SECRET
    visits: list[str] = []
    stop = threading.Event()
    listeners: list[socket.socket] = []

    def listen(listener: socket.socket, name: str) -> None:
        listener.settimeout(0.2)
        listener.listen(8)
        while not stop.is_set():
            try:
                listener.accept()[0].close()
                visits.append(name)
            except TimeoutError:
                continue

    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    path = folder / "s"
    named = socket.socket(socket.AF_UNIX)
    named.bind(str(path))
    path.chmod(0o777)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0quintain-test")
    threads = []
    for listener, name in ((tcp, "tcp"), (named, "unix"), (abstract, "abstract")):
        listeners.append(listener)
        threads.append(threading.Thread(target=listen, args=(listener, name), daemon=True))
        threads[-1].start()
    yield Host(secret, writable, path, tcp.getsockname()[1], visits)
    stop.set()
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()
    del os.environ["QUINTAIN_TEST_SECRET"]


def judge(case: Hostile, result: Result, took: float, host: Host, pool: Pool) -> list[str]:
    """Return what did not hold."""
    everything = result.stdout_bytes + result.stderr_bytes
    wrong, wall_s = [], pool.limits.wall_s
    if b"BREACH" in everything:
        wrong.append("breach")
    if SECRET.encode() in everything:
        wrong.append("the secret came out")
    if took > wall_s + 3:
        wrong.append(f"came back after {took:.1f} s")
    if "ok" in case.checks and not result.ok:
        wrong.append("was not ok")
    if "not_ok" in case.checks and result.ok:
        wrong.append("was ok")
    if "timed_out" in case.checks and result.reason is not Reason.TIMEOUT:
        wrong.append("was not reported as timed out")
    if "prompt" in case.checks and took > wall_s - 0.1:
        wrong.append(f"was not prompt: {took:.1f} s")
    if "output_capped" in case.checks and not (
        result.stdout_truncated and len(result.stdout_bytes) == 1 << 20
    ):
        wrong.append("output was not cut at the cap")
    if case.id == "disk-spread" and "disk" in pool.capabilities.gaps and "BREACH:quota" in result.stdout:
        wrong.clear()  # declared: each folder has a quota of its own there
    if list(host.writable.iterdir()):
        wrong.append("the host was written to")
    if host.visits:
        wrong.append(f"listeners were reached: {host.visits}")
    return wrong


async def try_all(pool: Pool, host: Host) -> dict[str, str]:
    """Run all the programs, a few at once: half of them wait for their time limit."""
    places = asyncio.Semaphore(6)

    async def one(case: Hostile) -> tuple[str, str]:
        async with places, pool.sandbox() as sandbox:
            started = time.monotonic()
            result = await sandbox.run(host.fill(case.code), language=case.language)
            wrong = judge(case, result, time.monotonic() - started, host, pool)
            after = await sandbox.run(NEXT_JOB)
            if after.stdout != "[7]\n":
                wrong.append(f"the next job was harmed: {after}")
        return case.id, f"{case.rule}: {', '.join(wrong)}; {str(result)[:1500]}" if wrong else ""

    return dict(await asyncio.gather(*map(one, CASES)))


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


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)
