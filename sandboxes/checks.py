"""The promises of a sandbox, one function each; its docstring is the promise in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .base import (
    LanguageError,
    LimitsError,
    Reason,
    SandboxClosed,
    SandboxFileError,
)
from .check import Broken, Check, Ground, NotOffered, need, same

CHECKS: list[Check] = []
"""All of them, in order."""


Body = Callable[[Ground], Awaitable[None]]


def promise(body: Body) -> Body:
    """Add a check to the suite."""
    return promise_but("")(body)


def promise_but(gap: str) -> Callable[[Body], Body]:
    """Add a check of what a backend may declare as a gap of this name, and then need not keep."""

    def add(body: Body) -> Body:
        words = " ".join((body.__doc__ or "").split())
        CHECKS.append(Check(body.__name__.replace("_", "-"), words, body, gap))
        return body

    return add


# --- running --------------------------------------------------------------------------------------------------


@promise
async def run_python(g: Ground) -> None:
    """A Python program runs, and what it prints comes back."""
    result = await g.python("print(6 * 7)")
    same((result.reason, result.exit_status, result.stdout), (Reason.OK, 0, "42\n"), "the result")


@promise
async def run_bash(g: Ground) -> None:
    """A shell script runs, and what it prints comes back."""
    result = await g.bash("for i in 1 2; do echo $((i * 21)); done")
    same((result.reason, result.stdout), (Reason.OK, "21\n42\n"), "the result")


@promise
async def run_argument_list(g: Ground) -> None:
    """A program runs by its argument list, without a shell in between."""
    result = await g.sandbox.run(["printf", "%s|", "a b", "$HOME", "*"])
    same(result.stdout, "a b|$HOME|*|", "stdout")


@promise
async def run_stdin(g: Ground) -> None:
    """A program reads the input it is given, and meets its end."""
    result = await g.python("import sys; print(len(sys.stdin.read()))", stdin="x" * 300_000)
    same(result.stdout, "300000\n", "stdout")
    result = await g.python("import sys; print(repr(sys.stdin.read()))")
    same(result.stdout, "''\n", "without input, stdout")


@promise
async def run_files(g: Ground) -> None:
    """Files given with a run are in the working folder, and can be imported."""
    code = "import helper; print(helper.x, open('data/in.bin', 'rb').read())"
    result = await g.python(code, files={"helper.py": "x = 5", "data/in.bin": b"\x00\xff"})
    same(result.stdout, "5 b'\\x00\\xff'\n", "stdout")


@promise
async def run_exit_status(g: Ground) -> None:
    """An exit status other than 0 is an error with that status."""
    for status in (1, 3, 125, 255):
        result = await g.python(f"import sys; sys.exit({status})")
        same((result.reason, result.exit_status), (Reason.ERROR, status), "the result")


@promise
async def run_exception(g: Ground) -> None:
    """An uncaught exception is an error with a traceback of the program's own lines."""
    result = await g.python("x = 1\nprint(x)\nraise KeyError('gone')\n")
    same((result.reason, result.stdout), (Reason.ERROR, "1\n"), "the result")
    need("KeyError: 'gone'" in result.stderr and "line 3" in result.stderr, f"stderr was {result.stderr!r}")


@promise
async def run_signal(g: Ground) -> None:
    """A program that dies of a signal is reported with that signal."""
    result = await g.python("import os; os.kill(os.getpid(), 11)")
    same((result.reason, result.exit_status, result.signal), (Reason.KILLED, None, 11), "the result")


@promise
async def run_streams_apart(g: Ground) -> None:
    """Standard output and standard error come back apart."""
    result = await g.bash("echo out; echo err >&2")
    same((result.stdout, result.stderr), ("out\n", "err\n"), "the streams")


@promise
async def run_any_bytes(g: Ground) -> None:
    """Bytes that are not text are kept as bytes and decode without an exception."""
    result = await g.python("import os; os.write(1, bytes(range(256)))")
    same(result.stdout_bytes, bytes(range(256)), "stdout_bytes")
    need("\ufffd" in result.stdout, "the text has no replacement character")


@promise
async def run_shares_folder(g: Ground) -> None:
    """Runs of one sandbox share the working folder."""
    await g.python("open('note.txt', 'w').write('kept')")
    same((await g.bash("cat note.txt")).stdout, "kept", "stdout")


