"""What a sandboxed run costs, beside the ways in which others run untrusted code. One run prints one table.

    python benchmarks/sandboxes.py                      # everything but Docker
    DOCKER_HOST=unix:///… python benchmarks/sandboxes.py --image my-image

Processor time is what to compare: wall times depend on what else the machine does. For our workers it is the time
of the host's process and of the whole worker tree; for the others that of the process and its children.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from quintain.sandboxes import Call, Limits, SandboxUnavailable, open_pool, open_sandbox
from quintain.sandboxes.machine import find_bubblewrap, find_interpreter
from quintain.sandboxes.worker import WorkerSpec, launch_plan

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """One line of the table."""

    what: str
    runs: int
    wall_ms: float
    """Median."""
    p95_ms: float
    cpu_ms: float | None
    """Mean, user and system, of everything that is ours to count."""
    isolated: str


def own_cpu() -> float:
    """Seconds of this process and of its children that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def tree_cpu() -> float:
    """Seconds of the living processes below this one, with all they have waited for."""
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(words[1]), []).append(int(entry.name))
                seconds[int(entry.name)] = sum(int(w) for w in words[11:15]) / TICKS
    total, todo = 0.0, [os.getpid()]
    while todo:
        for child in children.get(todo.pop(), []):
            total += seconds.get(child, 0.0)
            todo.append(child)
    return total


def timed(what: str, runs: int, work: Callable[[], object], isolated: str, cpu: bool = True) -> Row:
    """Measure a synchronous function."""
    work()
    before = own_cpu() + tree_cpu()
    walls = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    used = own_cpu() + tree_cpu() - before
    return row(what, walls, used if cpu else None, isolated)


def row(what: str, walls: list[float], used: float | None, isolated: str) -> Row:
    ordered = sorted(walls)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    cpu = None if used is None else used / len(walls) * 1000
    return Row(what, len(walls), statistics.median(walls) * 1000, p95 * 1000, cpu, isolated)


def spawn(*argv: str) -> Callable[[], object]:
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# --- as others do it --------------------------------------------------------------------------------------------


def _evalplus_child(stat: object, details: object) -> None:
    exec("pass", {})
    stat.value = 1  # type: ignore[attr-defined]


def like_evalplus() -> None:
    """A fork with a shared value and array, as EvalPlus checks a solution."""
    context = multiprocessing.get_context("fork")
    stat, details = context.Value("i", 0), context.Array("b", [False] * 8)
    child = context.Process(target=_evalplus_child, args=(stat, details))
    child.start()
    child.join(5)


def _human_eval_child(result: object) -> None:
    exec("pass", {})
    result.append("passed")  # type: ignore[attr-defined]


def like_human_eval() -> None:
    """A manager process with a list and a fork, as human-eval's check and its many copies do."""
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        result = manager.list()
        child = context.Process(target=_human_eval_child, args=(result,))
        child.start()
        child.join(5)


def bubblewrap_and_python() -> Callable[[], object]:
    """One bubblewrap and one interpreter a run."""
    spec = WorkerSpec(bwrap=find_bubblewrap(), python=find_interpreter())
    plan = launch_plan(spec, 0, 0)
    argv = list(plan["argv"])  # type: ignore[call-overload]
    script = argv.index("-S")
    command = [
        *argv[: argv.index("--cap-drop")],
        *argv[argv.index("--cap-drop") + 2 : script],
        "-I",
        "-S",
        "-c",
        "pass",
    ]
    if os.geteuid() == 0:  # the benchmark's comparison does not need the detour by another user
        for source, name in plan["trees"]:  # type: ignore[attr-defined]
            command = [word.replace(f"{plan['stage']}/{name}", source) for word in command]
    return spawn(*command)


# --- ours -----------------------------------------------------------------------------------------------------------


async def many(run: Callable[[], Awaitable[object]], runs: int, at_once: int) -> list[float]:
    places, walls = asyncio.Semaphore(at_once), []

    async def one() -> None:
        async with places:
            started = time.perf_counter()
            await run()
            walls.append(time.perf_counter() - started)

    await asyncio.gather(*(one() for _ in range(runs)))
    return walls


