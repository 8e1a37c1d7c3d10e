"""A local worker: one bubblewrap with a warm fork server inside, and the boxes that were opened in it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import marshal
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .base import Limits, SandboxUnavailable, WorkerDied, files_for
from .bundle import boot, compiled
from .machine import STAGE, WORKER_UID, Interpreter
from .socket_link import SocketLink, memory_file

START_S = 60.0
"""How long a worker may take to start: its preloaded imports happen in this time."""
SHOWN_OF_ETC = ("alternatives", "ld.so.cache", "ssl/certs", "localtime")
"""What of /etc a program can read: what the system's programs and libraries do not start without."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How a worker is made."""

    bwrap: str
    """Path of bubblewrap."""
    python: Interpreter
    """The interpreter inside."""
    preload: tuple[str, ...] = ()
    """Modules imported once, before the first box."""
    single: bool = False
    """Whether the worker is itself the one box (no namespaces inside it)."""
    unsafe: bool = False
    """Whether there is no bubblewrap around it at all."""
    landlock: bool = False
    """Whether there is none because boxes are kept by Landlock."""
    disk_mb: int = 0
    """For a single box: its quota."""
    folder: str = ""
    """A folder on this machine: of the one box, if it is unsafe; with Landlock, of all its boxes."""


class Worker:
    """A running one. All of its methods belong to the portal's thread."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, spec: WorkerSpec) -> None:
        self.process = process
        self.spec = spec
        here = weakref.ref(self)

        def forget() -> None:
            if (worker := here()) is not None:
                worker.forget_in_fork()

        os.register_at_fork(after_in_child=forget)
        self.boxes: set[SocketLink] = set()
        self.opened = 0
        self.suspect = False
        """Whether a box of it was lost: it gets no more of them."""
        self._sock = sock

    @classmethod
    async def start(cls, spec: WorkerSpec) -> Worker:
        """Start one and wait until its imports are done."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors, errors_w = os.pipe2(os.O_CLOEXEC)
        plan, plan_w = os.pipe2(os.O_CLOEXEC)
        code = memory_file(compiled())
        launch = Path(__file__).parent / "agent" / "launch.py"
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launch)],
                stdin=plan,
                stdout=errors_w,
                stderr=errors_w,
                env={},
                cwd="/",
                pass_fds=[theirs.fileno(), code],
                start_new_session=True,
            )
            text = json.dumps(launch_plan(spec, theirs.fileno(), code)).encode()
        finally:
            theirs.close()
            os.close(code)
            os.close(errors_w)
            os.close(plan)
        with open(plan_w, "wb") as pipe:  # noqa: PTH123 - a descriptor
            await asyncio.to_thread(pipe.write, text)
            await asyncio.to_thread(pipe.flush)
        worker = cls(process, ours, spec)
        ours.setblocking(False)
        try:
            answer = await asyncio.wait_for(loop.sock_recv(ours, 1 << 13), START_S)
        except (TimeoutError, OSError) as error:
            answer = str(error).encode()
        try:
            if answer.startswith(b"ready "):
                return worker
            worker.close()
            os.set_blocking(errors, False)
            try:
                said = os.read(errors, 1 << 13).decode("utf-8", "replace").strip()
            except BlockingIOError:
                said = ""
        finally:
            os.close(errors)
        words = answer.decode("utf-8", "replace")
        if words.startswith("preload "):
            raise SandboxUnavailable(
                f"A module to preload could not be imported: {words.removeprefix('preload ')}"
            )
        raise SandboxUnavailable(
            f"A worker did not start. {said.splitlines()[-1] if said else words}".strip()
        )

    def open_box(self, limits: Limits, folder: str = "") -> SocketLink:
        """Open a box (in this folder, where it has no file system of its own); a refusal shows at its first job."""
        loop = asyncio.get_running_loop()
        self.opened += 1
        if self.spec.single:
            link = SocketLink(self._sock, loop, self)
            self.boxes.add(link)
            return link
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = marshal.dumps(("open", limits.disk_mb << 20, files_for(limits.disk_mb), folder), 2)
        rights = array.array("i", [theirs.fileno()])
        try:
            self._sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as error:
            ours.close()
            self.suspect = True
            raise WorkerDied(f"The worker is gone: {error}.") from error
        finally:
            theirs.close()
        link = SocketLink(ours, loop, self)
        self.boxes.add(link)
        return link

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """Kill the worker and every box in it."""
        for link in list(self.boxes):
            link.close()
        self._sock.close()  # the server ends with it, and every namespace with the server
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:  # it hangs in an import, say
            kill_tree(self.process.pid)
            self.process.wait(timeout=10)

    def forget_in_fork(self) -> None:
        """In a fork of the supervisor: let go of the sockets, so that they end with the supervisor alone."""
        for link in self.boxes:
            link.forget()
        self._sock.close()