@promise
async def run_fresh_interpreter(g: Ground) -> None:
    """Nothing that a program changes in its interpreter or environment reaches the next run."""
    await g.python("import builtins, os, json; builtins.len = None; os.environ['A'] = 'b'; json.loads = None")
    result = await g.python("import os, json; print(len(json.loads('[1]')), os.environ.get('A'))")
    same(result.stdout, "1 None\n", "stdout")


@promise
async def run_concurrently(g: Ground) -> None:
    """Runs that are asked for at once each get their own output."""
    results = await asyncio.gather(*(g.python(f"print({i})") for i in range(8)))
    same([r.stdout for r in results], [f"{i}\n" for i in range(8)], "the outputs")


@promise
async def run_from_thread(g: Ground) -> None:
    """The synchronous form works from a thread without an event loop."""
    result = await asyncio.to_thread(g.sandbox.run_sync, "print('hi')")
    same(result.stdout, "hi\n", "stdout")


@promise
async def run_ends_normally(g: Ground) -> None:
    """Exit handlers run and threads are waited for, as in a normal interpreter."""
    code = (
        "import atexit, threading, time\natexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('first')"
    )
    same((await g.python(code)).stdout, "first\nthread\nlast\n", "stdout")


@promise
async def usage_is_reported(g: Ground) -> None:
    """Wall time, processor time and memory of a run are reported."""
    usage = (await g.python("x = bytearray(60 << 20)\nfor i in range(3_000_000): pass")).usage
    need(usage.wall_s > 0 and usage.cpu_s > 0.01 and usage.max_rss_mb > 40, f"usage was {usage}")


# --- errors of ours -----------------------------------------------------------------------------------------------


@promise
async def unknown_language(g: Ground) -> None:
    """A language that is not there is a LanguageError."""
    await g.refused(g.sandbox.run("x", language="klingon"), LanguageError)


@promise
async def missing_program(g: Ground) -> None:
    """A program that is not there is a LanguageError, not a result."""
    await g.refused(g.sandbox.run(["no-such-program-quintain"]), LanguageError)


@promise
async def impossible_limits(g: Ground) -> None:
    """A limit that makes no sense, or that the sandbox cannot give, is a LimitsError."""

    async def zero() -> None:
        g.limits(wall_s=0)

    async def more_disk() -> None:
        await g.python("pass", limits=g.limits(disk_mb=4096))

    await g.refused(zero(), LimitsError)
    await g.refused(more_disk(), LimitsError)


# --- time -----------------------------------------------------------------------------------------------------------


async def _late(g: Ground, work: Awaitable[Any], wall_s: float) -> Any:
    started = time.monotonic()
    result = await work
    took = time.monotonic() - started
    need(took < wall_s + 3, f"came back after {took:.1f} s for a limit of {wall_s} s")
    return result


@promise
async def time_busy(g: Ground) -> None:
    """A program that computes for ever is stopped at its wall time and reported as timed out."""
    result = await _late(g, g.python("while True: pass", limits=g.limits(wall_s=0.4)), 0.4)
    same((result.reason, result.exit_status), (Reason.TIMEOUT, None), "the result")


@promise
async def time_asleep(g: Ground) -> None:
    """A program that only waits is stopped at its wall time as well."""
    result = await _late(g, g.bash("sleep 600", limits=g.limits(wall_s=0.4)), 0.4)
    same(result.reason, Reason.TIMEOUT, "reason")


@promise
async def time_signals_ignored(g: Ground) -> None:
    """Ignoring signals does not outlive the limit."""
    code = (
        "import signal, time\nfor n in (1, 2, 3, 13, 14, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\n"
        "time.sleep(600)"
    )
    result = await _late(g, g.python(code, limits=g.limits(wall_s=0.4)), 0.4)
    same(result.reason, Reason.TIMEOUT, "reason")


@promise
async def time_of_processor(g: Ground) -> None:
    """A limit of processor time stops a program that has more wall time."""
    result = await _late(g, g.python("while True: pass", limits=g.limits(wall_s=20, cpu_s=1)), 6)
    same(result.reason, Reason.TIMEOUT, "reason")


@promise
async def time_keeps_output(g: Ground) -> None:
    """What was written before a time-out comes back."""
    result = await g.bash("echo before; sleep 600", limits=g.limits(wall_s=0.4))
    same((result.reason, result.stdout), (Reason.TIMEOUT, "before\n"), "the result")


@promise
async def time_cancelled(g: Ground) -> None:
    """Cancelling a run kills its program, and the sandbox goes on."""
    task = asyncio.ensure_future(g.bash("sleep 0.6; echo late > late.txt; sleep 600"))
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.7)
    same((await g.bash("ls")).stdout, "", "the working folder")


