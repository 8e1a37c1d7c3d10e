"""Committed figures say what they were measured on, and the picture in the README is drawn from them."""

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
def test_the_tables_of_the_page_are_those_of_the_results(tmp_path: Path) -> None:
    code = "import tables; page = (tables.HERE / 'README.md').read_text(); assert tables.filled(page) == page"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"run `python benchmarks/tables.py`: {done.stderr}"
