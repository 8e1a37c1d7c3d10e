"""A container whose image has no Python, so none of our agent: each program is a `docker exec`.

The fallback. It costs some 100 ms a run where the agent costs three, has no filter of ours on top of the engine's,
and knows programs and shell scripts only. A shell around each program puts the limits on and, at its end, kills all
that the program left behind; the host does so again whenever that shell was itself ended.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .attached import Demultiplexer
from .base import LanguageError, Limits, SandboxError, WorkerDied
from .link import GRACE_S, End, Job

SWEEPS = 5
"""How often a sweep is tried before the container is given up."""
MAIN = ["sh", "-c", "exec 3<&0; while :; do cat <&3 >/dev/null & wait $!; [ $? -ge 128 ] || exit; done"]
"""The main process: it ends with the stream that its supervisor holds, and reaps orphans while it waits."""
FILE_S = 30.0
"""Seconds that a step of ours may take."""
SWEEP = ["sh", "-c", "kill -9 -1 2>/dev/null; exit 0"]
"""Kills every process of the container but its main one."""
WRAPPER = """\
ulimit -c 0; ulimit -v $1 2>/dev/null; ulimit -n $2; ulimit -f $3; [ $4 = 0 ] || ulimit -t $4; shift 4
"$@"; status=$?; kill -9 -1 2>/dev/null; exit $status
"""
FIND = 'case "$p" in /work|/work/*) ;; *) echo "$1 leaves the working folder" >&2; exit 1;; esac\n'
FILES = {
    "read": 'p=$(readlink -f -- "$1") || { echo "No such file or directory: $1" >&2; exit 1; }\n'
    + FIND
    + '[ -f "$p" ] || { echo "$1 is not a regular file" >&2; exit 1; }\n'
    '[ $(wc -c < "$p") -le $2 ] || { echo "$1 has more than $2 bytes (max_bytes)" >&2; exit 1; }\nexec cat < "$p"',
    "write": 'mkdir -p -- "$(dirname -- "$1")" || exit 1\n'
    'p=$(readlink -f -- "$(dirname -- "$1")") || exit 1\n'
    + FIND
    + '[ ! -d "$1" ] || { echo "$1 is a folder" >&2; exit 1; }\n'
    't="$p/.quintain-new"; rm -f "$t"; cat > "$t" && exec mv -fT -- "$t" "$p/$(basename -- "$1")"',
    "list": 'cd -- "$1" || exit 1; p=$PWD\n'
    + FIND
    + "echo quintain-list; find . -mindepth 1 -exec stat -c '%F|%s|%n' {} +",
}
"""File operations as shell programs; each refuses by a sentence on stderr and status 1."""
LISTED = b"quintain-list\n"
KINDS = {"regular file": "file", "regular empty file": "file", "directory": "dir", "symbolic link": "link"}


class ExecLink:
    """A box without an agent."""

    def __init__(self, client: Any, identity: str, held: socket.socket) -> None:
        self.alive = True
        self.once = False
        self._client = client
        self._identity = identity
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._closing: list[Callable[[], None]] = []
        self._jobs: set[Job] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers = 0
        held.setblocking(False)
        self._loop.add_reader(held.fileno(), self._ended)

    def start(
        self, kind: str, limits: Limits, payload: bytes, stdin: bytes = b"", *, session: bool = False
    ) -> Job:
        """Start a job; see `Link.start`. Only programs, shell scripts and files are known here."""
        if not self.alive:
            raise WorkerDied("The container is gone.")
        if kind not in ("exec", "files"):
            raise LanguageError(
                "This image has no python3, so there are only shell scripts and programs by their argument list "
                "here: no Python, no sessions, no calls. Use an image with python3 for those."
            )
        self._numbers += 1
        job = Job(self._numbers, limits, self._loop)
        self._jobs.add(job)
        task = asyncio.ensure_future(self._run(job, kind, limits, payload, stdin))
        job.drain = lambda: None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _run(self, job: Job, kind: str, limits: Limits, payload: bytes, stdin: bytes) -> None:
        started = time.monotonic()
        reason, code, text = "ended", 0, ""
        try:
            steps, argv = plan(kind, payload)
            for step, data, failure in steps:
                if await self._exec(step, data, FILE_S, None) != 0:
                    raise SandboxError(failure)
            ended = await self._exec(limited(argv, limits), stdin, limits.wall_s, job)
            reason, code = ("timeout", 0) if ended is None else ("ended", ended)
            if ended in (None, 137) or job.flooded:
                await self._sweep()  # the shell around it may have been killed before it swept
            if kind == "files":
                relist(job)
        except SandboxError as error:
            reason, text = "failed", str(error)
        except Exception as error:
            self._jobs.discard(job)
            job.lose(WorkerDied(f"The engine did not run a program: {error}"))
            return
        self._jobs.discard(job)
        if not job.end.done():
            took = time.monotonic() - started
            job.end.set_result(
                End(reason, int(signal.SIGKILL) if reason == "timeout" else code << 8, took, 0.0, 0, text)
            )
        for which in (0, 1):
            job.closed(which)

    async def _exec(self, argv: list[str], stdin: bytes, wall_s: float, job: Job | None) -> int | None:
        """Run one command to its end and return its status; None when it took too long and was killed.

        What it writes goes to the job, if there is one.
        """
        made = await asyncio.to_thread(
            self._client.api.exec_create, self._identity, argv, stdin=True, workdir="/work"
        )
        held = await asyncio.to_thread(self._client.api.exec_start, made["Id"], socket=True)
        raw = getattr(held, "_sock", held)
        sock = socket.socket(fileno=os.dup(raw.fileno()))
        held.close()
        sock.setblocking(False)
        feeding = asyncio.ensure_future(self._feed(sock, stdin))
        late = False
        try:
            await asyncio.wait_for(self._read(sock, job), wall_s)
        except TimeoutError:
            late = True
            if job is not None:
                await self._sweep()
                await asyncio.wait({asyncio.ensure_future(self._read(sock, job))}, timeout=GRACE_S)
        finally:
            feeding.cancel()
            sock.close()
        if late:
            return None
        for _ in range(100):
            state = await asyncio.to_thread(self._client.api.exec_inspect, made["Id"])
            if not state["Running"]:
                return int(state["ExitCode"] or 0)
            await asyncio.sleep(0.02)
        return None

    async def _feed(self, sock: socket.socket, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    async def _read(self, sock: socket.socket, job: Job | None) -> None:
        demux = Demultiplexer()
        while data := await self._loop.sock_recv(sock, 1 << 16):
            self._wrote(job, 0, demux.take(data))
            self._wrote(job, 1, bytes(demux.errors))
            demux.errors.clear()

    def _wrote(self, job: Job | None, which: int, data: bytes) -> None:
        if job is not None and data and job.wrote(which, data):
            self.stop(job)

    def stop(self, job: Job, reason: str = "cancelled") -> None:
        """Kill a job and all it started."""
        if self.alive:
            task = asyncio.ensure_future(self._sweep())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _sweep(self) -> None:
        """Kill all that runs; a bomb that leaves no room for even that ends with its container."""
        with suppress(Exception):  # a container that is gone has nothing left to sweep
            for _ in range(SWEEPS):
                if await self._exec(SWEEP, b"", FILE_S, None) == 0:
                    return
            self.close()

    def signal(self, job: Job, which: int) -> None:
        """There are no sessions here."""

    def on_close(self, work: Callable[[], None]) -> None:
        """Have something done when the box is closed or lost."""
        self._closing.append(work)

    def _ended(self) -> None:
        try:
            if self._held.recv(1 << 12):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """End the container and all in it."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._held.fileno())
            self._held.close()
            for job in list(self._jobs):
                job.lose(WorkerDied("The container ended while a program ran."))
            self._jobs.clear()
            for work in self._closing:
                work()


