"""Held-out evaluation: the same problems each time, greedy and sampled, with an interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from ..envs.base import TextEnv
from .chat import ChatCodec
from .config import EvalConfig, RolloutConfig
from .engines.base import Engine
from .journal import Journal
from .rollout import Start, rollout
from .seeds import derive
from .trajectory import Trajectory


async def evaluate(
    env: TextEnv,
    engine: Engine,
    codec: ChatCodec,
    config: EvalConfig,
    limits: RolloutConfig,
    *,
    seed: int,
    label: str,
    on_finish: Callable[[Trajectory], None] | None = None,
    journal: Journal | None = None,
) -> tuple[dict[str, float], list[Trajectory]]:
    """Play the held-out problems and return the metrics and the trajectories.

    Success is the fraction of graded episodes with full score. `ci_low` and `ci_high` bound the 95 % Wilson
    interval of greedy success (of sampled success without greedy). Metrics by tag (`Task.info["tag"]`) have
    the tag after a slash.
    """
    count = config.problems
    if env.tasks is not None and env.tasks.size is not None:
        count = min(count, env.tasks.size)
    metrics: dict[str, float] = {"problems": float(count)}
    played: list[Trajectory] = []
    kinds = ([("greedy", 1, 0.0)] if config.greedy else []) + (
        [("sampled", config.samples, limits.temperature)] if config.samples else []
    )
    for kind, samples, temperature in kinds:
        starts = [
            Start(
                id=f"{label}-{kind}-{problem}-{sample}",
                group=problem,
                seed=derive(seed, "eval", kind, problem, sample)
                if kind == "sampled"
                else derive(0, "eval", problem),
                task=problem if env.tasks is not None else None,
            )
            for problem in range(count)
            for sample in range(samples)
        ]
        found = await rollout(
            env,
            engine,
            codec,
            starts,
            limits,
            temperature=temperature,
            on_finish=on_finish,
            journal=journal,
            breaker=True,
        )
        played += found
        metrics.update(_successes(found, f"success_{kind}", env))
        if "ci_low" not in metrics:
            graded = [t for t in found if t.graded]
            low, high = wilson(sum(t.success for t in graded), len(graded))
            metrics.update(ci_low=low, ci_high=high)
    metrics["ungraded"] = sum(not t.graded for t in played) / max(len(played), 1)
    return metrics, played


def _successes(found: Sequence[Trajectory], name: str, env: TextEnv) -> dict[str, float]:
    by_tag: dict[str, list[bool]] = defaultdict(list)
    for trajectory in found:
        if trajectory.graded:
            by_tag[""].append(trajectory.success)
            if env.tasks is not None and "tag" in (info := env.tasks[trajectory.group].info):
                by_tag[f"/{info['tag']}"].append(trajectory.success)
    return {name + tag: sum(results) / len(results) for tag, results in sorted(by_tag.items())}


def headline(metrics: Mapping[str, float]) -> float | None:
    """Return the success that a run is judged by: greedy where it was played, else sampled; None without either."""
    return metrics.get("success_greedy", metrics.get("success_sampled"))


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
