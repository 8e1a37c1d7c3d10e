"""`CodeTests`: does the program of the reply pass the task's tests, with no way to talk itself past them?

Three levels, and every score says which. **A, values only**: inputs go into the candidate's box, plain values come
out, and what was expected is compared here. **B, judge box**: test code that asserts runs in a second box, where
the candidate is a stub whose calls are passed on; the candidate never shares a process with its tests. **C, same
process**: tests that need the candidate's own objects, among tests that must fail (see `code_repository`).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from .base import Episode, Score, Task, Verifier
from .code_repository import RepositoryTests, run_session, submission
from .code_tests import AssertTests, FunctionTests, OutputTests, program_in, tests_of
from .code_values import same_output, same_value

if TYPE_CHECKING:
    from ..sandboxes import Functions, Limits, Outcome, Pool, SandboxError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of one test."""

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    passed: bool
    """Whether it passed."""
    why: str = ""
    """What went wrong."""
    wall_s: float = 0.0
    """Seconds it took."""
    memory_mb: float = 0.0
    """MiB: the largest resident size of the process that ran it, which tests of one session share."""


@dataclass(frozen=True)
class CodeTests(Verifier):
    """Does the program of the reply pass the task's tests?

    `task.answer` is one of:

    - `{"entry_point": "f", "tests": [{"args": [1], "expected": 2}, ...]}`: calls and values (level A);
    - `{"tests": [{"stdin": "1", "stdout": "2"}, ...]}`: whole programs (level A);
    - `{"entry_point": "f", "test": "def check(candidate): ..."}`: HumanEval (level B);
    - `{"test_list": ["assert f(1) == 2", ...]}`: MBPP (level B);
    - `{"test_files": {"test_a.py": "..."}, "module": "solution"}`: pytest on functions (level B);
    - the same with `"level": "C"`, and perhaps `files` (the rest of the repository) and `allowed` (patterns of the
      paths that a submission may bring, from `evidence["files"]` or as the module): pytest on whole modules.

    At levels A and B the expected values never enter the candidate's process; exit codes, printed words and live
    objects of the candidate decide nothing. The reply's last fenced block is the program.
    """

    partial: bool = False
    """Whether the value is the share of tests passed; else (at level C always) 1 for all of them, 0 otherwise."""
    wall_s: float = 10.0
    """Seconds for each test; a task's own `time_limit_s` comes first."""
    memory_mb: int = 512
    """MiB for the candidate."""
    tolerance: float = 0.0
    """Relative difference between numbers that still counts as equal; a task's own `tolerance` comes first."""
    pool: Pool | None = field(default=None, repr=False, compare=False, metadata={"spec": False})
    """Where programs run; None: one local pool that all code verifiers share."""

    def score(self, episode: Episode) -> Score:
        """Judge from a thread, with or without an event loop in it."""
        return run_anywhere(self.ascore(episode))

    async def ascore(self, episode: Episode) -> Score:
        """Run the reply's program against the tests of the task."""
        task = episode.task
        tests = tests_of(task)
        if not str(episode.reply).strip():
            return Score(0.0, reason="no program in the reply")
        limits = self._limits(task)
        pool = self.pool or shared_pool()
        entry = task.answer.get("entry_point")
        code = program_in(str(episode.reply), entry, str(task.answer.get("prompt") or ""))
        try:
            code.encode()
        except UnicodeEncodeError:
            return Score(0.0, reason="the program is no valid text")
        tolerance = float(task.answer.get("tolerance") or self.tolerance)
        match tests:
            case FunctionTests():
                level, results = "A", await call_tests(pool, code, tests, limits, tolerance)
            case OutputTests():
                level, results = "A", await output_tests(pool, code, tests, limits, tolerance)
            case AssertTests():
                level, results = "B", await assert_tests(pool, code, tests, limits)
            case RepositoryTests():
                return await self._repository(pool, episode, code, tests, limits)
        return self._scored(level, results)

    async def _repository(
        self, pool: Pool, episode: Episode, code: str, tests: RepositoryTests, limits: Limits
    ) -> Score:
        brought = submission(episode, tests, code)
        if not brought:
            return Score(0.0, reason="level C: the submission brings none of the allowed files")
        session = await run_session(pool, brought, tests, limits)
        good = sum(session.passed.values())
        parts = {f"test_{i}": float(passed) for i, passed in enumerate(list(session.passed.values())[:100])}
        parts |= {"seconds": session.wall_s, "memory_mb": session.memory_mb}
        if session.tampered:
            parts["tampering"] = 1.0
        reason = f"level C: {good} of {len(session.passed)} tests passed"
        right = good == len(session.passed) and not session.why
        return Score(float(right), parts=parts, reason=reason + (f"; {session.why}" if session.why else ""))

    def _limits(self, task: Task) -> Limits:
        from ..sandboxes import Limits

        wall = task.answer.get("time_limit_s") or self.wall_s
        return Limits(wall_s=float(wall), memory_mb=int(task.answer.get("memory_mb") or self.memory_mb))

    def _scored(self, level: str, results: Sequence[TestResult]) -> Score:
        passed = sum(result.passed for result in results)
        share = passed / len(results)
        parts = {f"test_{i}": float(r.passed) for i, r in enumerate(results[:100])}
        parts |= {f"seconds_{i}": r.wall_s for i, r in enumerate(results[:100])}
        parts["seconds"] = sum(result.wall_s for result in results)
        parts["memory_mb"] = max(result.memory_mb for result in results)
        first = next((f"; test {i}: {r.why}" for i, r in enumerate(results) if not r.passed), "")
        reason = f"level {level}: {passed} of {len(results)} tests passed{first}"
        return Score(share if self.partial else float(passed == len(results)), parts=parts, reason=reason)

    def check(self, task: Task) -> None:
        """Refuse a task whose tests cannot be read."""
        tests_of(task)


