"""Files that are there whole or not at all, whatever ends the process while it writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write what becomes `path` when the body ends well; folders on the way to it are made.

    A reader sees the old file or the new one, never a part. If the body fails, the old one stays and nothing else is
    left.
    Raises `OSError` as the system reports it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield work
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file of UTF-8 text or nothing. Raises `OSError` as the system reports it."""
    with replacing(path) as work:
        work.write_text(text, "utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write a whole file of lines or nothing, and return how many. Raises `OSError` as the system reports it."""
    count = 0
    with replacing(path) as work, work.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count
