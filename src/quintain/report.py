"""`report.html`: what a run did, as one page that needs nothing else, and the learning curve as a picture.

The page is made out of the run's folder alone, so it can be built while the run goes on, after a kill, or on
another machine. All text that a model wrote is escaped.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2

from .curves import compact, duration, learning_curve, legend, panels, plot_learning_curve
from .rl.metrics import Record
from .rl.trajectory import Trajectory
from .run_folder import (
    CONFIG,
    REPORT,
    headline_metric,
    kind_of,
    read_trajectories,
    records_of,
    stages,
    step_of,
    trajectory_files,
    write_atomically,
)
from .tools.errors import UserError

__all__ = ["plot_learning_curve", "render", "write_report"]

FILES_SHOWN = 4
"""Files of trajectories of one kind (RL, evaluation ...) that the page shows: the first, the last, and between."""
SHOWN_PER_FILE = {"right": 4, "wrong": 4, "ungraded": 2}
"""Trajectories of one file that the page shows."""


def write_report(folder: Path) -> Path:
    """Build `report.html` of the run in `folder` and return its path.

    What a run has not written yet is left out of the page. Raises `UserError` where the folder holds no run.
    """
    page = render(folder)
    path = folder / REPORT
    write_atomically(path, page)
    return path


def render(folder: Path) -> str:
    """Return the page of the run in `folder`."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder that a run has made")
    config_text, config = _config(folder)
    records = records_of(folder)
    if not config and not records:
        raise UserError(f"{folder} holds no run: neither {CONFIG} nor metrics.jsonl is there")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("quintain", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    episodes = examples(folder)
    script = environment.get_template("report.js").render()
    return environment.get_template("report.html").render(
        name=config.get("name") or folder.name,
        facts=_facts(config),
        status=_status(config, records),
        headline=_headline(records),
        tiles=_tiles(records),
        by_tag=_by_tag(records),
        curves=[
            ("wide", learning_curve(records, width=1040, height=330)),
            ("narrow", learning_curve(records, width=400, height=300)),
        ],
        legend=legend(records),
        panels=panels(records),
        episodes=episodes,
        steps=list(dict.fromkeys((episode["file"], episode["when"]) for episode in episodes)),
        verdicts=[v for v in SHOWN_PER_FILE if any(e["verdict"] == v for e in episodes)],
        config=config_text.strip().splitlines(),
        script=script,
        script_hash="sha256-" + b64encode(sha256(script.encode()).digest()).decode(),
    )


def _config(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = (folder / CONFIG).read_text("utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        return "", {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return "", {}


def _facts(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    def at(*place: str) -> Any:
        value: Any = config
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    facts = [
        ("stage", at("stage")),
        ("environment", at("env", "id")),
        ("model", at("model", "path")),
        ("engine", at("engine", "kind")),
        ("seed", at("seed")),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _status(config: Mapping[str, Any], records: Sequence[Record]) -> str:
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


def _headline(records: Sequence[Record]) -> Headline | None:
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


def _tiles(records: Sequence[Record]) -> list[tuple[str, str]]:
    learned = [record for record in records if record.phase == "rl"]
    warmed = [record for record in records if record.phase == "sft"]
    tokens = sum(value for r in learned if math.isfinite(value := r.metrics.get("sampled_tokens", 0.0)))
    tiles = []
    if records:
        tiles.append(("wall time", duration(max(record.time_s for record in records))))
    if warmed:
        tiles.append(("warm-start steps", f"{max(r.step for r in warmed):,}"))
    if learned:
        tiles.append(("RL steps", f"{max(r.step for r in learned):,}"))
    if tokens:
        tiles.append(("tokens sampled in RL", compact(tokens)))
    return tiles


@dataclass(frozen=True, slots=True)
class Tag:
    """Success on one kind of problem."""

    name: str
    before: float | None
    """In percent."""
    after: float | None
    """In percent."""


def _by_tag(records: Sequence[Record]) -> list[Tag]:
    told, prefix = stages(records), headline_metric(records) + "/"

    def share(record: Record | None, name: str) -> float | None:
        value = record.metrics.get(name, math.nan) if record is not None else math.nan
        return 100 * value if math.isfinite(value) else None

    first, last = told.after_sft or told.before, told.after
    names = dict.fromkeys(
        n for r in (first, last) if r is not None for n in r.metrics if n.startswith(prefix)
    )
    return [Tag(n.removeprefix(prefix), share(first, n), share(last, n)) for n in sorted(names)]


def examples(folder: Path) -> list[dict[str, Any]]:
    """Return the trajectories that the page shows, the latest step first, as the template wants them."""
    files = trajectory_files(folder)
    for kind in {kind_of(path) for path in files}:
        alike = [path for path in files if kind_of(path) == kind]
        kept = {alike[round(i * (len(alike) - 1) / (FILES_SHOWN - 1))] for i in range(FILES_SHOWN)}
        files = [path for path in files if path not in alike or path in kept]
    shown: list[dict[str, Any]] = []
    for path in reversed(files):
        left = dict(SHOWN_PER_FILE)
        tasks: set[tuple[str, str]] = set()
        chosen = []
        for trajectory in read_trajectories(path):
            verdict = _verdict(trajectory)
            if left[verdict] == 0 or (verdict, trajectory.task_id) in tasks:
                continue
            left[verdict] -= 1
            tasks.add((verdict, trajectory.task_id))
            chosen.append(_episode(trajectory, verdict, path))
            if not any(left.values()):
                break
        order = list(SHOWN_PER_FILE)
        shown += sorted(chosen, key=lambda episode: order.index(episode["verdict"]))
    return shown


def _verdict(trajectory: Trajectory) -> str:
    if not trajectory.graded:
        return "ungraded"
    return "right" if trajectory.success else "wrong"


def _episode(trajectory: Trajectory, verdict: str, path: Path) -> dict[str, Any]:
    assistants = sum(message["role"] == "assistant" for message in trajectory.messages)
    turns = list(trajectory.turns) if len(trajectory.turns) == assistants else []
    messages = []
    for message in trajectory.messages:
        turn = turns.pop(0) if message["role"] == "assistant" and turns else None
        messages.append(
            {
                "role": message["role"],
                "content": message.get("content") or "",
                "reasoning": message.get("reasoning_content") or "",
                "name": message.get("name", ""),
                "calls": [_call(call) for call in message.get("tool_calls", ())],
                "tokens": turn.end - turn.start if turn is not None else 0,
                "parse_error": turn is not None and turn.parse_error,
                "reward": turn.reward if turn is not None else 0.0,
            }
        )
    score = trajectory.score
    task = next((str(m["content"]) for m in trajectory.messages if m["role"] == "user"), trajectory.task_id)
    return {
        "id": trajectory.id,
        "file": path.stem,
        "when": _when(path),
        "verdict": verdict,
        "value": score.value,
        "parts": sorted(score.parts.items()),
        "reason": score.reason,
        "stop": str(trajectory.stop).replace("_", " "),
        "turns": len(trajectory.turns),
        "tokens": trajectory.sampled_tokens,
        "task": " ".join(task.split()),
        "messages": messages,
    }


def _when(path: Path) -> str:
    """Return what a file of trajectories holds: `RL step 20`, `evaluation at step 20`."""
    kind, step = kind_of(path), step_of(path)
    label = re.sub(r"[-_]?\d+$", "", path.stem.removeprefix(kind)).strip("-_").replace("-", " ")
    if kind == "sft":
        return "demonstrations"
    if kind == "eval":
        return f"evaluation {label}" if label in ("before", "after SFT") else f"evaluation at step {step}"
    return f"RL step {step}" if kind == "rl" else path.stem


def _call(call: Any) -> dict[str, str]:
    function = call.get("function", {})
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"name": str(function.get("name", "")), "arguments": text}
