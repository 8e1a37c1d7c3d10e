"""First step of a worker's start: make the trees it needs visible, leave root behind, and execute bubblewrap.

Runs outside the sandbox, as a script of its own (`python -I -S launch.py`), because it changes the mount
namespace and the user of its process. An ordinary user needs neither; then it only executes.

Real root is a special case twice over. bubblewrap run by root covers parts of /proc, after which a fresh
/proc in a namespace below is refused by the kernel; and the process limit is not enforced for uid 0. So root
first becomes an unprivileged user. That user may not be able to walk to the interpreter (a Python below
/root, say): a private mount namespace binds each tree to a place it can reach.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MS_NOSUID, MS_NODEV = 0x2, 0x4


def check(libc: ctypes.CDLL, result: int, what: str) -> None:
    """Raise when a C call failed."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def gather(libc: ctypes.CDLL, stage: str, trees: list[list[str]]) -> None:
    """Bind each (source, name) to stage/name in a mount namespace of our own."""
    check(libc, libc.unshare(CLONE_NEWNS), "unshare")
    check(libc, libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None), "make / a slave")
    held = [
        (source, name, os.open(source, os.O_PATH)) for source, name in trees
    ]  # the stage may hide a source
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    check(
        libc, libc.mount(b"tmpfs", stage.encode(), b"tmpfs", flags, b"mode=0755,size=1m"), f"tmpfs on {stage}"
    )
    for source, name, fd in held:
        target = f"{stage}/{name}"
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o755))
        bind = ctypes.c_ulong(MS_BIND)
        origin = f"/proc/self/fd/{fd}".encode()
        check(libc, libc.mount(origin, target.encode(), None, bind, None), f"bind {source}")
        os.close(fd)


def main() -> None:
    """Read the plan from standard input and carry it out."""
    plan = json.loads(sys.stdin.buffer.read())
    read, write = (
        os.pipe()
    )  # an ended pipe, as a program's input will be: the interpreter's streams depend on it
    os.close(write)
    os.dup2(read, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if plan["trees"]:
        gather(libc, plan["stage"], plan["trees"])
    if plan["uid"] is not None:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # by root, so that nothing inside can lower it again
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    os.execve(plan["argv"][0], plan["argv"], plan["environment"])


if __name__ == "__main__":
    main()
