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
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import at_least, finish, machine, own_cpu, parser, ratio, spread, table, tree_cpu

from quintain.sandboxes import Call, Limits, SandboxUnavailable, open_pool, open_sandbox
from quintain.sandboxes.machine import find_bubblewrap, find_interpreter
from quintain.sandboxes.worker import WorkerSpec, launch_plan

PYTHON = "python -I -S -c pass"
"""What others start for a program, and what the ratios are to."""
NUMPY = "python -c 'import numpy'"
FRESH = "ours: a fresh box, Python"
FRESH_NUMPY = "ours: a fresh box, numpy preloaded"
EXEC = "docker exec true (SDK)"
START = "open a sandbox: worker start, box, first run"
SESSIONS = ("ours: a call in a python session", "ours: a call in a bash session")
LIVE = "ours: run Python in a live container"


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


def throughput(seconds: float, at_once: int) -> float:
    """Fresh runs a minute."""
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

        started = time.perf_counter()
        count = asyncio.run(go())
        return count / (time.perf_counter() - started) * 60


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


def box_memory(count: int) -> float:
    """MiB of private memory a box, of so many that are open."""
    with open_pool("local", limits=Limits(disk_mb=16), spares=0) as pool:
        before = private_mb()

        async def go() -> float:
            boxes = [await pool.lend() for _ in range(count)]
            for box in boxes:
                await box.run("pass")
            each = (private_mb() - before) / count
            for box in boxes:
                await box.aclose()
            return each

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
    return row(START, walls, None, "yes")


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
                EXEC,
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
                LIVE,
                runs,
                lambda: sandbox.run_sync("pass"),
                "yes",
                False,
            )
        )
    return rows


