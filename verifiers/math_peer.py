"""math-verify behind the same interface, for people who switch: run it beside ours and see where they differ.

    quintain verify replies.jsonl --verifier math --against math_verify

Needs `pip install "math-verify[antlr4_13_2]"`. It runs in guarded processes, since it may hang and works in
main threads only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .base import Episode, Score, Task, Verifier
from .guard import Guard, GuardTimeout


@dataclass(frozen=True)
class MathVerify(Verifier):
    """What math-verify says of the reply; a reply over which it hangs or fails is ungraded."""

    wall_s: float = 10.0
    """Seconds until its process is killed."""
    precision: int = 6
    """Its `float_rounding`."""

    def score(self, episode: Episode) -> Score:
        """Ask it."""
        gold = str(episode.task.answer)
        if not re.search(r"\$|\\boxed|\\\(|\\\[", gold):
            gold = f"${gold}$"
        try:
            right = _guard().call(_judged, gold, str(episode.reply), self.precision, wall_s=self.wall_s)
        except GuardTimeout:
            return Score.ungraded(f"math-verify was stopped after {self.wall_s:g} s")
        return Score(float(right), reason="math-verify says " + ("equal" if right else "different"))

    def check(self, task: Task) -> None:
        """Refuse a task without an answer."""
        if not isinstance(task.answer, str | int | float) or not str(task.answer).strip():
            raise ValueError(
                f"task {task.id!r}: the answer must be a text or a number, got {task.answer!r:.60}"
            )


@lru_cache(maxsize=1)
def _guard() -> Guard:
    import atexit

    guard = Guard(1, preload=("sympy",), memory_mb=2048)
    atexit.register(guard.close)
    return guard


def _judged(gold: str, reply: str, precision: int) -> bool:
    try:
        from math_verify import parse, verify  # type: ignore[import-not-found]
    except ImportError:
        raise ImportError('math-verify is not installed: pip install "math-verify[antlr4_13_2]"') from None
    return bool(verify(parse(gold), parse(reply), float_rounding=precision))
