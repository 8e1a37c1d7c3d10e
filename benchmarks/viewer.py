"""The viewer: what a page costs with many trajectories.

    python benchmarks/viewer.py [--trajectories 50000]

Writes a run of so many made-up trajectories (word problems, about 3 KiB each) to a temporary folder, indexes it, and
measures the CPU time of each page: making it out of the index and the files, as the server does, the templates
included. The rest of a request (HTTP, the browser) is the same at every size and is not in it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import at_least, finish, machine, parser, table

from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.verifiers.base import Score
from quintain.viewer.index import Index
from quintain.viewer.pages import Site
from quintain.viewer.runs import open_runs

GROUPS, MEMBERS = 25, 8
"""Of a file: the episodes of one step."""


def trajectory(
    rng: random.Random, step: int, group: int, member: int, task: tuple[int, int, int]
) -> Trajectory:
    a, b, c = task
    right = rng.random() < 0.5
    answer = a * b - c if right else a * b + c
    messages = [
        {"role": "system", "content": "Solve the problem. Use the calculator for every step. # Tools ..."},
        {"role": "user", "content": f"Mia has {a} boxes of {b} pens and loses {c}. How many are left?"},
    ]
    for expression, result in ((f"{a}*{b}", a * b), (f"{a * b}-{c}", answer)):
        call = {
            "id": "c",
            "type": "function",
            "function": {"name": "calculator", "arguments": {"x": expression}},
        }
        messages += [
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": f"now {expression}",
                "tool_calls": [call],
            },
            {"role": "tool", "content": str(result), "tool_call_id": "c", "name": "calculator"},
        ]
    messages.append({"role": "assistant", "content": f"The answer is {answer}."})
    count = 150
    mask = [at % 50 >= 25 for at in range(count)]
    ends = [(25, 50, 0.0, 1), (75, 100, 0.0, 1), (125, 150, float(right), 0)]
    turns = [Turn(*end, tool_errors=int(rng.random() < 0.05)) for end in ends]
    return Trajectory(
        id=f"rl-{step}-{group}-{member}",
        task_id=f"train/{step}-{group}",
        group=group,
        ids=[rng.randrange(500) for _ in range(count)],
        mask=mask,
        logprobs=[-rng.random() if sampled else 0.0 for sampled in mask],
        versions=[step if sampled else -1 for sampled in mask],
        turns=turns,
        messages=messages,
        score=Score(
            float(right), {"final_number": float(right), "brevity": rng.random()}, reason=f"got {answer}"
        ),
        stop=StopReason.TERMINATED,
    )


def write(folder: Path, count: int) -> None:
    rng = random.Random(1)
    (folder / "trajectories").mkdir()
    per_file = GROUPS * MEMBERS
    metrics = (folder / "metrics.jsonl").open("w")
    for step in range(1, count // per_file + 1):
        tasks = [(rng.randrange(3, 99), rng.randrange(3, 99), rng.randrange(1, 9)) for _ in range(GROUPS)]
        with (folder / "trajectories" / f"rl-{step:06}.jsonl").open("w") as file:
            for at in range(per_file):
                group, member = divmod(at, MEMBERS)
                file.write(trajectory(rng, step, group, member, tasks[group]).to_json() + "\n")
        values = ",".join(f'"metric_{n}":{rng.random():.6f}' for n in range(40))
        metrics.write(
            f'{{"phase":"rl","step":{step},"time_s":{step},"reward":{rng.random():.6f},{values}}}\n'
        )
    metrics.close()


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_ms(make: Callable[[], object], rounds: int = 7) -> float:
    make()
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        make()
        spent.append(1000 * (time.process_time() - began))
    return statistics.median(spent)


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    pages = [(name, f"{found:.0f}") for name, found in figures["pages_cpu_ms"].items()]
    number, size = figures["trajectories"], figures["files_mib"]
    table(
        f"A page, with {number:,} trajectories in files of {size:.0f} MiB (at most 200):",
        ("", "CPU-ms"),
        pages,
    )
    print(
        f"\nReading them when the viewer starts: {figures['index_us_each']:.0f} CPU-µs each, "
        f"{figures['memory_mib']:.0f} MiB of memory."
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--trajectories", type=at_least(1), default=50_000)
    chosen = options.parse_args()
    count, before_all = chosen.trajectories, machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        write(folder, count)
        size = sum(path.stat().st_size for path in folder.rglob("*.jsonl"))
        before = resident_mb()
        site = Site(open_runs([folder]))
        began = time.process_time()
        index: Index = site.index
        index.scan()
        while index.work(0.02):
            pass
        spent = time.process_time() - began
        held = resident_mb() - before
        half = "verdict=wrong&sort=-tokens"
        last = f"rl-{count // (GROUPS * MEMBERS):06}"
        pages: dict[str, Callable[[], object]] = {
            "run": lambda: site.one_run("run"),
            "curves, the first choice": lambda: site.curves({}),
            "curves, 12 metrics": lambda: site.curves({"m": [f"rl/metric_{n}" for n in range(12)]}),
            "episodes, the newest": lambda: site.episodes({}),
            "episodes, wrong, by tokens": lambda: site.episodes({"verdict": "wrong", "sort": "-tokens"}),
            "episodes, failed calls, by a component": lambda: site.episodes(
                {"trouble": "any", "part": "brevity", "sort": "-part"}
            ),
            "episodes, the last page": lambda: site.episodes({"page": str(count // 50)}),
            "episodes, a rare word": lambda: site.episodes({"q": "answer 97"}),
            "episodes, a word in all": lambda: site.episodes({"q": "pens"}),
            "one episode": lambda: site.episode("run", last, "7", {}),
            "one episode of a list of half": lambda: site.episode("run", last, "7", {"list": half}),
            "one episode, its tokens": lambda: site.episode("run", last, "7", {"view": "logprob"}),
            "a group side by side": lambda: site.side({"run": ["run"], "file": [last], "group": ["3"]}),
            "two files compared": lambda: site.compared({"a": "run/rl-000001", "b": f"run/{last}"}),
            "looking for news": lambda: site.refresh(at_most_every=0.0),
        }
        found = {name: cpu_ms(make) for name, make in pages.items()}
        index.close()
    figures = {
        "trajectories": count,
        "files_mib": size / 2**20,
        "index_us_each": 1e6 * spent / count,
        "memory_mib": held,
        "pages_cpu_ms": found,
    }
    show(figures)
    finish(chosen, before_all, figures)


if __name__ == "__main__":
    main()