def kill_tree(pid: int) -> None:
    """Kill a process and, before it, what it has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    for child in children:
        kill_tree(int(child))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def launch_plan(spec: WorkerSpec, control: int, code: int) -> dict[str, object]:
    """Return what `agent/launch.py` is to do: the user to become, the trees to gather, the command."""
    root = os.geteuid() == 0
    trees = [(spec.python.base, "python"), *((site, f"site{i}") for i, site in enumerate(spec.python.site))]
    seen = {source: f"{STAGE}/{name}" if root else source for source, name in trees}
    bwrap = spec.bwrap
    for site in spec.python.site:  # a bundled bwrap finds its libraries by its place among the packages
        if bwrap.startswith(site + "/"):
            bwrap = seen[site] + bwrap.removeprefix(site)
    options: dict[str, object] = {
        "fd": control,
        "preload": list(spec.preload),
        "single": spec.single,
        "unsafe": spec.unsafe,
        "filter": not spec.unsafe,
        "work": f"{spec.folder}/work" if spec.unsafe else "/work",
        "scratch": f"{spec.folder}/tmp" if spec.unsafe else "/tmp",
        "inodes": files_for(spec.disk_mb),
        "readable": None,
    }
    if spec.landlock:
        return landlock_plan(spec, options, code)
    if spec.unsafe:
        text = boot("server", options, list(spec.python.site), fd=code)
        argv = [f"{spec.python.base}/{spec.python.executable}", "-S", "-s", "-c", text]
        environment_ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        return {"uid": None, "stage": "", "trees": [], "argv": argv, "environment": environment_}
    sites = [f"/opt/site{i}" for i in range(len(spec.python.site))]
    program = [
        f"/opt/python/{spec.python.executable}",
        "-S",
        "-s",
        "-c",
        boot("server", options, sites, fd=code),
    ]
    argv = [
        bwrap,
        *namespaces(spec.single),
        *system_folders(),
        *own_folders(spec, seen),
        *environment(spec, sites),
        *program,
    ]
    return {
        "uid": WORKER_UID if root else None,
        "stage": STAGE,
        "trees": trees if root else [],
        "argv": argv,
        "environment": {},
    }


def landlock_plan(spec: WorkerSpec, options: dict[str, object], code: int) -> dict[str, object]:
    """The same without bubblewrap: what may be read is named to the server, which confines each box to it."""
    hidden = hidden_trees(spec)
    trees = [spec.python.base, *spec.python.site]
    seen = {tree: f"{STAGE}/tree{i}" if tree in hidden else tree for i, tree in enumerate(trees)}
    base, *sites = (seen[tree] for tree in trees)
    options["readable"] = [*(str(path) for path in system_paths()), base, *sites]
    values = variables(spec, sites, base)
    argv = [f"{base}/{spec.python.executable}", "-S", "-s", "-c", boot("server", options, sites, fd=code)]
    gathered = [(tree, seen[tree].rpartition("/")[2]) for tree in hidden]
    return {
        "uid": WORKER_UID if os.geteuid() == 0 else None,
        "stage": STAGE,
        "trees": [*gathered, (spec.folder, "boxes")] if hidden else [],
        "argv": argv,
        "environment": values,
    }


def hidden_trees(spec: WorkerSpec) -> list[str]:
    """The trees that root's worker, another user, cannot walk to; they are then bound to a place it can reach."""

    def open_to_all(path: Path) -> bool:
        above = all(folder.stat().st_mode & 0o001 for folder in path.parents)
        return above and path.stat().st_mode & 0o005 == 0o005

    if os.geteuid() != 0:
        return []
    return [tree for tree in (spec.python.base, *spec.python.site) if not open_to_all(Path(tree))]


def box_folder(spec: WorkerSpec, name: str) -> str:
    """A box's folder as its worker sees it."""
    return f"{STAGE}/boxes/{name}" if hidden_trees(spec) else f"{spec.folder}/{name}"


def system_paths() -> list[Path]:
    """The programs and libraries of the machine."""
    names = ("usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32")
    found = [Path("/", name) for name in names if Path("/", name).is_dir()]
    return found + [Path("/etc", name) for name in SHOWN_OF_ETC if Path("/etc", name).exists()]


def namespaces(single: bool) -> list[str]:
    """Everything of its own, no network, an ordinary user.

    Without `--die-with-parent`: a bubblewrap that is killed while it sets up leaves a child that waits for it for
    ever. The server inside ends with its control socket instead, and all namespaces with the server.
    """
    return [
        *("--unshare-user", "--unshare-net", "--unshare-ipc", "--unshare-pid", "--unshare-uts"),
        *("--unshare-cgroup-try", "--new-session", "--hostname", "sandbox"),
        *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"),
        *(["--as-pid-1"] if single else []),
    ]


def system_folders() -> list[str]:
    """The programs and libraries of the machine, read-only."""
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", f"usr/{name}", f"/{name}"]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    for hidden in ("/usr/local/etc", "/usr/src"):
        if Path(hidden).is_dir():
            argv += ["--tmpfs", hidden, "--remount-ro", hidden]
    for name in SHOWN_OF_ETC:
        if Path("/etc", name).exists():
            argv += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    return argv


def own_folders(spec: WorkerSpec, seen: dict[str, str]) -> list[str]:
    """The interpreter, its packages, a minimal /etc, and the places where boxes put their folders."""
    argv = ["--ro-bind", seen[spec.python.base], "/opt/python"]
    for i, site in enumerate(spec.python.site):
        argv += ["--ro-bind", seen[site], f"/opt/site{i}"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    if spec.single:
        for place in ("/work", "/tmp", "/dev/shm"):
            argv += ["--perms", "0777", "--size", str(spec.disk_mb << 20), "--tmpfs", place]
        argv += ["--remount-ro", "/dev", "--remount-ro", "/"]
    else:
        argv += ["--dir", "/work", "--dir", "/tmp", "--dir", "/box"]
        argv += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return argv


def environment(spec: WorkerSpec, sites: Sequence[str]) -> list[str]:
    """A clean environment; nothing of the supervisor's."""
    argv = ["--clearenv"]
    for name, value in variables(spec, sites, "/opt/python").items():
        argv += ["--setenv", name, value]
    return [*argv, "--chdir", "/"]


def variables(spec: WorkerSpec, sites: Sequence[str], base: str) -> dict[str, str]:
    """The environment of programs."""
    values = {
        "PATH": f"{base}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/work",
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
        "PYTHONPATH": ":".join(sites),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    if spec.python.library_path:
        values["LD_LIBRARY_PATH"] = f"{base}/{spec.python.library_path}"
    return values
