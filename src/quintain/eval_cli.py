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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .commands.shared import env_options
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
    """Print a table of results, and one of comparisons where there are several models."""
    most = max(
        (int(n.partition("@")[2]) for c in results.cells for n in c.metrics if n.startswith("pass@")),
        default=0,
    )
    graded = any(c.metrics.get("score") != c.metrics.get("success") for c in results.cells)
    names = ["success", *(["score"] if graded else [])]
    names += [f"pass@{most}", f"pass^{most}", f"majority@{most}"] if most else []
    prices = {model.name: model for model in suite.model}
    costs = any(model.price_in or model.price_out for model in suite.model)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("environment", "model", *names, "ungraded", "tokens", *(["cost"] if costs else [])):
        table.add_column(name)
    for cell in sorted(results.cells, key=lambda c: [e.label for e in suite.env].index(c.env)):
        model = prices[cell.model]
        cost = [f"{cell.tokens.cost(model.price_in, model.price_out):.4g}"] if costs else []
        tokens = (cell.tokens.read + cell.tokens.written) / max(cell.episodes, 1)
        table.add_row(
            cell.env,
            cell.model,
            *(_shown(cell.metrics.get(name), interval="@" not in name and "^" not in name) for name in names),
            f"{cell.ungraded}/{cell.episodes}",
            f"{tokens:.0f}",
            *cost,
        )
    console.print(table)
    console.print(Text("percent, with 95 % intervals; tokens read and written, an episode", "dim"))
    tags = [(c, n, e) for c in results.cells for n, e in c.metrics.items() if n.startswith("success/")]
    if tags:
        parts = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("\nenvironment", "\nmodel", "\ntag", "\nsuccess"):
            parts.add_column(name)
        for cell, name, estimate in tags:
            parts.add_row(cell.env, cell.model, name.partition("/")[2], _shown(estimate))
        console.print(parts)
    if results.comparisons:
        pairs = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("\nenvironment", "\ncompared", "\ndifference of scores", "\nMcNemar p", "\nproblems"):
            pairs.add_column(name)
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
