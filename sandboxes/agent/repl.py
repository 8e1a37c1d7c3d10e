"""Sessions: an interpreter that stays, one round trip per call.

The protocol is a length and the text one way, a status the other way. The program shares its process with this
code and could forge the status of its own call; that gains nothing, since what a session returns is its own
word in any case, and the host reads it within bounds.
"""

from __future__ import annotations

import _ast
import marshal
import os
import struct
import sys

from . import job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ONLY_AST = 0x0400
PROMPTLESS = {"PS1": "", "PS2": "", "PROMPT_COMMAND": "", "HISTFILE": "/dev/null", "TERM": "dumb"}


def start(data: bytes) -> Callable[[int], None]:
    """Return the body of a session: "python" or "bash"."""
    kind, environ = marshal.loads(data)
    os.environ.update(environ)
    return python if kind == "python" else bash


def bash(channel: int) -> None:
    """Become a shell whose commands come through the channel.

    It is an interactive one, since only that returns to its next command after an interrupt. The commands
    themselves do not have the channel: the host redirects their input.
    """
    job.default_signals()
    os.dup2(channel, 0)
    os.close(channel)
    os.execve(
        "/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], {**os.environ, **PROMPTLESS}
    )


def receive(channel: int, size: int) -> bytes:
    """Read exactly so many bytes; the end of the channel ends the process."""
    parts = []
    while size:
        part = os.read(channel, min(size, 1 << 20))
        if not part:
            job.leave(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def python(channel: int) -> None:
    """Answer cells until the channel closes."""
    job.prepare([""])
    module = job.fresh_main("cell.py")
    del module.__dict__["__file__"]
    count = 0
    while True:
        try:
            (size,) = struct.unpack("<I", receive(channel, 4))
            text = receive(channel, size)
        except KeyboardInterrupt:
            continue  # an interrupt that came too late for its call
        count += 1
        status = 1
        try:
            status = cell(text, module.__dict__, count)
        except BaseException as error:
            status = job.exit_status(error)
        while True:
            try:
                for stream in (sys.stdout, sys.stderr):
                    try:
                        stream.flush()
                    except (OSError, ValueError, AttributeError):
                        pass
                os.write(channel, struct.pack("<i", status))
                break
            except KeyboardInterrupt:
                status = 130


def cell(text: bytes, scope: dict[str, object], count: int) -> int:
    """Run one cell; the value of a last expression is shown, as in a notebook."""
    path = f"{job.scratch}/cell_{count}.py"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, text)  # a traceback shows the line from here
        os.close(fd)
    except OSError:
        pass
    tree = compile(text, path, "exec", ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    if tree.body:
        exec(compile(tree, path, "exec", dont_inherit=True), scope)
    if last is not None:
        value = eval(compile(_ast.Expression(last.value), path, "eval", dont_inherit=True), scope)
        if value is not None:
            scope["_"] = value
            print(repr(value))
    return 0
