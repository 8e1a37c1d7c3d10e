"""Ending a group of processes, whole: asked first, killed then, and what they shared is cleaned up.

Run as a program, with the group's number, it is the watcher of `LocalServer`: it ends the group as soon as the
process that holds the other end of its input is gone. It needs nothing but Python.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ASKED_S = 15.0
"""Seconds that a group has to end after it was asked."""
ORPHANED_S = 3.0
"""The same where its leader is gone already: who is left may wait for it for ever."""
KILLED_S = 10.0
"""Seconds that Python's resource tracker has to delete the shared memory of those that were killed."""


def end_group(group: int, asked_s: float = ASKED_S) -> None:
    """End all processes of `group`; returns when there are none, or only such as cannot be killed."""
    if _send(group, signal.SIGTERM) and not _gone(group, asked_s):
        for member, tracker in _members(group):
            if not tracker:
                _kill(member)
        if not _gone(group, KILLED_S):
            _send(group, signal.SIGKILL)
            _gone(group, KILLED_S)


def _members(group: int) -> "list[tuple[int, bool]]":
    """Return the processes of the group, and of each whether it is Python's resource tracker."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(after_name[2]) == group:
                found.append((int(entry.name), b"resource_tracker" in (entry / "cmdline").read_bytes()))
        except (OSError, IndexError):
            continue
    return found


def _send(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _gone(group: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not _send(group, 0):
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_group(int(sys.argv[1]))