# --- level A


async def call_tests(
    pool: Pool, code: str, tests: FunctionTests, limits: Limits, tolerance: float = 0.0
) -> list[TestResult]:
    """Call the candidate's function with each test's arguments and compare what it returns, out here."""
    from ..sandboxes import Call

    calls = [Call(tests.entry_point, test.get("args", []), test.get("kwargs", {})) for test in tests.tests]
    outcomes = await pool.call(code, calls, limits=limits)
    pairs = zip(tests.tests, outcomes, strict=True)
    return [_judged(outcome, test, float(test.get("tolerance") or tolerance)) for test, outcome in pairs]


def _judged(outcome: Outcome, test: Mapping[str, Any], tolerance: float) -> TestResult:
    if "raises" in test:
        raised = outcome.status.value == "raised" and outcome.error_type == test["raises"]
        why = "" if raised else f"did not raise {test['raises']}"
        return TestResult(raised, why, outcome.wall_s, outcome.memory_mb)
    if not outcome.ok:
        why = f"{outcome.status.value}: {outcome.error[:200]}"
        return TestResult(False, why, outcome.wall_s, outcome.memory_mb)
    if same_value(outcome.value, test["expected"], tolerance):
        return TestResult(True, "", outcome.wall_s, outcome.memory_mb)
    why = f"returned {_short(outcome.value)}, expected {_short(test['expected'])}"
    return TestResult(False, why, outcome.wall_s, outcome.memory_mb)


async def output_tests(
    pool: Pool, code: str, tests: OutputTests, limits: Limits, tolerance: float = 0.0
) -> list[TestResult]:
    """Run the program once for each test and compare what it prints, out here."""

    async def one(test: Mapping[str, Any]) -> TestResult:
        result = await pool.run(code, stdin=str(test["stdin"]), limits=limits)
        if not result.ok:
            lines = result.stderr.strip().splitlines()
            why = f"{result.reason.value}: {lines[-1][:200] if lines else ''}"
            return TestResult(False, why, result.usage.wall_s, result.usage.max_rss_mb)
        if result.stdout_truncated or not same_output(result.stdout, str(test["stdout"]), tolerance):
            return TestResult(
                False,
                f"printed {_short(result.stdout)}, expected {_short(test['stdout'])}",
                result.usage.wall_s,
                result.usage.max_rss_mb,
            )
        return TestResult(True, "", result.usage.wall_s, result.usage.max_rss_mb)

    return list(await asyncio.gather(*(one(test) for test in tests.tests)))


# --- level B


_ASSERT_HARNESS = """
import json as _json
def _run(_setup, _snippet):
    _scope = {{"__name__": "__judge__"}}
    _scope.update({{_n: globals()[_n] for _n in {names!r}}})
    try:
        exec(_setup, _scope)
        exec(_snippet, _scope)
    except BaseException as _error:
        return [False, type(_error).__name__ + ": " + str(_error)[:200]]
    return [True, ""]
_results = [_run({setup!r}, _snippet) for _snippet in {snippets!r}]
print("\\n{nonce}" + _json.dumps(_results))
"""

