"""`quintain rescore` and `quintain replay`: what a run has stored, judged and played again."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from .rl.replay import replay
from .rl.rescore import Rescored, rescore, write
from .rl.stored import find_trajectory, open_run
from .tools.errors import UserError
from .verifiers.registry import SpecError

KINDS = ("rl", "eval", "sft")
WIDTH = 100
"""Characters of a text that are shown."""


def rescore_run(
    folder: Path, spec: str | None, kind: str | None, out: Path | None, show: int, at_once: int
) -> int:
    """Grade a run's trajectories again, write the result and show it; return the exit code.

    That is 1 if an episode could not be graded. Raises `UserError` for what the person can put right.
    """
    console = Console()
    if kind is not None and kind not in KINDS:
        raise UserError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    verifier = None
    if spec is not None:
        from .verify_cli import load_verifier

        try:
            verifier = load_verifier(spec)
        except SpecError as error:
            raise UserError(f"--verifier: {error}") from None
    run = open_run(folder)
    try:
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("scoring", total=None)
            results, left = asyncio.run(
                rescore(
                    run,
                    verifier,
                    kind=kind,
                    at_once=at_once,
                    on_done=lambda count: progress.update(bar, completed=count),
                )
            )
    finally:
        run.close()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "environment" if verifier is None else verifier.name).strip("-.")
    path = out if out is not None else folder / "rescored" / f"{name or 'verifier'}.jsonl"
    write(results, path)
    console.print(_summary(results, left))
    changed = [result for result in results if result.changed]
    if changed and show:
        console.print(_changes(changed[:show]))
        if len(changed) > show:
            console.print(f"... and {len(changed) - show} more (--show {len(changed)} for all)")
    console.print(Text(f"every score is in {path}"), soft_wrap=True)
    return 1 if any(not result.score.graded for result in results) else 0


def _summary(results: list[Rescored], left: int) -> Table:
    before = [r.trajectory.score for r in results if r.trajectory.score.graded]
    after = [r.score for r in results if r.score.graded]
    up = sum(r.changed and r.score.value > r.trajectory.score.value for r in results)
    down = sum(r.changed and r.score.value < r.trajectory.score.value for r in results)
    table = Table(show_header=False)
    table.add_row("episodes", f"{len(results)}")
    table.add_row("left as they are", f"{left} (cut by a limit, broken or not judged)")
    for title, scores in (("mean before", before), ("mean after", after)):
        table.add_row(title, f"{sum(s.value for s in scores) / len(scores):.4f}" if scores else "none graded")
    table.add_row("changed", f"{sum(r.changed for r in results)}: {up} better, {down} worse")
    table.add_row("ungraded", f"{len(results) - len(before)} before, {len(results) - len(after)} after")
    return table


def _changes(results: list[Rescored]) -> Table:
    table = Table("episode", "task", "before", "after", "why")
    for result in results:
        table.add_row(
            Text(result.trajectory.id),
            Text(result.trajectory.task_id[:40]),
            *(
                Text(f"{s.value:g}" if s.graded else "ungraded")
                for s in (result.trajectory.score, result.score)
            ),
            Text(" ".join(result.score.reason.split())[-WIDTH:]),
        )
    return table


def replay_one(folder: Path, name: str, file: str | None) -> int:
    """Play a stored episode again and show what differs; return the exit code, 0 if nothing does."""
    console = Console()
    trajectory = find_trajectory(folder, name, file)
    run = open_run(folder)
    try:
        found = asyncio.run(replay(run, trajectory))
    finally:
        run.close()
    if not found.differences:
        score = "" if found.score is None else f", score {found.score.value:g}"
        console.print(Text(f"{name}: the same, {found.turns} turns{score}"))
        return 0
    table = Table("where", "stored", "now", show_lines=True)
    for difference in found.differences:
        table.add_row(
            Text(difference.where, "bold"), *(Text(_short(v)) for v in (difference.stored, difference.now))
        )
    console.print(table)
    console.print(Text(f"{name}: {len(found.differences)} differences"))
    return 1


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 4 * WIDTH else f"{text[: 4 * WIDTH]} ... ({len(text)} characters)"