def plan(kind: str, payload: bytes) -> tuple[list[tuple[list[str], bytes, str]], list[str]]:
    """Return what to do first (command, input, what its failure means), and the command itself."""
    if kind == "files":
        operation, *arguments = marshal.loads(payload)
        if operation not in FILES:
            raise SandboxError("language Snapshots need an image with python3.")
        return [], ["sh", "-c", FILES[operation], operation, *map(str, arguments)]
    argv, files, environ, script = marshal.loads(payload)
    steps = [
        (["sh", "-c", FILES["write"], "write", path], data, f"file {path!r} could not be written")
        for path, data in files.items()
    ]
    if script is not None:
        put = ["sh", "-c", "cat > /tmp/main.sh"]
        steps.append((put, script, "file the script could not be written"))
        argv = ["sh", "-c", 'exec "$(command -v bash || echo sh)" /tmp/main.sh']
    else:
        missing = f"language There is no program {argv[0]!r} in this sandbox."
        steps.append((["sh", "-c", 'command -v -- "$0" >/dev/null', argv[0]], b"", missing))
    return steps, ["env", *(f"{name}={value}" for name, value in environ.items()), *argv] if environ else argv


def relist(job: Job) -> None:
    """Bring what `find` said about a folder into the form that an agent's listing has."""
    output = job.outputs[0]
    if not output.kept.startswith(LISTED):
        return
    records: list[bytes] = []
    for line in bytes(output.kept).removeprefix(LISTED).split(b"\n"):
        word, size, name = (*line.split(b"|", 2), b"", b"")[:3]
        kind = KINDS.get(word.decode("utf-8", "replace"), "other")
        if size.isdigit() and name.startswith(b"./"):
            records.append(kind.encode() + b" " + size + b" " + name[2:])
        elif records and line:
            records[-1] += b"\n" + line  # a name of two lines
    output.kept[:] = b"".join(record + b"\0" for record in records)


def limited(argv: list[str], limits: Limits) -> list[str]:
    """Put the shell around a program that limits and sweeps."""
    numbers = (
        limits.memory_mb << 10,
        limits.open_files,
        limits.disk_mb << 11,
        max(1, round(limits.cpu_s)) if limits.cpu_s else 0,
    )
    return ["sh", "-c", WRAPPER, "sh", *map(str, numbers), *argv]
