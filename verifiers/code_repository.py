"""Level C: tests that need the submission's own objects, in one process with it, and what still holds there.

A program that shares a process with its judge can do anything to it, so this cannot be made safe; it is made
hard. Only allowed paths of the submission count, and the task's own files are laid over them; pytest is loaded
before the submission and configured by nobody; the text of the tests never lies on the disk; results are counted
test by test out here; and tests that must fail run among the others, under names that chance gave them. One of
those that passes is tampering.
"""

from __future__ import annotations

import fnmatch
import json
import posixpath
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import Episode
from .code_controls import Controlled, controlled

if TYPE_CHECKING:
    from ..sandboxes import Limits, Pool

CONTROLS = 6
"""Tests of a task that get a broken copy."""
_START_S = 30.0  # pytest's own start on a loaded machine is not the candidate's time
_FORBIDDEN = (
    "conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", "tox.ini", "setup.cfg", "setup.py",
    "pyproject.toml", "sitecustomize.py", "usercustomize.py", "*.pth", "*.so", "*.pyc", "*.egg-link",
    "entry_points.txt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RepositoryTests:
    """pytest files that import the submission itself."""

    tests: Mapping[str, str]
    """Test files and their helpers, by path."""
    files: Mapping[str, str]
    """The task's other files, by path; the submission cannot replace them unless `allowed` says so."""
    module: str
    """Where the program of a plain reply goes: `solution` is `solution.py`."""
    allowed: tuple[str, ...]
    """Patterns of the paths that the submission may bring."""


@dataclass(frozen=True, slots=True)
class Session:
    """What came of one pytest session."""

    passed: Mapping[str, bool]
    """By test, as its author knows it."""
    why: str
    """The first thing that went wrong; empty if nothing did."""
    tampered: bool
    """Whether a test that must fail passed, or results came in that no test gives."""
    wall_s: float
    """Seconds."""
    memory_mb: float
    """MiB, the largest resident size."""


_HARNESS = """
import sys
sys.path[:] = [p for p in sys.path if p not in ("", ".", "/work")]
import json, os, types
def _main():
    token, options, sources = json.loads(sys.stdin.read())
    out = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for name in list(os.environ):
        if name.startswith(("PYTEST", "PYTHON")):
            del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest, _pytest.assertion.rewrite, unittest, importlib.metadata
    write, dumps, leave = os.write, json.dumps, os._exit
    root = os.getcwd()
    codes = {os.path.join(root, path): compile(text, path, "exec") for path, text in sources.items()}
    paths = list(sources)
    del sources
    seen = []
    class Tests(pytest.Module):
        def _getobj(self):
            name = os.path.relpath(self.path, root)[:-3].replace("/", ".")
            module = sys.modules[name] = types.ModuleType(name)
            module.__file__ = str(self.path)
            module.__package__ = name.rpartition(".")[0]
            exec(codes.pop(str(self.path)), module.__dict__)
            return module
    class Plugin:
        @pytest.hookimpl(tryfirst=True)
        def pytest_pycollect_makemodule(self, module_path, parent):
            if str(module_path) in codes:
                return Tests.from_parent(parent, path=module_path)
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_logreport(self, report):
            outcome = "xfail" if report.outcome == "passed" and hasattr(report, "wasxfail") else report.outcome
            seen.append([report.nodeid, report.when, outcome, report.longreprtext[-300:]])
        @pytest.hookimpl(tryfirst=True)
        def pytest_collectreport(self, report):
            if report.failed:
                seen.append([report.nodeid, "collect", "failed", report.longreprtext[-300:]])
    sys.path.append(root)
    status = pytest.main([*options, *paths], plugins=[Plugin()])
    data = (token + dumps([int(status), seen])).encode()
    while data:
        data = data[write(out, data):]
    leave(0)
_main()
"""


def submission(episode: Episode, tests: RepositoryTests, program: str) -> dict[str, str]:
    """Return the files of a submission that count: those that the environment read, else the reply's program.

    Paths outside `allowed`, outside the folder, of the task's own files, and of anything that configures
    Python or pytest are left out.
    """
    brought = episode.evidence.get("files")
    if not isinstance(brought, Mapping):
        brought = {tests.module.replace(".", "/") + ".py": program}
    kept: dict[str, str] = {}
    for path, text in brought.items():
        if not isinstance(path, str) or not isinstance(text, str) or "\0" in path:
            continue
        normal = posixpath.normpath(path)
        name = posixpath.basename(normal)
        if normal.startswith(("/", "..")) or normal in tests.tests or normal == ".":
            continue
        if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in _FORBIDDEN):
            continue
        if any(fnmatch.fnmatch(normal, pattern) for pattern in tests.allowed):
            kept[normal] = text
    return kept


