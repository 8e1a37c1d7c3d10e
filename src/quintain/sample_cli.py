"""`quintain sample`: several episodes of each task from a model, and the best of them chosen.

The folder holds `samples.jsonl` (every episode; also the journal that a killed run goes on from), `sample.json` (what
was sampled), `chosen.jsonl` and `summary.json` (what was chosen, and how).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .rl.inference_time import ANSWERS, METHODS, Answers, Choice, Method, choose
from .tools.atomic import write_atomically
from .tools.errors import UserError
from .verifiers.base import Score

SETTINGS = "sample.json"
SAMPLES = "samples.jsonl"
CHOSEN = "chosen.jsonl"
SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Sampled:
    """What to sample. A folder holds the samples of one such description."""

    env: str
    """The id of the environment."""
    options: Mapping[str, Any]
    """What it is made with."""
    model: str
    """A folder, a Hugging Face id, `smollm2`, or the name of a model on a server."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """What samples."""
    base_url: str = ""
    """The server's address, with engine = "openai"."""
    tasks: int = 50
    """How many tasks; fewer where the environment has fewer."""
    n: int = 8
    """Episodes of each."""
    seed: int = 0
    """Everything random follows from it."""
    temperature: float = 1.0
    """Divides the logits."""
    turn_tokens: int = 512
    """The most tokens of one reply."""
    episode_tokens: int = 2048
    """The most tokens of one episode."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def plain(self) -> dict[str, Any]:
        """Return the description as JSON data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"options": dict(self.options)}


@dataclass(frozen=True, slots=True)
class Rule:
    """How to choose."""

    method: Method = "best_of"
    """One of `METHODS`."""
    verifier: str | None = None
    """An id, a JSON spec or a file with one; None takes the environment's own scores."""
    answers: Answers = "number"
    """For votes: what counts as an answer."""
    threshold: float = 1.0
    """For rejection sampling: the least score."""
    keep: int | None = None
    """For rejection sampling: the most samples of a task."""

    def check(self) -> None:
        """Raise `UserError` for a rule that cannot be followed."""
        if self.method not in METHODS:
            raise UserError(f"--method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.answers not in ANSWERS:
            raise UserError(f"--answers must be one of {', '.join(ANSWERS)}, got {self.answers!r}")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"scores lie in [0, 1], so must --threshold, got {self.threshold}")


def sample(what: Sampled, rule: Rule, out: Path, console: Console | None = None) -> dict[str, Any]:
    """Sample, choose, write both into the folder `out`, and return the summary.

    The same call goes on where one that was killed has stopped; another rule chooses anew among the samples that
    are there. Raises `UserError` for what cannot be had, and for a folder that holds samples of something else.
    """
    from .verifiers.registry import SpecError
    from .verify_cli import load_verifier

    rule.check()
    console = console or Console()
    try:
        verifier = None if rule.verifier is None else load_verifier(rule.verifier)
    except SpecError as error:
        raise UserError(f"--verifier: {error}") from None
    _claim(what, out)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("sampling", total=None)
        found = asyncio.run(
            _sampled(what, verifier, out, lambda n, of: progress.update(bar, completed=n, total=of))
        )
    rows: list[str] = []
    choices: list[tuple[Choice, list[Score], list[Score]]] = []
    for group in sorted({t.group for t, _ in found}):
        members = [(t, score) for t, score in found if t.group == group]
        trajectories, scores = [t for t, _ in members], [score for _, score in members]
        choice = choose(
            trajectories,
            rule.method,
            scores=scores,
            answers=rule.answers,
            threshold=rule.threshold,
            keep=rule.keep,
        )
        choices.append((choice, scores, [t.score for t in trajectories]))
        rows += [trajectories[place].to_json() + "\n" for place in choice.chosen]
    summary = _summary(rule, choices)
    write_atomically(out / CHOSEN, "".join(rows))
    write_atomically(out / SUMMARY, json.dumps(summary, indent=2) + "\n")
    table = Table(show_header=False)
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"{out / CHOSEN} holds what was chosen, {out / SAMPLES} every episode", soft_wrap=True)
    return summary


def _claim(what: Sampled, out: Path) -> None:
    """Take the folder for this description. Raises `UserError` where it holds something else."""
    path, plain = out / SETTINGS, what.plain()
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        differing = [name for name in plain if before.get(name) != plain[name]]
        if differing:
            told = ", ".join(f"{name} {before.get(name)!r} (now {plain[name]!r})" for name in differing)
            raise UserError(f"{out} holds samples of other settings: {told}; name another folder with --out")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no samples: name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(plain, indent=2) + "\n")


async def _sampled(what: Sampled, verifier: Any, out: Path, tell: Any) -> list[tuple[Any, Score]]:
    """Return the episodes with the score that the choice goes by."""
    from .envs import registry
    from .rl.config import RolloutConfig
    from .rl.evals.player import open_player
    from .rl.evals.suite import EvalModel
    from .rl.journal import Journal
    from .rl.judged import judge_all
    from .rl.rollout import Start, rollout
    from .rl.seeds import derive

    env = registry.make(what.env, **what.options)
    count = what.tasks
    if env.tasks is not None and env.tasks.size is not None:
        count = min(count, env.tasks.size)
    described = EvalModel(name="model", path=what.model, engine=what.engine, device=what.device)
    if what.base_url:
        described = described.model_copy(update={"base_url": what.base_url})
    engine, codec = open_player(described, seed=what.seed)
    starts = [
        Start(
            id=f"sample-{group}-{member}",
            group=group,
            seed=derive(what.seed, "sample", group),
            task=group if env.tasks is not None else None,
            sampler_seed=derive(what.seed, "sample", group, member),
        )
        for group in range(count)
        for member in range(what.n)
    ]
    limits = RolloutConfig(
        turn_tokens=min(what.turn_tokens, what.episode_tokens), episode_tokens=what.episode_tokens
    )
    finished = 0

    def on_finish(trajectory: object) -> None:
        nonlocal finished
        finished += 1
        tell(finished, len(starts))

    try:
        with Journal(out / SAMPLES) as journal:
            played = await rollout(
                env,
                engine,
                codec,
                starts,
                limits,
                temperature=what.temperature,
                on_finish=on_finish,
                journal=journal,
            )
        scores: Sequence[Score] = [t.score for t in played]
        if verifier is not None:
            scores = await judge_all(env, codec, verifier, played)
    finally:
        await engine.close()
        env.close()
    return list(zip(played, scores, strict=True))


def _summary(rule: Rule, choices: Sequence[tuple[Choice, list[Score], list[Score]]]) -> dict[str, Any]:
    """Return counts, and the mean of the environment's own score over all samples and over the chosen ones."""
    everything = [s for _, _, own in choices for s in own if s.graded]
    picked = [own[place] for choice, _, own in choices for place in choice.chosen]
    chosen = [s for s in picked if s.graded]
    return {
        "method": rule.method,
        "tasks": len(choices),
        "samples": sum(choice.samples for choice, _, _ in choices),
        "chosen": len(picked),
        "tasks_without_choice": sum(choice.best is None for choice, _, _ in choices),
        "ungraded": sum(choice.ungraded for choice, _, _ in choices),
        "silent": sum(choice.silent for choice, _, _ in choices),
        "mean_score_of_all": _mean([s.value for s in everything]),
        "mean_score_of_chosen": _mean([s.value for s in chosen]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
