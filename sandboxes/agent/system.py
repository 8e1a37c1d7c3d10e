"""The few kernel calls that Python has no function for, through ctypes.

`PyDLL` keeps the interpreter lock during a call. That matters for `clone`: the child must wake up holding it.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x1000

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

SIGCHLD = 17
_CLONE = {"x86_64": 56, "aarch64": 220}
_CAPSET = {"x86_64": 126, "aarch64": 91}

libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
MACHINE = os.uname().machine


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def failed(what: str) -> OSError:
    """Return the error of the last C call."""
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def clone(flags: int) -> int:
    """Fork with namespace flags; 0 in the child. The child must not go back into threads' code."""
    zero = ctypes.c_long(0)
    pid = libc.syscall(ctypes.c_long(_CLONE[MACHINE]), ctypes.c_long(flags | SIGCHLD), zero, zero, zero, zero)
    if pid < 0:
        raise failed("clone")
    return int(pid)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount, as mount(2)."""
    text = kind.encode() if kind else None
    if libc.mount(source.encode(), target.encode(), text, ctypes.c_ulong(flags), data.encode()) != 0:
        raise failed(f"mount {target}")


def prctl(option: int, value: int) -> None:
    """Set one property of the process."""
    if (
        libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
        != 0
    ):
        raise failed(f"prctl {option}")


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.syscall(ctypes.c_long(_CAPSET[MACHINE]), header, nothing) != 0:
        raise failed("capset")


def load_filter(program: bytes) -> None:
    """Put a seccomp program on this process and all that come from it."""
    data = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // 8, ctypes.addressof(data))
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
    if libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(described), zero, zero) != 0:
        raise failed("seccomp")


def write(path: str, text: str) -> None:
    """Write a /proc file in one call, so that an error appears here and not at a later close."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def pages(pid: str) -> tuple[int, int]:
    """Return (private resident, virtual) pages of a process; zeros when it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        numbers = os.read(fd, 256).split()
        return int(numbers[1]) - int(numbers[2]), int(numbers[0])
    except (OSError, IndexError, ValueError):
        return 0, 0
    finally:
        os.close(fd)


def log(text: str) -> None:
    """Say something on stderr without the buffers of an inherited stream."""
    os.write(2, (text.rstrip() + "\n").encode("utf-8", "replace"))


assert sys.byteorder == "little", "seccomp programs are built for little-endian machines"
