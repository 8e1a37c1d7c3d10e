"""What each token of a step's episodes was given, kept beside them for people to look at: `credit/rl-000012.jsonl`.

A line is an episode: its id, its advantages as runs of equal numbers, and the learner's own log-probabilities before
the step where the step needed them (with one optimiser step and one epoch they are not known beforehand). Nothing is
read back by the training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..tools.atomic import replacing
from .credit import Credit, Measured
from .trajectory import Trajectory

FOLDER = "credit"


@dataclass(frozen=True, slots=True)
class StoredCredit:
    """What one episode was given; T counts its sampled tokens alone."""

    advantages: Sequence[float]
    """[T]"""
    logprobs: Sequence[float] | None
    """The learner's, before the step, in nats; None where the step did without. [T]"""


def write_credit(
    run_dir: Path, step: int, batch: Sequence[Trajectory], credit: Credit, measured: Measured
) -> None:
    """Write the file of a step, whole or not at all. Raises `OSError` as the system reports it."""
    with (
        replacing(run_dir / FOLDER / f"rl-{step:06d}.jsonl") as work,
        work.open("w", encoding="utf-8") as file,
    ):
        for index, trajectory in enumerate(batch):
            rounded = [round(float(a), 6) for a in credit.advantages[index]]
            record: dict[str, object] = {
                "id": trajectory.id,
                "advantages": [[value, len(list(same))] for value, same in groupby(rounded)],
            }
            if measured.old_logps is not None:
                record["logprobs"] = [round(float(p), 6) for p in measured.old_logps[index]]
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_credit(run_dir: Path, stem: str, trajectory: Trajectory) -> StoredCredit | None:
    """Return what the episode was given in the step of the file `stem`; None if it is not there or of other tokens."""
    start = json.dumps({"id": trajectory.id}, ensure_ascii=False, separators=(",", ":"))[:-1]
    try:
        with (run_dir / FOLDER / f"{stem}.jsonl").open(encoding="utf-8") as file:
            line = next((line for line in file if line.startswith(start + ",")), None)
        if line is None:
            return None
        record = json.loads(line)
        advantages = [
            float(value) for value, count in record["advantages"] for _ in range(min(int(count), 2**24))
        ]
        stored = record.get("logprobs")
        logprobs = None if stored is None else [float(p) for p in stored]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    lengths = {len(advantages)} | (set() if logprobs is None else {len(logprobs)})
    return StoredCredit(advantages, logprobs) if lengths == {trajectory.sampled_tokens} else None