# --- memory, processes, output, disk -------------------------------------------------------------------------------


@promise
async def memory_of_one(g: Ground) -> None:
    """One process cannot have more memory than its limit."""
    result = await g.python("x = [bytearray(1 << 20) for _ in range(600)]\nprint('had it')")
    need(not result.ok and "had it" not in result.stdout, f"the result was {result.reason}")


@promise
async def memory_reported(g: Ground) -> None:
    """A program that needs too much memory is reported as such."""
    result = await g.python("x = bytearray(2 << 30)")
    same(result.reason, Reason.MEMORY, "reason")


@promise
async def memory_of_all(g: Ground) -> None:
    """All processes of a program together cannot have much more memory than its limit."""
    code = (
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n"
        "        x = b'x' * (150 << 20); time.sleep(2); os._exit(0)\ntime.sleep(2.5); print('had it')"
    )
    result = await g.python(code)
    need("had it" not in result.stdout, "900 MiB were had at once under a limit of 256")


@promise
async def processes_bounded(g: Ground) -> None:
    """The number of processes and threads is bounded."""
    code = (
        "import os, time\nn = 0\ntry:\n    while n < 300:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "        n += 1\nexcept OSError: pass\nprint(n)"
    )
    result = await g.python(code)
    need(result.ok and 10 <= int(result.stdout) <= 60, f"{result.stdout!r} processes under a limit of 48")


@promise
async def processes_swept(g: Ground) -> None:
    """Processes left behind are dead when the call returns, daemons too, and do not hold it."""
    started = time.monotonic()
    result = await g.bash("setsid sleep 611 & sleep 612 & (setsid sh -c 'sleep 613' &) ; echo on")
    took = time.monotonic() - started
    need(result.stdout == "on\n" and took < 3, f"{result.stdout!r} after {took:.1f} s")
    left = await g.bash("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 61[123]'")
    same(left.stdout.strip(), "0", "processes left")


@promise
async def fork_bomb(g: Ground) -> None:
    """A fork bomb ends with its run, and the sandbox goes on."""
    await _late(g, g.bash("b() { b | b & }; b; sleep 600", limits=g.limits(wall_s=1)), 1)
    same((await g.python("print('on')")).stdout, "on\n", "the next run")


@promise
async def output_capped(g: Ground) -> None:
    """Output is kept up to the cap, and marked as cut."""
    result = await g.python("print('x' * 3_000_000)")
    same((len(result.stdout_bytes), result.stdout_truncated), (1 << 18, True), "kept bytes and mark")
    result = await g.python("print('x')")
    same((result.stdout_truncated, result.stderr_truncated), (False, False), "marks of a short one")


@promise
async def output_flood(g: Ground) -> None:
    """A program that never stops writing is stopped."""
    result = await _late(g, g.bash("yes"), 5)
    need(result.reason in (Reason.OUTPUT, Reason.TIMEOUT), f"reason was {result.reason}")
    need(len(result.stdout_bytes) <= 1 << 18, "more was kept than the cap")


@promise
async def disk_bounded(g: Ground) -> None:
    """The working folder, /tmp and /dev/shm have a quota: together, or each where the capabilities say so."""
    code = (
        "import os\nn = 0\nfor folder in (os.getcwd(), os.environ['TMPDIR'], '/dev/shm'):\n"
        "    try:\n        f = open(folder + '/big', 'wb')\n"
        "        for _ in range(300): f.write(b'x' * (1 << 20)); f.flush(); n += 1\n    except OSError: pass\nprint(n)"
    )
    result = await g.python(code)
    allowed = 3 * 48 if "disk" in g.sandbox.capabilities.gaps else 48
    need(
        result.ok and int(result.stdout) <= allowed, f"{result.stdout!r} MiB were written under a quota of 48"
    )


@promise
async def open_files_bounded(g: Ground) -> None:
    """The number of open files is bounded."""
    code = "x = []\ntry:\n    while len(x) < 2000: x.append(open('/dev/null'))\nexcept OSError: pass\nprint(len(x))"
    result = await g.python(code)
    need(result.ok and int(result.stdout) <= 256, f"{result.stdout!r} files were open under a limit of 256")


# --- isolation ------------------------------------------------------------------------------------------------


