"""The regression gate: a figure over its limit fails by name, one below it passes, and load alone fails nothing."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gate() -> Iterator[ModuleType]:
    """The program, imported as it is when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import gate  # type: ignore[import-not-found]

        yield gate
    for name in ("gate", "gate_figures", "common"):
        sys.modules.pop(name, None)


def paced(ours: list[float], beside: list[float]) -> Any:
    """A pair whose works take the given seconds, round by round, on a clock of their own."""
    from gate import Pair  # type: ignore[import-not-found]

    now = [0.0]

    def work(seconds: Iterator[float]) -> Any:
        def run() -> None:
            now[0] += next(seconds)

        return run

    return Pair(
        work(itertools.chain([0.0], ours)), work(itertools.chain([0.0], beside)), clock=lambda: now[0]
    )


def test_every_figure_has_a_limit_above_all_that_was_measured(gate: ModuleType) -> None:
    limits = gate.limits()
    assert set(limits) == set(gate.FIGURES)
    for limit in limits.values():
        assert limit.measured <= limit.highest < limit.limit <= 1.25 * limit.measured


def test_the_median_of_the_rounds_counts(gate: ModuleType) -> None:
    pair = paced([3.0, 8.0, 1.0], [4.0, 8.0, 4.0])
    assert gate.measure(pair, lambda ratio: True, least=3).ratio == 0.75


def test_load_that_slows_some_rounds_is_waited_out(gate: ModuleType) -> None:
    pair = paced([9.0, 9.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0, 2.0])
    found = gate.measure(pair, lambda ratio: ratio <= 1.5, least=2, most=9)
    assert (found.ratio, len(found.ours)) == (1.0, 5)


def test_a_regression_is_over_its_limit_in_every_round(gate: ModuleType) -> None:
    pair = paced([4.0] * 9, [2.0] * 9)
    found = gate.measure(pair, lambda ratio: ratio <= 1.5, least=2, most=9)
    assert (found.ratio, len(found.ours)) == (2.0, 9)


def test_it_fails_with_the_figure_its_limit_and_since_when(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gate.FIGURES, "decode", lambda: nullcontext(paced([4.0] * 20, [2.0] * 20)))
    monkeypatch.setattr(gate, "limits", lambda: {"decode": gate.Limit(1.5, 1.0, 1.2, "2026-11-22")})
    monkeypatch.setattr(sys, "argv", ["gate.py", "--only", "decode"])
    assert gate.main() == 1
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if line.startswith("| decode")]
    assert [cell.strip() for cell in line.split("|")[1:6]] == [
        "decode",
        "2.000",
        "1.500",
        "1.000",
        "2026-11-22",
    ]
    assert line.split("|")[8].strip() == "OVER"
    assert "decode is over its limit" in said.err


@pytest.mark.slow
def test_a_step_that_does_its_work_twice_does_not_pass(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quintain.envs import TextEnv

    monkeypatch.setattr(sys, "argv", ["gate.py", "--only", "text_env_step"])
    assert gate.main() == 0
    parse = TextEnv.parse

    def twice(self: TextEnv, text: str) -> Any:
        parse(self, text)
        parse(self, text)
        return parse(self, text)

    monkeypatch.setattr(TextEnv, "parse", twice)
    assert gate.main() == 1
