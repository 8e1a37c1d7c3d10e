"""The stream that Docker attaches to a container, as a link to the agent in it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque

from .stream_link import StreamLink


def attach(sock: socket.socket) -> StreamLink:
    """Make a link of a container's attached stream."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    waiting: deque[memoryview] = deque()
    demux = Demultiplexer()

    def writable() -> None:
        while waiting:
            try:
                sent = sock.send(waiting[0])
            except BlockingIOError:
                return
            except OSError:
                waiting.clear()
                break
            if sent == len(waiting[0]):
                waiting.popleft()
            else:
                waiting[0] = waiting[0][sent:]
        loop.remove_writer(sock.fileno())

    def write(data: bytes) -> None:
        if not waiting:
            try:
                sent = sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return
            if sent == len(data):
                return
            data = data[sent:]
            loop.add_writer(sock.fileno(), writable)
        waiting.append(memoryview(data))

    def readable() -> None:
        try:
            data = sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            link.feed(demux.take(data))
            del demux.errors[:-4096]
        else:
            link.lose(f"The container ended. {demux.errors.decode('utf-8', 'replace')[-500:]}".strip())

    def close() -> None:
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()

    link = StreamLink(write)
    link.on_close(close)
    loop.add_reader(sock.fileno(), readable)
    return link


class Demultiplexer:
    """Docker's framing of stdout and stderr in one stream: a kind, three zeros, a length, the bytes."""

    def __init__(self) -> None:
        self.errors = bytearray()
        self._head = bytearray()
        self._left = 0
        self._kind = 1

    def take(self, data: bytes) -> bytes:
        """Return what of these bytes is stdout."""
        out = []
        view = memoryview(data)
        while view:
            if self._left == 0:
                need = 8 - len(self._head)
                self._head += view[:need]
                view = view[need:]
                if len(self._head) == 8:
                    self._kind, self._left = struct.unpack(">BxxxI", self._head)
                    self._head.clear()
                continue
            part = view[: self._left]
            view = view[len(part) :]
            self._left -= len(part)
            if self._kind == 2:
                self.errors += part
            else:
                out.append(bytes(part))
        return b"".join(out)
