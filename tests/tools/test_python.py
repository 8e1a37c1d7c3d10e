"""The Python tool: what a program prints comes back, what it did wrong is told, our failures are raised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quintain.sandboxes.base import Limits, Reason, Result, SandboxError, WorkerDied
from quintain.tools import InfrastructureError, ToolCall, UserError, python_tool
from quintain.tools.python import PythonTool


class Scripted:
    """A sandbox that gives back what it is told."""

    def __init__(self, outcome: Result | Exception) -> None:
        self.outcome = outcome
        self.asked: list[tuple[object, object]] = []
        self.closed = False

    async def run(self, code, *, language="python", stdin=b"", files=None, limits=None):
        self.asked.append((code, limits))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.closed = True


def call(code: str = "print(1)") -> ToolCall:
    return ToolCall("call_0", "python", {"code": code})


def result(reason: Reason = Reason.OK, out: bytes = b"", err: bytes = b"", **more) -> Result:
    return Result(reason=reason, exit_status=None, stdout_bytes=out, stderr_bytes=err, **more)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (result(out=b"84\n"), "84"),
        (result(), "The program printed nothing; print what you want to see."),
        (
            result(Reason.ERROR, b"1\n", b"Traceback\nZeroDivisionError: x\n"),
            "1\nTraceback\nZeroDivisionError: x",
        ),
        (result(Reason.TIMEOUT, b"1\n"), "1\nError: the program was stopped after 2 s."),
        (result(Reason.MEMORY), "Error: the program needed more than 64 MiB of memory."),
        (result(Reason.KILLED), "Error: the program crashed."),
        (result(out=b"aaa", stdout_truncated=True), "aaa\n[... more output was dropped ...]"),
    ],
)
async def test_what_comes_out_is_told(outcome, text):
    sandbox = Scripted(outcome)
    limits = Limits(wall_s=2, memory_mb=64)
    answer = await python_tool(sandbox, limits).call(call())

    assert answer.content == text
    assert answer.error is None
    assert sandbox.asked == [("print(1)", limits)]


async def test_only_the_last_lines_of_an_error_are_shown():
    sandbox = Scripted(result(Reason.ERROR, err=b"".join(b"line %d\n" % n for n in range(100))))
    assert (await python_tool(sandbox).call(call())).content.splitlines() == [
        f"line {n}" for n in range(92, 100)
    ]


async def test_a_sandbox_that_breaks_is_not_the_models_fault():
    with pytest.raises(InfrastructureError, match="sandbox: WorkerDied"):
        await python_tool(Scripted(WorkerDied("gone"))).call(call())


def test_a_sandbox_that_was_given_is_left_open():
    sandbox = Scripted(result())
    python_tool(sandbox).close()
    assert not sandbox.closed


def test_the_schema_has_one_parameter():
    schema = python_tool(Scripted(result())).schema["function"]
    assert schema["name"] == "python"
    assert schema["parameters"]["required"] == ["code"]


@pytest.fixture(scope="module")
def local() -> Iterator[PythonTool]:
    try:
        made = python_tool(limits=Limits(wall_s=2))
    except (UserError, SandboxError) as error:
        pytest.skip(f"no local sandbox on this machine: {error}")
    yield made
    made.close()


async def test_code_runs_in_the_local_sandbox(local):
    assert (await local.call(call("print(12*7)"))).content == "84"
    assert (await local.call(call("1/0"))).content.endswith("ZeroDivisionError: division by zero")
    assert "stopped after 2 s" in (await local.call(call("while True: pass"))).content
