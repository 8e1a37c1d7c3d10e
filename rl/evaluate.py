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
from .stage import Stage
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
    stage: Callable[[], Stage] | None = None,
) -> tuple[dict[str, float], list[Trajectory]]:
    """Play the held-out problems and return the metrics and the trajectories.

    Success is the fraction of graded episodes with full score. `ci_low` and `ci_high` bound the 95 % interval of
    greedy success (of sampled success without greedy): Wilson's with one episode a problem, else one over the
    problems' means, as the samples of a problem are no independent trials. With several samples, `pass@k` is the
    probability that the best of k succeeds, for k = 1, 2, 4 ... Metrics by tag (`Task.info["tag"]`) have the tag
    after a slash.

    `stage` makes the place that an episode is played in, see `rollout`.
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
            stage=stage,
        )
        played += found
        metrics.update(_successes(found, f"success_{kind}", env))
        if "ci_low" not in metrics:
            low, high = _interval(found)
            metrics.update(ci_low=low, ci_high=high)
        if samples > 1:
            metrics.update(_passes(found, samples))
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


def _by_problem(found: Sequence[Trajectory]) -> list[list[bool]]:
    """Return the successes of each problem's graded episodes."""
    by_problem: dict[int, list[bool]] = defaultdict(list)
    for trajectory in found:
        if trajectory.graded:
            by_problem[trajectory.group].append(trajectory.success)
    return list(by_problem.values())


def _interval(found: Sequence[Trajectory]) -> tuple[float, float]:
    problems = _by_problem(found)
    if all(len(results) == 1 for results in problems):
        return wilson(sum(results[0] for results in problems), len(problems))
    return clustered([sum(results) / len(results) for results in problems])


def _passes(found: Sequence[Trajectory], samples: int) -> dict[str, float]:
    """Return pass@k for powers of two up to `samples`, over the problems that have as many graded episodes."""
    problems = _by_problem(found)
    metrics: dict[str, float] = {}
    k = 1
    while k <= samples:
        whole = [results for results in problems if len(results) >= k]
        if whole:
            metrics[f"pass@{k}"] = sum(pass_at_k(len(r), sum(r), k) for r in whole) / len(whole)
        k *= 2
    return metrics


def pass_at_k(samples: int, successes: int, k: int) -> float:
    """Return the unbiased estimate of the probability that at least one of `k` samples succeeds.

    1 - C(n - c, k) / C(n, k) for c successes among n samples (Chen et al. 2021, arXiv 2107.03374, eq. 1). Raises
    `ValueError` unless 1 <= k <= n and 0 <= c <= n.
    """
    if not 1 <= k <= samples or not 0 <= successes <= samples:
        raise ValueError(
            f"pass@k needs 1 <= k <= samples and 0 <= successes <= samples, got k={k}, {successes} of {samples}"
        )
    return 1.0 - math.comb(samples - successes, k) / math.comb(samples, k)


def clustered(means: Sequence[float], z: float = 1.96) -> tuple[float, float]:
    """Return the normal interval of the mean of problems' means, cut to [0, 1]; (0, 1) for fewer than two."""
    if len(means) < 2:
        return 0.0, 1.0
    middle = sum(means) / len(means)
    variance = sum((m - middle) ** 2 for m in means) / (len(means) - 1)
    spread = z * math.sqrt(variance / len(means))
    return max(0.0, middle - spread), min(1.0, middle + spread)


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
