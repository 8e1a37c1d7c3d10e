"""`quintain preferences`: look at a file of preferences, make one out of a run, write it for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from .rl.stages.formats import Form, rows_for_trl
from .rl.stages.pairs import Choose, pairs_from_groups
from .rl.stages.preference import Preference, read_preferences, write_preferences
from .rl.stages.preference_report import describe, distinct
from .tools.atomic import write_lines
from .tools.errors import UserError, nearest


def preferences(
    source: Path,
    out: Path | None,
    *,
    kind: str = "rl",
    choose: str = "best_worst",
    gap: float = 0.0,
    dedupe: bool = False,
    skip_bad: bool = False,
    form: str = "",
    as_json: bool = False,
) -> None:
    """Read preferences of a file, or make them of a run's groups; say what they are like; write them to `out`."""
    if out is not None and out.exists():
        raise UserError(f"{out} exists: name another file, nothing is overwritten")
    if form and form not in get_args(Form):
        raise UserError(f"--form {form!r}: {nearest(form, get_args(Form))}")
    notes: dict[str, Any] = {}
    if source.is_dir():
        found = _of_run(source, kind, choose, gap, notes)
    else:
        rows = read_preferences(source, "skip" if skip_bad else "refuse", what="preferences")
        found, notes = rows.kept, {"left_out": rows.counts()} if rows.skipped else {}
    told = {**notes, **describe(found)}
    kept = distinct(found) if dedupe else found
    if out is not None:
        _write(out, kept, form)
        told["written"] = len(kept)
    print(json.dumps(told, indent=2) if as_json else _table(told))


def _of_run(folder: Path, kind: str, choose: str, gap: float, notes: dict[str, Any]) -> list[Preference]:
    from .rl.stages.encode import tokenizer_mark
    from .rl.stored import open_run, stored_trajectories

    if choose not in get_args(Choose):
        raise UserError(f"--choose {choose!r}: {nearest(choose, get_args(Choose))}")
    run = open_run(folder)
    try:
        files: dict[Path, list[Any]] = {}
        for path, trajectory in stored_trajectories(folder, kind):
            files.setdefault(path, []).append(trajectory)
        if not files:
            raise UserError(f"{folder} has no trajectories of the kind {kind!r}")
        made = [
            pairs_from_groups(
                batch,
                choose=choose,  # type: ignore[arg-type]
                gap=gap,
                tools=run.env.schemas,
                tokenizer=tokenizer_mark(run.codec.tokenizer),
            )
            for batch in files.values()  # the groups of two steps have the same numbers
        ]
    finally:
        run.close()
    for name in ("groups", "ungraded", "tied", "identical", "silent", "unwritten"):
        notes[name] = sum(getattr(one, name) for one in made)
    return [pair for one in made for pair in one.preferences]


def _write(out: Path, kept: Sequence[Preference], form: str) -> None:
    if not form:
        write_preferences(out, kept)
        return
    rows = rows_for_trl(kept, form)  # type: ignore[arg-type]
    write_lines(out, (json.dumps(row, ensure_ascii=False) for row in rows))


def _table(told: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:.3f}"
        if isinstance(value, dict):
            return ", ".join(f"{name}: {count}" for name, count in value.items()) or "-"
        if isinstance(value, list):
            return " to ".join(map(shown, value))
        return str(value)

    wide = max(map(len, told))
    return "\n".join(f"{name:<{wide}}  {shown(value)}" for name, value in told.items())
