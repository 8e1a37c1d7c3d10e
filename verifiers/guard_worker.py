"""The other side of `guard`: a template process that forks workers, and the loop of a worker."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Sequence


def template(descriptor: int, preload: Sequence[str], memory_mb: int) -> None:
    """Import `preload`, then fork a worker for every descriptor that arrives; end when the caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in preload:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            control.close()
            _work(socket.socket(fileno=descriptors[0]), memory_mb)
        os.close(descriptors[0])
        control.sendall(struct.pack("!I", pid))


def _work(link: socket.socket, memory_mb: int) -> None:
    """Answer requests until the caller closes the socket. Never returns."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the template
        limit = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            size = struct.unpack("!Q", _read(link, 8))[0]
            request = _read(link, size)
            answer = pickle.dumps(_answer(request))
            link.sendall(struct.pack("!Q", len(answer)) + answer)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _answer(request: bytes) -> tuple[str, object]:
    try:
        function, args = pickle.loads(request)
        return "returned", function(*args)
    except MemoryError:
        return "memory", "the work needed more memory than its limit"
    except RecursionError:
        return "raised", "RecursionError: the work nested too deep"
    except BaseException:
        return "raised", traceback.format_exc()


def _read(link: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = link.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
