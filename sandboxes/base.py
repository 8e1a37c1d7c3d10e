"""The contract of a sandbox: what a program may use, what came out of it, and what can go wrong on our side.

Two kinds of failure are kept apart everywhere. What a *program* did (a crash, a time-out, too much
memory) is a `Result`, and a model may see it. What *we* could not do (no isolation on this machine, a
worker that died, a path outside the working folder) is a `SandboxError`; it must never become a reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

Files = Mapping[str, str | bytes]
"""Files to put into the working folder before a run: relative path to content."""


# --- errors: ours, never the program's --------------------------------------------------------------------


class SandboxError(Exception):
    """Something on our side failed. Never a verdict about the program, never shown to a model."""


class SandboxUnavailable(SandboxError):  # noqa: N818 - the name is the sentence
    """This machine cannot give the isolation that was asked for; the text says what is missing and the fix."""


class SandboxClosed(SandboxError):  # noqa: N818 - the name is the sentence
    """The sandbox, session or pool was used after it had been closed."""


class WorkerDied(SandboxError):  # noqa: N818 - the name is the sentence
    """The process or container that ran the program was lost (not the program itself)."""


class PoolExhausted(SandboxError):  # noqa: N818 - the name is the sentence
    """No sandbox became free within the time the caller was willing to wait."""


class LimitsError(SandboxError, ValueError):
    """A limit makes no sense, or this backend cannot enforce it."""


class LanguageError(SandboxError, ValueError):
    """The language or interpreter is not there."""


class SandboxFileError(SandboxError):
    """A file operation from outside was refused: the path, the kind of file, its size, or a full disk."""


# --- limits --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use. Each is enforced, or refused with `LimitsError`; none is ignored."""

    wall_s: float = 10.0
    """Seconds of real time until the whole process tree is killed."""
    cpu_s: float | None = None
    """Seconds of processor time of one process; None: only the wall time counts."""
    memory_mb: int = 512
    """MiB of memory: of each process by the kernel, of all of them together as `Capabilities` says."""
    processes: int = 64
    """Processes and threads that may be alive at once."""
    open_files: int = 256
    """File descriptors of one process."""
    disk_mb: int = 256
    """MiB in the working folder, /tmp and /dev/shm together."""
    output_bytes: int = 1 << 20
    """Bytes kept of stdout and of stderr, each. The rest is dropped and marked; a program that writes
    more than `OUTPUT_KILL_FACTOR` times this is stopped."""
    network: bool = False
    """Whether the program may reach a network."""

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if value is None and name == "cpu_s":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise LimitsError(f"Limits.{name} must be between {low} and {high}, got {value!r}.")
        for name in ("memory_mb", "processes", "open_files", "disk_mb", "output_bytes"):
            if not isinstance(getattr(self, name), int):
                raise LimitsError(f"Limits.{name} must be a whole number, got {getattr(self, name)!r}.")

    def but(self, **changes: object) -> Limits:
        """Return a copy with some limits changed; a misspelt name is an error that lists the right ones."""
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            known = ", ".join(f.name for f in fields(self))
            raise LimitsError(f"There is no limit named {unknown[0]!r}. The limits are: {known}.")
        return replace(self, **changes)  # type: ignore[arg-type]


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("wall_s", 0.01, 86_400),
    ("cpu_s", 0.01, 86_400),
    ("memory_mb", 16, 1 << 20),
    ("processes", 1, 32_768),
    ("open_files", 16, 1 << 16),
    ("disk_mb", 1, 1 << 20),
    ("output_bytes", 0, 1 << 30),
)

OUTPUT_KILL_FACTOR = 64
"""A program that writes this many times `Limits.output_bytes` (at least 16 MiB) is stopped: draining a
flood to the end costs more processor time than the program is worth."""


def files_for(disk_mb: int) -> int:
    """Return how many files a box may have with this quota: 64 for each MiB, since an empty one costs memory too."""
    return disk_mb * 64 + 64


