"""The charts: where a number lands, and what happens to numbers that are none."""

from __future__ import annotations

import math
import re

import pytest

from quintain.charts import Series, Zone, chart, round_numbers, smooth
from quintain.curves import compact, duration


def circles(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle [^>]*cx="([\d.-]+)" cy="([\d.-]+)"', svg)]


def test_points_lie_between_the_axes_in_their_order() -> None:
    svg = chart([Series("a", [(0, 0), (5, 0.5), (10, 1)], "dots")], title="t", width=358, height=136)
    assert circles(svg) == [(44, 112), (194, 62), (344, 12)]


def test_a_point_that_is_not_finite_breaks_the_line() -> None:
    svg = chart([Series("a", [(0, 0), (1, math.nan), (2, 1), (3, 2)])], title="t")
    (path,) = re.findall(r' d="([^"]+)"', svg)
    assert path.count("M") == 2
    assert "nan" not in svg


def test_a_single_point_is_a_dot() -> None:
    assert len(circles(chart([Series("a", [(3, 7)])], title="t"))) == 1


def test_nothing_to_draw_is_no_chart() -> None:
    assert chart([], title="t") == ""
    assert chart([Series("a", [(0, math.inf)])], title="t") == ""


def test_labels_are_escaped() -> None:
    svg = chart([Series("<b>", [(0, 0)], "dots")], title='"<t>', zones=[Zone("<z>", 0, 1)])
    assert "<b>" not in svg and "<z>" not in svg and 'aria-label="&quot;&lt;t&gt;"' in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.31, 0.93, [0.2, 0.4, 0.6, 0.8, 1]),
        (3, 3, [2.6, 2.8, 3, 3.2, 3.4]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (-2, 7, [-2.5, 0, 2.5, 5, 7.5]),
        (1e-7, 2e-6, [0, 5e-7, 1e-6, 1.5e-6, 2e-6]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert round_numbers(low, high, 4) == pytest.approx(expected)


def test_smoothing_keeps_the_ends_and_flattens_the_rest() -> None:
    assert smooth([(0, 0), (1, 3), (2, 0)], 3) == [(0, 0), (1, 1), (2, 0)]
    assert smooth([(0, 1), (1, math.nan), (2, 1)]) == [(0, 1), (2, 1)]
    assert smooth([]) == []


def test_numbers_for_people() -> None:
    assert [duration(s) for s in (48, 161, 3900)] == ["48 s", "2 min 41 s", "1 h 05 min"]
    assert [compact(v) for v in (0.01234, 1234, 56_000, 1_230_000)] == ["0.0123", "1,234", "56 k", "1.23 M"]
