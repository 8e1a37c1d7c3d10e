"""The conformance suite: one check per promise of a sandbox, to be run against any backend, a third party's too.

`check_sandbox(open_it)` opens sandboxes through the given function and returns what held and what did not, each
with the promise in words. Our own tests run the same suite.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .base import Limits, Result, Sandbox, SandboxError

LIMITS = Limits(wall_s=5.0, memory_mb=256, processes=48, output_bytes=1 << 18, disk_mb=48)
"""What the suite's sandboxes are opened with."""

Opener = Callable[[Limits], Sandbox | Awaitable[Sandbox]]
"""Opens a sandbox with the given limits."""


class Broken(Exception):  # noqa: N818 - the name is the sentence
    """A promise was not kept; the text says what was seen."""


class NotOffered(Exception):  # noqa: N818 - the name is the sentence
    """The backend does not have this; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise."""

    id: str
    """Its short name."""
    promise: str
    """The promise in words."""
    body: Callable[[Ground], Awaitable[None]]
    """Tries it; raises `Broken`."""
    gap: str = ""
    """The gap of `Capabilities.gaps` that, where it is declared, says that this is not promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What became of one check."""

    id: str
    """The check's short name."""
    promise: str
    """The promise in words."""
    held: bool | None
    """Whether it was kept; None when the backend does not offer it, or declares that it does not promise it."""
    detail: str = ""
    """What was seen, when it was not kept or not offered."""
    seconds: float = 0.0
    """How long the check took."""


@dataclass
class Ground:
    """What a check works on: a sandbox, and a host with things that no program may reach."""

    sandbox: Sandbox
    """A sandbox with an empty working folder."""
    open: Callable[[Limits], Awaitable[Sandbox]]
    """Opens another one."""
    secret: str
    """Text of a file of the host and of a variable of its environment."""
    secret_path: Path
    """That file."""
    writable: Path
    """A world-writable folder of the host."""
    port: int
    """A listener on the host's loopback address."""
    visits: list[str] = field(default_factory=list)
    """Who came to the listeners."""

    async def python(self, code: str, **options: Any) -> Result:
        """Run Python."""
        return await self.sandbox.run(code, **options)

    async def bash(self, code: str, **options: Any) -> Result:
        """Run bash."""
        return await self.sandbox.run(code, language="bash", **options)

    def limits(self, **changes: Any) -> Limits:
        """Return the suite's limits with changes."""
        return LIMITS.but(**changes)

    async def refused(self, work: Awaitable[object], kind: type[Exception] = SandboxError) -> None:
        """Expect a named error of ours."""
        try:
            got = await work
        except kind as error:
            need(bool(str(error)), "the error says nothing")
            return
        except Exception as error:
            raise Broken(f"raised {type(error).__name__} ({error}) instead of {kind.__name__}") from error
        raise Broken(f"was accepted, and gave {str(got)[:200]}")


def need(condition: bool, text: str) -> None:
    """Raise `Broken` unless the condition holds."""
    if not condition:
        raise Broken(text)


def same(got: object, wanted: object, what: str) -> None:
    """Raise `Broken` unless both are equal."""
    if got != wanted:
        raise Broken(f"{what} should be {str(wanted)[:200]}, got {str(got)[:400]}")


@contextmanager
def ground_of_host() -> Iterator[dict[str, Any]]:
    """Plant what no program may reach; take it away again."""
    secret = f"quintain-check-{os.urandom(8).hex()}"
    visits: list[str] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="quintain-check-") as folder:
        base = Path(folder)
        base.chmod(0o755)
        path = base / "secret.txt"
        path.write_text(secret)
        writable = base / "writable"
        writable.mkdir()
        writable.chmod(0o777)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)

        def listen() -> None:
            while not stop.is_set():
                try:
                    listener.accept()[0].close()
                    visits.append("tcp")
                except OSError:
                    continue

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        os.environ["QUINTAIN_CHECK_SECRET"] = secret
        try:
            yield {
                "secret": secret,
                "secret_path": path,
                "writable": writable,
                "port": listener.getsockname()[1],
                "visits": visits,
            }
        finally:
            stop.set()
            thread.join()
            listener.close()
            os.environ.pop("QUINTAIN_CHECK_SECRET", None)


async def check_sandbox(
    open_it: Opener,
    *,
    only: Sequence[str] = (),
    report: Callable[[CheckResult], None] = lambda result: None,
    check_s: float = 60.0,
) -> list[CheckResult]:
    """Try every promise (or those named in `only`) on sandboxes that `open_it` opens.

    `report` is called after each check. A check that takes longer than `check_s` seconds counts as broken.
    """
    from .checks import CHECKS

    unknown = sorted(set(only) - {check.id for check in CHECKS})
    if unknown:
        raise ValueError(
            f"There is no check {unknown[0]!r}. The checks are: {', '.join(c.id for c in CHECKS)}."
        )

    async def open_one(limits: Limits) -> Sandbox:
        made = open_it(limits)
        return await made if inspect.isawaitable(made) else made

    results: list[CheckResult] = []
    sandbox = await open_one(LIMITS)
    try:
        with ground_of_host() as host:
            for check in CHECKS:
                if only and check.id not in only:
                    continue
                started = time.monotonic()
                held, detail = await _try(check, Ground(sandbox=sandbox, open=open_one, **host), check_s)
                took = time.monotonic() - started
                result = CheckResult(
                    id=check.id, promise=check.promise, held=held, detail=detail, seconds=took
                )
                results.append(result)
                report(result)
                if not await _recovered(sandbox):
                    await sandbox.aclose()
                    sandbox = await open_one(LIMITS)
    finally:
        await sandbox.aclose()
    return results


async def _try(check: Check, ground: Ground, seconds: float) -> tuple[bool | None, str]:
    try:
        await asyncio.wait_for(check.body(ground), seconds)
    except Broken as broken:
        declared = ground.sandbox.capabilities.gaps.get(check.gap)
        return (None, f"declared: {declared} ({broken})") if declared else (False, str(broken))
    except NotOffered as missing:
        return None, str(missing)
    except TimeoutError:
        return False, f"took longer than {seconds:g} s"
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return True, ""


async def _recovered(sandbox: Sandbox) -> bool:
    """Empty the sandbox for the next check; False when it has to be replaced."""
    try:
        await asyncio.wait_for(sandbox.reset(), 30)
    except Exception:
        return False
    return True
