"""Committed figures say what they were measured on, and the picture and the tables are made from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))


def drawn(tmp_path: Path, results: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        BENCHMARKS / "pictures.py",
        "--results",
        results,
        "--out",
        tmp_path / "out.png",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_has_machine_load_versions_and_command(path: Path) -> None:
    found = json.loads(path.read_text())
    assert set(found) == {"command", "machine", "figures"}
    assert {"processor", "cores", "python", "platform", "load", "load_after", "time", "versions"} <= set(
        found["machine"]
    )
    assert found["machine"]["versions"]["quintain"]
    assert found["command"].startswith(f"{path.stem}.py") and "/" not in found["command"]


@pytest.mark.slow
def test_the_picture_is_drawn_from_the_committed_results_alone(tmp_path: Path) -> None:
    done = drawn(tmp_path, BENCHMARKS / "results")
    assert done.returncode == 0, done.stderr
    assert 10_000 < (tmp_path / "out.png").stat().st_size < 100_000


@pytest.mark.slow
def test_without_results_it_says_what_to_run(tmp_path: Path) -> None:
    done = drawn(tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(f"run a benchmark with --json {tmp_path}/NAME.json")


@pytest.mark.slow
def test_the_tables_of_the_pages_are_those_of_the_results() -> None:
    code = """
import tables
for path in tables.PAGES:
    page = path.read_text(encoding="utf-8")
    assert tables.TABLE.search(page) and tables.filled(page) == page, path.name
"""
    done = python(code)
    assert done.returncode == 0, f"run `python benchmarks/tables.py`: {done.stderr}"


@pytest.mark.slow
def test_a_table_is_replaced_where_there_are_figures_and_stays_where_there_are_none(tmp_path: Path) -> None:
    figures = {"overhead": {
        "step_cpu_ms": {"low": 0.05}, "step_with_journal_cpu_ms": {"low": 0.08}, "thousand_episodes_mib": 7.2
    }}  # fmt: skip
    machine = {"time": "2026-11-22T16:44:32Z", "processor": "X", "cores": 2, "python": "3.11.7"}
    load = {"load": [1.2, 0, 0], "load_after": [2.9, 0, 0]}
    whole = {"command": "rollouts.py overhead", "machine": {**machine, **load}, "figures": figures}
    (tmp_path / "rollouts.json").write_text(json.dumps(whole))
    by_hand = "<!-- rollouts tools -->\nby hand\n<!-- / -->\n<!-- learner update -->\nby hand\n<!-- / -->\n"
    done = python(f"""
import pathlib, tables
page = "<!-- rollouts overhead -->\\nold\\n<!-- / -->\\n" + {by_hand!r}
print(tables.filled(page, pathlib.Path({str(tmp_path)!r})), end="")
""")
    assert (
        done.stdout
        == f"""<!-- rollouts overhead -->

Measured on 2026-11-22 by `rollouts.py overhead`: X, 2 cores, Python 3.11.7, load 1 before and 3 after.

What the framework itself costs:

|                                                      | measured | at most |
| ---------------------------------------------------- | -------: | ------: |
| a step, CPU-ms                                       |    0.050 |   0.150 |
| a step, every episode written to the journal, CPU-ms |    0.080 |   0.150 |
| 1,000 episodes in flight, MiB above the base         |        7 |     300 |

<!-- / -->
{by_hand}"""
    ), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["environments.py", "--json", "nowhere/x.json"], "argument --json: there is no folder nowhere"),
        (
            ["environments.py", "--only", "by_quintain,by_me"],
            "there is no 'by_me'; the choices are: by_gymnasium",
        ),
        (["sandboxes.py", "--rounds", "0"], "--rounds: must be a whole number of at least 1, got '0'"),
        (["judges.py", "--data", "."], "argument --data: . lacks math_verify_sample.jsonl"),
        (["environments.py", "--python", "by_gem"], "--python: 'by_gem' is not LIBRARY=PATH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_benchmark_says_what_is_wrong_before_it_measures(command: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert said in done.stderr
