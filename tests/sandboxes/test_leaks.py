"""Nothing is left behind: not after thousands of runs with bombs among them, not after a kill -9 of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from quintain.sandboxes import Limits, Pool, Reason, SandboxUnavailable, open_pool, open_sandbox

RUNS = int(os.environ.get("QUINTAIN_SOAK_RUNS", "3000"))
BOMBS = (
    ("bash", "b() { b | b & }; b; sleep 60"),
    ("python", "x = []\nwhile True: x.append(bytearray(1 << 20))"),
    ("python", "while True: pass"),
    ("python", "import time; time.sleep(60)"),
    ("bash", "setsid sleep 997 & yes | head -c 3000000"),
    (
        "python",
        "import os\nfor _ in range(50):\n    if os.fork() == 0: os.setsid(); os.execvp('sleep', ['sleep', '997'])",
    ),
    ("python", "f = open('big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"),
)


def descendants(pid: int) -> set[int]:
    """Every living process below one, as the host sees them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = set(), [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.add(child)
            todo.append(child)
    return found


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def open_or_skip(**options: object) -> Pool:
    try:
        return open_pool("local", **options)  # type: ignore[arg-type]
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


async def mixed_runs(pool: Pool, count: int) -> dict[Reason, int]:
    """Many runs at once, one in twenty a bomb or a time-out."""
    reasons: dict[Reason, int] = {}
    places = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with places:
            if number % 20 == 7:
                language, code = BOMBS[number // 20 % len(BOMBS)]
                result = await pool.run(code, language=language, limits=pool.limits.but(wall_s=0.4))
            else:
                result = await pool.run(f"print({number})")
                assert result.stdout == f"{number}\n", result
            reasons[result.reason] = reasons.get(result.reason, 0) + 1

    await asyncio.gather(*map(one, range(count)))
    return reasons


@pytest.mark.slow
@pytest.mark.alone
def test_soak_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = descendants(os.getpid())
    before_open = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    limits = Limits(wall_s=10, memory_mb=128, disk_mb=16, processes=64, output_bytes=1 << 16)
    with open_or_skip(limits=limits) as pool:
        asyncio.run(mixed_runs(pool, 200))
        asyncio.run(pool.warm())
        time.sleep(1.5)
        settled = (descendants(os.getpid()), len(os.listdir("/proc/self/fd")), resident_mb())  # noqa: PTH208
        mounts = Path("/proc/mounts").read_text()
        reasons = asyncio.run(mixed_runs(pool, RUNS))
        asyncio.run(pool.warm())
        time.sleep(1.5)
        assert sum(reasons.values()) == RUNS
        assert pool.stats().retried == 0
        processes, files, memory = descendants(os.getpid()), len(os.listdir("/proc/self/fd")), resident_mb()  # noqa: PTH208
        assert len(processes) <= len(settled[0]) + 2, f"{len(settled[0])} processes became {len(processes)}"
        assert files <= settled[1] + 4, f"{settled[1]} descriptors became {files}"
        assert memory - settled[2] < 20, f"{settled[2]:.0f} MiB became {memory:.0f}"
        assert Path("/proc/mounts").read_text() == mounts
        assert not list(tmp_path.iterdir())
    time.sleep(0.3)
    assert not descendants(os.getpid()) - others
    assert len(set(os.listdir("/proc/self/fd")) - before_open) <= 1  # noqa: PTH208


SUPERVISOR = """
import asyncio, signal, sys, time
from quintain.sandboxes import open_pool, Limits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
pool = open_pool("local", limits=Limits(wall_s=60), size=8, tier=sys.argv[1])
async def main():
    tasks = [asyncio.ensure_future(pool.run(code, language=language)) for language, code in (
        ("python", "while True: pass"), ("bash", "sleep 991 & setsid sleep 992 & sleep 993"),
        ("python", "import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(994)"))]
    async with pool.sandbox() as box:
        session = await box.session("bash")
        await session.call("sleep 995 &")
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("tier", "how"),
    [
        ("full", signal.SIGKILL),
        ("full", signal.SIGTERM),
        ("full", signal.SIGINT),
        ("bwrap-per-box", signal.SIGKILL),
        ("landlock", signal.SIGKILL),
    ],
)
def test_a_dying_supervisor_takes_everything_along(tier: str, how: signal.Signals) -> None:
    open_or_skip(tier=tier).close()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SUPERVISOR), tier], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    time.sleep(0.2)
    below = descendants(child.pid)
    assert len(below) >= 8
    child.send_signal(how)
    child.wait(30)  # at once for SIGKILL; Python unwinds for SIGINT, which a busy machine draws out
    deadline = time.monotonic() + 2.0
    while (left := [pid for pid in below if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.stdout.close()
    assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.alone
def test_a_supervisor_killed_while_it_starts_leaves_nothing() -> None:
    """A bubblewrap whose other half is killed in the middle of its set-up waited for it for ever once."""
    open_or_skip().close()
    for number in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SUPERVISOR), "full"], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 5
        while not descendants(child.pid) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(number * 0.006)
        below = descendants(child.pid)
        child.kill()
        child.wait(5)
        deadline = time.monotonic() + 2
        while (left := [pid for pid in below if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes()[:80] for pid in left]


def test_closing_ends_every_process_and_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    others = descendants(os.getpid())
    pool = open_or_skip()
    assert pool.run_sync("print(1)").stdout == "1\n"
    assert descendants(os.getpid()) - others
    pool.close()
    assert not descendants(os.getpid()) - others
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # noqa: PTH208


@pytest.mark.slow
@pytest.mark.alone  # the programs run for two seconds, in which a busy machine has to notice
def test_a_killed_worker_is_replaced_and_its_programs_run_again() -> None:
    others = descendants(os.getpid())
    with open_or_skip(limits=Limits(wall_s=20)) as pool:

        async def main() -> list[str]:
            tasks = [
                asyncio.ensure_future(pool.run(f"import time; time.sleep(2); print({i})")) for i in range(4)
            ]
            while pool.stats().opened < 4:
                await asyncio.sleep(0.01)
            for pid in descendants(os.getpid()) - others:
                if parent_of(pid) == os.getpid():
                    os.kill(pid, signal.SIGKILL)
            return [(await task).stdout for task in tasks]

        assert asyncio.run(main()) == ["0\n", "1\n", "2\n", "3\n"]
        assert pool.stats().retried >= 1


def test_a_worker_outlives_the_thread_that_asked_for_it() -> None:
    import threading

    opened: list[Pool] = []
    thread = threading.Thread(target=lambda: opened.append(open_or_skip()))
    thread.start()
    thread.join()
    if not opened:
        pytest.skip("no local sandbox here")
    time.sleep(0.3)
    with opened[0] as pool:
        assert pool.run_sync("print(1)").stdout == "1\n"


def test_a_fork_of_this_process_is_told_to_open_its_own() -> None:
    try:
        sandbox = open_sandbox("local")
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    with sandbox:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                sandbox.run_sync("print(1)")
            except BaseException as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        said = os.read(read, 1000).decode()
        os.close(read)
        assert said.startswith("SandboxError: This sandbox was opened in process"), said
        assert sandbox.run_sync("print(2)").stdout == "2\n"
