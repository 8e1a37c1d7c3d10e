"""What a run did, in few numbers and curves: the top of the viewer's page of a run, and of `report.html`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..curves import compact, duration, learning_curve, legend, panels
from ..rl.metrics import Record
from ..run_folder import headline_metric, stages


def overview(config: Mapping[str, Any], config_text: str, records: Sequence[Record]) -> dict[str, Any]:
    """Return what the template `_overview.html` shows. What a run has not written yet is left out."""
    return {
        "facts": facts(config),
        "status": status(config, records),
        "headline": headline(records),
        "tiles": tiles(records),
        "by_tag": by_tag(records),
        "curves": [
            ("wide", learning_curve(records, width=1040, height=330)),
            ("narrow", learning_curve(records, width=400, height=300)),
        ],
        "legend": legend(records),
        "panels": panels(records),
        "alarms": [(r.step, r.message) for r in records if r.phase == "rl" and r.message][-6:],
        "config": config_text.strip().splitlines(),
    }


def facts(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a run is about, as (name, value)."""

    def at(*place: str) -> Any:
        value: Any = config
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    found = [
        ("stage", at("stage")),
        ("environment", at("env", "id")),
        ("model", at("model", "path")),
        ("engine", at("engine", "kind")),
        ("seed", at("seed")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def status(config: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Return how far a run is: `finished`, `RL step 31 of 60`, or nothing."""
    if any(record.phase == "done" for record in records):
        return "finished"
    for phase, name in (("rl", "RL"), ("sft", "warm-start")):
        section = config.get(phase)
        if not isinstance(section, Mapping):
            continue
        done = max((record.step for record in records if record.phase == phase), default=0)
        if phase == "rl" and done == 0 and isinstance(config.get("sft"), Mapping):
            continue
        total = section.get("steps", 0)
        if done >= total or _reached(section.get("stop_at"), records):
            return "finished"
        return f"{name} step {done} of {total}"
    trained = [record.step for record in records if record.phase == "train"]
    return f"step {trained[-1]}, not finished" if trained else ""


def _reached(stop_at: object, records: Sequence[Record]) -> bool:
    last = stages(records).after
    if last is None or not isinstance(stop_at, float):
        return False
    return last.metrics.get(headline_metric(records), 0.0) >= stop_at


@dataclass(frozen=True, slots=True)
class Headline:
    """The numbers on top of the page."""

    before: str
    """Held-out success before training, or empty."""
    between: str
    """After the warm start, or empty."""
    after: str
    """After training, or empty."""
    what: str
    """What was measured."""
    interval: str
    """The 95 % interval of the last number, or empty."""


def headline(records: Sequence[Record]) -> Headline | None:
    """Return the success before, between and after training; None where nothing was evaluated."""
    told, metric = stages(records), headline_metric(records)

    def share(record: Record | None) -> str:
        value = record.metrics.get(metric, math.nan) if record is not None else math.nan
        return f"{100 * value:.1f}" if math.isfinite(value) else ""

    last = told.after or told.before
    if last is None or not (share(told.before) or share(told.after)):
        return None
    problems = last.metrics.get("problems", math.nan)
    kind = "most likely answer" if metric == "success_greedy" else "sampled answers"
    number = f"{problems:.0f} " if math.isfinite(problems) else ""
    low, high = last.metrics.get("ci_low", math.nan), last.metrics.get("ci_high", math.nan)
    interval = f"{100 * low:.1f}-{100 * high:.1f} %" if math.isfinite(low + high) else ""
    what = f"of {number}held-out problems solved ({kind})"
    return Headline(share(told.before), share(told.after_sft), share(told.after), what, interval)


def tiles(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return a few numbers of a run as (name, value)."""
    learned = [record for record in records if record.phase == "rl"]
    warmed = [record for record in records if record.phase == "sft"]
    tokens = sum(value for r in learned if math.isfinite(value := r.metrics.get("sampled_tokens", 0.0)))
    found = []
    if records:
        found.append(("wall time", duration(max(record.time_s for record in records))))
    if warmed:
        found.append(("warm-start steps", f"{max(r.step for r in warmed):,}"))
    if learned:
        found.append(("RL steps", f"{max(r.step for r in learned):,}"))
    if tokens:
        found.append(("tokens sampled in RL", compact(tokens)))
    return found


@dataclass(frozen=True, slots=True)
class Tag:
    """Success on one kind of problem."""

    name: str
    before: float | None
    """In percent."""
    after: float | None
    """In percent."""


def by_tag(records: Sequence[Record]) -> list[Tag]:
    """Return success by kind of problem."""
    told, prefix = stages(records), headline_metric(records) + "/"

    def share(record: Record | None, name: str) -> float | None:
        value = record.metrics.get(name, math.nan) if record is not None else math.nan
        return 100 * value if math.isfinite(value) else None

    first, last = told.after_sft or told.before, told.after
    names = dict.fromkeys(
        n for r in (first, last) if r is not None for n in r.metrics if n.startswith(prefix)
    )
    return [Tag(n.removeprefix(prefix), share(first, n), share(last, n)) for n in sorted(names)]