# --- results -----------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why a program ended. All of these are the program's own doing."""

    OK = "ok"
    """It ended with exit status 0."""
    ERROR = "error"
    """It ended by itself with another exit status (an uncaught exception, a failed command)."""
    TIMEOUT = "timeout"
    """It was stopped at its wall or processor time."""
    MEMORY = "memory"
    """It was stopped, or gave up, at its memory limit."""
    OUTPUT = "output"
    """It was stopped because it would not stop writing."""
    KILLED = "killed"
    """It was ended by a signal of another cause: a crash, its own doing, a forbidden system call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run used."""

    wall_s: float = 0.0
    """Seconds of real time from the start of the program to the end of the last of its processes."""
    cpu_s: float = 0.0
    """Seconds of processor time, user and system, of the program and all its children."""
    max_rss_mb: float = 0.0
    """MiB: the largest resident size that one of its processes reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out of one program, or of one call in a session."""

    reason: Reason
    """Why it ended."""
    exit_status: int | None
    """The exit status; None when it was ended by a signal or by a limit."""
    signal: int | None = None
    """The signal that ended it, if one did."""
    stdout_bytes: bytes = b""
    """Standard output up to `Limits.output_bytes`, as written."""
    stderr_bytes: bytes = b""
    """Standard error up to `Limits.output_bytes`, as written."""
    stdout_truncated: bool = False
    """Whether standard output went on after the kept part."""
    stderr_truncated: bool = False
    """Whether standard error went on after the kept part."""
    restarted: bool = False
    """Sessions only: the state was lost in this call, and the next call meets a fresh interpreter."""
    usage: Usage = field(default_factory=Usage)
    """What it used."""
    isolated: bool = True
    """False when it ran under `unsafe_allow="none"`, that is, without isolation."""

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with exit status 0."""
        return self.reason is Reason.OK

    @property
    def truncated(self) -> bool:
        """Whether either stream was cut."""
        return self.stdout_truncated or self.stderr_truncated

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")


# --- what a backend can do ------------------------------------------------------------------------------------


class Tier(StrEnum):
    """How a sandbox is isolated, from `Capabilities.tier`."""

    FULL = "full"
    """One warm bubblewrap per worker, fresh namespaces per box."""
    BWRAP_PER_BOX = "bwrap-per-box"
    """One bubblewrap per box; for machines where it may not be nested."""
    LANDLOCK = "landlock"
    """No namespaces: Landlock, a stricter system call filter and a watchdog. It has gaps; see `Capabilities.gaps`."""
    DOCKER = "docker"
    """One container per box."""
    NONE = "none"
    """Resource limits only: no isolation. Never chosen unless asked for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What isolation a sandbox really has; part of the record of every run."""

    backend: str
    """The name it was opened by: "local", "docker", or a third party's."""
    tier: Tier
    """How it is isolated."""
    isolated: bool
    """Whether untrusted code may run here at all."""
    aggregate_memory: str
    """How memory of a whole process tree is bounded: "cgroup", "watchdog" or "none"."""
    seccomp: bool
    """Whether a system call filter of ours is in force."""
    languages: tuple[str, ...]
    """What `run(language=...)` understands here."""
    gaps: Mapping[str, str] = field(default_factory=dict)
    """What this tier does not promise that a better one would: name to reason."""

    def to_json(self) -> dict[str, object]:
        """Return plain data for a run's record."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One entry of the working folder."""

    path: str
    """Relative to the working folder, with forward slashes."""
    size: int
    """Bytes."""
    kind: str
    """"file", "dir", "link" or "other"."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a working folder, to be given to `restore`. Opaque: its bytes are only ever opened inside a sandbox."""

    data: bytes = field(repr=False)
    """The packed folder."""


# --- the protocols ---------------------------------------------------------------------------------------------


@runtime_checkable
class Runner(Protocol):
    """Anything that runs one program: a `Sandbox` (in its working folder) or a pool (in a fresh box each time)."""

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the programs get."""

    async def run(
        self,
        code: str | Sequence[str],
        *,
        language: str = "python",
        stdin: str | bytes = b"",
        files: Files | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run one program to its end and return what came out; raise `SandboxError` when we could not.

        `code` is source text in `language`, or an argument list to execute as it is (then `language` is
        not looked at). `files` are put into the working folder first. `limits` replace the sandbox's own
        for this run. When the call is cancelled the program is killed.
        """

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

    async def aclose(self) -> None:
        """Kill everything and free it. Closing twice is fine."""

    def close(self) -> None:
        """Do what `aclose` does, from a thread without an event loop."""


@runtime_checkable
class Session(Protocol):
    """An interpreter that stays: each call sees what the earlier ones left behind."""

    async def call(self, text: str, *, wall_s: float | None = None) -> Result:
        """Run `text` in the interpreter and return its output.

        At the time limit the call is interrupted and the state kept (`reason` is `timeout`); if the
        interpreter does not heed the interrupt it is killed, `restarted` is set, and the next call meets
        a fresh one.
        """

    def call_sync(self, text: str, *, wall_s: float | None = None) -> Result:
        """Do what `call` does, from a thread without an event loop."""

    async def interrupt(self) -> None:
        """Interrupt the call in progress, as Ctrl-C does; the state is kept."""

    async def aclose(self) -> None:
        """End the interpreter and its processes."""

    def close(self) -> None:
        """Do what `aclose` does, from a thread without an event loop."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Sandbox(Runner, Protocol):
    """A box for one episode: its own working folder, processes and limits.

    Runs of one sandbox share the working folder and are therefore done one after the other, in the order
    of the calls, from whatever thread or event loop they come. For many programs at once that must not see
    each other, use a pool (`open_pool`), which has the same `run`.
    """

    async def session(self, kind: str = "python", *, limits: Limits | None = None) -> Session:
        """Start an interpreter that stays: "python" or "bash"."""

    async def read_file(self, path: str, *, max_bytes: int = 1 << 24) -> bytes:
        """Read a regular file of the working folder."""

    async def write_file(self, path: str, data: str | bytes) -> None:
        """Write a file of the working folder, making the folders above it."""

    async def list_files(self, path: str = ".") -> list[FileInfo]:
        """List everything under a folder of the working folder, sorted by path."""

    async def snapshot(self) -> Snapshot:
        """Copy the working folder out."""

    async def restore(self, snapshot: Snapshot) -> None:
        """Make the working folder what it was when the snapshot was taken."""

    async def reset(self) -> None:
        """Kill everything and start over with an empty working folder."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
