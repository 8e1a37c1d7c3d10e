"""`quintain eval`: environments x models, with intervals, paired comparisons and a table."""

from __future__ import annotations

import asyncio
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .commands.shared import env_options
from .rl.evals.cell import Cell
from .rl.evals.run import Results, Tell, evaluate_suite
from .rl.evals.statistics import Estimate
from .rl.evals.suite import Suite, load_suite
from .tools.errors import UserError

LINE_EVERY_S = 10.0
"""Without a terminal, progress is told at most this often."""


def suite_of(
    file: Path | None,
    envs: Sequence[str],
    models: Sequence[str],
    overrides: Sequence[str],
    given: dict[str, Any],
) -> Suite:
    """Return the suite that a command line describes: a file, and environments and models that replace those in it.

    An environment is an id, or an id with options: "quintain/Countdown-v0 split=test". `given` holds for each of
    `models`. Raises `UserError` where nothing is named, and for what does not fit.
    """
    if file is None and not (envs and models):
        raise UserError(
            "what is evaluated? name a suite: quintain eval SUITE.toml, or --env ID --model MODEL"
        )
    table: dict[str, Any] = {} if file is not None else {"name": "eval"}
    if envs:
        table["env"] = [_env(env) for env in envs]
    if models:
        table["model"] = [
            {"name": _name(model, number), "path": model, **given} for number, model in enumerate(models)
        ]
    return load_suite(file, overrides, table)


def _env(text: str) -> dict[str, Any]:
    """Read an environment of the command line: its id, then options of it, "quintain/Countdown-v0 split=test"."""
    words = shlex.split(text)
    if not words:
        raise UserError(
            '--env is empty: give an id, or an id with options: "quintain/Countdown-v0 split=test"'
        )
    return {"id": words[0], "kwargs": env_options(words[1:])}


def _name(model: str, number: int) -> str:
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..", "checkpoints")]
    kept = "-".join(parts[-2:])
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in kept).lstrip("-._") or f"model{number}"


def run_eval(suite: Suite, out: Path, console: Console, verifier: str | None = None) -> int:
    """Evaluate, print the tables, and return the exit code: 1 where results are doubtful."""
    from .verifiers.registry import SpecError
    from .verify_cli import load_verifier

    try:
        judge = None if verifier is None else load_verifier(verifier)
    except SpecError as error:
        raise UserError(f"--verifier: {error}") from None
    with _progress(console) as tell:
        results = asyncio.run(evaluate_suite(suite, out, tell=tell, verifier=judge))
    show(suite, results, console)
    place = out if verifier is None else out / "rescored"
    console.print(
        f"{place / 'results.json'} has all of it; every episode is in {out / 'episodes'}", soft_wrap=True
    )
    for doubt in results.doubtful:
        console.print(Text(f"doubtful: {doubt}", "yellow"))
    return 1 if results.doubtful else 0


