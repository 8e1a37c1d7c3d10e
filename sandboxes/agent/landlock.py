"""Confinement without namespaces: the kernel's Landlock, by its three system calls.

A process that has restricted itself, and all that come from it, can open only what the rules name, make no TCP
connection, and send signals only to processes of its own domain. That last one makes `kill(-1)` of a box's init
mean "everything in this box", as a PID namespace would. What Landlock does not cover (datagrams, unix sockets
with a path, modes and owners of files, System V memory, limits and priorities of other processes) is left to the
system call filter; what neither covers is declared as a gap of the tier.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable

from . import files, job, seccomp, system

CREATE, ADD, RESTRICT = 444, 445, 446
"""The system calls' numbers, the same on x86-64 and aarch64."""
NEEDED_ABI = 6
"""Linux 6.12: the first that keeps signals inside a domain."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
MAKE_CHAR, MAKE_BLOCK, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 15
EVERYTHING = (1 << 16) - 1
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = EVERYTHING & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
TCP = 0b11
"""Binding and connecting."""
SCOPES = 0b11
"""Abstract unix sockets and signals."""
DEVICES = ("null", "zero", "full", "random", "urandom")


def abi() -> int:
    """Return the version of Landlock in this kernel; 0 when it has none or has it switched off."""
    version = system.libc.syscall(ctypes.c_long(CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, int(version))


def restrict(rules: list[tuple[str, int]]) -> None:
    """Confine this process to these paths (path, allowed accesses); what is not there is left out."""
    attributes = (ctypes.c_uint64 * 3)(EVERYTHING, TCP, SCOPES)
    ruleset = system.libc.syscall(
        ctypes.c_long(CREATE), attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        raise system.failed("landlock_create_ruleset")
    for path, allowed in rules:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            allowed &= ON_FILES
        rule = allowed.to_bytes(8, "little") + fd.to_bytes(4, "little")
        done = system.libc.syscall(
            ctypes.c_long(ADD), ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)
        )
        os.close(fd)
        if done != 0:
            raise system.failed(f"landlock_add_rule {path}")
    if system.libc.syscall(ctypes.c_long(RESTRICT), ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
        raise system.failed("landlock_restrict_self")
    os.close(ruleset)


def enclose(folder: str, readable: list[str]) -> None:
    """Make this process the init of a box that lives in `folder`, and see that no signal of its leaves it."""
    job.work = files.root = f"{folder}/work"
    job.scratch = f"{folder}/tmp"
    os.environ.update(HOME=job.work, TMPDIR=job.scratch)
    os.chdir(job.work)
    rules = [(path, READ) for path in readable]
    rules += [(f"/dev/{name}", READ | WRITE_FILE) for name in DEVICES]
    rules += [(job.work, CHANGE), (job.scratch, CHANGE)]
    job.process_room = tasks_of(os.getuid())
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    restrict([*rules, ("/proc", READ)])  # the init reads there what its jobs use
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        pass
    else:
        raise OSError(
            "signals leave the Landlock domain, so its processes could not be ended apart from others"
        )
    program = seccomp.build_without_namespaces(system.MACHINE)

    def confine() -> None:
        restrict(rules)
        system.load_filter(program)

    job.confine = confine


def tasks_of(uid: int) -> int:
    """Count the processes and threads of a user: the kernel's limit counts all of them together."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fd = os.open(f"/proc/{name}/status", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                text = os.read(fd, 4096)
                if int(text.partition(b"\nUid:\t")[2].split(None, 1)[0]) == uid:
                    count += int(text.partition(b"\nThreads:\t")[2].split(None, 1)[0])
            except (OSError, IndexError, ValueError):
                pass
            os.close(fd)
    return count


def full(folder: str, disk: int, inodes: int) -> Callable[[], bool]:
    """Return what tells whether a folder has more bytes or entries than these."""

    def looked() -> bool:
        used, entries = disk_used(folder, inodes)
        return used > disk or entries > inodes

    return looked


def disk_used(folder: str, most: int) -> tuple[int, int]:
    """Return bytes and entries below a folder, counting up to `most` entries."""
    used = entries = 0
    todo = [folder]
    while todo and entries <= most:
        try:
            with os.scandir(todo.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return used, entries
