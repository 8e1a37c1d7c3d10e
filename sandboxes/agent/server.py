"""The fork server: the warm interpreter of a worker. It opens boxes and never sees what runs in them.

It imports what jobs will want, freezes its memory, and then answers one kind of message: "open a box", which
brings the box's own socket. A box is a `clone` of this process in fresh user, PID, mount and IPC namespaces.
Everything a job is given or writes passes through descriptors that go straight to the box, so this process,
whose memory every later job inherits, holds no earlier job's code and no secret.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would load enum
import _socket
import gc
import marshal
import os
import resource
import select
import sys
from collections.abc import Callable

from . import box, files, job, landlock, seccomp, system

NAMESPACES = system.CLONE_NEWUSER | system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC
MESSAGE = 1 << 16
FDS = 8
REHEARSALS = 10
REAP_MS = 500
"""How long the remains of a box that has ended may stay."""


def receive(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """Receive one message and its descriptors; an empty message is the end."""
    data, ancillary, _, _ = sock.recvmsg(MESSAGE, _socket.CMSG_LEN(FDS * 4))
    fds: list[int] = []
    for _, _, part in ancillary:
        fds += memoryview(part[: len(part) - len(part) % 4]).cast("i")
    return data, fds


def main(options: dict) -> None:  # type: ignore[type-arg]
    """Serve until the supervisor goes away.

    `options`: preload, fd, filter, single (this process is the one box, with so many inodes in each file system),
    readable (there are no namespaces; boxes are kept by Landlock, with these paths to read).
    """
    readable = options["readable"]
    if readable is not None and landlock.abi() < landlock.NEEDED_ABI:
        found = landlock.abi() or "none"
        problem = (
            f"this kernel's Landlock is version {found}, and {landlock.NEEDED_ABI} is needed (Linux 6.12)"
        )
        _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, options["fd"]).send(problem.encode())
        os._exit(1)
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, options["fd"])
    problems = []
    for name in options["preload"]:
        try:
            __import__(name)
        except Exception as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
    if "numpy" in sys.modules:
        __import__("numpy.random")  # it is loaded late otherwise, by each program
    if problems:
        control.send(("preload " + "; ".join(problems)).encode()[:4000])
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    system.write("/proc/self/oom_score_adj", "1000")  # short of memory, the machine shall look here first
    program = b""
    if options["single"]:
        program = seccomp.build(system.MACHINE) if options["filter"] else b""
    else:
        for _ in range(REHEARSALS):
            rehearse(sweep=readable is None)
        system.load_filter(seccomp.build(system.MACHINE, leave_out=seccomp.BOX_MAKING))
        program = seccomp.build(system.MACHINE, only=seccomp.BOX_MAKING)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    private, virtual = system.pages("self")
    job.base_bytes = virtual * box.PAGE
    control.send(f"ready {os.getpid()}".encode())
    if options["single"]:
        place(options)
        full = None if options["unsafe"] else crowded(options["inodes"])
        serve_box(control, program, private, sweep=not options["unsafe"], full=full)
    waiting = select.poll()
    waiting.register(control.fileno(), select.POLLIN)
    boxes = False
    known: set[int] = set()
    if readable is not None:
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    while True:
        ready = waiting.poll(REAP_MS if boxes else None)
        boxes = collect(known)
        if readable is not None:
            end_orphans(known)
        if not ready:
            continue
        data, fds = receive(control)
        if not data:
            os._exit(0)
        _, disk, inodes, folder = marshal.loads(data)
        try:
            pid = system.clone(NAMESPACES if readable is None else 0)
        except OSError as error:
            _socket.socket(fileno=fds[0]).send(f"refused {error}".encode())
            continue
        if pid == 0:
            control.close()
            try:
                own = _socket.socket(fileno=fds[0])
                if readable is None:
                    enclose(disk, inodes)
                    serve_box(own, program, private)
                else:
                    landlock.enclose(folder, readable)
                    serve_box(own, program, private, alone=False, full=landlock.full(folder, disk, inodes))
            except BaseException as error:
                try:
                    own.send(f"refused {type(error).__name__}: {error}".encode()[:4000])
                except OSError:
                    pass
            finally:
                os._exit(1)
        boxes = True
        known.add(pid)
        for fd in fds:
            os.close(fd)


def rehearse(*, sweep: bool) -> None:
    """Go once through what every box and job does, as far as it can be done here without consequences.

    The interpreter fills caches and links functions at their first use. What it has done here, before the first
    fork, it does not do again in each of thousands of forks: a third of a run's processor time.
    """
    ours, theirs = _socket.socketpair()
    payload = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
    os.write(payload, marshal.dumps((b"pass", {}, [], {}), 2))
    # a box
    for attempt in (
        system.drop_capabilities,
        lambda: system.prctl(system.PR_SET_NO_NEW_PRIVS, 1),
        lambda: system.load_filter(b""),
        lambda: system.mount("box", "/", "tmpfs", 0, f"size={1}"),
    ):
        try:
            attempt()
        except OSError:
            pass
    system.write("/dev/null", "x")
    theirs.sendmsg(
        [marshal.dumps(("rehearsal", 1.0), 2)],
        [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload.to_bytes(4, sys.byteorder))],
    )
    data, fds = receive(ours)
    marshal.loads(data)
    inside = box.Box(lambda *words: None, base_pages=0, sweep=sweep)
    inside.poller.register(theirs.fileno(), 1)
    inside.start(1, "nothing", False, (1.0, 0.0, 1 << 30, 64, 64, 1 << 20), fds)
    while inside.running:
        inside.wait()
    # a job
    os.lseek(payload, 0, os.SEEK_SET)
    job.rehearse(os.dup(payload))
    ours.close()
    theirs.close()
    os.close(payload)


def collect(known: set[int]) -> bool:
    """Reap boxes that have ended; whether any is still there."""
    while True:
        try:
            pid = os.waitpid(-1, os.WNOHANG)[0]
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        known.discard(pid)


def end_orphans(known: set[int]) -> None:
    """Kill what a box left behind that was itself killed: without a namespace, it has become a child of ours."""
    for child in box.children_of("self"):
        if int(child) not in known:
            for pid in (child, *box.descendants(child)):
                try:
                    os.kill(int(pid), _signal.SIGKILL)
                except OSError:
                    pass


def place(options: dict) -> None:  # type: ignore[type-arg]
    """Take up the folders of a box that is the whole worker."""
    job.work = files.root = options["work"]
    job.scratch = options["scratch"]
    if options["unsafe"]:
        job.count_processes = False  # the limit would count all processes of the user
    os.chdir(job.work)


def crowded(inodes: int) -> Callable[[], bool]:
    """Return what tells whether one of the box's file systems has more files; bubblewrap bounds their bytes alone."""

    def full() -> bool:
        found = [os.statvfs(place) for place in ("/work", "/tmp", "/dev/shm")]
        return any(one.f_files - one.f_ffree > inodes for one in found)

    return full