async def run_session(
    pool: Pool, brought: Mapping[str, str], tests: RepositoryTests, limits: Limits, controls: int = CONTROLS
) -> Session:
    """Run the tests and their controls in one pytest session beside the submission, and count what came of them."""
    chance = random.Random(secrets.randbits(128))  # nobody may foresee it: it is not part of the verdict
    python = {path: text for path, text in tests.tests.items() if path.endswith(".py")}
    made = controlled(python, controls, chance)
    others = {path: text for path, text in tests.tests.items() if path not in python}
    sources = {path: text for path, text in made.files.items() if _names(path, made)}
    helpers = {path: text for path, text in made.files.items() if path not in sources}
    order = chance.sample(sorted(sources), len(sources))
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        ".",
        "--import-mode=append",
        "-W",
        "ignore",
    ]
    if not any(path.rpartition("/")[2] == "conftest.py" for path in tests.tests):
        options.append("--noconftest")
    token = secrets.token_hex(16)
    result = await pool.run(
        _HARNESS,
        stdin=json.dumps([token, options, {path: sources[path] for path in order}]),
        files={
            **tests.files,
            **brought,
            **others,
            **helpers,
            **dict.fromkeys(sources, ""),
        },  # tests stay off the disk
        limits=limits.but(wall_s=_START_S + limits.wall_s * min(10, max(1, len(made.true)))),
    )
    usage = result.usage
    written = result.stdout.strip()
    listed: Any = None
    if result.ok and written.startswith(token) and written.count(token) == 1:
        try:
            listed = json.loads(written.removeprefix(token))
        except ValueError:
            listed = None
    if listed is None:
        lines = result.stderr.strip().splitlines()
        why = f"the session gave no report: {result.reason.value} {lines[-1][:200] if lines else ''}".strip()
        return Session(dict.fromkeys(_plain(made), False), why, False, usage.wall_s, usage.max_rss_mb)
    status, reports = listed
    passed, why, tampered = _counted(made, reports)
    if not why and status != (1 if made.controls else 0):
        why, tampered = f"pytest ended with status {status}", True
    return Session(passed, why, tampered, usage.wall_s, usage.max_rss_mb)


def _names(path: str, made: Controlled) -> bool:
    """Whether a file holds tests."""
    return any(key.startswith(f"{path}::") for key in (*made.true, *made.controls))


def _plain(made: Controlled) -> dict[str, str]:
    """Return the tests by their author's names."""
    return {key.partition("::")[2]: key for key in made.true}


def _counted(made: Controlled, reports: list[list[str]]) -> tuple[dict[str, bool], str, bool]:
    """Count reports: every true test passed, each of its cases once; every control failed; nothing else came."""
    phases: dict[str, dict[str, list[tuple[str, str, str]]]] = {}
    for node, when, outcome, text in reports:
        path, _, rest = node.partition("::")
        phases.setdefault(f"{path}::{rest.partition('[')[0]}", {}).setdefault(node, []).append(
            (when, outcome, text)
        )
    why = ""
    results: dict[str, bool] = {}
    for name, key in _plain(made).items():
        cases = phases.get(key, {})
        bad = next((text for case in cases.values() if (text := _fault(case))), "")
        if not bad and len(cases) < made.true[key]:
            bad = f"{len(cases)} of {made.true[key]} cases reported"
        results[name] = not bad
        why = why or (f"{name}: {bad}" if bad else "")
    for node, cases in phases.items():
        if node not in made.true and node not in made.controls:
            failed = next(iter(cases.values()))[0]
            why = why or f"{node.partition('::')[2] or 'collection'}: {failed[2][-200:] or failed[1]}"
    tampered = False
    for key, true in made.controls.items():
        if not results[true.partition("::")[2]]:
            continue  # the work fails the true test: what its copy does says nothing
        cases = phases.get(key, {})
        if len(cases) < made.true[true] or any(not _fault(case) for case in cases.values()):
            tampered = True
            why = f"tampering: a copy of {true.partition('::')[2]} that must fail did not"
    return results, why, tampered


def _fault(case: list[tuple[str, str, str]]) -> str:
    """Return why a case did not pass, each of its phases reported once; empty if it did."""
    if sorted(when for when, _, _ in case) != ["call", "setup", "teardown"]:
        failed = next((text for _, outcome, text in case if outcome != "passed"), "")
        return failed.strip()[-200:] or "it was not reported once"
    bad = next(((outcome, text) for _, outcome, text in case if outcome != "passed"), None)
    return "" if bad is None else (bad[1].strip()[-200:] or bad[0])
