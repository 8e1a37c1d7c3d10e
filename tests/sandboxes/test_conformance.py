"""The suite that ships with the product, on the local backend; and that it finds what is broken."""

from __future__ import annotations

import asyncio

import pytest

from quintain.sandboxes import BoxSandbox, Limits, SandboxUnavailable, open_sandbox
from quintain.sandboxes.check import CheckResult, check_sandbox
from quintain.sandboxes.checks import CHECKS


@pytest.fixture(scope="module")
def results() -> dict[str, CheckResult]:
    try:
        open_sandbox("local").close()
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    found = asyncio.run(check_sandbox(lambda limits: open_sandbox("local", limits=limits)))
    return {result.id: result for result in found}


@pytest.mark.parametrize("name", [check.id for check in CHECKS])
def test_promise(name: str, results: dict[str, CheckResult]) -> None:
    result = results[name]
    assert result.held, f"{result.promise} {result.detail}"


def test_each_check_has_a_promise_in_words() -> None:
    assert len(CHECKS) >= 50
    for check in CHECKS:
        assert check.promise.endswith("."), check.id
        assert len(check.promise) > 20, check.id


class Leaky(BoxSandbox):
    """A backend with a fault: what programs print on stderr is lost."""

    async def run(self, *args, **options):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(await super().run(*args, **options), stderr_bytes=b"")


async def test_a_broken_promise_is_named() -> None:
    def open_leaky(limits: Limits) -> BoxSandbox:
        sandbox = open_sandbox("local", limits=limits)
        sandbox.__class__ = Leaky
        return sandbox

    try:
        found = await check_sandbox(open_leaky, only=["run-streams-apart", "run-python"])
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    assert [(r.id, r.held) for r in found] == [("run-python", True), ("run-streams-apart", False)]
    assert "got ('out\\n', '')" in found[1].detail


async def test_an_unknown_check_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(ValueError, match=r"no check .nonsense..*run-python"):
        await check_sandbox(lambda limits: open_sandbox("local", limits=limits), only=["nonsense"])
