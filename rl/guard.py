"""The guard of a run: asks the gold about its samples, keeps the curves, raises the alarm and acts by rule.

Its memory is `metrics.jsonl` (the metrics that begin with `guard/`), so a resumed run has the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..envs.base import TextEnv
from ..tools.errors import UserError
from ..verifiers.base import Verifier
from .chat import ChatCodec
from .config import Config
from .drift import signs
from .guard_config import GuardConfig
from .judged import judge_all
from .metrics import read_metrics
from .overoptimisation import PREFIX, Point, clustered_mean, correlation, drifted, fallen, points_of
from .rewarded import reward_of
from .trajectory import Trajectory


class Leash(Protocol):
    """What holds the weight of the KL divergence: the learner."""

    kl_coef: float


class Guard:
    """Watches one run.

    Args:
        config: the section; None watches nothing.
        gold: the verifier that is never trained on.
        env: where the run's episodes were played.
        codec: reads their replies.
        points: what was measured before, oldest first.
        raised: the steps at which the KL coefficient was raised before.
    """

    def __init__(
        self,
        config: GuardConfig | None,
        gold: Verifier | None,
        env: TextEnv,
        codec: ChatCodec,
        *,
        points: Sequence[Point] = (),
        raised: Sequence[int] = (),
    ) -> None:
        self.config, self.gold, self.env, self.codec = config, gold, env, codec
        self.points = list(points)
        self.raised = list(raised)

    @classmethod
    def of_run(
        cls, config: Config, folder: Path, env: TextEnv, held_out: TextEnv, codec: ChatCodec, step: int
    ) -> Guard:
        """Return the guard of a run that has done `step` RL steps.

        `held_out` has the environment's own verifier. Raises `UserError` for a gold that cannot be had, or that is
        what the run is trained on.
        """
        guard = None if config.rl is None else config.rl.guard
        if guard is None:
            return cls(None, None, env, codec)
        if guard.gold == (config.env.verifier or {"id": "environment"}):
            raise UserError(
                f"rl.guard.gold is the reward that is trained on ({guard.gold}), so it can show nothing: name another "
                "verifier, or train on another with [env.verifier]"
            )
        gold = reward_of(held_out, guard.gold, "rl.guard.gold")
        records = [r for r in read_metrics(folder / "metrics.jsonl") if r.phase == "rl" and r.step <= step]
        raised = [r.step for r in records if r.metrics.get(f"{PREFIX}raised_kl")]
        return cls(guard, gold, env, codec, points=points_of(records), raised=raised)

    async def look(
        self, step: int, batch: Sequence[Trajectory], metrics: Mapping[str, float], leash: Leash
    ) -> dict[str, float]:
        """Measure the graded episodes of a step; return metrics, of which `guard/stop` says that the run must end.

        `metrics` are those of the step; `kl`, in nats a token, gives the distance from the first policy.
        """
        if self.config is None or self.gold is None or (step - 1) % self.config.every:
            return {}
        chosen = _whole_groups(batch, self.config.episodes)
        scores = await judge_all(self.env, self.codec, self.gold, chosen)
        pairs = [(t, score) for t, score in zip(chosen, scores, strict=True) if score.graded]
        found = {"ungraded": 1 - len(pairs) / len(chosen) if chosen else 0.0}
        if not pairs:
            return {PREFIX + name: value for name, value in found.items()}
        proxies, golds = [t.score.value for t, _ in pairs], [score.value for _, score in pairs]
        groups = [t.group for t, _ in pairs]
        proxy, proxy_se = clustered_mean(proxies, groups)
        gold, gold_se = clustered_mean(golds, groups)
        tokens = sum(t.sampled_tokens for t, _ in pairs) / len(pairs)
        distance = math.sqrt(max(metrics.get("kl", math.nan) * tokens, 0.0))
        watched = signs([t for t, _ in pairs], n=self.config.ngram, patterns=self.config.refusals)
        self.points.append(Point(step, proxy, gold, proxy_se, gold_se, distance, watched))
        found |= {"proxy": proxy, "gold": gold, "correlation": correlation(proxies, golds), **watched}
        errors = {"proxy_se": proxy_se, "gold_se": gold_se, "distance": distance}
        found |= {name: value for name, value in errors.items() if math.isfinite(value)}
        if math.isnan(found["correlation"]):
            del found["correlation"]
        found |= self._act(step, leash)
        return {PREFIX + name: value for name, value in found.items()}

    def _act(self, step: int, leash: Leash) -> dict[str, float]:
        """Return the alarms as metrics, and do what the config says."""
        assert self.config is not None
        config = self.config
        fall = fallen(self.points, window=config.window, fall=config.fall, sigmas=config.sigmas)
        drifts = drifted(self.points, window=config.window)
        alarms = ["gold"] * (fall is not None) + list(drifts)
        found = {f"alarm_{name}": 1.0 for name in alarms}
        acted = [name for name in alarms if name in config.act_on]
        if acted and config.action == "stop":
            found["stop"] = 1.0
        if acted and config.action == "raise_kl" and self._rested(step) and leash.kl_coef < config.kl_max:
            leash.kl_coef = min(max(leash.kl_coef * config.kl_factor, config.kl_floor), config.kl_max)
            self.raised.append(step)
            found["raised_kl"] = leash.kl_coef
        return found

    def _rested(self, step: int) -> bool:
        """Whether a window has passed since the coefficient was raised last."""
        assert self.config is not None
        return not self.raised or step - self.raised[-1] >= self.config.window * self.config.every


def _whole_groups(batch: Sequence[Trajectory], most: int) -> list[Trajectory]:
    """Return the first whole groups of at most `most` episodes together, at least one group."""
    chosen: list[Trajectory] = []
    for group in dict.fromkeys(t.group for t in batch):
        members = [t for t in batch if t.group == group]
        if chosen and len(chosen) + len(members) > most:
            break
        chosen += members
    return chosen