def enclose(disk: int, inodes: int) -> None:
    """Make the new namespaces a box: identity, one file system quota, its own /proc, no privileges."""
    uid, gid = 1000, 1000
    system.write("/proc/self/setgroups", "deny")
    system.write("/proc/self/uid_map", f"{uid} {uid} 1")
    system.write("/proc/self/gid_map", f"{gid} {gid} 1")
    quiet = system.MS_NOSUID | system.MS_NODEV
    system.mount("box", "/box", "tmpfs", quiet, f"size={disk},nr_inodes={inodes},mode=0755")
    for name, target in (("work", "/work"), ("tmp", "/tmp"), ("shm", "/dev/shm")):
        os.mkdir(f"/box/{name}", 0o777)
        system.mount(f"/box/{name}", target, None, system.MS_BIND)
    # /box stays: the same files under the same quota, and taking it away costs the kernel a grace period
    system.mount("proc", "/proc", "proc", quiet | system.MS_NOEXEC)
    os.chdir("/work")


def serve_box(
    sock: _socket.socket,
    program: bytes,
    base_pages: int,
    *,
    sweep: bool = True,
    alone: bool = True,
    full: Callable[[], bool] | None = None,
) -> None:
    """Be the init process of a box until its socket closes.

    `sweep`: kill(-1) reaches the box's processes alone. `alone`: /proc shows no others. `full`: whether the box has
    too much on disk, where no file system of its own bounds that.
    """
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    system.drop_capabilities()
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    system.prctl(system.PR_SET_DUMPABLE, 0)
    if program:
        system.load_filter(program)

    def report(number: int, reason: str, status: int, wall: float, cpu: float, rss: int, text: str) -> None:
        line = f"done {number} {reason} {status} {wall:.6f} {cpu:.6f} {rss} {text}"
        sock.send(line.encode("utf-8", "replace")[:4000])
        if last:
            os._exit(0)

    last = False
    inside = box.Box(report, base_pages=base_pages, sweep=sweep, alone=alone, full=full)
    fd = sock.fileno()
    inside.poller.register(fd, 1)
    while True:
        for _ in inside.wait():
            data, fds = receive(sock)
            if not data:
                inside.finish()
                os._exit(0)
            message = marshal.loads(data)
            if message[0] == "start":
                last = last or message[5]
                inside.start(message[1], message[2], message[3], message[4], fds)
            elif message[0] == "stop":
                inside.stop(message[1], message[2])
            elif message[0] == "signal":
                inside.signal(message[1], message[2])


if __name__ == "__main__":
    main(eval(sys.argv[1]))
