"""What goes into a box with a program: its text, its files, its environment, checked and packed for the agent."""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence

from .base import Files, LanguageError, SandboxFileError

SHELLS = ("bash", "shell", "sh")
"""Names that `language` knows for bash."""


def as_bytes(data: str | bytes) -> bytes:
    """Text as UTF-8."""
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)


def pack_files(files: Files | None) -> dict[str, bytes]:
    """Check the paths of files that go in with a run."""
    packed = {}
    for name, data in (files or {}).items():
        check_path(name)
        packed[name] = as_bytes(data)
    return packed


def check_path(path: str) -> None:
    """Refuse a path that leaves the working folder by its words; links are looked at inside."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise SandboxFileError(f"{path!r} is not a path. Give one relative to the working folder.")
    if path.startswith("/") or ".." in path.split("/"):
        raise SandboxFileError(
            f"{path!r} is outside the working folder. Give a relative path without '..', such as 'data/in.txt'."
        )


def program(
    code: str | Sequence[str], language: str, files: Files | None, env: Mapping[str, str] | None = None
) -> tuple[str, bytes]:
    """Return the kind of job and its payload for a program."""
    packed = pack_files(files)
    environ = dict(env or {})
    if not isinstance(code, str):
        argv = [str(word) for word in code]
        if not argv or any("\0" in word for word in argv):
            raise LanguageError(f"An argument list needs at least a program and no null bytes; got {argv!r}.")
        return "exec", marshal.dumps((argv, packed, environ, None), 2)
    if language == "python":
        return "python", marshal.dumps((as_bytes(code), packed, [], environ), 2)
    if language in SHELLS:
        return "exec", marshal.dumps((["/bin/bash"], packed, environ, as_bytes(code)), 2)
    raise LanguageError(
        f"There is no language {language!r} here; have 'python' and 'bash'. "
        "Any other program can be run by its argument list: run(['perl', 'main.pl'], files={...})."
    )
