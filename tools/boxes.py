"""Where toolkits get their boxes: from a pool that was given, or one of their own that is opened when first needed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from ..sandboxes.base import Limits, Reason, Result, SandboxUnavailable
from .errors import UserError

if TYPE_CHECKING:
    from ..sandboxes import BoxSandbox, Pool

ERROR_LINES = 8
"""Lines from the end of a traceback that the model sees when its program failed."""

_DROPPED = "\n[... more output was dropped ...]"
_NOTHING = "The program printed nothing; print what you want to see."


class Boxes:
    """Lends boxes of one pool to any number of episodes. `close` frees the pool if it was opened here."""

    def __init__(self, pool: Pool | None, limits: Limits, backend: str, options: dict[str, Any]) -> None:
        self.limits = limits
        self._given = pool
        self._own: Pool | None = None
        self._backend = backend
        self._options = options
        self._lock = threading.Lock()

    async def lend(self) -> BoxSandbox:
        """Lend a fresh box until its `aclose`. Raises `UserError` if this machine has no sandbox."""
        pool = self._given or self._own
        if pool is None:
            pool = await asyncio.to_thread(self._open)
        return await pool.lend(limits=self.limits)

    def _open(self) -> Pool:
        from ..sandboxes import open_pool

        with self._lock:
            if self._own is None:
                try:
                    own = open_pool(self._backend, limits=self.limits, **self._options)
                except SandboxUnavailable as error:
                    raise UserError(f"the tools have no sandbox to run in: {error}") from error
                self._own = own
            return self._own

    def close(self) -> None:
        """Free the pool that was opened here. The next box opens another."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.close()


def shown(result: Result, limits: Limits) -> str:
    """Return what the model sees of a Python program: what it printed, and what went wrong."""
    printed = _printed(result.stdout, result.stdout_truncated)
    if result.reason is Reason.OK:
        trouble = "" if printed else _NOTHING
    elif result.reason is Reason.ERROR:
        trouble = _tail(result.stderr) or f"Error: the program ended with status {result.exit_status}."
    else:
        trouble = _stopped("program", result, limits)
    lost = "The session was lost with its variables; the next call starts anew." if result.restarted else ""
    return "\n".join(part for part in (printed, trouble, lost) if part)


def shown_command(result: Result, limits: Limits) -> str:
    """Return what the model sees of a shell command: both its outputs, and how it ended if not well."""
    parts = [
        _printed(result.stdout, result.stdout_truncated),
        _printed(result.stderr, result.stderr_truncated).strip("\n"),
    ]
    if result.reason is Reason.ERROR:
        parts.append(f"[exit status {result.exit_status}]")
    elif result.reason is not Reason.OK:
        parts.append(_stopped("command", result, limits))
    if result.restarted:
        parts.append("The shell has ended; the next command starts another.")
    return "\n".join(part for part in parts if part) or "[no output]"


def _printed(text: str, cut: bool) -> str:
    return text.rstrip("\n") + (_DROPPED if cut else "")


def _stopped(what: str, result: Result, limits: Limits) -> str:
    return {
        Reason.TIMEOUT: f"Error: the {what} was stopped after {limits.wall_s:g} s.",
        Reason.MEMORY: f"Error: the {what} needed more than {limits.memory_mb} MiB of memory.",
        Reason.OUTPUT: f"Error: the {what} was stopped because it printed too much.",
    }.get(result.reason, f"Error: the {what} crashed.")


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-ERROR_LINES:])
