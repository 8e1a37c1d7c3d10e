"""Which isolation this machine can give: try the best first, refuse below what was asked, and say why.

Nothing is concluded from version numbers or settings. A tier works when a program has run in it and a few of the
attacks it must hold have been held.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .base import Limits, Reason, Result, SandboxError, SandboxUnavailable, Tier
from .link import finish
from .local import LocalBackend, unavailable
from .payload import program

ORDER = (Tier.FULL, Tier.BWRAP_PER_BOX, Tier.LANDLOCK)
"""The isolated tiers of the local backend, best first."""

TRIAL = Limits(wall_s=10.0, memory_mb=256, disk_mb=16)


async def open_local(
    *,
    preload: Sequence[str] = (),
    workers: int = 1,
    tier: str | None = None,
    min_tier: str = Tier.BWRAP_PER_BOX,
    unsafe_allow: str | None = None,
) -> LocalBackend:
    """Open the local backend at the best tier that works here.

    `tier` asks for one tier and no other. `min_tier` is the least that will do. `unsafe_allow="none"` allows, when
    nothing better works, to run without any isolation; it warns, and every result says so.
    """
    if unsafe_allow not in (None, "none"):
        raise ValueError(f"unsafe_allow must be 'none' or left out, got {unsafe_allow!r}.")
    lowest = _tier(min_tier)
    wanted = (_tier(tier),) if tier is not None else ORDER[: ORDER.index(lowest) + 1]
    reasons: dict[Tier, SandboxUnavailable] = {}
    for candidate in wanted:
        try:
            return await _open(candidate, preload, workers)
        except SandboxUnavailable as error:
            reasons[candidate] = error
    if unsafe_allow == "none":
        return await _open(Tier.NONE, preload, workers)
    raise unavailable(reasons, lowest)


def _tier(name: str) -> Tier:
    if name not in ORDER:
        raise ValueError(f"There is no local tier {name!r}; have {', '.join(ORDER)}.")
    return Tier(name)


async def _open(tier: Tier, preload: Sequence[str], workers: int) -> LocalBackend:
    """Open the backend and run one program; `SandboxUnavailable` when that fails."""
    backend = LocalBackend(preload=preload, workers=workers, tier=tier)
    try:
        result = await _run(backend, "print(6 * 7)")
        if result.stdout != "42\n":
            raise SandboxUnavailable(
                f"A first program did not run: {result.reason}, {result.stderr.strip()[-300:]}"
            )
    except SandboxUnavailable:
        await backend.aclose()
        raise
    except SandboxError as error:
        await backend.aclose()
        raise SandboxUnavailable(str(error)) from error
    except BaseException:
        await backend.aclose()
        raise
    return backend


async def _run(backend: LocalBackend, code: str, language: str = "python", limits: Limits = TRIAL) -> Result:
    link = await backend.open_box(TRIAL)
    try:
        kind, payload = program(code, language, None)
        return await finish(link, link.start(kind, limits, payload), limits.wall_s)
    finally:
        link.close()


@dataclass(frozen=True, slots=True)
class TierReport:
    """Whether a tier works on this machine."""

    tier: Tier
    """Which."""
    works: bool
    """Whether it may be used."""
    reason: str
    """Why not; or, when it works, what a run costs."""


_ATTACKS: tuple[tuple[str, str, str], ...] = (
    (
        "sees the host's processes",
        "python",
        "import os\ntry: print(sum(n.isdigit() for n in os.listdir('/proc')) > 4)\nexcept OSError: print(False)",
    ),
    (
        "reaches a network",
        "python",
        "import socket\ntry: socket.create_connection(('1.1.1.1', 53), 0.5); print(True)\nexcept OSError: print(False)",
    ),
    (
        "makes namespaces",
        "python",
        "import ctypes, os\nn = 97 if os.uname().machine == 'aarch64' else 272\n"
        "print(ctypes.CDLL(None).syscall(n, 0x10000000) == 0)",
    ),
    (
        "writes to the system",
        "bash",
        "(touch /usr/x || touch /etc/x || touch /x) 2>/dev/null && echo True || echo False",
    ),
    ("is root", "bash", "[ $(id -u) = 0 ] && echo True || echo False"),
)


async def probe() -> list[TierReport]:
    """Try every local tier for real: open it, run the attacks it must hold, and measure."""
    reports = []
    for tier in ORDER:
        try:
            reports.append(await _probe(tier))
        except SandboxUnavailable as error:
            reports.append(TierReport(tier, False, str(error)))
    return reports


async def _probe(tier: Tier) -> TierReport:
    backend = await _open(tier, (), 1)
    try:
        for what, language, code in _ATTACKS:
            result = await _run(backend, code, language)
            if result.stdout.strip() != "False":
                return TierReport(
                    tier, False, f"A program {what}: {result.stdout.strip() or result.stderr.strip()}."
                )
        stopped = await _run(backend, "while True: pass", limits=TRIAL.but(wall_s=0.3))
        if stopped.reason is not Reason.TIMEOUT:
            return TierReport(tier, False, f"An endless program was not stopped: {stopped.reason}.")
        started = time.perf_counter()
        for _ in range(5):
            await _run(backend, "pass")
        wall = (time.perf_counter() - started) / 5
    finally:
        await backend.aclose()
    return TierReport(tier, True, f"{wall * 1000:.0f} ms for a fresh isolated run")
