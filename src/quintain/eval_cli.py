"""`quintain eval`: environments x models, with intervals, paired comparisons and a table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from .rl.evals.run import Results, evaluate_suite
from .rl.evals.statistics import Estimate
from .rl.evals.suite import Suite, load_suite
from .tools.errors import UserError


def suite_of(
    file: Path | None,
    envs: Sequence[str],
    models: Sequence[str],
    overrides: Sequence[str],
    given: dict[str, Any],
) -> Suite:
    """Return the suite that a command line describes: a file, and environments and models that replace those in it.

    `given` holds for each of `models`. Raises `UserError` where nothing is named, and for what does not fit.
    """
    if file is None and not (envs and models):
        raise UserError(
            "what is evaluated? name a suite: quintain eval SUITE.toml, or --env ID --model MODEL"
        )
    table: dict[str, Any] = {} if file is not None else {"name": "eval"}
    if envs:
        table["env"] = [{"id": env} for env in envs]
    if models:
        table["model"] = [
            {"name": _name(model, number), "path": model, **given} for number, model in enumerate(models)
        ]
    return load_suite(file, overrides, table)


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
    with Progress(console=console, transient=True) as progress:
        bars: dict[tuple[str, str], Any] = {}

        def tell(model: str, env: str, done: int, total: int) -> None:
            if (model, env) not in bars:
                bars[model, env] = progress.add_task(f"{model} on {env}", total=total)
            progress.update(bars[model, env], completed=done)

        results = asyncio.run(evaluate_suite(suite, out, tell=tell, verifier=judge))
    show(suite, results, console)
    place = out if verifier is None else out / "rescored"
    console.print(
        f"{place / 'results.json'} has all of it; every episode is in {out / 'episodes'}", soft_wrap=True
    )
    for doubt in results.doubtful:
        console.print(Text(f"doubtful: {doubt}", "yellow"))
    return 1 if results.doubtful else 0


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
