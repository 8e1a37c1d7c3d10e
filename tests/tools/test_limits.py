"""The limits of a tool: its time, how many calls at once, and what cancelling does."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
import warnings

import pytest

from quintain.tools import Tool, ToolCall, UserError, tool
from quintain.tools.running import SLOW_S, Gate

CALL = ToolCall("call_0", "f", {})


class Counter:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def work(self) -> str:
        """Work."""
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        return "done"


async def test_no_more_calls_than_allowed_run_at_once():
    counter = Counter()
    limited = Tool(counter.work, concurrency=3)
    results = await asyncio.gather(*(limited.call(CALL) for _ in range(20)))

    assert {result.content for result in results} == {"done"}
    assert counter.most == 3


async def test_the_limit_holds_for_all_copies_of_a_method():
    seen = Counter()

    class Kit:
        @tool(concurrency=2)
        async def work(self) -> str:
            """Work."""
            return await seen.work()

    await asyncio.gather(*(Kit().work.call(CALL) for _ in range(10)))
    assert seen.most == 2


def test_the_limit_holds_over_several_event_loops():
    inside: list[int] = []
    most: list[int] = []

    @tool(concurrency=2)
    async def work() -> None:
        """Work."""
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(0.02)
        inside.pop()

    async def several() -> None:
        await asyncio.gather(*(work.call(CALL) for _ in range(5)))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 20
    assert max(most) == 2


async def test_waiting_for_a_turn_is_not_counted_in_the_time_limit():
    @tool(concurrency=1, timeout_s=0.5)
    async def work() -> str:
        """Work."""
        await asyncio.sleep(0.2)
        return "done"

    results = await asyncio.gather(*(work.call(CALL) for _ in range(5)))
    assert [result.error for result in results] == [None] * 5


async def test_a_call_that_is_cancelled_in_the_queue_or_at_work_leaves_its_turn_to_others():
    @tool(concurrency=1)
    async def work(seconds: float) -> str:
        """Work."""
        await asyncio.sleep(seconds)
        return "done"

    first, second, third = (
        asyncio.create_task(work.call(ToolCall("c", "work", {"seconds": seconds}))) for seconds in (30, 30, 0)
    )
    await asyncio.sleep(0.01)
    second.cancel()
    first.cancel()
    assert (await asyncio.wait_for(third, 5)).content == "done"
    assert (await asyncio.wait_for(work.call(ToolCall("c", "work", {"seconds": 0})), 5)).content == "done"


def test_a_gate_goes_to_other_processes_with_its_limit():
    assert pickle.loads(pickle.dumps(Gate(3))).limit == copy.deepcopy(Gate(3)).limit == 3


async def test_a_plain_function_with_a_time_limit_is_held_to_it():
    released = threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> None:
        """Hang."""
        released.wait(60)

    assert (await asyncio.wait_for(hang.call(CALL), 20)).error == "timeout"
    released.set()


async def test_a_tool_that_cancels_itself_has_failed_and_does_not_end_the_episode():
    @tool
    async def odd() -> None:
        """Cancel."""
        raise asyncio.CancelledError

    result = await odd.call(CALL)
    assert (result.error, result.content) == (
        "raised",
        "Error: odd raised RuntimeError: it was cancelled from inside: CancelledError()",
    )


async def test_a_function_that_returns_something_to_await_says_so():
    async def later() -> str:
        return "x"

    def forgetful() -> object:
        """Forget."""
        return later()

    result = await Tool(forgetful).call(CALL)
    assert "the function returned something to await: write `async def`" in result.content


async def test_an_error_whose_text_cannot_be_shown_is_told_all_the_same():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    @tool
    def f() -> None:
        """Fail."""
        raise MuteError

    assert (await f.call(CALL)).content == "Error: f raised MuteError: (its text cannot be shown)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_s": 0}, "timeout_s must be positive or None, got 0"),
        ({"output_chars": 5}, "output_chars must be at least 100, got 5"),
        ({"concurrency": 0}, "concurrency must be at least 1 or None, got 0"),
        ({"blocking": False, "timeout_s": 3}, "runs inline, where nothing can limit it"),
        ({"name": "two words"}, "a tool's name must be letters"),
        ({"name": 3}, "a tool's name must be letters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    def f() -> None:
        """Do."""

    with pytest.raises(UserError, match=said):
        Tool(f, **options)


def sleepy(seconds: float, **options: bool) -> Tool:
    """Return a tool that sleeps where it is called."""

    def sleep() -> str:
        """Sleep."""
        time.sleep(seconds)
        return "done"

    return Tool(sleep, **options)


async def test_an_inline_tool_that_is_slow_three_times_is_warned_about_once():
    slow = sleepy(SLOW_S)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(5):
            await slow.call(CALL)

    (warning,) = said
    assert "the tool 'sleep' took 0.0" in str(warning.message)
    assert "declare it with @tool(blocking=True)" in str(warning.message)


@pytest.mark.parametrize("options", [{"blocking": True}, {"blocking": False}], ids=str)
async def test_a_slow_tool_that_says_whether_it_blocks_is_not_warned_about(options):
    slow = sleepy(SLOW_S, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            assert (await slow.call(CALL)).content == "done"


def test_a_slow_tool_without_an_event_loop_keeps_nobody_waiting():
    slow = sleepy(SLOW_S)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            assert slow.call_inline(CALL).content == "done"
