"""Verifiers side by side: how often they are right, how long they take, and what they let pass.

    python benchmarks/judges.py --data DIR [--rows tests/verifiers/math_rows.txt] [--alone]

Other judges of mathematics (`judge_peers`) are called on the same rows in the same run, each in an environment of its
own; `--alone` leaves them out. `--rows` adds labelled rows in the form of `tests/verifiers/math_rows.txt`. Rows marked
`convention` are not counted. CPU time is that of the process that judges.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ENVIRONMENTS, environment, file, finish, folder, machine, parser, table
from judge_peers import PEERS, judged

from quintain.tools.chat import Reply, ToolCall
from quintain.verifiers import CodeTests, FinalNumber, Instructions, MathAnswer, Task, ToolCalls
from quintain.verifiers.instructions import follows

DATA = (
    "math_verify_sample", "math_verify_public", "gsm8k_solutions_a", "ifeval_a", "bfcl_simple_python_a",
    "bfcl_multiple_a", "bfcl_parallel_a", "humaneval",
)  # fmt: skip
"""The files of the folder, `.jsonl`."""
WRITTEN = "written mathematics"
"""The rows of `--rows`."""
SOLUTIONS = 600
"""Of the grade-school solutions: so many for the other judges, who are slower."""


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ours(
    judge: Callable[[str, Task], Any], labelled: list[dict[str, Any]]
) -> list[tuple[bool, str, float, float]]:
    results = []
    for row in labelled:
        cpu, wall = time.process_time(), time.perf_counter()
        score = judge(row["response"], Task("t", "", row["gold"]))
        failed = "" if score.graded else "ungraded"
        results.append((score.value == 1, failed, time.process_time() - cpu, time.perf_counter() - wall))
    return results


def math_row(
    name: str, labelled: list[dict[str, Any]], results: list[tuple[bool, str, float, float]]
) -> dict[str, Any]:
    """Return how often a judge was right, and what it took."""
    counted = [(row, r) for row, r in zip(labelled, results, strict=True) if not row.get("convention")]
    cpu = sorted(r[2] * 1000 for r in results)
    return {
        "judge": name,
        "answers": len(counted),
        "right": sum(r[0] == row["label"] for row, r in counted) / len(counted),
        "passes_wrong": sum(r[0] and not row["label"] for row, r in counted),
        "fails_right": sum(not r[0] and row["label"] for row, r in counted),
        "over_5_s": sum(r[3] > 5 for r in results),
        "raised": sum(bool(r[1]) for r in results),
        "cpu_ms_median": cpu[len(cpu) // 2],
        "cpu_ms_p99": cpu[int(len(cpu) * 0.99)],
    }


def math_table(title: str, found: list[dict[str, Any]]) -> None:
    head = (
        "judge", "answers", "right", "passes wrong ones", "fails right ones", "over 5 s", "raised",
        "CPU ms, median", "p99",
    )  # fmt: skip
    lines = [
        (
            row["judge"], row["answers"], f"{100 * row['right']:.1f} %", row["passes_wrong"], row["fails_right"],
            row["over_5_s"], row["raised"], row["cpu_ms_median"], f"{row['cpu_ms_p99']:.1f}",
        )
        for row in found
    ]  # fmt: skip
    table(f"{title.capitalize()}:", head, lines)


def show(figures: dict[str, Any]) -> None:
    """Print the tables of mathematics but those of `--rows`, and what else was judged."""
    for title, found in figures["mathematics"].items():
        if title != WRITTEN:
            math_table(title, found)
    found, calls, code = (figures[name] for name in ("instructions", "tool_calls", "code"))
    rows = [
        ("instructions: verdicts as the official IFEval checker's, strict", found["strict_agreed"]),
        ("the same, loose", found["loose_agreed"]),
        *(
            (f"tool calls: gold rows of the Berkeley leaderboard, {name}", share)
            for name, share in calls.items()
        ),
        ("code: HumanEval's reference solutions", code["reference solutions"]),
        ("code: functions that return None", code["functions that return None"]),
    ]
    table("What passes:", ("", "share"), [(name, f"{100 * share:.4g} %") for name, share in rows])
    rate = code["verifications_a_minute"]
    print(f"\nVerifications of 8 tests a minute, each in a fresh box: {rate:,.0f}.")


def show_written(figures: dict[str, Any]) -> None:
    """Print the table of `--rows`."""
    if WRITTEN in figures["mathematics"]:
        math_table(WRITTEN, figures["mathematics"][WRITTEN])


SHOWN = {"written": show_written}
"""What prints the table of a part."""


def written(path: Path) -> list[dict[str, Any]]:
    """Read rows `+ gold :: answer` and `- gold :: answer`; the answer stands in a box, or is a whole reply."""
    found: list[dict[str, Any]] = []
    kind = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
            continue
        gold, _, answer = line[2:].partition(" ::")
        answer = answer.removeprefix(" ").replace("\\u200b", "\u200b").replace("⏎", "\n")
        response = answer if kind == "replies" else f"Working it out, the answer is $\\boxed{{{answer}}}$."
        found.append({"gold": gold, "response": response, "label": line[0] == "+"})
    return found


def mathematics(data: Path, more: Path | None, cache: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Judge all rows with all judges."""
    labelled = rows(data / "math_verify_sample.jsonl") + rows(data / "math_verify_public.jsonl")
    solutions = [{**r, "label": r["is_correct"]} for r in rows(data / "gsm8k_solutions_a.jsonl")]
    peers = []
    for peer in PEERS if cache is not None else ():
        try:
            peers.append(
                (peer, str(environment(cache / peer.environment, peer.packages, shares=peer.shares)))
            )
        except (OSError, subprocess.SubprocessError) as error:
            print(f"({peer.name} cannot be had here: {error})", file=sys.stderr)
    sets = {"mathematics": labelled, "grade-school solutions of models": solutions}
    if more is not None:
        sets[WRITTEN] = written(more)
    MathAnswer()(
        "\\boxed{\\sin x}", Task("t", "", "\\cos x")
    )  # the first import of mpmath is not the first row's
    found: dict[str, list[dict[str, Any]]] = {}
    for title, which in sets.items():
        found[title] = [math_row("MathAnswer", which, ours(MathAnswer(), which))]
        if which is solutions:
            found[title].append(math_row("FinalNumber", which, ours(FinalNumber(), which)))
        part = which[:SOLUTIONS] if which is solutions else which
        for peer, python in peers:
            try:
                found[title].append(math_row(peer.name, part, judged(python, peer.code, part)))
            except RuntimeError as error:
                print(f"({peer.name}: {error})", file=sys.stderr)
    return found