@contextmanager
def _progress(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """Give what to tell of progress: bars in a terminal; elsewhere a line now and then, for logs."""
    if not console.is_terminal:
        last: dict[tuple[str, str], float] = {}

        def line(model: str, env: str, done: int, total: int) -> None:
            now = clock()
            if done in (0, total) or now - last.get((model, env), -math.inf) >= LINE_EVERY_S:
                last[model, env] = now
                console.print(f"{model} on {env}: {done}/{total} episodes", soft_wrap=True, highlight=False)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[tuple[str, str], TaskID] = {}

        def bar(model: str, env: str, done: int, total: int) -> None:
            if (model, env) not in bars:
                bars[model, env] = progress.add_task(f"{model} on {env}", total=total)
            progress.update(bars[model, env], completed=done)

        yield bar


def show(suite: Suite, results: Results, console: Console) -> None:
    """Print the results: one table where it fits, else one for each environment; and the comparisons of models."""
    wide = _overview(suite, results)
    width = Measurement.get(console, console.options.update(max_width=10_000), wide).maximum
    if width <= console.width or len(suite.model) > 3:
        console.print(wide)
        _print_tags_and_pairs(results, console)
    else:
        for env in suite.env:
            console.print(Text(env.label, "bold"))
            console.print(_of_environment(suite, results, env.label))
            console.print()
    console.print(Text("percent, with 95 % intervals; tokens read and written, an episode", "dim"))


def _names(results: Results) -> list[str]:
    """Return the metrics that are shown."""
    most = max(
        (int(n.partition("@")[2]) for c in results.cells for n in c.metrics if n.startswith("pass@")),
        default=0,
    )

    def value(cell: Cell, name: str) -> float | None:
        return None if name not in cell.metrics else cell.metrics[name].value

    partial = any(value(cell, "score") != value(cell, "success") for cell in results.cells)
    at_k = [f"pass@{most}", f"pass^{most}", f"majority@{most}"] if most else []
    return ["success", *(["score"] if partial else []), *at_k]


def _figures(suite: Suite, cell: Cell, names: Sequence[str]) -> dict[str, str]:
    """Return what is shown of a cell, by heading."""
    model = next(model for model in suite.model if model.name == cell.model)
    found = {
        name: _shown(cell.metrics.get(name), interval="@" not in name and "^" not in name) for name in names
    }
    found["ungraded"] = f"{cell.ungraded}/{cell.episodes}"
    found["tokens"] = f"{(cell.tokens.read + cell.tokens.written) / max(cell.episodes, 1):.0f}"
    if any(each.price_in or each.price_out for each in suite.model):
        found["cost"] = f"{cell.tokens.cost(model.price_in, model.price_out):.4g}"
    return found


def _plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading)
    return table


def _overview(suite: Suite, results: Results) -> Table:
    """Return a row for each model on each environment."""
    order = [env.label for env in suite.env]
    cells = sorted(results.cells, key=lambda cell: order.index(cell.env))
    rows = [(cell, _figures(suite, cell, _names(results))) for cell in cells]
    table = _plain_table("environment", "model", *rows[0][1])
    for cell, figures in rows:
        table.add_row(cell.env, cell.model, *figures.values())
    return table


def _of_environment(suite: Suite, results: Results, label: str) -> Table:
    """Return a column for each model, with the tags of the environment and the comparisons."""
    cells = {cell.model: cell for cell in results.cells if cell.env == label}
    table = _plain_table("", *cells)
    figures = [_figures(suite, cell, _names(results)) for cell in cells.values()]
    for name in figures[0]:
        table.add_row(name, *(each[name] for each in figures))
    tags = dict.fromkeys(n for c in cells.values() for n in c.metrics if n.startswith("success/"))
    for tag in tags:
        table.add_row(f"  {tag.partition('/')[2]}", *(_shown(c.metrics.get(tag)) for c in cells.values()))
    against = {found.second: found for found in results.comparisons if found.env == label}
    if against:
        pairs = [against.get(model) for model in cells]
        table.add_row(
            "less the first",
            *("" if found is None else _shown(found.difference, signed=True) for found in pairs),
        )
        table.add_row("McNemar p", *("" if found is None else f"{found.p_value:.3f}" for found in pairs))
    return table


def _print_tags_and_pairs(results: Results, console: Console) -> None:
    tags = [(c, n, e) for c in results.cells for n, e in c.metrics.items() if n.startswith("success/")]
    if tags:
        parts = _plain_table("\nenvironment", "\nmodel", "\ntag", "\nsuccess")
        for cell, name, estimate in tags:
            parts.add_row(cell.env, cell.model, name.partition("/")[2], _shown(estimate))
        console.print(parts)
    if results.comparisons:
        headings = ("environment", "compared", "difference of scores", "McNemar p", "problems")
        pairs = _plain_table(*(f"\n{heading}" for heading in headings))
        for found in results.comparisons:
            pairs.add_row(
                found.env,
                f"{found.second} - {found.first}",
                _shown(found.difference, signed=True),
                f"{found.p_value:.3f}",
                str(found.problems),
            )
        console.print(pairs)


def _shown(estimate: Estimate | None, *, signed: bool = False, interval: bool = True) -> str:
    if estimate is None:
        return "-"
    sign = "+" if signed else ""
    value = f"{100 * estimate.value:{sign}.1f}"
    if not interval or estimate.high == float("inf"):
        return value
    return f"{value} ({100 * estimate.low:{sign}.0f} to {100 * estimate.high:{sign}.0f})"
