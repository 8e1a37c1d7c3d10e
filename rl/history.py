"""The metrics of a run so far, for alarms and for the best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .alarms import raised
from .evaluate import headline
from .metrics import read_metrics


class History:
    """What has been measured up to `step` in a run's folder; a resumed run reads it back."""

    def __init__(self, folder: Path, step: int) -> None:
        records = [r for r in read_metrics(folder / "metrics.jsonl") if r.step <= step]
        self._steps: list[Mapping[str, float]] = [r.metrics for r in records if r.phase == "rl"]
        self._evaluations = [
            (r.step, found)
            for r in records
            if r.phase == "eval" and (found := headline(r.metrics)) is not None
        ]

    def add_step(self, metrics: Mapping[str, float]) -> list[str]:
        """Take in a step and return the alarms that it raises, each a name and advice."""
        self._steps.append(metrics)
        return [f"{name}: {advice}" for name, advice in raised(self._steps, self._evaluations).items()]

    def add_evaluation(self, step: int, success: float) -> bool:
        """Take in an evaluation and return whether it is the best of the RL steps."""
        best = all(success > found for at, found in self._evaluations if at > 0)
        self._evaluations.append((step, success))
        return best