def instructions(data: Path) -> dict[str, float]:
    """Compare verdicts with those of the official checker."""
    listed = rows(data / "ifeval_a.jsonl")
    total, agreed = {"strict": 0, "loose": 0}, {"strict": 0, "loose": 0}
    for row in listed:
        for index, (kind, given) in enumerate(zip(row["instruction_id_list"], row["kwargs"], strict=True)):
            for mode in total:
                total[mode] += 1
                agreed[mode] += follows(row["response"], kind, given, mode) == row[mode][index]
    started = time.process_time()
    for row in listed:
        Instructions()(row["response"], Task("t", "", {k: row[k] for k in ("instruction_id_list", "kwargs")}))
    each = 1000 * (time.process_time() - started) / len(listed)
    return {**{f"{mode}_agreed": agreed[mode] / total[mode] for mode in total}, "cpu_ms": each}


def tool_calls(data: Path) -> dict[str, float]:
    """Judge the gold rows of the Berkeley leaderboard."""
    found = {}
    for name in ("simple_python", "multiple", "parallel"):
        listed = rows(data / f"bfcl_{name}_a.jsonl")
        passed = 0
        for row in listed:
            made = [
                ToolCall(str(i), function, {k: plain(v[0]) for k, v in arguments.items() if v[0] != ""})
                for i, call in enumerate(row["ground_truth"])
                for function, arguments in call.items()
            ]
            task = Task(row["id"], "", row["ground_truth"], {"functions": row["function"]})
            passed += ToolCalls()(Reply("", tool_calls=made), task).value == 1
        found[name] = passed / len(listed)
    return found


def plain(value: Any) -> Any:
    """Return the first alternative of every field of an object of the Berkeley format."""
    if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
        return {k: plain(v[0]) for k, v in value.items() if v[0] != ""}
    return [plain(v) for v in value] if isinstance(value, list) else value


async def code(data: Path, seconds: float) -> dict[str, float]:
    """Judge the reference solutions of HumanEval and functions that return None, and measure the rate."""
    from quintain.sandboxes import Limits, open_pool

    found = {}
    listed = rows(data / "humaneval.jsonl")
    async with open_pool(limits=Limits(wall_s=5, memory_mb=256)) as pool:
        judge = CodeTests(wall_s=5, memory_mb=256, pool=pool)
        tasks = [Task(r["task_id"], "", {k: r[k] for k in ("prompt", "test", "entry_point")}) for r in listed]
        for name, programs in (
            ("reference solutions", [r["canonical_solution"] for r in listed]),
            ("functions that return None", [f"def {r['entry_point']}(*args): return None" for r in listed]),
        ):
            scores = await asyncio.gather(*(judge.acall(p, t) for p, t in zip(programs, tasks, strict=True)))
            found[name] = sum(s.value == 1 for s in scores) / len(listed)
        tests = [{"args": [n], "expected": n * n} for n in range(8)]
        task = Task("t", "", {"entry_point": "f", "tests": tests})
        done = 0
        started = time.perf_counter()

        async def work() -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                assert (await judge.acall("def f(n): return n * n", task)).value == 1
                done += 1

        await asyncio.gather(*(work() for _ in range(16)))
        found["verifications_a_minute"] = 60 * done / (time.perf_counter() - started)
    return found


def main() -> None:
    """Judge and print."""
    options = parser(__doc__)
    options.add_argument("--data", type=folder, required=True, help="the folder of the labelled rows")
    options.add_argument("--rows", type=file, help="more labelled rows of mathematics")
    options.add_argument("--alone", action="store_true", help="without the other judges")
    options.add_argument("--cache", type=Path, default=ENVIRONMENTS, help="where environments are made")
    options.add_argument("--seconds", type=float, default=20, help="how long to measure code verification")
    given = options.parse_args()
    missing = [f"{name}.jsonl" for name in DATA if not (given.data / f"{name}.jsonl").is_file()]
    if missing:
        options.error(f"argument --data: {given.data} lacks {', '.join(missing)}")
    before = machine()
    figures = {
        "mathematics": mathematics(given.data, given.rows, None if given.alone else given.cache),
        "instructions": instructions(given.data),
        "tool_calls": tool_calls(given.data),
        "code": asyncio.run(code(given.data, given.seconds)),
        "peers": {} if given.alone else {peer.name: list(peer.packages) for peer in PEERS},
    }
    show(figures)
    show_written(figures)
    finish(given, before, figures)


if __name__ == "__main__":
    main()
