"""The guard: work that hangs, grows or dies is stopped, and every call is answered."""

from __future__ import annotations

import asyncio
import contextlib
import math
import operator
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from quintain.verifiers.guard import (
    Guard,
    GuardClosed,
    GuardDied,
    GuardMemory,
    GuardRaised,
    GuardTimeout,
)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(2, memory_mb=512) as guard:
        yield guard


def test_a_call_returns_what_the_function_returns(guard: Guard) -> None:
    assert guard.call(math.factorial, 20) == math.factorial(20)


def test_the_work_is_done_in_another_process(guard: Guard) -> None:
    assert guard.call(os.getpid) != os.getpid()


def test_a_worker_is_used_again(guard: Guard) -> None:
    assert guard.call(os.getpid) == guard.call(os.getpid)


def test_a_hanging_call_is_killed_at_its_wall_time(guard: Guard) -> None:
    started = time.monotonic()
    with pytest.raises(GuardTimeout, match=r"stopped after 0\.3 s"):
        guard.call(time.sleep, 60, wall_s=0.3)
    assert time.monotonic() - started < 5
    assert guard.call(operator.add, 1, 2) == 3


def test_work_that_holds_the_interpreter_lock_is_killed_too(guard: Guard) -> None:
    with pytest.raises(GuardTimeout):
        guard.call(pow, 7, 10**9, wall_s=0.3)


def test_too_much_memory_is_an_error_of_its_own(guard: Guard) -> None:
    with pytest.raises(GuardMemory):
        guard.call(bytearray, 1 << 31)
    assert guard.call(len, b"abc") == 3


def test_an_exception_comes_back_as_its_traceback(guard: Guard) -> None:
    with pytest.raises(GuardRaised, match="ZeroDivisionError"):
        guard.call(operator.truediv, 1, 0)


def test_work_that_ends_its_process_is_tried_twice_and_reported(guard: Guard) -> None:
    with pytest.raises(GuardDied, match="died twice"):
        guard.call(os._exit, 0)
    assert guard.call(operator.add, 1, 2) == 3


def test_a_worker_killed_while_idle_is_replaced(guard: Guard) -> None:
    first = guard.call(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert guard.call(operator.mul, 6, 7) == 42


def test_a_template_that_dies_while_it_forks_is_replaced(guard: Guard) -> None:
    guard.call(abs, 1)
    template = guard._template
    assert template is not None
    os.kill(template.pid, signal.SIGSTOP)
    answers: list[int] = []
    with guard._lock:
        guard._idle.clear()
    calling = threading.Thread(target=lambda: answers.append(guard.call(abs, -7)))
    calling.start()
    time.sleep(0.3)
    os.kill(template.pid, signal.SIGKILL)
    calling.join(60)
    assert answers == [7]


def test_calls_from_many_threads_come_back_to_their_callers(guard: Guard) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda n: guard.call(math.factorial, n), range(200))) == [
            math.factorial(n) for n in range(200)
        ]


async def test_calls_from_asyncio_do_not_block_the_loop(guard: Guard) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await asyncio.gather(guard.acall(time.sleep, 1), guard.acall(time.sleep, 1))
    ticking.cancel()
    assert ticks >= 5


def test_at_most_the_given_number_of_calls_run_at_once() -> None:
    with Guard(1) as guard:
        guard.call(abs, 1)
        started = time.monotonic()
        calls = [threading.Thread(target=guard.call, args=(time.sleep, 0.2)) for _ in range(3)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert time.monotonic() - started >= 0.6


def test_a_closed_guard_says_so() -> None:
    guard = Guard(1)
    guard.call(abs, 1)
    guard.close()
    with pytest.raises(GuardClosed):
        guard.call(abs, 1)


def test_no_process_is_left_after_closing() -> None:
    guard = Guard(2)
    pid = guard.call(os.getpid)
    guard.close()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker is still there")


@pytest.mark.slow
@pytest.mark.alone
def test_every_call_is_answered_while_workers_are_killed_at_random() -> None:
    seconds = float(os.environ.get("QUINTAIN_LOAD_SECONDS", "10"))
    stop = time.monotonic() + seconds
    answered = retried = 0
    lock = threading.Lock()
    with Guard(2, memory_mb=512) as guard:

        def caller(seed: int) -> None:
            nonlocal answered, retried
            number = seed
            while time.monotonic() < stop:
                number = (number * 1103515245 + 12345) % 2000
                try:
                    assert guard.call(math.factorial, number) == math.factorial(number)
                except GuardDied:
                    with lock:
                        retried += 1
                    continue
                with lock:
                    answered += 1

        def killer() -> None:
            while time.monotonic() < stop:
                time.sleep(0.05)
                for pid in guard.pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
        threads.append(threading.Thread(target=killer))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 30)
            assert not thread.is_alive(), "a caller was never answered"
        assert guard.call(operator.add, 1, 2) == 3
    assert answered > 100 * seconds / 20
    assert retried < answered / 10
