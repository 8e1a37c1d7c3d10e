"""Line charts as SVG text: no scripts, no fonts, colours from the page's style sheet.

A chart is drawn from plain numbers into a `<svg>` that scales with the page. Classes name the parts (`line`,
`dots`, `axis` ...) and `c0`, `c1` ... the series, so one drawing serves a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    label: str
    """Its name in the legend."""
    points: Sequence[Point]
    """(x, y) in drawing order; points that are not finite leave a gap."""
    style: str = "line"
    """`line`, `dots` (a line with a dot on each point), `faint` (the raw values behind a smooth line)."""
    colour: int = 0
    """Which colour of the page: 0, 1, 2 ..."""
    whiskers: Sequence[tuple[float, float, float]] = ()
    """Intervals (x, low, high), drawn as thin vertical lines."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A stretch of the x axis with a name."""

    label: str
    """Shown at its top."""
    start: float
    """Where it begins, in x."""
    end: float
    """Where it ends, in x."""


def chart(
    series: Sequence[Series],
    *,
    title: str,
    width: int = 360,
    height: int = 190,
    y_range: tuple[float | None, float | None] = (None, None),
    percent: bool = False,
    zones: Sequence[Zone] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """Draw lines over a common x axis and return the SVG.

    `title` is for screen readers; `y_range` fixes an end of the y axis (None leaves it to the data); `x_ticks`
    are (x, label), by default round numbers.
    """
    left, right, top, bottom = 44, 14, 26 if zones else 12, 24
    drawn = [_finite(line.points) for line in series]
    xs = [x for points in drawn for x, _ in points] + [
        edge for zone in zones for edge in (zone.start, zone.end)
    ]
    ys = [y for points in drawn for _, y in points]
    ys += [edge for line in series for whisker in line.whiskers for edge in whisker[1:]]
    if not xs or not ys:
        return ""
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    ticks = round_numbers(
        min(ys) if y_range[0] is None else y_range[0], max(ys) if y_range[1] is None else y_range[1], 4
    )
    y_low = ticks[0] if y_range[0] is None else y_range[0]
    y_high = ticks[-1] if y_range[1] is None else y_range[1]

    def px(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def py(y: float) -> float:
        return (
            height
            - bottom
            - (min(max(y, y_low), y_high) - y_low) / (y_high - y_low) * (height - top - bottom)
        )

    name = escape(title, quote=True)
    box, span = (
        f"{left} {top} {width - right} {height - bottom}",
        f"{x_low:.9g} {x_high:.9g} {y_low:.9g} {y_high:.9g}",
    )
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}" data-box="{box}" data-span="{span}">'
    ]
    for index, zone in enumerate(zones):
        start, end = px(zone.start), px(zone.end)
        parts.append(
            f'<rect class="zone z{index}" x="{start:.1f}" y="{top}" width="{end - start:.1f}" '
            f'height="{height - top - bottom}"/>'
            f'<text class="zone-label" x="{(start + end) / 2:.1f}" y="{top - 9}" text-anchor="middle">'
            f"{escape(zone.label)}</text>"
        )
    parts += [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
        f'<text class="axis" x="{left - 7}" y="{py(tick) + 3.5:.1f}" text-anchor="end">'
        f"{_number(tick, ticks, percent=percent)}</text>"
        for tick in ticks
        if y_low <= tick <= y_high
    ]
    if x_ticks is None:
        whole = [t for t in round_numbers(x_low, x_high, 5) if x_low <= t <= x_high]
        x_ticks = [(t, _number(t, whole, percent=False)) for t in whole]
    for x, label in x_ticks:
        parts.append(
            f'<text class="axis" x="{px(x):.1f}" y="{height - 7}" text-anchor="middle">{escape(label)}</text>'
        )
    for line in series:
        parts += _draw(line, px, py, percent=percent)
    parts.append("</svg>")
    return "".join(parts)


def _draw(
    line: Series, px: Callable[[float], float], py: Callable[[float], float], *, percent: bool
) -> list[str]:
    parts = []
    for x, low, high in line.whiskers:
        parts.append(
            f'<line class="whisker c{line.colour}" x1="{px(x):.1f}" x2="{px(x):.1f}" '
            f'y1="{py(low):.1f}" y2="{py(high):.1f}"/>'
        )
    path, pen = [], "M"
    for x, y in line.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        path.append(f"{pen}{px(x):.1f} {py(y):.1f}")
        pen = "L"
    if len(path) > 1:
        label = escape(line.label, quote=True)
        parts.append(f'<path class="{line.style} c{line.colour}" data-label="{label}" d="{"".join(path)}"/>')
    if line.style == "dots" or len(path) == 1:
        for x, y in _finite(line.points):
            value = f"{100 * y:.1f} %" if percent else f"{y:.4g}"
            parts.append(
                f'<circle class="dot c{line.colour}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="4">'
                f"<title>{escape(line.label)}: {value}</title></circle>"
            )
    return parts


def smooth(points: Sequence[Point], width: int | None = None) -> list[Point]:
    """Return the running mean over `width` neighbours (a twelfth of the line by default), ends included."""
    finite = _finite(points)
    half = (max(3, len(finite) // 12) if width is None else width) // 2
    sums = [0.0, *accumulate(y for _, y in finite)]
    means = []
    for index, (x, _) in enumerate(finite):
        reach = min(half, index, len(finite) - 1 - index)
        means.append((x, (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)))
    return means


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """Return about `count` evenly spaced round numbers whose first and last enclose [low, high]."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-9):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad if low else 0.0, high + pad
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _number(value: float, ticks: Sequence[float], *, percent: bool) -> str:
    if percent:
        return f"{100 * value:.4g}%"
    if value == 0:
        return "0"
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if largest >= 1e6:
        return f"{value / 1e6:.4g}M"
    if largest >= 1e4:
        return f"{value / 1e3:.4g}k"
    if 0 < largest < 1e-3:
        return f"{value:.1e}"
    return f"{value:.6g}"
