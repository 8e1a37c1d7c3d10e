"""Run the hostile programs on a pool and say what was not held. No test framework is needed:

    python tests/sandboxes/attack.py [tier]

prints what was not held on the local backend, as JSON; the tests run it so as another user.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostile import CASES, Hostile

from quintain.sandboxes import Limits, Pool, Reason, Result, SandboxError, open_pool

DISK_TOGETHER = ("disk-spread", "disk-hole-in-shm")
LIMITS = Limits(wall_s=3, memory_mb=256, processes=64, output_bytes=1 << 20, disk_mb=64)
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
            ("{ABSTRACT}", f"quintain-test-{os.getpid()}"),
        ):
            code = code.replace(name, str(value))
        return code


@contextmanager
def planted(folder: Path) -> Iterator[Host]:
    """Plant what is to stay untouched in a folder, and listen."""
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
    abstract.bind(f"\0quintain-test-{os.getpid()}")
    threads = []
    for listener, name in ((tcp, "tcp"), (named, "unix"), (abstract, "abstract")):
        listeners.append(listener)
        threads.append(threading.Thread(target=listen, args=(listener, name), daemon=True))
        threads[-1].start()
    try:
        yield Host(secret, writable, path, tcp.getsockname()[1], visits)
    finally:
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
    if (
        "ok" in case.checks and not result.ok and pool.capabilities.tier != "landlock"
    ):  # refused otherwise there
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
    if case.id in DISK_TOGETHER and "disk" in pool.capabilities.gaps and wrong == ["breach"]:
        wrong.clear()  # declared: the folders have a quota of their own each, or are only watched
    if list(host.writable.iterdir()):
        wrong.append("the host was written to")
    if host.visits:
        wrong.append(f"listeners were reached: {host.visits}")
    return wrong


async def try_all(pool: Pool, host: Host) -> dict[str, str]:
    """Run all the programs, a few at once: half of them wait for their time limit."""
    places = asyncio.Semaphore(6)

    async def one(case: Hostile) -> tuple[str, str]:
        result: object = None
        try:
            async with places, pool.sandbox() as sandbox:
                started = time.monotonic()
                result = ran = await sandbox.run(host.fill(case.code), language=case.language)
                wrong = judge(case, ran, time.monotonic() - started, host, pool)
                after = await sandbox.run(NEXT_JOB)
                if after.stdout != "[7]\n":
                    wrong.append(f"the next job was harmed: {after}")
        except SandboxError as error:
            wrong = [f"it made us fail: {type(error).__name__}: {error}"]
        return case.id, f"{case.rule}: {', '.join(wrong)}; {str(result)[:1500]}" if wrong else ""

    return dict(await asyncio.gather(*map(one, CASES)))


def main() -> None:
    options = {"tier": sys.argv[1]} if len(sys.argv) > 1 else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        planted(Path(folder)) as host,
        open_pool("local", limits=LIMITS, **options) as pool,
    ):
        found = asyncio.run(try_all(pool, host))
    print(json.dumps([os.getuid(), len(found), {name: text for name, text in found.items() if text}]))


if __name__ == "__main__":
    main()
