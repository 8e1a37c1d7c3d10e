"""The system call filter: everything is allowed but what reaches outside a box or has a history of holes.

A deny list, since the box runs shells, compilers and interpreters of all kinds. The programs for x86-64 and
aarch64 are assembled here, in Python, from the numbers below (a test compares them with libseccomp's tables),
so that nothing has to be compiled or installed. Calls of a foreign architecture or of the x32 interface end
the process: their numbers mean something else.
"""

from __future__ import annotations

import struct

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

# name: (x86-64, aarch64); None where the architecture has no such call
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other processes' memory, registers and descriptors
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # kernel keyrings belong to no namespace that matters here
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # large interfaces with a history
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "vmsplice": (278, 75),
    # mounts, roots, namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "personality": (135, 92),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    # files by handle, watching of whole file systems, NUMA placement
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    # memory that no limit of ours counts, and that outlives its maker
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
}

# name: numbers, and which argument says whose: it has to be 0, the caller itself
ONLY_ONESELF: dict[str, tuple[int, int, int]] = {
    "prlimit64": (302, 261, 0),
    "sched_setaffinity": (203, 122, 0),
    "sched_setscheduler": (144, 119, 0),
    "sched_setparam": (142, 118, 0),
    "sched_setattr": (314, 274, 0),
    "setpriority": (141, 140, 1),
    "ioprio_set": (251, 30, 1),
}
"""Limits and priorities: a program could starve or end the init of its box, which has the same user."""

NO_NAMESPACES: dict[str, tuple[int | None, int | None]] = {
    # modes, owners and attributes of files outside, which Landlock does not guard
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "inotify_add_watch": (254, 27),
    # memory and messages shared with others of the same user
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # connections; a socket pair can still be made
    "socket": (41, 198),
}
"""What is denied as well where no namespace keeps the rest of the machine away."""
UTIMENSAT = (280, 88)

CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
IOCTL = (16, 29)

NEW_NAMESPACE = 0x7E020080
"""Every CLONE_NEW* flag: mount, cgroup, uts, ipc, user, pid, network, time."""
ALLOWED_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6. AF_VSOCK, for one, is in no network namespace and reaches a hypervisor."""
TERMINAL_TRICKS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into somebody else's terminal."""

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06


BOX_MAKING = ("mount", "umount2", "clone")
"""What a fork server and the set-up of its boxes still need; a box forbids it before its first job."""


def build(machine: str, *, leave_out: tuple[str, ...] = (), only: tuple[str, ...] | None = None) -> bytes:
    """Assemble the program for a machine ("x86_64" or "aarch64").

    `leave_out` names rules to do without ("memfd_create" where a cgroup counts its pages); `only` makes a program of
    these rules alone, to go on top of one that left them out: a short program costs a box a fifth of the whole.
    """
    if machine not in AUDIT_ARCH:
        raise ValueError(f"There is no system call filter for {machine!r}; have {', '.join(AUDIT_ARCH)}.")
    column = 0 if machine == "x86_64" else 1

    def wanted(name: str) -> bool:
        return name not in leave_out and (only is None or name in only)

    code: list[tuple[int, int, int, int]] = [
        (_LD, 0, 0, 4),  # the architecture
        (_JEQ, 1, 0, AUDIT_ARCH[machine]),
        (_RET, 0, 0, KILL_PROCESS),
        (_LD, 0, 0, 0),  # the number
    ]
    if machine == "x86_64":
        code += [(_JGE, 0, 1, X32_BIT), (_RET, 0, 0, KILL_PROCESS)]
    for name, numbers in DENIED.items():
        number = numbers[column]
        if number is not None and wanted(name):
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, ERRNO | EPERM)]
    for name, (x86, arm, argument) in ONLY_ONESELF.items():
        if wanted(name):
            code += _argument_zero((x86, arm)[column], argument)
    if wanted("clone3"):
        code += [(_JEQ, 0, 1, CLONE3[column]), (_RET, 0, 0, ERRNO | ENOSYS)]  # libc then uses clone
    if wanted("clone"):
        code += [
            (_JEQ, 0, 4, CLONE[column]),
            (_LD, 0, 0, 16),  # low half of the first argument
            (_JSET, 0, 1, NEW_NAMESPACE),
            (_RET, 0, 0, ERRNO | EPERM),
            (_RET, 0, 0, ALLOW),
        ]
    if wanted("socket"):
        code += [(_JEQ, 0, 3 + len(ALLOWED_FAMILIES), SOCKET[column]), (_LD, 0, 0, 16)]
        for left, family in zip(range(len(ALLOWED_FAMILIES), 0, -1), ALLOWED_FAMILIES):
            code += [(_JEQ, left, 0, family)]
        code += [(_RET, 0, 0, ERRNO | EAFNOSUPPORT), (_RET, 0, 0, ALLOW)]
    if wanted("ioctl"):
        code += [(_JEQ, 0, 2 + len(TERMINAL_TRICKS) + 1, IOCTL[column]), (_LD, 0, 0, 24)]
        for left, request in zip(range(len(TERMINAL_TRICKS), 0, -1), TERMINAL_TRICKS):
            code += [(_JEQ, left, 0, request)]
        code += [(_RET, 0, 0, ALLOW), (_RET, 0, 0, ERRNO | EPERM)]
    return _assemble(code)


def build_without_namespaces(machine: str) -> bytes:
    """Assemble the program that goes on top where there are no namespaces."""
    column = 0 if machine == "x86_64" else 1
    code = [(_LD, 0, 0, 0)]
    for numbers in NO_NAMESPACES.values():
        number = numbers[column]
        if number is not None:
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, ERRNO | EPERM)]
    code += _argument_zero(UTIMENSAT[column], 1)  # times of an open file (no path) only
    return _assemble(code)


def _argument_zero(number: int, which: int) -> list[tuple[int, int, int, int]]:
    """Let a call through only if both halves of one argument are zero."""
    low = 16 + 8 * which
    return [
        (_JEQ, 0, 6, number),
        (_LD, 0, 0, low),
        (_JEQ, 0, 2, 0),
        (_LD, 0, 0, low + 4),
        (_JEQ, 1, 0, 0),
        (_RET, 0, 0, ERRNO | EPERM),
        (_RET, 0, 0, ALLOW),
    ]


def _assemble(code: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("<HBBI", *line) for line in [*code, (_RET, 0, 0, ALLOW)])
