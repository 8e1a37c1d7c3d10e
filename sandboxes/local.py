"""Programs on this machine in a bubblewrap of their own: no network, a read-only system, a private folder."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from .base import (
    Capabilities,
    Files,
    LanguageError,
    Limits,
    LimitsError,
    Reason,
    Result,
    SandboxClosed,
    SandboxFileError,
    SandboxUnavailable,
    Tier,
    Usage,
)
from .machine import STAGE, WORKER_UID, find_bubblewrap, find_interpreter

LANGUAGES = ("python", "bash")


class LocalSandbox:
    """Each run in a fresh bubblewrap with an empty working folder; any number at once."""

    def __init__(self, *, limits: Limits | None = None, concurrency: int | None = None) -> None:
        self.limits = limits or Limits()
        self._bwrap = find_bubblewrap()
        self._python = find_interpreter()
        self._threads = ThreadPoolExecutor(concurrency or max(4, os.cpu_count() or 1), "quintain-sandbox")
        self._closed = False
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        check = self._run("print(7)", "python", b"", {}, self.limits.but(wall_s=30.0))
        if check.stdout != "7\n":
            raise SandboxUnavailable(f"bubblewrap does not work here: {check.stderr.strip() or check.reason}")

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the programs get."""
        return Capabilities(
            backend="local",
            tier=Tier.BWRAP_PER_BOX,
            isolated=True,
            aggregate_memory="none",
            seccomp=False,
            languages=LANGUAGES,
        )

    async def run(
        self,
        code: str | Sequence[str],
        *,
        language: str = "python",
        stdin: str | bytes = b"",
        files: Files | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run one program to its end; see `Runner.run`."""
        work = (code, language, stdin, files or {}, limits or self.limits)
        return await asyncio.wrap_future(self._threads.submit(self._run, *work))

    def run_sync(
        self,
        code: str | Sequence[str],
        *,
        language: str = "python",
        stdin: str | bytes = b"",
        files: Files | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Do what `run` does, from a thread without an event loop."""
        work = (code, language, stdin, files or {}, limits or self.limits)
        return self._threads.submit(self._run, *work).result()

    async def aclose(self) -> None:
        """Kill everything and free it."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Kill everything and free it."""
        self._closed = True
        with self._lock:
            for child in self._alive:
                child.kill()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _run(
        self, code: str | Sequence[str], language: str, stdin: str | bytes, files: Files, limits: Limits
    ) -> Result:
        if self._closed:
            raise SandboxClosed("This sandbox is closed. Open another one with open_sandbox().")
        if limits.network:
            raise LimitsError(
                "The local sandbox has no network. Use open_sandbox('docker') for Limits(network=True)."
            )
        with tempfile.TemporaryDirectory(prefix="quintain-") as folder:
            work = Path(folder) / "work"
            work.mkdir(mode=0o777)
            put_files(work, files)
            argv = self._program(code, language, work)
            for path in [work, *work.rglob("*")]:
                path.chmod(0o777)
            plan = self._plan(argv, work)
            data = stdin.encode() if isinstance(stdin, str) else stdin
            return self._execute(plan, data, limits)

    def _program(self, code: str | Sequence[str], language: str, work: Path) -> list[str]:
        if not isinstance(code, str):
            return list(code)
        if language == "python":
            (work / "main.py").write_text(code)
            return [f"/opt/python/{self._python.executable}", "-s", "-P", "main.py"]
        if language in ("bash", "shell", "sh"):
            (work / "main.sh").write_text(code)
            return ["/usr/bin/bash", "main.sh"]
        raise LanguageError(f"Language {language!r} is not available here; have {', '.join(LANGUAGES)}.")

    def _plan(self, program: list[str], work: Path) -> dict[str, object]:
        root = os.geteuid() == 0
        trees = [[self._python.base, "python"], [str(work), "work"]]
        trees += [[site, f"site{i}"] for i, site in enumerate(self._python.site)]
        seen = {source: f"{STAGE}/{name}" if root else source for source, name in trees}
        bwrap = self._bwrap
        for site in self._python.site:  # a bundled bwrap finds its libraries by its place among the packages
            if bwrap.startswith(site + "/"):
                bwrap = seen[site] + bwrap.removeprefix(site)
        argv = [bwrap, "--unshare-user", "--unshare-net", "--unshare-ipc", "--unshare-pid"]
        argv += ["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
        argv += ["--uid", "1000", "--gid", "1000", "--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib64", "lib32"):
            if Path("/", name).is_symlink():
                argv += ["--symlink", f"usr/{name}", f"/{name}"]
            elif Path("/", name).is_dir():
                argv += ["--ro-bind", f"/{name}", f"/{name}"]
        argv += ["--ro-bind", seen[self._python.base], "/opt/python"]
        paths = []
        for i, site in enumerate(self._python.site):
            argv += ["--ro-bind", seen[site], f"/opt/site{i}"]
            paths.append(f"/opt/site{i}")
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/etc"]
        argv += ["--bind", seen[str(work)], "/work", "--remount-ro", "/dev", "--remount-ro", "/"]
        argv += [
            "--clearenv",
            "--setenv",
            "PATH",
            "/opt/python/bin:/usr/bin:/bin",
            "--setenv",
            "HOME",
            "/work",
        ]
        argv += ["--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONPATH", ":".join(paths), "--chdir", "/work"]
        if self._python.library_path:
            argv += ["--setenv", "LD_LIBRARY_PATH", f"/opt/python/{self._python.library_path}"]
        uid = WORKER_UID if root else None
        return {"uid": uid, "stage": STAGE, "trees": trees, "argv": [*argv, *program], "parent": os.getpid()}

    def _execute(self, plan: dict[str, object], stdin: bytes, limits: Limits) -> Result:
        launch = Path(__file__).parent / "agent" / "launch.py"
        started = time.monotonic()
        with tempfile.TemporaryFile() as source:
            source.write(stdin)
            source.seek(0)
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launch), json.dumps(plan)],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                start_new_session=True,
            )
        megabyte = 1 << 20
        for kind, value in (
            (resource.RLIMIT_AS, limits.memory_mb * megabyte),
            (resource.RLIMIT_NPROC, limits.processes + 4),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_FSIZE, limits.disk_mb * megabyte),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.prlimit(child.pid, kind, (value, value))
        with self._lock:
            self._alive.add(child)
        try:
            kept, cut, timed_out = drain(child, started + limits.wall_s, limits.output_bytes)
        finally:
            child.kill()
            child.wait()
            with self._lock:
                self._alive.discard(child)
            for pipe in (child.stdout, child.stderr):
                assert pipe is not None
                pipe.close()
        status = child.returncode
        signal = -status if status < 0 else status - 128 if status > 128 else None
        if timed_out:
            reason = Reason.TIMEOUT
        elif status == 0:
            reason = Reason.OK
        elif b"MemoryError" in kept[1][-200:]:
            reason = Reason.MEMORY
        else:
            reason = Reason.KILLED if signal else Reason.ERROR
        return Result(
            reason=reason,
            exit_status=None if timed_out or signal else status,
            signal=None if timed_out else signal,
            stdout_bytes=kept[0],
            stderr_bytes=kept[1],
            stdout_truncated=cut[0],
            stderr_truncated=cut[1],
            usage=Usage(wall_s=time.monotonic() - started),
        )


def put_files(work: Path, files: Mapping[str, str | bytes]) -> None:
    """Write the given files below `work`, refusing paths that leave it."""
    for name, data in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in name:
            raise SandboxFileError(
                f"File {name!r} is outside the working folder; give a relative path without '..'."
            )
        target = work.joinpath(*pure.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)


def drain(child: subprocess.Popen[bytes], deadline: float, cap: int) -> tuple[list[bytes], list[bool], bool]:
    """Read both streams, keeping at most `cap` bytes of each, until the program ends or the deadline passes."""
    kept = [bytearray(), bytearray()]
    cut = [False, False]
    with selectors.DefaultSelector() as selector:
        for number, pipe in enumerate((child.stdout, child.stderr)):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, number)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return [bytes(k) for k in kept], cut, True
            for key, _ in selector.select(min(left, 0.5)):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                room = cap - len(kept[key.data])
                kept[key.data] += data[: max(room, 0)]
                cut[key.data] = cut[key.data] or len(data) > room
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return [bytes(k) for k in kept], cut, True
    return [bytes(k) for k in kept], cut, False
