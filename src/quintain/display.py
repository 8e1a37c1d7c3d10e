"""What a person sees of a run: a live panel in a terminal, plain lines anywhere else, a summary at the end.

A `Display` is called with each event of the run. It only looks on: nothing here changes a run.
"""

from __future__ import annotations

import math
import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .rl.metrics import Event, Phase, Record
from .run_folder import headline_metric, stages

PLAIN_EVERY_S = 5.0
"""Plain lines come at most this often, except the first and last of a phase, evaluations and messages."""

TRAINED: tuple[Phase, ...] = ("sft", "rl", "train")
"""The phases that count steps."""
TITLES: Mapping[Phase, str] = {
    "prepare": "prepare",
    "sft": "warm start",
    "eval": "evaluate",
    "rl": "learn by RL",
    "train": "train",
    "check": "check",
    "done": "done",
}
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass
class _Track:
    """One phase as it goes by."""

    step: int = 0
    steps: int = 0
    began: float = 0.0
    first_step: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    history: deque[float] = field(default_factory=lambda: deque(maxlen=400))


class Display:
    """Shows the events of one run. Use it as a context manager and call it with each event.

    `earlier` are the records of a run that goes on: their evaluations are shown too.
    """

    def __init__(
        self,
        title: str,
        console: Console,
        *,
        earlier: Sequence[Record] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._between = " · " if console.encoding.startswith("utf") else " - "
        self.title = title.replace(" · ", self._between)
        self._clock = clock
        self._began = clock()
        self._tracks: dict[Phase, _Track] = {}
        self._phase: Phase = "prepare"
        self._message = ""
        self._evaluations: list[tuple[str, Event]] = []
        self._last_line = -math.inf
        self._last_phase: Phase | None = None
        for record in earlier:
            self._remember(Event(record.phase, record.step, 0, record.metrics, record.message))
        self._live = Live(self, console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live is None:
            self._console.print(self.title, highlight=False, markup=False, soft_wrap=True)
        else:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        now = self._clock()
        new = event.phase != self._phase
        track = self._tracks.setdefault(event.phase, _Track(began=now, first_step=event.step))
        first = event.phase != "rl" and track.step == track.first_step < event.step and not track.history
        if event.step < track.step or first:  # the first step loads libraries: it says nothing of the others
            track.began, track.first_step = now, event.step
        track.step, track.steps = event.step, event.steps
        track.latest.update(event.metrics)
        if event.phase in ("sft", "train") and "loss" in event.metrics:
            track.history.append(event.metrics["loss"])
        if event.phase == "rl" and "reward" in event.metrics:
            track.history.append(event.metrics["reward"])
        self._remember(event)
        self._phase = event.phase
        self._message = event.message or ("" if new else self._message)
        if self._live is None:
            self._print_line(event, now)

    def _remember(self, event: Event) -> None:
        if event.phase == "eval" and _successes(event.metrics):
            self._evaluations.append((_label(event), event))

    def _print_line(self, event: Event, now: float) -> None:
        new = event.phase != self._last_phase
        ends = event.phase in TRAINED and 0 < event.steps <= event.step
        if event.metrics:
            due = new or ends or event.phase in ("eval", "check") or now - self._last_line >= PLAIN_EVERY_S
        else:
            due = event.phase in ("prepare", "done") or (new and event.phase == "sft")
        if not due:
            return
        self._last_line, self._last_phase = now, event.phase
        parts = [f"[{_duration(now - self._began)}]", event.phase]
        if event.steps and event.phase in TRAINED:
            parts.append(f"{event.step}/{event.steps}")
        if event.phase == "eval":
            parts.append(_label(event))
        elif event.message:
            parts.append(event.message)
        if event.metrics:
            parts += [f"{name} {value}" for name, value in _figures(event.phase, event.metrics)]
        left = self._time_left(event.phase, now)
        if left is not None and event.phase in TRAINED and not ends:
            parts.append(f"eta {_duration(left)}")
        self._console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)

    def _time_left(self, phase: Phase, now: float) -> float | None:
        track = self._tracks[phase]
        done = track.step - track.first_step
        if done <= 0 or not track.steps:
            return None
        return (now - track.began) / done * (track.steps - track.step)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._clock()
        width = options.max_width
        lines: list[Text | Table] = [
            _clipped(Text.assemble((self.title, "bold"), f"  {_duration(now - self._began)}"))
        ]
        bars = [phase for phase in TRAINED if phase in self._tracks]
        if self._phase in ("prepare", "eval"):
            bars.insert(len(bars) if self._phase == "eval" else 0, self._phase)
        lines += [self._bar(phase, now, width) for phase in bars]
        lines += self._numbers(width, fancy=not options.ascii_only)
        yield from lines[: max(1, options.max_height - 1)]

    def _bar(self, phase: Phase, now: float, width: int) -> Table:
        track = self._tracks[phase]
        grid = Table.grid(padding=(0, 1))
        title = _clipped(Text(f"{TITLES[phase]:<11}", "bold cyan" if phase == self._phase else "dim"))
        counted = phase in TRAINED and track.steps > 0
        count = Text(f"{track.step}/{track.steps}" if counted else "", no_wrap=True)
        cells: list[Text | ProgressBar] = [title]
        bar = min(40, width - 36)
        if counted and bar >= 8:
            cells.append(
                ProgressBar(track.steps, track.step, width=bar, complete_style="cyan", finished_style="green")
            )
        cells.append(count)
        left = self._time_left(phase, now) if counted and track.step < track.steps else None
        notes = [f"{_duration(left)} left"] if left is not None else []
        if self._message:
            notes.append(self._message)
        if phase == self._phase and notes:
            cells.append(_clipped(Text(self._between.join(notes), "dim")))
        grid.add_row(*cells)
        return grid

    def _numbers(self, width: int, *, fancy: bool) -> list[Text | Table]:
        lines: list[Text | Table] = []
        phase: Phase = next((one for one in ("rl", "train") if one in self._tracks), "sft")
        track = self._tracks.get(phase)
        if track is not None and track.latest:
            figures = Text("  ")
            for name, figure in _figures(phase, track.latest):
                figures.append(f"{name} ", "dim").append(figure, "bold").append("   ")
            lines.append(_clipped(figures))
            if fancy and len(track.history) > 1:
                what = "reward" if phase == "rl" else "loss"
                curve = sparkline(track.history, min(60, max(8, width - 12)))
                lines.append(_clipped(Text.assemble((f"  {what} ", "dim"), (curve, "green"))))
        if self._evaluations:
            told = Text("  held-out  ", "dim")
            chosen = self._evaluations[:1] + self._evaluations[1:][-3:]
            for label, event in chosen:
                name, value = _successes(event.metrics)[0]
                told.append(f"{label} ", "dim").append(f"{value:.1%}", "bold green").append("   ")
            lines.append(_clipped(told))
        return lines


def summary(records: Sequence[Record]) -> Table | None:
    """Return the table of held-out success before and after; None where nothing was evaluated."""
    told = stages(records)
    columns = [
        (title, record)
        for title, record in (
            ("before", told.before),
            ("warm start", told.after_sft),
            ("after", told.after),
        )
        if record is not None
    ]
    if not columns:
        return None
    problems = columns[-1][1].metrics.get("problems")
    title = f"Success on {problems:.0f} held-out problems" if problems else "Held-out success"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    head = headline_metric(records)
    names = dict.fromkeys(name for _, record in columns for name in record.metrics)
    for name in [head, *(n for n in SPOKEN if n != head)]:
        if name not in names:
            continue
        main = name == head
        table.add_row(SPOKEN[name], *(_percent(r, name) for _, r in columns), style="bold" if main else "")
        if main and "ci_low" in names:
            table.add_row("  95 % interval", *(_interval(r) for _, r in columns), style="dim")
        for tag in sorted(n for n in names if n.startswith(f"{name}/") and main):
            table.add_row(f"  {tag.partition('/')[2]}", *(_percent(r, tag) for _, r in columns))
    return table


SPOKEN = {"success_greedy": "greedy", "success_sampled": "sampled"}


def _percent(record: Record, name: str) -> str:
    value = record.metrics.get(name, math.nan)
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def _interval(record: Record) -> str:
    low, high = record.metrics.get("ci_low", math.nan), record.metrics.get("ci_high", math.nan)
    return f"{100 * low:.0f}-{100 * high:.0f} %" if math.isfinite(low + high) else "-"


def print_summary(console: Console, folder: Path, records: Sequence[Record]) -> None:
    """Print the table before/after and where the run is."""
    table = summary(records)
    if table is not None:
        console.print()
        console.print(table)
    if records:
        console.print(f"time    {_duration(records[-1].time_s)}", highlight=False)
    console.print(f"run     {folder}", highlight=False, markup=False, soft_wrap=True)
    report = folder / "report.html"
    if report.exists():
        for line in (f"report  {report}", f"look    quintain view {shlex.quote(str(folder))}"):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def sparkline(values: Sequence[float] | deque[float], width: int) -> str:
    """Draw numbers as a line of blocks, at most `width` characters; NaN leaves a gap."""
    numbers = list(values)
    count = min(width, len(numbers))
    buckets = [numbers[i * len(numbers) // count : (i + 1) * len(numbers) // count] for i in range(count)]
    means = [_mean([v for v in bucket if math.isfinite(v)]) for bucket in buckets]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((mean - low) / span * top) if span else 0] if math.isfinite(mean) else " "
        for mean in means
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _label(event: Event) -> str:
    if event.message and event.message != "during":
        return event.message
    return f"step {event.step}" if event.step else "before"


def _successes(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    names = ("success_greedy", "success_sampled")
    return [(name, metrics[name]) for name in names if math.isfinite(metrics.get(name, math.nan))]


SHOWN: Mapping[Phase, Sequence[tuple[str, str, str]]] = {
    "sft": [
        ("loss", "loss", "{:.3f}"),
        ("token_accuracy", "token accuracy", "{:.1%}"),
        ("tokens_per_s", "tokens/s", "{:,.0f}"),
    ],
    "rl": [
        ("reward", "reward", "{:.3f}"),
        ("guard/gold", "gold", "{:.3f}"),
        ("success", "success", "{:.1%}"),
        ("kl", "kl", "{:.4f}"),
        ("teacher_divergence", "teacher", "{:.3f}"),
        ("entropy", "entropy", "{:.3f}"),
        ("tokens_per_s", "tokens/s", "{:,.0f}"),
    ],
    "train": [
        ("loss", "loss", "{:.4f}"),
        ("rewards/accuracies", "accuracy", "{:.1%}"),
        ("rewards/margins", "margin", "{:.3f}"),
        ("token_accuracy", "token accuracy", "{:.1%}"),
        ("tokens_per_s", "tokens/s", "{:,.0f}"),
    ],
    "check": [
        ("loss", "loss", "{:.4f}"),
        ("rewards/accuracies", "accuracy", "{:.1%}"),
        ("accuracy", "accuracy", "{:.1%}"),
        ("token_accuracy", "token accuracy", "{:.1%}"),
    ],
    "eval": [
        ("success_greedy", "greedy", "{:.1%}"),
        ("success_sampled", "sampled", "{:.1%}"),
    ],
}


def _figures(phase: Phase, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    # A learned reward never says that something is quite right: where a guard has the gold, that is the success.
    hidden = {"success"} if "guard/gold" in metrics else set()
    return [
        (label, form.format(metrics[name]))
        for name, label, form in SHOWN.get(phase, ())
        if name in metrics and name not in hidden
    ]


def _clipped(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
