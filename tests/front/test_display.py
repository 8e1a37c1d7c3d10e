"""The display: plain lines where nobody watches, a panel that fits any terminal, a summary of what was learned."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from quintain.display import Display, print_summary, sparkline, summary
from quintain.rl.metrics import Event, Record
from quintain.run_folder import records_of

RL = {"reward": 0.5, "success": 0.5, "kl": 0.01, "entropy": 0.4, "tokens_per_s": 8123.0}


def events() -> Iterator[Event]:
    yield Event("prepare", 0, 0, message="model tiny")
    yield Event("sft", 0, 100, message="demonstrations")
    for step in range(1, 101):
        yield Event("sft", step, 100, {"loss": 3 / step, "token_accuracy": 0.5, "tokens_per_s": 14000.0})
    yield Event("eval", 0, 200, message="after SFT")
    yield Event("eval", 0, 200, {"success_greedy": 0.41, "success_sampled": 0.3}, "after SFT")
    for step in range(1, 61):
        for number in range(1, 4):
            yield Event("rl", step - 1, 60, message=f"rollout {number}/3")
        yield Event("rl", step, 60, RL)
        if step in (20, 40):
            yield Event("eval", step, 200, {"success_greedy": step / 50}, "during")
    yield Event("eval", 60, 200, {"success_greedy": 0.96, "success_sampled": 0.91}, "after")
    yield Event("done", 0, 0, message="runs/x")


class Clock:
    """A clock that goes on by one second with each event."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def played(console: Console, each: Callable[[Display], None] = lambda display: None) -> Display:
    clock = Clock()
    with Display("agent · seed 0", console, clock=clock) as display:
        for event in events():
            clock.now += 0.25
            display(event)
            each(display)
    return display


def test_plain_lines_are_few_and_tell_the_phases() -> None:
    out = io.StringIO()
    played(Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert lines[0] == "agent · seed 0"
    assert len(lines) < 40
    assert "\x1b" not in out.getvalue()
    assert any("prepare  model tiny" in line for line in lines)
    assert any("sft  100/100" in line for line in lines)
    assert any("eval  after SFT  greedy 41.0%  sampled 30.0%" in line for line in lines)
    assert any("eval  step 20  greedy 40.0%" in line for line in lines)
    assert any("rl  60/60  reward 0.500  success 50.0%  kl 0.0100  entropy 0.400" in line for line in lines)
    assert "rollout" not in out.getvalue()


def test_where_a_guard_has_the_gold_it_is_shown_in_place_of_the_success_of_the_proxy() -> None:
    out = io.StringIO()
    with Display("agent", Console(file=out, width=80), clock=Clock()) as display:
        display(Event("rl", 1, 1, {"reward": 0.7, "success": 0.0, "guard/gold": 0.41, "kl": 0.01}))
    assert "rl  1/1  reward 0.700  gold 0.410  kl 0.0100" in out.getvalue()


def test_a_plain_line_has_the_time_that_is_left() -> None:
    out = io.StringIO()
    played(Console(file=out, width=80))
    line = next(
        line for line in out.getvalue().splitlines() if "sft  19/100" in line or "sft  20/100" in line
    )
    assert "eta 0:2" in line


def test_the_first_step_of_a_warm_start_which_loads_libraries_is_not_counted() -> None:
    out, clock = io.StringIO(), Clock()
    with Display("agent", Console(file=out, width=80), clock=clock) as display:
        for step, seconds in ((0, 0), (1, 17), (2, 6), (3, 6)):
            clock.now += seconds
            display(Event("sft", step, 10, {"loss": 1.0} if step else {}))
    _, _, first, second, third = out.getvalue().splitlines()
    assert "eta" not in first
    assert second.endswith("eta 0:48")
    assert third.endswith("eta 0:42")


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 10), (20, 5), (8, 2)])
def test_the_panel_fits_the_terminal(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)

    def check(display: Display) -> None:
        rows = console.render_lines(display, console.options.update(max_width=width, height=None))
        assert len(rows) <= max(height - 1, 1)
        assert all(sum(segment.cell_length for segment in row) <= width for row in rows)

    played(console, check)


def test_the_panel_shows_progress_numbers_and_evaluations() -> None:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True, color_system=None)
    display = played(console)
    rows = console.render_lines(display, console.options)
    text = "\n".join("".join(segment.text for segment in row) for row in rows)
    for expected in [
        "warm start",
        "100/100",
        "60/60",
        "reward 0.500",
        "held-out",
        "after SFT 41.0%",
        "after 96.0%",
    ]:
        assert expected in text


def test_a_resumed_run_still_shows_its_earlier_evaluations() -> None:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True, color_system=None)
    earlier = [
        Record("eval", 0, 9.0, {"success_greedy": 0.41}, "after SFT"),
        Record("rl", 20, 30.0, {"reward": 0.5}),
        Record("eval", 20, 31.0, {"success_greedy": 0.75}, "during"),
    ]
    with Display("agent", console, earlier=earlier) as display:
        display(Event("rl", 21, 60, RL))
    rows = console.render_lines(display, console.options)
    text = "\n".join("".join(segment.text for segment in row) for row in rows)
    assert "after SFT 41.0%" in text and "step 20 75.0%" in text


def test_colours_stay_away_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    played(Console(file=out, width=80, force_terminal=True))
    codes = re.findall(r"\x1b\[([\d;]*)m", out.getvalue())
    assert codes and not any(30 <= int(part) <= 107 for code in codes for part in code.split(";") if part)


def test_a_terminal_without_unicode_gets_none() -> None:
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding="ascii", errors="strict"), width=80, force_terminal=True
    )
    played(console, console.print)
    console.file.flush()
    assert raw.getvalue().isascii()


def test_the_summary_compares_before_and_after(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    (folder / "report.html").write_text("")
    out = io.StringIO()
    print_summary(Console(file=out, width=50), folder, records_of(folder))
    text = out.getvalue()
    assert "…" not in text
    for expected in ["before", "warm start", "41.0 %", "34-47 %", "greedy", "sampled", "3 steps"]:
        assert expected in text
    assert "Success on 200 held-out problems" in text
    assert f"run     {folder}\n" in text
    assert f"report  {folder}/report.html\nlook    quintain view {folder}\n" in text


def test_no_evaluation_has_no_summary() -> None:
    assert summary([]) is None
    assert summary([Record("rl", 1, 1.0, {"reward": 0.5})]) is None


def test_a_sparkline_spans_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, 1.0], 8) == "▁▁"
    assert sparkline([0.0, math.nan, 1.0], 3) == "▁ █"
    assert len(sparkline(range(1000), 20)) == 20
    assert sparkline([math.nan], 5) == ""
