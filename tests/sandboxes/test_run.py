from __future__ import annotations

import asyncio

import pytest

from quintain.sandboxes import Limits, Reason, SandboxUnavailable, open_sandbox


def test_a_program_runs_from_a_thread_and_from_many_tasks() -> None:
    try:
        sandbox = open_sandbox("local", limits=Limits(wall_s=20))
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))

    async def many() -> list[str]:
        return [r.stdout for r in await asyncio.gather(*(sandbox.run(f"print({i})") for i in range(5)))]

    with sandbox:
        assert sandbox.run_sync("print(1)").stdout == "1\n"
        assert asyncio.run(many()) == ["0\n", "1\n", "2\n", "3\n", "4\n"]
        assert sandbox.run_sync("while True: pass", limits=Limits(wall_s=0.5)).reason is Reason.TIMEOUT
