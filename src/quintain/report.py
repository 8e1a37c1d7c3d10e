"""`report.html`: what a run did, as one page that needs nothing else.

It is the viewer's page of a run with some of its episodes, in one file: the same templates, style and script. It is
made out of the run's folder alone, so it can be built while the run goes on, after a kill, or on another machine. All
text that a model wrote is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from .curves import plot_learning_curve
from .rl.trajectory import Trajectory
from .run_folder import (
    CONFIG,
    METRICS,
    REPORT,
    kind_of,
    read_trajectories,
    trajectory_files,
)
from .tools.atomic import write_atomically
from .tools.errors import UserError
from .viewer.overview import overview
from .viewer.render import asset, environment
from .viewer.runs import OpenRun
from .viewer.talk import conversation, judgement, verdict_of, when

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
    """Return the page of the run in `folder`. Raises `UserError` where the folder holds no run."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the folder that a run has made")
    run = OpenRun(folder.name, folder)
    run.refresh()
    if not run.config and not run.records:
        raise UserError(f"{folder} holds no run: neither {CONFIG} nor {METRICS} is there")
    episodes = examples(folder)
    style, script = asset("style.css"), asset("viewer.js")
    page = (
        environment()
        .get_template("report.html")
        .render(
            name=run.name,
            episodes=episodes,
            steps=list(dict.fromkeys((episode["file"], episode["when"]) for episode in episodes)),
            verdicts=[v for v in SHOWN_PER_FILE if any(e["judged"]["verdict"] == v for e in episodes)],
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
            **overview(run.config, run.config_text, run.records),
        )
    )
    return page.encode("utf-8", "replace").decode()


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


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
            verdict = verdict_of(trajectory)
            if left[verdict] == 0 or (verdict, trajectory.task_id) in tasks:
                continue
            left[verdict] -= 1
            tasks.add((verdict, trajectory.task_id))
            chosen.append(_episode(trajectory, path))
            if not any(left.values()):
                break
        order = list(SHOWN_PER_FILE)
        shown += sorted(chosen, key=lambda episode: order.index(episode["judged"]["verdict"]))
    return shown


def _episode(trajectory: Trajectory, path: Path) -> dict[str, Any]:
    task = next((str(m["content"]) for m in trajectory.messages if m["role"] == "user"), trajectory.task_id)
    return {
        "file": path.stem,
        "when": when(path),
        "turns": len(trajectory.turns),
        "tokens": trajectory.sampled_tokens,
        "task": " ".join(task.split()),
        "messages": conversation(trajectory),
        "judged": judgement(trajectory),
    }
