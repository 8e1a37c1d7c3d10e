"""File access from outside, done inside: a trusted process of the box, under the box's own confinement.

Links therefore resolve in the box and can reach nothing that a program there could not. Paths are relative to
the working folder and may not leave it, not through a link either. Only regular files are read or replaced.
"""

from __future__ import annotations

import marshal
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

root = "/work"
"""The working folder."""


class Refused(Exception):  # noqa: N818 - the name is the sentence
    """The operation is not possible; the text goes to the caller."""


def start(data: bytes) -> Callable[[int], None]:
    """Return the body of a file job. It writes its data to stdout and its refusal to stderr."""
    operation, *arguments = marshal.loads(data)
    work = OPERATIONS[operation]

    def body(channel: int) -> None:
        try:
            work(*arguments)
            os._exit(0)
        except Refused as error:
            os.write(2, str(error).encode("utf-8", "replace"))
        except OSError as error:
            os.write(2, explain(error).encode("utf-8", "replace"))
        except RecursionError:
            os.write(2, b"folders are nested too deep")
        os._exit(1)

    return body


def explain(error: OSError) -> str:
    """Say what the system refused."""
    name = (error.filename or "").removeprefix(root + "/") if isinstance(error.filename, str) else ""
    return f"{os.strerror(error.errno or 0)}{': ' + repr(name) if name else ''}"


def inside(path: str) -> str:
    """Return the real path below the working folder; refuse what leaves it."""
    if not path or "\0" in path:
        raise Refused(f"{path!r} is not a path")
    if path.startswith("/"):
        path = os.path.relpath(path, root) if path == root or path.startswith(root + "/") else path
    if path.startswith("/") or ".." in path.split("/"):
        raise Refused(f"{path!r} is outside the working folder")
    full = os.path.realpath(f"{root}/{path}")
    if full != root and not full.startswith(root + "/"):
        raise Refused(f"{path!r} is a link that leaves the working folder")
    return full


def put(path: str, data: bytes) -> None:
    """Write a file, making the folders above it. What stood there is replaced, not written through."""
    full = inside(path)
    if full == root or os.path.isdir(full):
        raise Refused(f"{path!r} is a folder")
    os.makedirs(os.path.dirname(full), exist_ok=True)
    temporary = f"{full}.quintain-new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.unlink(temporary)
    except OSError:
        pass
    fd = os.open(temporary, flags, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.close(fd)
        fd = -1
        os.rename(temporary, full)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        if fd >= 0:
            os.close(fd)


def write(path: str) -> None:
    """Write a file from standard input."""
    put(path, read_all(0))


def read_all(fd: int) -> bytes:
    """Read a descriptor to its end."""
    chunks: list[bytes] = []
    while True:
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def write_all(data: bytes) -> None:
    """Write to standard output."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def read(path: str, limit: int) -> None:
    """Copy a regular file of at most `limit` bytes to standard output."""
    full = inside(path)
    fd = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{path!r} is not a regular file")
    if found.st_size > limit:
        raise Refused(f"{path!r} has {found.st_size:,} bytes; the limit is {limit:,} (max_bytes)")
    left = limit
    while left > 0:
        chunk = os.read(fd, min(1 << 20, left))
        if not chunk:
            return
        left -= len(chunk)
        write_all(chunk)


def walk(path: str, limit: int) -> Iterator[tuple[str, str, int, str]]:
    """Yield (relative path, kind, size, full path) of everything below a folder, sorted."""
    top = inside(path)
    if not os.path.isdir(top):
        raise Refused(f"{path!r} is not a folder")
    count = 0
    for folder, names, files in os.walk(top):
        names.sort()
        for name in sorted(names + files):
            count += 1
            if count > limit:
                raise Refused(f"there are more than {limit:,} entries")
            full = f"{folder}/{name}"
            found = os.lstat(full)
            kind = "other"
            for test, word in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "link")):
                if test(found.st_mode):
                    kind = word
            yield full[len(root) + 1 :], kind, found.st_size, full


def listing(path: str, limit: int) -> None:
    """Write the entries below a folder: kind, size, path, each ended by a null byte."""
    for name, kind, size, _ in walk(path, limit):
        write_all(f"{kind} {size} ".encode() + os.fsencode(name) + b"\0")


def _open_any(full: str) -> int:
    """Open a file of ours for reading, even one whose mode forbids it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(full, flags)
    except PermissionError:
        mode = stat.S_IMODE(os.lstat(full).st_mode)
        os.chmod(full, mode | 0o400)
        fd = os.open(full, flags)
        os.fchmod(fd, mode)
        return fd


def pack(limit: int, limit_bytes: int) -> None:
    """Write the working folder to standard output: one record an entry, then its data."""
    total = 0
    for name, kind, _, full in walk(".", limit):
        data = b""
        if kind == "file":
            fd = _open_any(full)
            data = read_all(fd)
            os.close(fd)
        elif kind == "link":
            data = os.fsencode(os.readlink(full))
        total += len(data)
        if total > limit_bytes:
            raise Refused(f"the folder holds more than {limit_bytes:,} bytes")
        mode = stat.S_IMODE(os.lstat(full).st_mode)
        write_all(marshal.dumps((os.fsencode(name), kind, mode, len(data)), 2))
        write_all(data)
    write_all(marshal.dumps(None, 2))


def unpack() -> None:
    """Make the working folder what a pack on standard input says."""
    for name in os.listdir(root):
        remove(f"{root}/{name}")
    folders = []
    with open(0, "rb", closefd=False) as source:
        while True:
            record = marshal.load(source)
            if record is None:
                break
            name, kind, mode, size = record
            data = source.read(size)
            full = os.fsencode(root) + b"/" + name
            if kind == "dir":
                os.mkdir(full, 0o755)
                folders.append((full, mode))
            elif kind == "link":
                os.symlink(data, full)
            elif kind == "file":
                fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fchmod(fd, mode)
                os.close(fd)
    for full, mode in reversed(folders):
        os.chmod(full, mode)


def remove(path: str) -> None:
    """Delete a file, or a folder with all in it, whatever its mode and however deep.

    What lies below a folder is moved up beside it, a level at a time: no path grows too long, and nothing recurs.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    moved = 0
    while names := os.listdir(path):
        for name in names:
            folder = f"{path}/{name}"
            if os.path.islink(folder) or not os.path.isdir(folder):
                os.unlink(folder)
                continue
            os.chmod(folder, 0o700)
            for inner in os.listdir(folder):
                full = f"{folder}/{inner}"
                if os.path.islink(full) or not os.path.isdir(full):
                    os.unlink(full)
                    continue
                os.chmod(full, 0o700)
                moved += 1
                while os.path.lexists(f"{path}/moved-{moved}"):
                    moved += 1
                os.rename(full, f"{path}/moved-{moved}")
            os.rmdir(folder)
    os.rmdir(path)


OPERATIONS: dict[str, Callable[..., None]] = {
    "read": read,
    "write": write,
    "list": listing,
    "pack": pack,
    "unpack": unpack,
}
"""What a file job can do."""