def python_rows(runs: int) -> Iterator[Row]:
    """Measure what others do for a program."""
    bare = find_interpreter()
    yield timed(PYTHON, runs // 2, spawn(f"{bare.base}/{bare.executable}", "-I", "-S", "-c", "pass"), "no")
    yield timed(NUMPY, max(5, runs // 10), spawn(sys.executable, "-c", "import numpy"), "no")
    yield timed("multiprocessing fork, Value and Array (as EvalPlus)", runs, like_evalplus, "no")
    yield timed("multiprocessing fork and Manager (as human-eval)", runs // 2, like_human_eval, "no")
    # its processor time cannot be counted from outside: bubblewrap does not wait for the child it leaves behind
    yield timed(f"bubblewrap + {PYTHON}", runs // 2, bubblewrap_and_python(), "yes", cpu=False)


def our_rows(runs: int) -> Iterator[Row]:
    """Measure our sandboxes and sessions."""
    yield ours_fresh(FRESH, runs * 2, (), "pass")
    yield ours_fresh(FRESH_NUMPY, runs, ("numpy",), "import numpy")
    with open_sandbox("local") as sandbox:
        yield timed("ours: Python in an open box", runs, lambda: sandbox.run_sync("pass"), "yes")
        shell = ["bash", "-c", "true"]
        yield timed("ours: bash in an open box", runs, lambda: sandbox.run_sync(shell), "yes")
        for kind, text in (("python", "1"), ("bash", ":")):
            session = sandbox.session_sync(kind)

            def call(session: Any = session, text: str = text) -> object:
                return session.call_sync(text)

            yield timed(f"ours: a call in a {kind} session", runs * 5, call, "yes")
            session.close()
    yield worker_start(5)


def measured(asked: argparse.Namespace) -> list[list[Row]]:
    """Measure every row in every round; the order is that of the table."""
    rounds = []
    for _ in range(asked.rounds):
        rows = [*python_rows(asked.runs), *our_rows(asked.runs)]
        if asked.image:
            try:
                rows += docker_rows(asked.image, asked.runs)
            except SandboxUnavailable as error:
                print(f"no Docker rows: {error}", file=sys.stderr)
        rounds.append(rows)
    return rounds


def collected(rounds: list[list[Row]]) -> list[dict[str, Any]]:
    """Return each row with the spread over the rounds, and its processor time over that of `PYTHON`."""
    rows = []
    for found in zip(*rounds, strict=True):
        first = found[0]
        entry: dict[str, Any] = {"what": first.what, "runs": first.runs, "isolated": first.isolated}
        entry["wall_ms"] = spread([row.wall_ms for row in found])
        entry["p95_ms"] = spread([row.p95_ms for row in found])
        cpus = [row.cpu_ms for row in found if row.cpu_ms is not None]
        if cpus:
            bases = [rows_[0].cpu_ms or 0.0 for rows_ in rounds]
            entry["cpu_ms"] = spread(cpus)
            entry["to_python"] = spread([cpu / base for cpu, base in zip(cpus, bases, strict=True)])
        rows.append(entry)
    return rows


def quotient(rounds: list[list[Row]], ours: str, theirs: str, value: Callable[[Row], float | None]) -> Any:
    """Return the spread of the ratio of two rows, or None where one is missing."""
    found = []
    for rows in rounds:
        by_name = {row.what: value(row) for row in rows}
        a, b = by_name.get(ours), by_name.get(theirs)
        if a is None or not b:
            return None
        found.append(a / b)
    return spread(found)


QUOTIENTS: dict[str, tuple[str, str, Callable[[Row], float | None], float]] = {
    "numpy_to_import": (FRESH_NUMPY, NUMPY, lambda row: row.cpu_ms, 0.1),
    "live_container_to_exec": (LIVE, EXEC, lambda row: row.wall_ms, 0.25),
}
"""Ours, theirs, what of it, and the most that is wanted."""


def show(figures: dict[str, Any]) -> None:
    """Print the table and the rest."""
    lines = [
        (
            row["what"].replace("ours", "**ours**", 1) if row["what"].startswith("ours") else row["what"],
            f"{row['wall_ms']['median']:.2f}",
            f"{row['p95_ms']['median']:.2f}",
            f"{row['cpu_ms']['median']:.2f}" if "cpu_ms" in row else "–",
            ratio(row["to_python"]) if "to_python" in row else "–",
            row["isolated"],
        )
        for row in figures["rows"]
    ]
    head = ("", "wall ms, median", "p95", "CPU ms a run", "/ python -I -S -c pass", "isolated")
    table("A run of untrusted code:", head, lines)
    by_name = {row["what"]: row for row in figures["rows"]}
    wanted = [
        (f"{FRESH} / {PYTHON}, CPU", "at most 0.5", ratio(by_name[FRESH]["to_python"])),
        *(
            (f"{ours} / {theirs}", f"at most {most}", ratio(figures[name]))
            for name, (ours, theirs, _, most) in QUOTIENTS.items()
            if name in figures
        ),
        ("fresh runs a minute, 8 at once", "at least 8,000", f"{figures['fresh_runs_a_minute']:,.0f}"),
        (
            "verifications of 8 calls a minute, each in a fresh box",
            "at least 4,000",
            f"{figures['verifications_a_minute']:,.0f}",
        ),
        *(
            (f"{session}, wall ms", "at most 1", f"{by_name[session]['wall_ms']['median']:.2f}")
            for session in SESSIONS
        ),
        (START, "under 300 wall ms", f"{by_name[START]['wall_ms']['median']:.0f}"),
        ("private memory of each of 200 boxes, MiB", "under 15", f"{figures['mib_a_box']:.1f}"),
    ]
    table("What is wanted:", ("", "wanted", "measured"), wanted)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--runs", type=at_least(2), default=100, help="runs a row and round")
    options.add_argument("--rounds", type=at_least(1), default=3, help="rounds of all rows")
    options.add_argument("--seconds", type=float, default=10, help="seconds of a measurement of throughput")
    options.add_argument("--image", help="also measure Docker, with this image")
    asked = options.parse_args()
    before = machine()
    rounds = measured(asked)
    figures: dict[str, Any] = {
        "rows": collected(rounds),
        "fresh_runs_a_minute": throughput(asked.seconds, 8),
        "verifications_a_minute": verifications(asked.seconds, 8),
        "mib_a_box": box_memory(200),
    }
    for name, (ours, theirs, value, _) in QUOTIENTS.items():
        found = quotient(rounds, ours, theirs, value)
        if found is not None:
            figures[name] = found
    show(figures)
    finish(asked, before, figures)


if __name__ == "__main__":
    main()
