"""Verifiers side by side: how often they are right, how long they take, and what they let pass.

    python benchmarks/verifiers.py --data ../shared/data [--rows FILE.txt] [--peers FOLDER]

`--peers` is a folder for the virtual environments of other judges (see `verifier_peers.py`), which are called on
the same rows in the same run. `--rows` adds labelled rows in the form of `tests/verifiers/math_rows.txt`. Rows
marked `convention` are counted apart. CPU time is that of the process that judges.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from verifier_peers import PEERS, judged, made

from quintain.tools.chat import Reply, ToolCall
from quintain.verifiers import CodeTests, FinalNumber, Instructions, MathAnswer, Task, ToolCalls
from quintain.verifiers.instructions import follows


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


def beside(folder: Path | None, labelled: list[dict[str, Any]]) -> Iterator[str]:
    """Judge rows with every peer that can be had, and yield their lines."""
    for peer in PEERS if folder else ():
        assert folder is not None
        python = made(peer, folder)
        if python is None:
            continue
        try:
            yield math_line(peer.name, labelled, judged(python, peer.code, labelled))
        except RuntimeError as error:
            print(f"({peer.name}: {error})", file=sys.stderr)


def math_line(
    name: str, labelled: list[dict[str, Any]], results: list[tuple[bool, str, float, float]]
) -> str:
    counted = [(row, r) for row, r in zip(labelled, results, strict=True) if not row.get("convention")]
    right = sum(r[0] == row["label"] for row, r in counted)
    passed = sum(r[0] and not row["label"] for row, r in counted)
    failed = sum(not r[0] and row["label"] for row, r in counted)
    cpu = sorted(r[2] * 1000 for r in results)
    slow = sum(r[3] > 5 for r in results)
    broken = sum(bool(r[1]) for r in results)
    return (
        f"| {name} | {100 * right / len(counted):.1f} % of {len(counted)} | {passed} | {failed} | {slow} | {broken} "
        f"| {cpu[len(cpu) // 2]:.2f} | {cpu[int(len(cpu) * 0.99)]:.1f} |"
    )


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


def mathematics(data: Path, more: Path | None, peers: Path | None) -> None:
    print("\n## Mathematics\n")
    print(
        "| verifier | right | passes wrong ones | fails right ones | over 5 s | raised | CPU ms median | p99 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    labelled = rows(data / "math_verify_sample.jsonl") + rows(data / "math_verify_public.jsonl")
    MathAnswer()(
        "\\boxed{\\sin x}", Task("t", "", "\\cos x")
    )  # the first import of mpmath is not the first row's
    for which in [labelled, *([written(more)] if more else [])]:
        print(math_line("MathAnswer", which, ours(MathAnswer(), which)), flush=True)
        for line in beside(peers, which):
            print(line, flush=True)
    solutions = [{**r, "label": r["is_correct"]} for r in rows(data / "gsm8k_solutions_a.jsonl")]
    print("\nGrade-school solutions with labels:\n")
    print(
        "| verifier | right | passes wrong ones | fails right ones | over 5 s | raised | CPU ms median | p99 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(math_line("MathAnswer", solutions, ours(MathAnswer(), solutions)))
    print(math_line("FinalNumber", solutions, ours(FinalNumber(), solutions)))
    for line in beside(peers, solutions[:600]):
        print(line, flush=True)


def instructions(data: Path) -> None:
    print("\n## Instructions\n")
    total = {"strict": 0, "loose": 0}
    agreed = {"strict": 0, "loose": 0}
    for row in rows(data / "ifeval_a.jsonl"):
        for index, (kind, given) in enumerate(zip(row["instruction_id_list"], row["kwargs"], strict=True)):
            for mode in total:
                total[mode] += 1
                agreed[mode] += follows(row["response"], kind, given, mode) == row[mode][index]
    for mode in total:
        print(
            f"- {mode}: {agreed[mode]} of {total[mode]} verdicts of the official checker ({100 * agreed[mode] / total[mode]:.2f} %)"  # noqa: E501
        )
    listed = rows(data / "ifeval_a.jsonl")
    started = time.process_time()
    for row in listed:
        Instructions()(row["response"], Task("t", "", {k: row[k] for k in ("instruction_id_list", "kwargs")}))
    print(f"- hard: {1000 * (time.process_time() - started) / len(listed):.2f} CPU-ms for a reply")


def tool_calls(data: Path) -> None:
    print("\n## Tool calls\n")
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
        print(f"- {name}: {passed} of {len(listed)} gold rows pass")


def plain(value: Any) -> Any:
    """Return the first alternative of every field of an object of the Berkeley format."""
    if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
        return {k: plain(v[0]) for k, v in value.items() if v[0] != ""}
    return [plain(v) for v in value] if isinstance(value, list) else value


async def code(data: Path, seconds: float) -> None:
    from quintain.sandboxes import Limits, open_pool

    print("\n## Code\n")
    listed = rows(data / "humaneval.jsonl")
    async with open_pool(limits=Limits(wall_s=5, memory_mb=256)) as pool:
        judge = CodeTests(wall_s=5, memory_mb=256, pool=pool)
        tasks = [Task(r["task_id"], "", {k: r[k] for k in ("prompt", "test", "entry_point")}) for r in listed]
        for name, programs in (
            ("reference solutions", [r["canonical_solution"] for r in listed]),
            ("functions that return None", [f"def {r['entry_point']}(*args): return None" for r in listed]),
        ):
            started = time.perf_counter()
            scores = await asyncio.gather(*(judge.acall(p, t) for p, t in zip(programs, tasks, strict=True)))
            wall = time.perf_counter() - started
            print(
                f"- HumanEval, {name}: {sum(s.value == 1 for s in scores)} of {len(listed)} pass, {wall:.1f} s"
            )
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
        rate = 60 * done / (time.perf_counter() - started)
        print(f"- verifications of 8 tests, each in a fresh box: {rate:,.0f} a minute")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=Path, help="more labelled rows of mathematics")
    parser.add_argument("--peers", type=Path, help="a folder for the virtual environments of other judges")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long to measure the rate of code verification"
    )
    given = parser.parse_args()
    print(f"# Verifiers\n\nPython {sys.version.split()[0]}")
    mathematics(given.data, given.rows, given.peers)
    instructions(given.data)
    tool_calls(given.data)
    asyncio.run(code(given.data, given.seconds))


if __name__ == "__main__":
    main()
