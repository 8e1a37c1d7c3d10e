"""What this process holds open: descriptors, threads, children, memory."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Held:
    """A count of what is open; -1 where this system does not tell."""

    descriptors: int
    threads: int
    processes: int
    """Children, grandchildren and so on."""
    memory_mb: float
    """MiB of resident memory of this process."""


def held() -> Held:
    """Count what this process holds now."""
    return Held(_descriptors(), threading.active_count(), _processes(), _memory_mb())


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path for each would open more
    except OSError:
        return -1


def _processes() -> int:
    parents: dict[int, int] = {}
    try:
        entries = [name for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return -1
    for name in entries:
        try:
            fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(name)] = int(fields[1])
    mine = {os.getpid()}
    growing = True
    while growing:
        more = {child for child, parent in parents.items() if parent in mine} - mine
        mine |= more
        growing = bool(more)
    return len(mine) - 1


def _memory_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return -1.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