@promise
async def host_files_unseen(g: Ground) -> None:
    """A file of the host outside the sandbox cannot be read."""
    result = await g.bash(f"cat {g.secret_path} /proc/1/root{g.secret_path}; ls -A /root /home")
    need(g.secret not in result.stdout + result.stderr, "the file was read")
    need(not result.stdout.replace("/root:", "").replace("/home:", "").strip(), f"seen: {result.stdout!r}")


@promise
async def host_environment_unseen(g: Ground) -> None:
    """No variable of the host's environment can be seen, in any process."""
    result = await g.bash("env; cat /proc/*/environ 2>/dev/null")
    need(g.secret not in result.stdout, "the variable was there")


@promise
async def host_unwritten(g: Ground) -> None:
    """Nothing outside the sandbox's own folders can be written."""
    await g.bash(f"touch {g.writable}/x /usr/x /etc/x /x; echo x > {g.writable}/y")
    need(not list(g.writable.iterdir()), "a file appeared on the host")
    result = await g.bash("touch /usr/x /etc/x /bin/x /opt/x && echo written")
    need("written" not in result.stdout, "the system was written to")


@promise
async def host_processes_unseen(g: Ground) -> None:
    """No process of the host can be seen."""
    code = "import os\ntry: print(sum(n.isdigit() for n in os.listdir('/proc')))\nexcept OSError: print(0)"
    result = await g.python(code)
    need(result.ok and int(result.stdout) <= 4, f"{result.stdout!r} processes are to be seen")


@promise
async def network_closed(g: Ground) -> None:
    """Neither the host's services nor other machines can be reached."""
    code = (
        f"import socket\nfor host, port in (('127.0.0.1', {g.port}), ('1.1.1.1', 80), ('169.254.169.254', 80)):\n"
        "    try: socket.create_connection((host, port), 1); print('reached', host)\n    except OSError: pass"
    )
    result = await g.python(code)
    need(result.ok and not result.stdout and not g.visits, f"{result.stdout!r}, {g.visits}")


@promise
async def not_root(g: Ground) -> None:
    """Programs run as an ordinary user, without capabilities, and cannot gain privileges."""
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nsets = (ctypes.c_uint32 * 6)()\n"
        "libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets)\n"
        "print(os.geteuid() == 0, sum(sets), libc.prctl(39, 0, 0, 0, 0))"
    )
    result = await g.python(code)
    same(result.stdout, "False 0 1\n", "being root, capabilities and no_new_privs")


@promise
async def system_calls_filtered(g: Ground) -> None:
    """System calls that reach outside a box are refused: mounts, namespaces, tracing, keyrings, bpf, io_uring."""
    if not g.sandbox.capabilities.seccomp:
        raise NotOffered("no system call filter of its own")
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\narm = os.uname().machine == 'aarch64'\n"
        "for name, x86, a64, args in (('unshare', 272, 97, (0x10000000,)), ('mount', 165, 40, (0, 0, 0, 0, 0)),\n"
        "        ('ptrace', 101, 117, (0, 0, 0, 0)), ('keyctl', 250, 219, (0, -3, 0)), ('bpf', 321, 280, (0, 0, 0)),\n"
        "        ('io_uring_setup', 425, 425, (1, 0)), ('setns', 308, 268, (0, 0))):\n"
        "    result = libc.syscall(a64 if arm else x86, *map(ctypes.c_long, args))\n"
        "    if result >= 0 or ctypes.get_errno() not in (1, 38): print(name, result, ctypes.get_errno())"
    )
    result = await g.python(code)
    need(result.ok and not result.stdout, f"let through: {result.stdout or result.stderr}")


@promise
async def odd_sockets_closed(g: Ground) -> None:
    """Sockets of families beside unix and internet cannot be made."""
    code = (
        "import socket\nfor family in (16, 17, 38, 40):\n"
        "    try: socket.socket(family, socket.SOCK_STREAM); print(family)\n    except OSError: pass"
    )
    result = await g.python(code)
    need(result.ok and not result.stdout, f"made: {result.stdout!r}")


@promise
async def descriptors_closed(g: Ground) -> None:
    """A program starts with its three streams and no other descriptor."""
    code = "import os\nfor fd in range(4096):\n    try: os.fstat(fd); print(fd, end=' ')\n    except OSError: pass"
    same((await g.python(code)).stdout, "0 1 2 ", "open descriptors")


@promise
async def result_not_forged(g: Ground) -> None:
    """Nothing that a program prints or does can pass for a result of its run."""
    result = await g.python("import os\nprint('done 1 ended 0 0 0 0 ')\nos._exit(9)")
    same((result.reason, result.exit_status), (Reason.ERROR, 9), "the result")


