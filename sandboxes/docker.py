"""The docker backend: one container per box, with our agent as its main process.

A run is a fork inside a live container, its frames going over the attached stream; `docker exec` would cost a
hundred times as much. A container serves one episode and is thrown away; a spare is started ahead of demand. All
of Docker's own confinement is kept (its system call profile, no capabilities, a read-only root), and the agent
puts its own filter on top, since engines differ in what theirs lets through.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .attached import attach
from .base import Capabilities, Limits, LimitsError, SandboxClosed, SandboxUnavailable, Tier, files_for
from .bundle import boot
from .exec_link import MAIN, ExecLink
from .stream_link import StreamLink

IMAGE = "quintain-sandbox:1"
"""The default image; built from the Dockerfile beside this file when the engine does not have it."""
USER = 61_234
"""Who programs are in a container: a user of no account, here or there."""
START_S = 60.0
"""Seconds a container has to start."""
LIFE_S = 86_400
"""A container older than this is a stray, whoever made it."""
AGENT_MB = 64
"""Memory of the container beside that of its programs: the agent's own, and the kernel's for pipes and tables."""
LABEL = "quintain.sandbox"

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/work",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


_WITHOUT_PYTHON = {
    "agent": "the image has no python3: every program is a `docker exec`, which costs some 100 ms; no Python, "
    "no sessions, no calls, no snapshots; processor time and memory used are not reported",
    "seccomp": "only the engine's own system call filter is in force",
}
_DISK = "the working folder, /tmp and /dev/shm have the quota each, not together"


def connect() -> Any:
    """Connect to the engine; say what is wrong when there is none."""
    import docker

    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except Exception as error:
        where = os.environ.get("DOCKER_HOST", "the default socket /var/run/docker.sock")
        raise SandboxUnavailable(
            f"No Docker engine answers at {where}: {error}. Start one (`systemctl start docker`, Docker Desktop), "
            "set DOCKER_HOST to its socket, or use the local sandbox: open_sandbox('local')."
        ) from error
    return client


def ensure_image(client: Any, image: str) -> None:
    """See that the engine has the image; the default one is built when it is missing."""
    import docker

    try:
        client.images.get(image)
        return
    except docker.errors.ImageNotFound:
        if image != IMAGE:
            raise SandboxUnavailable(
                f"The engine has no image {image!r}. Pull or build it first; it needs python3 (3.9 or newer) and bash."
            ) from None
    try:
        build_image(client)
    except Exception as error:
        raise SandboxUnavailable(
            f"The default image {IMAGE} could not be built: {error}. Build it where there is a network "
            f"(docker build -t {IMAGE} {Path(__file__).parent}), or name another with image=."
        ) from error


def build_image(client: Any, *, tag: str = IMAGE, base: str | None = None, packages: str = "") -> None:
    """Build the image from the Dockerfile of this package."""
    arguments = {"PACKAGES": packages} | ({"BASE": base} if base else {})
    folder = str(Path(__file__).parent)
    network = None if packages else "none"
    client.images.build(path=folder, tag=tag, buildargs=arguments, rm=True, network_mode=network)


class NoSuchProgram(Exception):  # noqa: N818 - the name is the sentence
    """An image lacks the program that was to be its container's first."""


_MISSING = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)


