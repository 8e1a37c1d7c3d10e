"""A job: the process that becomes the program. Confine first, then read what to do, then do it.

`enter` runs in a fresh fork of the box's init and never returns. If any step of the confinement fails it says
so through the status pipe and leaves before a line of the program has run: the caller gets an exception, not a
result. The pipe is closed before the program starts, so that a program can never pretend to be such a failure.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would load enum
import atexit
import gc
import marshal
import os
import resource
import sys
import types

from . import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SETUP_FAILED = 125
base_bytes = 0
"""Address space of the interpreter before any job; set by the server after its imports."""
count_processes = True
"""Whether the kernel's limit of a user's processes is to be used."""
process_room = 1
"""What it counts beside the job's own: the box's init; where users are not namespaced, all else of the user."""
confine: Callable[[], None] | None = None
"""What a job does to itself before its program, beside the limits; file operations of ours are exempt."""
last_victim = True
"""Whether the server has already made all its children the first to go when memory is short."""
work = "/work"
"""The working folder."""
scratch = "/tmp"
"""Where the program's own text is put."""


class Refused(Exception):  # noqa: N818 - the name is the sentence
    """The job cannot be started as asked; the text goes to the caller, after the word that says what it is about."""


def enter(kind: str, limits: tuple, fds: list[int], status: int) -> None:  # type: ignore[type-arg]
    """Become the job. `fds` are payload, stdin, stdout, stderr and perhaps a session's socket."""
    try:
        try:
            channel = _settle(limits, fds, status)
            body = PROGRAMS[kind](_read(3))
            if kind != "files":  # those stay closed to the box's other processes
                if confine is not None:
                    confine()
                system.prctl(system.PR_SET_DUMPABLE, 1)
                if not last_victim:
                    system.write("/proc/self/oom_score_adj", "1000")
            os.close(4)
        except BaseException as error:
            text = str(error) if isinstance(error, Refused) else f"setup {type(error).__name__}: {error}"
            if isinstance(error, MemoryError):
                text = f"limit The program and its files do not fit into memory_mb={limits[2] >> 20}."
            os.write(4, text.encode("utf-8", "replace")[:2000])
            os._exit(SETUP_FAILED)
        try:
            body(channel)
        except BaseException as error:
            system.log(f"the interpreter failed: {type(error).__name__}: {error}")
    finally:
        os._exit(SETUP_FAILED)


def _settle(limits: tuple, fds: list[int], status: int) -> int:  # type: ignore[type-arg]
    """Take the descriptors to fixed numbers, close all others, and put the limits on.

    0, 1, 2 are the program's streams, 3 the payload, 4 the status pipe, 5 a session's socket.
    """
    os.setsid()
    wanted = (*fds[1:4], fds[0], status, *fds[4:])
    above = max(8, *wanted) + 1
    high = [os.dup2(fd, above + i, inheritable=False) for i, fd in enumerate(wanted)]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < 3)
    os.closerange(len(high), 1 << 20)
    _, cpu, memory, processes, files, size = limits
    set_ = resource.setrlimit
    set_(resource.RLIMIT_CORE, (0, 0))
    named = [
        ("memory_mb", resource.RLIMIT_AS, memory, base_bytes + memory),
        ("open_files", resource.RLIMIT_NOFILE, files, files),
        ("disk_mb", resource.RLIMIT_FSIZE, size, size),
    ]
    if count_processes:
        named.append(("processes", resource.RLIMIT_NPROC, processes, processes + process_room))
    for name, kind, asked, value in named:
        try:
            set_(kind, (value, value))
        except (ValueError, OSError):
            raise Refused(f"limit This machine does not allow {name}={asked}.") from None
    set_(resource.RLIMIT_MEMLOCK, (0, 0))
    set_(resource.RLIMIT_MSGQUEUE, (0, 0))
    set_(resource.RLIMIT_SIGPENDING, (1024, 1024))
    if cpu > 0:
        whole = max(1, int(cpu + 0.999))
        set_(resource.RLIMIT_CPU, (whole, whole + 1))
    return 5


