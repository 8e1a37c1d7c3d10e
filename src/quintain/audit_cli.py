"""`quintain audit`: run the audit over an environment, show a table, and prove each finding."""

from __future__ import annotations

import faulthandler
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .envs.audit import Finding, Outcome, Report, Severity, all_probes, audit
from .tools.errors import UserError

_COLOURS = {
    "passed": "green",
    Severity.FAULT: "bold red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "cyan",
    Severity.CANNOT_TELL: "magenta",
}


def run(
    env_id: str,
    kwargs: dict[str, Any],
    *,
    only: Sequence[str],
    skip: Sequence[str],
    json_to: str | None,
    transcripts: Path | None,
    show: int,
    **settings: Any,
) -> int:
    """Audit an environment in the terminal and return the exit code: 0 if it is sound, 1 if not.

    Args:
        env_id: A registered environment.
        kwargs: Its options.
        only: Probes to run; empty for all.
        skip: Probes to leave out.
        json_to: A file for the report as JSON, `-` for standard output (the table then goes to standard error).
        transcripts: A folder for the episodes that prove the findings.
        show: Characters of each text of a printed episode; 0 prints none.
        settings: Fields of `Settings`.

    Raises `UserError` for what the person can put right.
    """
    console = Console(stderr=json_to == "-", highlight=False)
    if transcripts is not None and transcripts.exists() and not transcripts.is_dir():
        raise UserError(f"--transcripts {transcripts}: there is a file of that name; name a folder")
    if json_to not in (None, "-") and not Path(json_to).resolve().parent.is_dir():
        raise UserError(f"--json {json_to}: there is no folder {str(Path(json_to).parent)!r}; make it first")

    def progress(outcome: Outcome) -> None:
        console.print(_line(outcome), soft_wrap=True)
        _watch(settings)

    _watch(settings)
    try:
        report = audit(env_id, kwargs=kwargs, only=only, skip=skip, on_outcome=progress, **settings)
    finally:
        faulthandler.cancel_dump_traceback_later()
    console.print()
    if report.findings:
        console.print(table(report.findings))
        if show:
            _show_proofs(report, console, show)
    console.print(_summary(report), soft_wrap=True)
    if json_to is not None:
        _write_json(report, json_to)
    if transcripts is not None:
        console.print(
            f"{write_transcripts(report, transcripts)} transcripts are in {transcripts}", soft_wrap=True
        )
    return 0 if report.sound else 1


def _watch(settings: Mapping[str, Any]) -> None:
    """End the process, with a traceback, should a probe hang where nothing in Python can interrupt it."""
    if sys.__stderr__ is not None:
        limit = 2 * float(settings.get("probe_s", 300.0)) + 120
        with suppress(OSError, ValueError):  # there is no standard error that a watchdog could write to
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)


def list_probes(console: Console) -> None:
    """Print the probes there are and what each promises."""
    rows = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for probe in all_probes():
        rows.add_row(Text(probe.name, "bold"), Text(probe.promise))
    console.print(rows)


def _line(outcome: Outcome) -> Text:
    line = Text()
    line.append(f"{outcome.verdict:<12}", _COLOURS[outcome.verdict])
    line.append(f"{outcome.probe:<14}", "bold")
    line.append(f"{outcome.promise}  ")
    line.append(f"({outcome.episodes} episodes, {outcome.seconds:.1f} s)", "dim")
    return line


def table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table, the worst first."""
    order = list(Severity)
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for title in ("", "finding", "what was seen"):
        rows.add_column(title, no_wrap=title != "what was seen")
    for finding in sorted(findings, key=lambda finding: order.index(finding.severity)):
        rows.add_row(
            Text(str(finding.severity), _COLOURS[finding.severity]),
            Text(finding.name, "bold"),
            Text(finding.text),
        )
    return rows


def _show_proofs(report: Report, console: Console, limit: int) -> None:
    for finding in report.troubles:
        for played in finding.proof:
            console.print(Text(f"--- {finding.name}", "bold"))
            console.print(Text(played.shown(limit)), soft_wrap=True)
            console.print()


def _summary(report: Report) -> Text:
    counts = {severity: sum(f.severity is severity for f in report.findings) for severity in Severity}
    parts = ", ".join(f"{count} {_named(severity, count)}" for severity, count in counts.items() if count)
    if report.sound:
        return Text(f"{report.environment}: sound" + (f" ({parts})" if parts else ""), "bold green")
    return Text(f"{report.environment}: not sound: {parts}", "bold red")


def _named(severity: Severity, count: int) -> str:
    if severity is Severity.CANNOT_TELL:
        return "cannot be told"
    return str(severity) if count == 1 else f"{severity}s"


def _write_json(report: Report, where: str) -> None:
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=True) + "\n"
    if where == "-":
        print(text, end="")
    else:
        Path(where).write_text(text, encoding="utf-8")


def write_transcripts(report: Report, folder: Path) -> int:
    """Write every proof as `probe-code-N.json` into a folder, made if need be, and return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    names: dict[str, int] = {}
    for finding in report.findings:
        for played in finding.proof:
            name = finding.name.replace("/", "-")
            names[name] = names.get(name, 0) + 1
            data = {
                "finding": finding.name,
                "severity": str(finding.severity),
                "text": finding.text,
                **played.to_json(),
            }
            path = folder / f"{name}-{names[name]}.json"
            path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            count += 1
    return count
