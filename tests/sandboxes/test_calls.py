"""Values-only calls, kept functions, and a judge whose candidate is elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from quintain.sandboxes import Call, LimitsError, Outcome, Pool, Reason, SandboxClosed, Status

SOLUTION = """
import os, sys, time
count = 0
def add(a, b=1): return a + b
def tally():
    global count
    count += 1
    return count
def fail(): raise ValueError('no good')
def leave(): sys.exit(0)
def vanish(): os._exit(0)
def hang(): time.sleep(60)
def swallow():
    while True:
        try: time.sleep(60)
        except BaseException: pass
def hog(): return bytearray(1 << 30)
def big(): return 'x' * (1 << 25)
def deep():
    x = []
    for _ in range(500): x = [x]
    return x
class Solution:
    def twice(self, text): return text * 2
"""


def call(pool: Pool, *calls: Call) -> list[Outcome]:
    return pool.call_sync(SOLUTION, calls)


def test_values_go_in_and_come_out(pool: Pool) -> None:
    got = call(pool, Call("add", [1, 2]), Call("add", [[1]], {"b": [2]}), Call("Solution.twice", ["ab"]))
    assert [(o.status, o.value) for o in got] == [
        (Status.VALUE, 3),
        (Status.VALUE, [1, 2]),
        (Status.VALUE, "abab"),
    ]


def test_calls_of_one_program_share_its_state(pool: Pool) -> None:
    assert [o.value for o in call(pool, *[Call("tally")] * 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("fail", Status.RAISED, "ValueError: no good"),
        ("leave", Status.RAISED, "SystemExit: 0"),
        ("vanish", Status.CRASHED, "the process ended with status 0x0"),
        ("hang", Status.TIMEOUT, "no answer within 0.5 s"),
        ("swallow", Status.TIMEOUT, "no answer within 0.5 s"),
        ("hog", Status.RAISED, "MemoryError"),
        ("big", Status.NOT_PLAIN, "more than 16,777,216 bytes"),
        ("deep", Status.NOT_PLAIN, "nested deeper than 100"),
        ("nowhere", Status.MISSING, "the program defines no 'nowhere'"),
    ],
)
def test_a_failed_call_says_how_and_the_next_one_is_unharmed(
    pool: Pool, name: str, status: Status, words: str
) -> None:
    got = call(pool, Call(name, wall_s=0.5), Call("add", [1]))
    assert got[0].status is status, got
    assert words in got[0].error
    assert not got[0].ok
    assert got[1].value == 2


def test_programs_that_keep_dying_are_given_up(pool: Pool) -> None:
    got = call(pool, *[Call("vanish")] * 6)
    assert [o.status for o in got] == [Status.CRASHED] * 4 + [Status.NOT_RUN] * 2


def test_a_program_that_does_not_load_fails_every_call(pool: Pool) -> None:
    for code, words in (
        ("x = = 1", "SyntaxError"),
        ("raise KeyError('k')", "KeyError"),
        ("exit()", "SystemExit"),
    ):
        got = pool.call_sync(code, [Call("f"), Call("g")])
        assert [o.status for o in got] == [Status.LOAD_FAILED] * 2
        assert got[0].error.startswith(words)
    got = pool.call_sync("while True: pass", [Call("f")], limits=pool.limits.but(wall_s=0.5))
    assert got[0].status is Status.TIMEOUT


@pytest.mark.parametrize(
    "attack",
    [
        # answers sent ahead of the questions, on whatever descriptor the channel may be
        "import os, struct\nfor fd in range(3, 20):\n    try: os.write(fd, struct.pack('<I', 10) + bytes(8) + b'VT')\n"
        "    except OSError: pass\ndef f(x): return False\n",
        # the agent's own functions replaced
        "import sys\ncalls = sys.modules['quintain_agent.calls']\nold = calls.send\n"
        "calls.send = lambda c, n, s, b: old(c, bytes(8), b'V', b'T')\ndef f(x): return False\n",
        # garbage on the channel
        "import os\ndef f(x):\n    for fd in range(3, 20):\n        try: os.write(fd, b'\\xff' * 100)\n"
        "        except OSError: pass\n    return False\n",
        # the channel closed
        "import os\ndef f(x):\n    os.closerange(3, 100)\n    return True\n",
    ],
)
def test_forged_answers_are_no_values(pool: Pool, attack: str) -> None:
    started = time.monotonic()
    got = pool.call_sync(attack, [Call("f", [1]), Call("f", [2])], limits=pool.limits.but(wall_s=1))
    assert not any(o.ok and o.value is True for o in got), got
    assert time.monotonic() - started < 12


def test_an_impossible_time_is_an_error_of_the_caller(pool: Pool) -> None:
    with pytest.raises(LimitsError, match=r"Call.wall_s must be above 0, got -1"):
        call(pool, Call("add", [1], wall_s=-1))


# --- kept functions and judges --------------------------------------------------------------------------------


def judge(pool: Pool, tests: str, solution: str = SOLUTION, **options: Any) -> Any:
    """Judge `add` of a solution by a test program, each in a box of its own."""

    async def main() -> Any:
        async with await pool.functions(solution) as functions:

            async def add(args: list[Any], kwargs: dict[str, Any]) -> Outcome:
                return await functions.call("add", args, kwargs, wall_s=1)

            return await pool.judge(tests, {"add": add}, **options)

    return asyncio.run(main())


def test_a_judge_runs_plain_asserts_against_a_stub(pool: Pool) -> None:
    assert judge(pool, "assert add(1) == 2\nassert add([1], b=[2]) == [1, 2]\n").ok
    failed = judge(pool, "assert add(1) == 3\n")
    assert (failed.reason, "AssertionError" in failed.stderr) == (Reason.ERROR, True)


def test_a_judge_imports_the_stub_as_a_module(pool: Pool) -> None:
    assert judge(pool, "from solution import add\nassert add(1) == 2\n", module="solution").ok


def test_exceptions_of_the_candidate_arrive_by_name(pool: Pool) -> None:
    tests = (
        "try: add('a')\nexcept TypeError as error: assert 'str' in str(error)\nelse: raise SystemExit(1)\n"
    )
    assert judge(pool, tests).ok


def test_objects_of_the_candidate_never_reach_the_judge(pool: Pool) -> None:
    solution = "class Yes:\n    def __eq__(self, other): return True\ndef add(*a, **k): return Yes()\n"
    assert not judge(pool, "assert add(1) == 2\n", solution).ok


def test_a_candidate_that_hangs_fails_its_judge_in_time(pool: Pool) -> None:
    started = time.monotonic()
    assert not judge(pool, "add(1)\n", "import time\ndef add(*a): time.sleep(60)\n").ok
    assert time.monotonic() - started < 6


def test_a_judge_that_hangs_is_stopped(pool: Pool) -> None:
    result = judge(pool, "while True: add(1)\n", limits=pool.limits.but(wall_s=0.7))
    assert result.reason is Reason.TIMEOUT


def test_closed_functions_say_so(pool: Pool) -> None:
    async def main() -> None:
        functions = await pool.functions(SOLUTION)
        assert (await functions.call("add", [1])).value == 2
        await functions.aclose()
        with pytest.raises(SandboxClosed):
            await functions.call("add", [1])
        assert pool.stats().lent == 0

    asyncio.run(main())
