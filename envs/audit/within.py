"""Call something that may never come back, and come back anyway.

In the main thread an alarm signal ends the call: it interrupts Python, regular expressions and waiting. In another
thread, and where there are no alarm signals, the call runs in a thread of its own, which is ended as Python allows
it and else left behind.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class TookTooLong(BaseException):
    """The call was ended at its time limit."""


def within(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `function(*args, **kwargs)`, or raise `TookTooLong` after `seconds` of real time. May be nested."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _with_alarm(seconds, lambda: function(*args, **kwargs))
    return _in_thread(seconds, lambda: function(*args, **kwargs))


def _with_alarm(seconds: float, call: Callable[[], T]) -> T:
    mine = TookTooLong(f"stopped after {seconds:g} s")
    began = time.monotonic()
    outer = interval = 0.0

    def ring(*_: Any) -> None:
        if outer and time.monotonic() - began >= outer and callable(handler):
            handler(signal.SIGALRM, None)
        if time.monotonic() - began >= seconds:
            raise mine

    handler = signal.signal(signal.SIGALRM, ring)
    # Rings again each second: the first may meet code that swallows everything.
    outer, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 1.0)
    if 0 < outer < seconds:
        signal.setitimer(signal.ITIMER_REAL, outer, min(seconds - outer, 1.0))
    try:
        try:
            return call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            left = outer - (time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), interval)
            if left <= 0 and callable(handler):  # another call may begin before the alarm would ring
                handler(signal.SIGALRM, None)


def _in_thread(seconds: float, call: Callable[[], T]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="quintain-audit", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TookTooLong)
        )
        thread.join(1.0)
        raise TookTooLong(f"stopped after {seconds:g} s")
    if failure:
        raise failure[0]
    return outcome[0]
