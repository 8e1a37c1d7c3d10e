"""An image for the docker tests, made of this machine's own python3, bash and small tools: no registry is needed."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

TAG = "quintain-test:2"
PLAIN = "quintain-plain-test:1"
TOOLS = (
    "basename bash cat chmod cut date dirname echo env expr false find grep head id kill ln ls mkdir mkfifo mknod",
    "mv printf ps pwd readlink rm sed seq setsid sh sleep sort stat tail tee test timeout touch tr true uname wc",
    "xargs yes",
)


def libraries(program: str) -> set[str]:
    text = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+)", text))


def make_image(client: Any, *, python: bool = True) -> str:
    """Import the image unless the engine has it; without Python it has the shell and the small tools alone."""
    import docker

    tag = TAG if python else PLAIN
    try:
        client.images.get(tag)
        return tag
    except docker.errors.ImageNotFound:
        pass
    found_python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys._base_executable  # type: ignore[attr-defined]
    real = Path(found_python).resolve()
    if found_python.startswith("/usr/bin"):
        stdlib = Path(f"/usr/lib/{real.name}")
    else:
        stdlib = Path(sysconfig.get_path("stdlib"))
    programs = {"/usr/bin/python3": str(real)} if python else {}
    programs |= {
        f"/usr/bin/{name}": found for name in " ".join(TOOLS).split() if (found := shutil.which(name))
    }
    needed: set[str] = set()
    modules = map(str, stdlib.glob("lib-dynload/*.so")) if python else ()
    for program in [*programs.values(), *modules]:
        needed |= libraries(program)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "tmp", "work", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for target, source in programs.items():
            archive.add(Path(source).resolve(), target.lstrip("/"))
        for name in ("bash", "sh"):
            archive.add(Path(shutil.which(name) or "/bin/sh").resolve(), f"bin/{name}")
        for library in needed:
            archive.add(Path(library).resolve(), library.lstrip("/"))
        if python:
            archive.add(
                stdlib,
                str(stdlib).lstrip("/"),
                filter=lambda info: (
                    None if re.search(r"/(test|tests|__pycache__|site-packages)(/|$)", info.name) else info
                ),
            )
    repository, version = tag.split(":")
    client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=version)
    return tag
