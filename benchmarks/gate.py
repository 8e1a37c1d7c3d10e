"""The regression gate: ratios of processor time that must not grow, checked in a minute on any machine.

    python benchmarks/gate.py                       # exit code 1 where a figure is over its limit
    python benchmarks/gate.py --only text_env_step decode
    python benchmarks/gate.py --rounds 20 --json FILE   # for setting limits: always so many rounds

Wall time says little on a machine that others use, and instructions cannot be counted in most containers. So a figure
is the processor time of a work of ours over that of a fixed piece of work, done by turns in this process: the median
over some rounds of the ratio in a round (`gate_figures`). On a busy machine that scatters by half as much as the least
of each side does. The limits stand in `gate.toml` with what was measured when they were set. A figure over its limit
gets more rounds before it counts: load makes some rounds slow, a regression all of them.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from common import at_least, finish, machine, parser, spread, table
from gate_figures import FIGURES, Pair

from quintain.sandboxes import SandboxUnavailable

LIMITS = Path(__file__).with_name("gate.toml")
LEAST, MOST = 7, 20
"""Rounds: so many in any case, and as many before a figure counts as over its limit."""


@dataclass(frozen=True)
class Limit:
    """What a figure may be at most."""

    limit: float
    measured: float
    """The middle of the runs that the limit was set by, of `MOST` rounds each."""
    highest: float
    """The highest of them."""
    since: str
    """The day."""


@dataclass(frozen=True)
class Found:
    """What came of measuring a pair."""

    ratio: float
    """Ours / what stands beside, the median of the rounds."""
    ours: list[float]
    beside: list[float]
    """Processor seconds of each round."""


def limits(path: Path = LIMITS) -> dict[str, Limit]:
    """Read the limits."""
    return {name: Limit(**entry) for name, entry in tomllib.loads(path.read_text()).items()}


def measure(pair: Pair, enough: Callable[[float], bool], *, least: int = LEAST, most: int = MOST) -> Found:
    """Measure a pair by turns until its ratio is `enough`, for `least` rounds in any case, for `most` at most."""
    ours: list[float] = []
    beside: list[float] = []
    pair.ours()
    pair.beside()
    gc.collect()
    gc.freeze()  # what other figures have left behind is not looked through again
    ratio = float("inf")
    while len(ours) < least or (len(ours) < most and not enough(ratio)):
        for work, seconds in ((pair.ours, ours), (pair.beside, beside)):
            began = pair.clock()
            work()
            seconds.append(pair.clock() - began)
        ratio = median(a / b for a, b in zip(ours, beside, strict=True))
    gc.unfreeze()
    return Found(ratio, ours, beside)


def main() -> int:
    """Measure, print the table and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="FIGURE")
    options.add_argument("--rounds", type=at_least(1), help="of every figure, whatever it is")
    chosen = options.parse_args()
    before, allowed, found = machine(), limits(), {}
    least, most = (LEAST, MOST) if chosen.rounds is None else (chosen.rounds, chosen.rounds)
    rows, over = [], []
    for name in chosen.only:
        limit, began = allowed[name], time.perf_counter()
        try:
            with FIGURES[name]() as pair:
                result = measure(pair, lambda ratio, most=limit.limit: ratio <= most, least=least, most=most)
        except SandboxUnavailable as error:
            print(f"{name} is left out, this machine has no sandbox: {error}", file=sys.stderr)
            continue
        found[name] = result
        bad = result.ratio > limit.limit
        over += [name] if bad else []
        said = "OVER" if bad else "ok"
        rows.append((name, f"{result.ratio:.3f}", limit.limit, limit.measured, limit.since, len(result.ours),
                     f"{time.perf_counter() - began:.1f}", said))  # fmt: skip
    head = ("figure", "measured", "limit", "when it was set", "since", "rounds", "wall s", "")
    table("Ratios of processor time", head, rows)
    figures = {
        name: {"ratio": one.ratio, "ours_cpu_s": spread(one.ours), "beside_cpu_s": spread(one.beside)}
        for name, one in found.items()
    }
    finish(chosen, before, figures)
    for name in over:
        print(f"\n{name} is over its limit: {FIGURES[name].__doc__}", file=sys.stderr)
    if over:
        print(
            f"A limit that is meant to change is changed in {LIMITS.name}, with the reason.", file=sys.stderr
        )
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