class DockerBackend:
    """Opens containers as boxes. Its methods belong to the portal's thread."""

    fixed: tuple[str, ...] = ("disk_mb", "network", "processes", "memory_mb")

    def __init__(
        self,
        *,
        image: str | None = None,
        preload: Sequence[str] = (),
        spares: int = 1,
        runtime: str | None = None,
        cpus: float | None = None,
        network: str = "bridge",
    ) -> None:
        if spares < 0:
            raise LimitsError(f"spares must be 0 or more, got {spares}.")
        self.image = image or IMAGE
        self._preload = tuple(preload)
        self._runtime = runtime
        self._cpus = cpus
        self._network = network
        self._spares = spares
        self._client = connect()
        ensure_image(self._client, self.image)
        self._run = uuid.uuid4().hex
        self._ready: deque[tuple[Limits, StreamLink | ExecLink]] = deque()
        self._creating = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._links: set[StreamLink | ExecLink] = set()
        self._closed = False
        self._plain = False  # whether the image has no Python, so that there is no agent
        reap(self._client)

    @property
    def capabilities(self) -> Capabilities:
        """What isolation the boxes have."""
        return Capabilities(
            backend="docker",
            tier=Tier.DOCKER,
            isolated=True,
            aggregate_memory="cgroup",
            seccomp=not self._plain,
            languages=("bash",) if self._plain else ("python", "bash"),
            gaps={"disk": _DISK} | (_WITHOUT_PYTHON if self._plain else {}),
        )

    async def open_box(self, limits: Limits) -> StreamLink | ExecLink:
        """Take a spare container of these limits, or start one; see to the next spare."""
        if self._closed:
            raise SandboxClosed("This backend is closed.")
        key = container_limits(limits)
        link = None
        for _ in range(len(self._ready)):
            found, spare = self._ready.popleft()
            if found == key and spare.alive and link is None:
                link = spare
            elif found == key and spare.alive:
                self._ready.append((found, spare))
            else:
                spare.close()
        if link is None:
            link = await self._start(limits)
        if len(self._ready) < self._spares:
            self._later(self._add_spare(limits))
        return link

    async def _add_spare(self, limits: Limits) -> None:
        link = await self._start(limits)
        if self._closed:
            link.close()
        else:
            self._ready.append((container_limits(limits), link))

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            warnings.warn(
                f"Starting or removing a container failed: {task.exception()}", RuntimeWarning, stacklevel=1
            )

    async def _start(self, limits: Limits) -> StreamLink | ExecLink:
        async with self._creating:
            identity, sock = await asyncio.to_thread(self._create, limits)
        if self._plain:
            plain = ExecLink(self._client, identity, sock)
            plain.on_close(lambda: self._later(self._remove(identity, plain)))
            self._links.add(plain)
            return plain
        link = attach(sock)
        link.on_close(lambda: self._later(self._remove(identity, link)))
        self._links.add(link)
        try:
            await asyncio.wait_for(asyncio.shield(link.ready), START_S)
        except (TimeoutError, SandboxUnavailable) as error:
            said = await asyncio.to_thread(self._state, identity)
            link.close()
            raise SandboxUnavailable(
                f"A container of {self.image!r} did not start: {said or error} "
                "The image needs python3 (3.9 or newer) and bash on its PATH."
            ) from error
        return link

    def _create(self, limits: Limits) -> tuple[str, socket.socket]:
        if not self._plain:
            try:
                return self._create_with(limits, self._agent())
            except NoSuchProgram:
                self._plain = True
        try:
            made = self._create_with(limits, MAIN)
        except NoSuchProgram as error:
            raise SandboxUnavailable(
                f"A container of {self.image!r} did not start: it has neither python3 nor sh. "
                "The image needs python3 (3.9 or newer) and bash on its PATH."
            ) from error
        warnings.warn(
            f"The image {self.image!r} has no python3, so every program is a `docker exec` of some 100 ms, and only "
            "shell scripts and programs by their argument list can be run.",
            RuntimeWarning,
            stacklevel=1,
        )
        return made

    def _agent(self) -> list[str]:
        options: dict[str, object] = {
            "preload": list(self._preload),
            "environment": ENVIRONMENT,
        }
        return ["python3", "-s", "-c", boot("stream", options, [])]

    def _create_with(self, limits: Limits, command: list[str]) -> tuple[str, socket.socket]:
        import docker

        container = None
        tmpfs = f"rw,nosuid,nodev,exec,size={limits.disk_mb}m,nr_inodes={files_for(limits.disk_mb)}"
        tmpfs += f",mode=1777,uid={USER},gid={USER}"
        memory = (limits.memory_mb + 3 * limits.disk_mb + AGENT_MB) << 20
        try:
            container = self._client.containers.create(
                self.image,
                command,
                entrypoint=[],
                auto_remove=True,
                stdin_open=True,
                network_mode=self._network if limits.network else "none",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                pids_limit=limits.processes + (5 if self._plain else 2),  # ours, beside a full box
                mem_limit=memory,
                memswap_limit=memory,
                oom_kill_disable=False,
                nano_cpus=int(self._cpus * 1e9) if self._cpus else None,
                user=f"{USER}:{USER}",
                ipc_mode="private",
                shm_size=1 << 20,
                tmpfs={"/tmp": tmpfs, "/work": tmpfs, "/dev/shm": tmpfs},
                working_dir="/",
                environment=ENVIRONMENT
                if self._plain
                else {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
                hostname="sandbox",
                init=False,
                runtime=self._runtime,
                log_config=docker.types.LogConfig(type="none"),
                labels=self._labels(),
            )
            held = self._client.api.attach_socket(
                container.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            container.start()
        except docker.errors.APIError as error:
            if container is not None and _MISSING.search(str(error.explanation)):
                with suppress(docker.errors.APIError):
                    remove(self._client, container.id)
                raise NoSuchProgram(command[0]) from error
            raise SandboxUnavailable(
                f"The engine refused a container of {self.image!r}: {error.explanation}"
            ) from error
        sock = getattr(held, "_sock", held)
        copy = socket.socket(fileno=os.dup(sock.fileno()))
        held.close()
        return container.id, copy

    def _labels(self) -> dict[str, str]:
        until = str(int(time.time()) + LIFE_S)
        return {LABEL: self._run, f"{LABEL}.pid": owner(), f"{LABEL}.until": until}

    def _state(self, identity: str) -> str:
        try:
            state = self._client.containers.get(identity).attrs["State"]
            return f"{state.get('Error') or state.get('Status')}."
        except Exception:
            return ""

    async def _remove(self, identity: str, link: StreamLink | ExecLink) -> None:
        self._links.discard(link)
        async with self._creating:
            await asyncio.to_thread(remove, self._client, identity)

    async def aclose(self) -> None:
        """Remove every container."""
        self._closed = True
        self._ready.clear()
        for link in list(self._links):
            link.close()
        deadline = time.monotonic() + 30
        while self._tasks and time.monotonic() < deadline:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        await asyncio.to_thread(self._client.close)


def container_limits(limits: Limits) -> Limits:
    """The limits that a container has for life; the others belong to a run."""
    return Limits(
        memory_mb=limits.memory_mb,
        processes=limits.processes,
        disk_mb=limits.disk_mb,
        network=limits.network,
    )


def owner() -> str:
    """Name this process such that another can see whether it still lives: its number and start time."""
    return f"{os.getpid()}:{started(os.getpid())}"


def started(pid: int) -> str:
    """Return the start time of a process, from /proc; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def reap(client: Any) -> int:
    """Remove containers whose supervisor is gone or whose time is over; return how many."""
    count = 0
    for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        pid, _, start = container.labels.get(f"{LABEL}.pid", "").partition(":")
        until = container.labels.get(f"{LABEL}.until", "0")
        gone = sys.platform.startswith("linux") and pid.isdigit() and started(int(pid)) != start
        if gone or not until.isdigit() or int(until) < time.time():
            remove(client, container.id)
            count += 1
    return count


def remove(client: Any, identity: str) -> None:
    """Remove a container that may be on its way out already."""
    import docker

    try:
        client.api.remove_container(identity, force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:  # its removal is in progress
            raise