# --- files from outside -----------------------------------------------------------------------------------------


@promise
async def files_written_and_read(g: Ground) -> None:
    """A file written from outside is there for a program, and the other way round."""
    data = bytes(range(256)) * 4000
    await g.sandbox.write_file("a/b/c.bin", data)
    result = await g.python("d = open('a/b/c.bin', 'rb').read(); open('out', 'wb').write(d[::-1])")
    need(result.ok, result.stderr)
    need(await g.sandbox.read_file("out") == data[::-1], "the bytes differ")


@promise
async def files_stay_inside(g: Ground) -> None:
    """A path that leaves the working folder is refused, by its words or through a link."""
    await g.bash("ln -s /etc etc; ln -s ../../../etc/passwd p; ln -s /proc/1 one")
    for path in ("../x", "/etc/passwd", "a/../../x", "etc/passwd", "p", "one/environ", ""):
        await g.refused(g.sandbox.read_file(path), SandboxFileError)
    for path in ("../x", "/tmp/x", "etc/x", "one/x"):
        await g.refused(g.sandbox.write_file(path, b"x"), SandboxFileError)


@promise
async def files_bounded(g: Ground) -> None:
    """A file over the size limit, a pipe, a folder or a missing file is refused, and never waited for."""
    await g.bash("mkfifo pipe; mkdir folder; head -c 2000 /dev/zero > big")
    for path in ("pipe", "folder", "missing"):
        await g.refused(g.sandbox.read_file(path), SandboxFileError)
    await g.refused(g.sandbox.read_file("big", max_bytes=1999), SandboxFileError)
    same(len(await g.sandbox.read_file("big", max_bytes=2000)), 2000, "the size")


@promise
async def files_full_disk(g: Ground) -> None:
    """Writing more than the quota holds is refused with a named error."""
    await g.refused(g.sandbox.write_file("big", b"x" * (80 << 20)), SandboxFileError)
    await g.sandbox.write_file("small", b"x")


@promise
async def files_listed(g: Ground) -> None:
    """The working folder is listed: paths, kinds, sizes."""
    await g.bash("mkdir d; printf abc > d/f; ln -s f d/l; touch 'with space'")
    found = [(info.path, info.kind) for info in await g.sandbox.list_files()]
    same(found, [("d", "dir"), ("d/f", "file"), ("d/l", "link"), ("with space", "file")], "the list")


@promise_but("metadata")
async def snapshot_restored(g: Ground) -> None:
    """A snapshot brings the working folder back as it was: content, modes, links, nothing else."""
    await g.bash("mkdir d; echo one > d/f; chmod 751 d/f; ln -s d/f l")
    snapshot = await g.sandbox.snapshot()
    await g.bash("echo two > d/f; touch new; rm l; chmod 000 d")
    await g.sandbox.restore(snapshot)
    result = await g.bash("cat l; stat -c %a d/f; ls")
    same(result.stdout, "one\n751\nd\nl\n", "the folder")


@promise
async def reset_empties(g: Ground) -> None:
    """A reset leaves nothing: no file, in no folder, and no process."""
    await g.bash("echo x > f; echo x > /tmp/f; echo x > /dev/shm/f; mkdir d")
    await g.sandbox.reset()
    same(await g.sandbox.list_files(), [], "the working folder")
    same((await g.bash("ls -A /tmp /dev/shm | grep -x f")).stdout, "", "other folders")


# --- sessions ---------------------------------------------------------------------------------------------------


@promise
async def session_python(g: Ground) -> None:
    """A Python session keeps its state and shows the value of a last expression."""
    async with await g.sandbox.session("python") as session:
        await session.call("x = 20\ndef f(): return x + 1")
        result = await session.call("print('hi')\nf() * 2")
        same((result.reason, result.stdout), (Reason.OK, "hi\n42\n"), "the result")
        failed = await session.call("1 / 0")
        need(failed.reason is Reason.ERROR and "ZeroDivisionError" in failed.stderr, f"got {failed}")
        same((await session.call("x")).stdout, "20\n", "the state after an error")


@promise
async def session_bash(g: Ground) -> None:
    """A bash session keeps its folder and variables, and reports each command's status."""
    async with await g.sandbox.session("bash") as session:
        await session.call("mkdir -p d && cd d && X='a b'")
        result = await session.call('pwd | tail -c 3; echo "$X"; false')
        same((result.exit_status, result.stdout), (1, "/d\na b\n"), "the result")
        same((await session.call("echo 'it'\"'\"'s'; cat <<E\nmore\nE")).stdout, "it's\nmore\n", "quoting")