def ours_fresh(what: str, runs: int, preload: tuple[str, ...], code: str) -> Row:
    with open_pool("local", preload=preload) as pool:
        pool.run_sync(code)
        return timed(what, runs, lambda: pool.run_sync(code), "yes")


def throughput(seconds: float, at_once: int) -> tuple[float, float]:
    """Fresh runs a minute, and processor milliseconds each."""
    with open_pool("local", size=at_once) as pool:

        async def go() -> int:
            await pool.warm()
            stop, count = time.perf_counter() + seconds, 0

            async def keep_on() -> None:
                nonlocal count
                while time.perf_counter() < stop:
                    assert (await pool.run("pass")).ok
                    count += 1

            await asyncio.gather(*(keep_on() for _ in range(at_once)))
            return count

        before, started = own_cpu() + tree_cpu(), time.perf_counter()
        count = asyncio.run(go())
        return count / (time.perf_counter() - started) * 60, (own_cpu() + tree_cpu() - before) / count * 1000


def verifications(seconds: float, at_once: int) -> float:
    """Verifications a minute: a fresh box, a function loaded, 8 calls with plain values."""
    code = "def total(numbers):\n    out = 0\n    for n in numbers:\n        out += n\n    return out\n"
    calls = [Call("total", [list(range(i))]) for i in range(8)]
    with open_pool("local", size=at_once) as pool:

        async def go() -> float:
            await pool.warm()
            started, count = time.perf_counter(), 0

            async def keep_on() -> None:
                nonlocal count
                while time.perf_counter() - started < seconds:
                    assert all(o.ok for o in await pool.call(code, calls))
                    count += 1

            await asyncio.gather(*(keep_on() for _ in range(at_once)))
            return count / (time.perf_counter() - started) * 60

        return asyncio.run(go())


def box_memory(count: int) -> tuple[float, float]:
    """MiB of private memory a box, and seconds to open so many."""
    with open_pool("local", limits=Limits(disk_mb=16), spares=0) as pool:
        before = private_mb()

        async def go() -> tuple[float, float]:
            started = time.perf_counter()
            boxes = [await pool.lend() for _ in range(count)]
            for box in boxes:
                await box.run("pass")
            took = time.perf_counter() - started
            each = (private_mb() - before) / count
            for box in boxes:
                await box.aclose()
            return each, took

        return asyncio.run(go())


