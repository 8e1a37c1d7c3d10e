"""Full load while workers are killed at random: every call is answered, and no failure of ours is a wrong answer.

`QUINTAIN_LOAD_SECONDS=120` runs it for two minutes; it is ten seconds otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from quintain.sandboxes import Limits, SandboxUnavailable, open_pool
from quintain.verifiers import CodeTests, MathAnswer, Task, verifier
from quintain.verifiers.guard import Guard, GuardError

SECONDS = float(os.environ.get("QUINTAIN_LOAD_SECONDS", "10"))


def square_root(number: int) -> float:
    """What a guarded verifier might compute."""
    return float(sum(range(number % 1000)))


def children(pid: int) -> list[int]:
    """Return the processes that one has started: sandbox workers and the guard's template."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


@pytest.mark.slow
@pytest.mark.alone
async def test_every_call_is_answered_while_both_pools_lose_workers() -> None:
    try:
        pool = open_pool(limits=Limits(wall_s=5, memory_mb=256))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    guard = Guard(2, memory_mb=512, wall_s=20)
    judge = CodeTests(wall_s=5, memory_mb=256, pool=pool)
    tests = [{"args": [n], "expected": n * n} for n in range(8)]
    code = Task("code", "", {"entry_point": "f", "tests": tests})
    asserts = Task("asserts", "", {"test_list": ["assert f(3) == 9", "assert f(4) == 16"]})
    expression = Task("math", "", "x^2-9")

    @verifier
    async def guarded(reply: object, task: Task) -> bool:
        try:
            return bool(await guard.acall(square_root, 500) == square_root(500))
        except GuardError as error:
            raise RuntimeError("ours") from error

    work = [
        (judge, "def f(n): return n * n", code, 1.0),
        (judge, "def f(n): return n + n", code, 0.0),
        (judge, "def f(n): return n * n", asserts, 1.0),
        (MathAnswer(), "\\boxed{(x-3)(x+3)}", expression, 1.0),
        (guarded, "any", expression, 1.0),
    ]
    stop = time.monotonic() + SECONDS
    outcomes: Counter[str] = Counter()
    kills = 0

    async def caller(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < stop:
            what, reply, task, wanted = chance.choice(work)
            score = await asyncio.wait_for(what.acall(reply, task), 120)
            if score.graded:
                assert score.value == wanted, (task.id, reply, score.reason)
            outcomes[f"{task.id} {'graded' if score.graded else 'ungraded'}"] += 1

    async def killer() -> None:
        nonlocal kills
        chance = random.Random(1)
        while time.monotonic() < stop:
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            victims = [*guard.pids(), *children(os.getpid())]
            if victims:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    kills += 1

    async with pool:
        with guard:
            await asyncio.gather(killer(), *(caller(seed) for seed in range(12)))
            assert (await judge.acall("def f(n): return n * n", code)).value == 1
            assert (await guarded.acall("any", expression)).value == 1
    print(dict(outcomes), kills, "kills")
    graded = sum(count for what, count in outcomes.items() if what.endswith(" graded"))
    assert kills > SECONDS / 4
    assert graded > 0.8 * outcomes.total()
    assert all(outcomes[f"{task} graded"] for task in ("code", "asserts", "math"))
