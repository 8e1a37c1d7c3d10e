"""Where untrusted code runs.

`open_sandbox` gives one box with a working folder (an episode): its runs share the folder and are done one
after the other. `open_pool` gives the same `run`, each in a fresh box, many at once.
"""

from __future__ import annotations

from .base import (
    Capabilities,
    FileInfo,
    Files,
    LanguageError,
    Limits,
    LimitsError,
    PoolExhausted,
    Reason,
    Result,
    Runner,
    Sandbox,
    SandboxClosed,
    SandboxError,
    SandboxFileError,
    SandboxUnavailable,
    Session,
    Snapshot,
    Tier,
    Usage,
    WorkerDied,
)
from .local import LocalSandbox

__all__ = [
    "open_sandbox",
    "open_pool",
    "Limits",
    "Result",
    "Reason",
    "Usage",
    "Runner",
    "Sandbox",
    "Session",
    "Snapshot",
    "Files",
    "FileInfo",
    "Capabilities",
    "Tier",
    "SandboxError",
    "SandboxUnavailable",
    "SandboxClosed",
    "SandboxFileError",
    "LimitsError",
    "LanguageError",
    "WorkerDied",
    "PoolExhausted",
]


def open_sandbox(backend: str = "local", *, limits: Limits | None = None) -> LocalSandbox:
    """Open one sandbox. `limits` hold for every run that does not bring its own."""
    if backend != "local":
        raise SandboxUnavailable(f"There is no sandbox backend {backend!r}; have 'local'.")
    return LocalSandbox(limits=limits)


def open_pool(backend: str = "local", *, limits: Limits | None = None) -> LocalSandbox:
    """Open a pool, whose `run` uses a fresh box each time and any number at once."""
    return open_sandbox(backend, limits=limits)