_PYTEST_HARNESS = """
import json, os, sys
sys.path.insert(0, ".")
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
import pytest
class Results:
    def __init__(self):
        self.seen = {{}}
    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            good = report.passed and not hasattr(report, "wasxfail")
            self.seen[report.nodeid] = [self.seen.get(report.nodeid, [True])[0] and good, report.longreprtext[-300:]]
    def pytest_collectreport(self, report):
        if report.failed:
            self.seen[report.nodeid or "collection"] = [False, report.longreprtext[-300:]]
results = Results()
options = ["-q", "-p", "no:cacheprovider", "--noconftest", "-c", "/dev/null", "--rootdir", "."]
pytest.main([*options, *{files!r}], plugins=[results])
print("\\n{nonce}" + json.dumps([results.seen[k] for k in sorted(results.seen)]))
"""


_JUDGE_START_S = 30.0  # the judge's own start (pytest on a loaded machine) is not the candidate's time


async def assert_tests(pool: Pool, code: str, tests: AssertTests, limits: Limits) -> list[TestResult]:
    """Run test code in a box of its own, where the candidate's functions are answered from another box.

    A box of ours that is lost is tried once more, and then raised: it is no failure of the candidate's.
    """
    from ..sandboxes import WorkerDied

    try:
        return await _assert_tests(pool, code, tests, limits)
    except WorkerDied:
        return await _assert_tests(pool, code, tests, limits)


async def _assert_tests(pool: Pool, code: str, tests: AssertTests, limits: Limits) -> list[TestResult]:
    count = len(tests.snippets) or 1
    functions = await pool.functions(code, limits=limits)
    try:
        probe = await functions.call("no such function: loads the program")
        if probe.status.value != "missing":
            return [TestResult(False, f"{probe.status.value}: {probe.error[:200]}", probe.wall_s)] * count
        relay = _Relay(functions)
        nonce = secrets.token_hex(16)
        if tests.files is not None:
            paths = sorted(path for path in tests.files if path.endswith(".py"))
            program = _PYTEST_HARNESS.format(files=paths, nonce=nonce)
        else:
            program = _ASSERT_HARNESS.format(
                names=tests.names, setup=tests.setup, snippets=list(tests.snippets), nonce=nonce
            )
        stubs = {name: relay.handler(name) for name in tests.names}
        result = await pool.judge(
            program,
            stubs,
            module=tests.module if tests.files is not None else None,
            files=tests.files,
            limits=limits.but(
                wall_s=_JUDGE_START_S + limits.wall_s * (10 if tests.files else min(count, 10))
            ),
        )
    finally:
        await functions.aclose()
    memory = functions.memory_mb
    if relay.lost is not None:
        raise relay.lost
    seconds = result.usage.wall_s
    _, found, listed = result.stdout.rpartition(nonce)
    if relay.broken:
        return [TestResult(False, relay.broken, seconds / count)] * count
    if not found:
        lines = result.stderr.strip().splitlines()
        why = f"{result.reason.value}: {lines[-1][:200] if lines else ''}"
        return [TestResult(False, why, seconds / count, memory)] * count
    results = json.loads(listed)
    if not results:
        return [TestResult(False, "no test was collected", seconds)]
    return [TestResult(bool(good), str(why)[-300:], seconds / len(results), memory) for good, why in results]


class _Relay:
    """Passes calls of the test code on to the candidate, and remembers if the candidate's process was lost."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.broken = ""
        self.lost: SandboxError | None = None

    def handler(self, name: str) -> Any:
        from ..sandboxes import Outcome, SandboxError, Status

        async def call(args: list[Any], kwargs: dict[str, Any]) -> Outcome:
            try:
                outcome = await self.functions.call(name, args, kwargs)
            except (
                SandboxError
            ) as error:  # ours: the judge's program is ended quickly, and what it says is not used
                self.lost = error
                return Outcome(Status.CRASHED, error="lost")
            if outcome.status.value not in {"value", "raised"}:
                self.broken = self.broken or f"{outcome.status.value}: {outcome.error[:200]}"
            return outcome

        return call


# --- where and how


def shared_pool() -> Pool:
    """Return the local pool that code verifiers of this process share, opened at its first use.

    Raises `SandboxUnavailable`.
    """
    return _pool_of(
        os.getpid()
    )  # a forked process has the object of its parent, but not the threads behind it


@lru_cache(maxsize=1)
def _pool_of(process: int) -> Pool:
    import atexit

    from ..sandboxes import open_pool

    pool = open_pool()
    atexit.register(pool.close)
    return pool


def run_anywhere(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from a plain function, whether or not this thread has a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "a value too long to write down"
    return text if len(text) <= 100 else text[:97] + "..."