@promise
async def session_interrupted(g: Ground) -> None:
    """A session call over its time is interrupted, and the state is kept."""
    for kind, before, long, after in (
        ("python", "x = 5", "import time; time.sleep(60)", "print(x)"),
        ("bash", "x=5", "sleep 60", "echo $x"),
    ):
        async with await g.sandbox.session(kind) as session:
            await session.call(before)
            result = await _late(g, session.call(long, wall_s=0.5), 0.5)
            same((result.reason, result.restarted), (Reason.TIMEOUT, False), f"{kind}: the result")
            same((await session.call(after)).stdout, "5\n", f"{kind}: the state")


@promise
async def session_stubborn(g: Ground) -> None:
    """A session that does not heed the interrupt is killed, says so, and starts afresh."""
    async with await g.sandbox.session("python") as session:
        await session.call("import signal, time; x = 1; signal.signal(signal.SIGINT, signal.SIG_IGN)")
        result = await _late(g, session.call("time.sleep(60)", wall_s=0.3), 1.3)
        same((result.reason, result.restarted), (Reason.TIMEOUT, True), "the result")
        same((await session.call("'x' in globals()")).stdout, "False\n", "the next call")


@promise
async def session_ended(g: Ground) -> None:
    """A session whose interpreter ends says so, and the next call meets a fresh one."""
    async with await g.sandbox.session("bash") as session:
        result = await session.call("exit 7")
        same((result.exit_status, result.restarted), (7, True), "the result")
        same((await session.call("echo on")).stdout, "on\n", "the next call")
    async with await g.sandbox.session("python") as session:
        result = await session.call("import os; os.kill(os.getpid(), 9)")
        same((result.reason, result.restarted), (Reason.KILLED, True), "the result")
        same((await session.call("print('on')")).stdout, "on\n", "the next call")


@promise
async def session_output_capped(g: Ground) -> None:
    """Output of a session call is capped and marked, and the next call starts with none."""
    async with await g.sandbox.session("python") as session:
        result = await session.call("print('x' * 1_000_000)")
        same((len(result.stdout_bytes), result.stdout_truncated), (1 << 18, True), "kept bytes and mark")
        same((await session.call("print(1)")).stdout, "1\n", "the next call")


# --- values only ------------------------------------------------------------------------------------------------


@promise
async def values_only(g: Ground) -> None:
    """Functions can be called with plain values; only plain values come back, whatever the program does."""
    call = getattr(g.sandbox, "call", None)
    if call is None:
        raise NotOffered("no values-only calls")
    from .calls import Call, Status

    code = (
        "class Yes:\n    def __eq__(self, other): return True\n"
        "def plain(x): return {'a': (x, 1.5, None, {2})}\ndef odd(): return Yes()\n"
        "def leave():\n    import os; os._exit(0)\n"
    )
    got = await call(code, [Call("plain", [7]), Call("odd"), Call("leave"), Call("plain", [8]), Call("none")])
    same(got[0].value, {"a": (7, 1.5, None, {2})}, "the value")
    wanted = [Status.VALUE, Status.NOT_PLAIN, Status.CRASHED, Status.VALUE, Status.MISSING]
    same([o.status for o in got], wanted, "the outcomes")


# --- its life ---------------------------------------------------------------------------------------------------


@promise
async def closed_is_closed(g: Ground) -> None:
    """Using a closed sandbox is a SandboxClosed error; closing twice is fine."""
    other = await g.open(g.limits())
    await other.aclose()
    await other.aclose()
    await g.refused(other.run("print(1)"), SandboxClosed)


@promise
async def sandboxes_apart(g: Ground) -> None:
    """Two sandboxes do not see each other's files and processes."""
    other = await g.open(g.limits())
    try:
        await g.bash("echo x > mine")
        session = await g.sandbox.session("bash")
        await session.call("sleep 614 &")
        result = await other.run(
            "ls; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 61[4]'", language="bash"
        )
        same(result.stdout.strip(), "0", "what the other sees")
        await session.aclose()
    finally:
        await other.aclose()


@promise
async def capabilities_told(g: Ground) -> None:
    """A sandbox tells how it is isolated, and gives a reason for each gap."""
    told = g.sandbox.capabilities
    need(told.isolated, "it says that it is not isolated")
    for name, why in told.gaps.items():
        if not why:
            raise Broken(f"no reason is given for the gap {name!r}")
