"""Functions of a program, called with plain values from outside; and the reverse, for a judge.

A candidate never sees what is expected of it: arguments come in, a plain value goes out, the comparison is made
elsewhere. Each message carries a number that its answer must repeat.
"""

from __future__ import annotations

import builtins
import marshal
import os
import struct
import sys

from . import job, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VALUE, RAISED, NOT_PLAIN, MISSING = b"V", b"E", b"U", b"M"
NONCE = 8
MAX_TEXT = 2000


def send(channel: int, nonce: bytes, status: bytes, body: bytes) -> None:
    """Send one frame."""
    data = memoryview(struct.pack("<I", len(nonce) + 1 + len(body)) + nonce + status + body)
    while data:
        data = data[os.write(channel, data) :]


def receive(channel: int) -> tuple[bytes, bytes]:
    """Receive one frame: its number and the rest."""
    (size,) = struct.unpack("<I", _exactly(channel, 4))
    data = _exactly(channel, size)
    return data[:NONCE], data[NONCE:]


def _exactly(channel: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(channel, min(size, 1 << 20))
        if not part:
            job.leave(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def failure(error: BaseException) -> bytes:
    """An exception as plain data: the name of its type and its text."""
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    return values.encode([type(error).__name__[:200], text])


def start(data: bytes) -> Callable[[int], None]:
    """Return the body of a candidate: run its code, then answer calls."""
    code, files, environ = marshal.loads(data)
    job.place(files)
    job.put_script(f"{job.scratch}/main.py", code)
    os.environ.update(environ)

    def body(channel: int) -> None:
        job.prepare([f"{job.scratch}/main.py"])
        scope = _load(code, "__candidate__")
        if isinstance(scope, bytes):
            send(channel, bytes(NONCE), RAISED, scope)
            return job.leave(1)
        send(channel, bytes(NONCE), VALUE, b"N")
        while True:
            nonce, request = receive(channel)
            send(channel, nonce, *_answer(scope, request))

    return body


def _load(code: bytes, name: str) -> dict[str, object] | bytes:
    """Execute a program as a module that is not `__main__`; its namespace, or its failure as bytes."""
    script = f"{job.scratch}/main.py"
    module = job.fresh_main(script)
    module.__name__ = name
    sys.modules[name] = module
    try:
        exec(compile(code, script, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        job.exit_status(error)
        return failure(error)
    return module.__dict__


def _answer(scope: dict[str, object], request: bytes) -> tuple[bytes, bytes]:
    try:
        request_: Any = values.decode(request)
        name, args, kwargs = request_
        function = _find(scope, name)
    except (LookupError, AttributeError, TypeError) as error:
        return MISSING, failure(error)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        return RAISED, failure(error)
    try:
        return VALUE, values.encode(result)
    except BaseException as error:
        return NOT_PLAIN, failure(error)


def _find(scope: dict[str, object], name: str) -> Any:
    """Look a function up; of a class on the way ("Solution.twoSum") an instance is made."""
    first, *rest = name.split(".")
    if first not in scope:
        raise LookupError(f"the program defines no {first!r}")
    found: Any = scope[first]
    for part in rest:
        if isinstance(found, type):
            found = found()
        found = getattr(found, part)
    return found


# --- the other side: a judge's program whose candidate is elsewhere --------------------------------------------------


def start_judge(data: bytes) -> Callable[[int], None]:
    """Return the body of a judge: a program that finds stubs under the given names, and perhaps as a module."""
    code, files, environ, names, module_name = marshal.loads(data)
    job.place(files)
    job.put_script(f"{job.scratch}/main.py", code)
    os.environ.update(environ)

    def body(channel: int) -> None:
        stubs: dict[str, object] = {name: stub(channel, name) for name in names}
        if module_name:
            module = type(sys)(module_name)
            module.__dict__.update(stubs)
            sys.modules[module_name] = module
        job.run_python(code, [], stubs)

    return body


def stub(channel: int, name: str) -> Callable[..., object]:
    """Return a function whose calls are answered by the host."""

    def call(*args: object, **kwargs: object) -> object:
        nonce = os.urandom(NONCE)
        send(channel, nonce, b"C", values.encode([name, list(args), kwargs], normalise=True))
        answered, body = receive(channel)
        if answered != nonce:
            raise RuntimeError("an answer to another call")
        status = body[:1]
        value: Any = values.decode(body[1:])
        if status == VALUE:
            return value
        kind, text = value
        known = getattr(builtins, kind, None)
        if isinstance(known, type) and issubclass(known, Exception):
            try:
                error = known(text)
            except TypeError:
                error = RuntimeError(f"{kind}: {text}")
            raise error
        raise RuntimeError(f"{kind}: {text}")

    call.__name__ = call.__qualname__ = name.split(".")[-1]
    return call
