"""`quintain verify`: score a JSONL of replies with a verifier, and show where it differs from others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from .verifiers.base import Verifier
from .verifiers.registry import SpecError, from_spec
from .verifiers.verify import Summary, Verified, read_rows, summary, verify_rows


def verify(
    path: Annotated[Path, typer.Argument(help="A JSONL file: a task and a reply on each line.")],
    verifier: Annotated[
        str, typer.Option("--verifier", "-v", help="An id, a JSON spec, or a file with one.")
    ] = "math",
    against: Annotated[
        str | None, typer.Option(help="A second verifier to compare with, given the same way.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column with verdicts to compare with.")] = None,
    reply: Annotated[str | None, typer.Option(help="The column with the replies.")] = None,
    answer: Annotated[str | None, typer.Option(help="The column with the answers.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write every score to this JSONL file.")] = None,
    show: Annotated[int, typer.Option(help="How many disagreements to show.")] = 20,
    at_once: Annotated[int, typer.Option(min=1, help="Rows judged at the same time.")] = 64,
) -> None:
    """Score the replies of a file and summarise; exit status 1 if any row could not be graded."""
    console = Console()
    try:
        first = load_verifier(verifier)
        second = load_verifier(against) if against else None
        rows = list(read_rows(path, reply=reply, answer=answer, label=label))
        if not rows:
            raise ValueError(f"{path} holds no rows")
        if out is not None:
            out.open("a").close()  # to know before the work, not after it, that it can be written
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("verifying", total=len(rows))
            results = asyncio.run(
                verify_rows(
                    rows, first, second, at_once=at_once, done=lambda n: progress.update(bar, completed=n)
                )
            )
    except (OSError, ValueError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("interrupted: no score was written")
        raise typer.Exit(130) from None
    if out is not None:
        out.write_text("".join(json.dumps(as_json(result)) + "\n" for result in results), encoding="utf-8")
    figures = summary(results)
    console.print(summary_table(figures))
    differing = [result for result in results if result.differs]
    if differing and show:
        console.print(disagreements(differing[:show], "second" if second else "label"))
        if len(differing) > show:
            console.print(f"... and {len(differing) - show} more (--show {len(differing)} for all)")
    raise typer.Exit(1 if figures.ungraded else 0)


def load_verifier(text: str) -> Verifier:
    """Return the verifier of an id, of JSON text, or of a file that holds JSON. Raises `SpecError`."""
    if text.lstrip().startswith("{"):
        try:
            return from_spec(json.loads(text))
        except json.JSONDecodeError as error:
            raise SpecError(f"the spec is not JSON: {error}") from None
    if text.endswith(".json"):
        return from_spec(json.loads(Path(text).read_text(encoding="utf-8")))
    return from_spec(text)


def as_json(result: Verified) -> dict[str, Any]:
    """Return a result as plain data."""
    data: dict[str, Any] = {"id": result.row.task.id, "line": result.row.number, **_score(result.score)}
    if result.row.label is not None:
        data["label"] = result.row.label
    if result.other is not None:
        data["other"] = _score(result.other)
    return data


def _score(score: Any) -> dict[str, Any]:
    return {
        "value": score.value,
        "status": str(score.status),
        "reason": score.reason,
        "parts": dict(score.parts),
    }


def summary_table(figures: Summary) -> Table:
    """Return the figures as a table."""
    table = Table(show_header=False)
    table.add_row("rows", f"{figures.rows}")
    table.add_row("mean value", f"{figures.mean:.4f}")
    table.add_row("ungraded", f"{figures.ungraded}")
    if figures.compared:
        table.add_row("agreement", f"{100 * figures.agreed / figures.compared:.2f} % of {figures.compared}")
        table.add_row("passes what the other fails", f"{figures.false_positives}")
        table.add_row("fails what the other passes", f"{figures.false_negatives}")
    table.add_row("reasons", ", ".join(f"{escape(word)} {count}" for word, count in figures.statuses.items()))
    table.add_row("time for a row", f"median {figures.median_ms:.2f} ms, slowest {figures.slowest_ms:.1f} ms")
    return table


def disagreements(results: list[Verified], column: str) -> Table:
    """Return rows on which two verdicts differ, side by side."""
    table = Table("line", "answer", "end of the reply", "verifier", column)
    for result in results:
        other = f"{result.row.label:g}" if result.other is None and result.row.label is not None else ""
        if result.other is not None:
            other = f"{result.other.value:g} {result.other.reason}"
        table.add_row(
            str(result.row.number),
            escape(str(result.row.task.answer)[:40]),
            escape(" ".join(result.row.reply.split())[-60:]),
            escape(f"{result.score.value:g} {result.score.reason}"[:120]),
            escape(other[:120]),
        )
    return table
