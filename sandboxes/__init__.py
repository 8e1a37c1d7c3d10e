"""Where untrusted code runs.

`open_sandbox` gives one box with a working folder (an episode): its runs share the folder and are done one
after the other. `open_pool` gives the same `run`, each in a fresh box, many at once.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

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
from .box import Backend, BoxSandbox
from .calls import Call, Functions, Outcome, Status
from .payload import program
from .pool import WAIT_S, Pool, PoolStats
from .portal import Portal
from .tiers import open_local

T = TypeVar("T")

__all__ = [
    "open_sandbox",
    "open_pool",
    "BoxSandbox",
    "Pool",
    "PoolStats",
    "Call",
    "Outcome",
    "Status",
    "Functions",
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


def open_sandbox(
    backend: str = "local", *, limits: Limits | None = None, preload: Sequence[str] = (), **options: Any
) -> BoxSandbox:
    """Open one sandbox. `limits` hold for every run that does not bring its own.

    `preload` names modules to import once, ahead of every program ("numpy", "sympy"). `options` are the backend's
    own: for "local" see `tiers.open_local`, for "docker" see `docker.DockerBackend`.
    """
    portal = Portal()

    async def make() -> BoxSandbox:
        opened = await open_backend(backend, preload=preload, **options)
        sandbox = BoxSandbox(opened, portal, limits or Limits())
        await _try(sandbox, opened)
        return sandbox

    return _enter(portal, make())


def open_pool(
    backend: str = "local",
    *,
    limits: Limits | None = None,
    preload: Sequence[str] = (),
    size: int | None = None,
    spares: int | None = None,
    wait_s: float = WAIT_S,
    **options: Any,
) -> Pool:
    """Open a pool, whose `run` takes a fresh box each time.

    `size` programs run at once (default: four per core); `spares` boxes are kept open ahead of demand; a program
    that waits longer than `wait_s` for its turn is a `PoolExhausted`. `options` are the backend's own.
    """
    portal = Portal()

    async def make() -> Pool:
        opened = await open_backend(backend, preload=preload, **options)
        pool = Pool(opened, portal, limits or Limits(), size=size, spares=spares, wait_s=wait_s)
        await _try(pool, opened)
        return pool

    return _enter(portal, make())


async def open_backend(name: str, **options: Any) -> Backend:
    """Make a backend by its name: "local" or "docker"."""
    if name == "local":
        return await open_local(**options)
    if name == "docker":
        from .docker import DockerBackend

        return DockerBackend(**options)
    raise SandboxUnavailable(f"There is no sandbox backend {name!r}; have 'local' and 'docker'.")


async def _try(runner: BoxSandbox | Pool, backend: Backend) -> None:
    """Run nothing, to see that something could be run."""
    try:
        try:
            await runner._run(*program("pass", "python", None), b"", runner.limits)
        except LanguageError:  # an image without it, which shows when it starts
            await runner._run(*program(":", "bash", None), b"", runner.limits)
    except BaseException:
        await backend.aclose()
        raise


def _enter(portal: Portal, work: Coroutine[None, None, T]) -> T:
    try:
        return portal.call(work)
    except BaseException:
        portal.stop()
        raise