def private_mb() -> float:
    """MiB of private memory of all processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(words[1]), []).append(int(entry.name))
    total, todo = 0, [os.getpid()]
    while todo:
        for child in children.get(todo.pop(), []):
            todo.append(child)
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{child}/smaps_rollup").read_text().splitlines():
                    if line.startswith(("Private_Clean", "Private_Dirty")):
                        total += int(line.split()[1])
    return total / 1024


def worker_start(runs: int) -> Row:
    walls = []
    for _ in range(runs):
        started = time.perf_counter()
        sandbox = open_sandbox("local", tier="full")
        walls.append(time.perf_counter() - started)
        sandbox.close()
    return row("open a sandbox: worker start, box, first run", walls, None, "yes")


def docker_rows(image: str, runs: int) -> list[Row]:
    from quintain.sandboxes.docker import connect

    client = connect()
    options = {"network_mode": "none", "cap_drop": ["ALL"], "read_only": True, "user": "61234:61234"}
    rows = [
        timed(
            "docker run --rm, hardened, python3 -I -S -c pass (SDK)",
            max(3, runs // 20),
            lambda: client.containers.run(
                image, ["python3", "-I", "-S", "-c", "pass"], remove=True, **options
            ),
            "yes",
            cpu=False,
        )
    ]
    live = client.containers.run(image, ["sleep", "600"], detach=True, auto_remove=True, **options)
    try:
        rows.append(
            timed(
                "docker exec true (SDK)",
                max(10, runs // 5),
                lambda: live.exec_run(["true"]),
                "container",
                False,
            )
        )
    finally:
        live.remove(force=True)
    with open_sandbox("docker", image=image) as sandbox:
        rows.append(
            timed(
                "**ours**: run Python in a live container",
                runs,
                lambda: sandbox.run_sync("pass"),
                "yes",
                False,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="runs a row")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each throughput measurement")
    parser.add_argument("--image", help="also measure Docker, with this image")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    runs = asked.runs
    python = os.path.realpath(sys.executable)
    bare = find_interpreter()
    bare_python = f"{bare.base}/{bare.executable}"

    rows = [
        timed("python -I -S -c pass", runs // 2, spawn(bare_python, "-I", "-S", "-c", "pass"), "no"),
        timed(
            "python -c 'import numpy'", max(5, runs // 10), spawn(sys.executable, "-c", "import numpy"), "no"
        ),
        timed("multiprocessing fork, Value and Array (as EvalPlus)", runs, like_evalplus, "no"),
        timed("multiprocessing fork and Manager (as human-eval)", runs // 2, like_human_eval, "no"),
        # its processor time cannot be counted from outside: bubblewrap does not wait for the child it leaves behind
        timed("bubblewrap + python -I -S -c pass", runs // 2, bubblewrap_and_python(), "yes", cpu=False),
        ours_fresh("**ours**: a fresh box, Python", runs * 2, (), "pass"),
        ours_fresh("**ours**: a fresh box, numpy preloaded", runs, ("numpy",), "import numpy"),
    ]
    with open_sandbox("local") as sandbox:
        rows.append(timed("**ours**: Python in an open box", runs, lambda: sandbox.run_sync("pass"), "yes"))
        rows.append(
            timed(
                "**ours**: bash in an open box", runs, lambda: sandbox.run_sync(["bash", "-c", "true"]), "yes"
            )
        )
        for kind, text in (("python", "1"), ("bash", ":")):
            session = sandbox.session_sync(kind)
            rows.append(
                timed(
                    f"**ours**: a call in a {kind} session",
                    runs * 5,
                    lambda s=session, t=text: s.call_sync(t),
                    "yes",
                )
            )  # type: ignore[misc]
            session.close()
    rows.append(worker_start(5))
    if asked.image:
        try:
            rows += docker_rows(asked.image, runs)
        except SandboxUnavailable as error:
            print(f"no Docker rows: {error}", file=sys.stderr)

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, {Path(python).name}; ",
        end="",
    )
    print(f"load {os.getloadavg()[0]:.1f} at the end\n")
    print(
        "| what | runs | wall ms, median | wall ms, p95 | CPU ms a run | isolated |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for r in rows:
        cpu = "–" if r.cpu_ms is None else f"{r.cpu_ms:.2f}"
        print(f"| {r.what} | {r.runs} | {r.wall_ms:.2f} | {r.p95_ms:.2f} | {cpu} | {r.isolated} |")
    each_minute, each_cpu = throughput(asked.seconds, 8)
    checks = verifications(asked.seconds, 8)
    memory, opening = box_memory(200)
    print(f"\nFresh runs a minute, 8 at once: {each_minute:,.0f} ({each_cpu:.2f} CPU ms each)")
    print(f"Verifications of 8 calls a minute, each in a fresh box: {checks:,.0f}")
    print(
        f"200 boxes open at once: {memory:.1f} MiB of private memory each; opened, one run each, in {opening:.1f} s"
    )
    by_name = {r.what: r for r in rows}
    compare(by_name, "**ours**: a fresh box, Python", "python -I -S -c pass", 0.5)
    compare(by_name, "**ours**: a fresh box, numpy preloaded", "python -c 'import numpy'", 0.1)
    if "docker exec true (SDK)" in by_name:
        live, other = by_name["**ours**: run Python in a live container"], by_name["docker exec true (SDK)"]
        print(
            f"A run in a live container / docker exec true, wall: {live.wall_ms / other.wall_ms:.2f} (at most 0.25)"
        )
    if asked.json:
        asked.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))


def compare(rows: dict[str, Row], ours: str, theirs: str, wanted: float) -> None:
    a, b = rows[ours].cpu_ms, rows[theirs].cpu_ms
    if a and b:
        print(f"{ours.replace('*', '')} / {theirs}, CPU: {a / b:.2f} (at most {wanted})")


if __name__ == "__main__":
    main()