def _read(fd: int) -> bytes:
    """Read and close the payload, an anonymous file; as a rule in one piece, since it counts as the job's memory."""
    chunks = []
    while chunk := os.read(fd, os.fstat(fd).st_size + 1):
        chunks.append(chunk)
    os.close(fd)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def rehearse(payload: int) -> None:
    """Do what a job does, as far as it leaves nothing behind; `payload` is a program's, and is closed."""
    argv, path, main = sys.argv[:], sys.path[:], sys.modules["__main__"]
    try:
        PROGRAMS["python"](_read(payload))
    except Refused:  # no place for the program's text
        pass
    put_script("/dev/null", b"pass")
    prepare(["main.py"])
    exec(compile(b"pass", "main.py", "exec", dont_inherit=True), fresh_main("main.py").__dict__)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    gc.disable()
    sys.argv[:], sys.path[:], sys.modules["__main__"] = argv, path, main


# --- what a job can be: each takes the payload and returns the function that runs the program ------------------


def program(data: bytes) -> Callable[[int], None]:
    """A Python program, run in this very process as `__main__`."""
    code, files, argv, environ = marshal.loads(data)
    place(files)
    put_script(f"{scratch}/main.py", code)
    os.environ.update(environ)
    return lambda channel: run_python(code, argv)


def execute(data: bytes) -> Callable[[int], None]:
    """Any other program, by its argument list."""
    argv, files, environ, script = marshal.loads(data)
    place(files)
    if script is not None:
        put_script(f"{scratch}/main.sh", script)
        argv = [*argv, f"{scratch}/main.sh"]
    environment = {**os.environ, **environ}
    path = _which(argv[0], environment)

    def body(channel: int) -> None:
        default_signals()
        try:
            os.execve(path, argv, environment)
        except OSError as error:
            system.log(f"{argv[0]}: {os.strerror(error.errno or 0)}")
            os._exit(126)

    return body


def _which(name: str, environment: dict[str, str]) -> str:
    if "/" in name:
        return name
    for folder in environment.get("PATH", "/usr/bin:/bin").split(":"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise Refused(f"language There is no program {name!r} in this sandbox.")


def place(files: dict[str, bytes]) -> None:
    """Put files into the working folder."""
    if files:
        from . import files as module

        for path, data in files.items():
            try:
                module.put(path, data)
            except module.Refused as error:
                raise Refused(f"file {error}") from None
            except OSError as error:
                raise Refused(f"file {module.explain(error)}") from None


def put_script(path: str, data: bytes) -> None:
    """Write the program's own text, outside the working folder."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.close(fd)
    except OSError as error:
        raise Refused(f"file {os.strerror(error.errno or 0)}: {path!r}") from None


def default_signals() -> None:
    """Undo what the interpreter does to signals, as exec does not."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)


def fresh_main(path: str) -> types.ModuleType:
    """Make an empty `__main__`."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=path, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    return module


def prepare(argv: list[str]) -> None:
    """Make the interpreter look as if it had just been started for this program.

    Its streams are the server's own objects, which have never been used: their descriptors are the job's by now.
    """
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    sys.argv[:] = argv
    sys.path.insert(0, work)
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    gc.enable()


def run_python(code: bytes, argv: list[str], names: dict[str, object] | None = None) -> None:
    """Run source text as `python main.py` would, and leave with its exit status. `names` are there before it."""
    script = f"{scratch}/main.py"
    prepare([script, *argv])
    module = fresh_main(script)
    module.__dict__.update(names or {})
    status = 0
    try:
        exec(compile(code, script, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        status = exit_status(error)
    leave(status)


def exit_status(error: BaseException) -> int:
    """Say what an uncaught exception says on stderr, and return the exit status it means."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        system.log(str(error.code))
        return 1
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith("<quintain "):
        trace = trace.tb_next
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    except BaseException:
        system.log(f"{type(error).__name__}")
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def leave(status: int) -> None:
    """End the interpreter in the order in which a normal one does: threads, atexit, streams."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        exit_status(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            status = status or 120
    os._exit(status)


def _session(data: bytes) -> Callable[[int], None]:
    from . import repl

    return repl.start(data)


def _calls(data: bytes) -> Callable[[int], None]:
    from . import calls

    return calls.start(data)


def _judge(data: bytes) -> Callable[[int], None]:
    from . import calls

    return calls.start_judge(data)


def _files(data: bytes) -> Callable[[int], None]:
    from . import files

    return files.start(data)


PROGRAMS = {
    "python": program,
    "exec": execute,
    "repl": _session,
    "calls": _calls,
    "judge": _judge,
    "files": _files,
}
"""The kinds of job."""
