"""Grade stored trajectories again: another verifier, or the environment's own after it was put right.

Only the verdict is made anew; nothing is sampled and no tool runs. The stored files stay as they are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..tools.atomic import write_lines
from ..tools.errors import UserError
from ..verifiers.base import Episode, Score, Verifier
from .stored import StoredRun, stored_trajectories
from .trajectory import StopReason, Trajectory

EPSILON = 1e-9
"""Scores closer than this are equal."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """One trajectory with its old score and its new one."""

    file: str
    """The name of the file that it is stored in."""
    trajectory: Trajectory
    """What was judged."""
    score: Score
    """The new judgement."""

    @property
    def changed(self) -> bool:
        """Whether the verdict is another: the value, or that there is one at all."""
        old = self.trajectory.score
        return old.status != self.score.status or abs(old.value - self.score.value) > EPSILON

    def to_json(self) -> str:
        """Return one line of JSON."""
        row = {
            "id": self.trajectory.id,
            "file": self.file,
            "task_id": self.trajectory.task_id,
            "changed": self.changed,
            "before": _plain(self.trajectory.score),
            "after": _plain(self.score),
        }
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def judgeable(trajectory: Trajectory) -> bool:
    """Say whether a verifier has, or would have, judged this episode: it came to its end and did not break."""
    if trajectory.stop is StopReason.ERROR:
        return trajectory.info.get("kind") == "verifier"
    return trajectory.stop in (StopReason.TERMINATED, StopReason.TRUNCATED) and bool(trajectory.turns)


async def rescore(
    run: StoredRun,
    verifier: Verifier | None = None,
    *,
    kind: str | None = None,
    at_once: int = 64,
    on_done: Callable[[int], None] = lambda count: None,
) -> tuple[list[Rescored], int]:
    """Judge the stored episodes again. Return them in the order of the files, and how many were left as they are.

    Args:
        run: where they are stored.
        verifier: the judge; None takes that of each episode's environment.
        kind: `rl`, `eval` or `sft` for those alone.
        at_once: how many are judged at the same time.
        on_done: is told how many are done.

    Episodes that a limit has cut or that broke were judged by no verifier, and are left as they are. Raises
    `UserError` if there is nothing to judge, or nobody to judge it.
    """
    stored = list(stored_trajectories(run.folder, kind))
    chosen = [(path, t) for path, t in stored if judgeable(t)]
    if not chosen:
        found = (
            f"none of its {len(stored)} trajectories came to an end" if stored else "it has no trajectories"
        )
        raise UserError(f"{run.folder}: there is nothing to score ({found})")
    gate, done = asyncio.Semaphore(at_once), 0

    async def one(path: Path, trajectory: Trajectory) -> Rescored:
        nonlocal done
        async with gate:
            score = await _judge(run, verifier, trajectory)
        done += 1
        on_done(done)
        return Rescored(path.name, trajectory, score)

    results = await asyncio.gather(*(one(path, t) for path, t in chosen))
    return results, len(stored) - len(chosen)


async def _judge(run: StoredRun, verifier: Verifier | None, trajectory: Trajectory) -> Score:
    env = run.env_of(trajectory)
    judge = verifier if verifier is not None else env.verifier
    if judge is None:
        raise UserError(
            f"{type(env).__name__} has no verifier: its rewards come from playing. Give one with --verifier, or "
            "play an episode again: quintain replay"
        )
    if "no_evidence" in trajectory.info:
        return Score.ungraded(f"the evidence was not kept: {trajectory.info['no_evidence']}")
    return await judge.acall(
        Episode(
            run.task_of(trajectory),
            run.last_reply(trajectory),
            tuple(trajectory.messages),
            trajectory.info.get("evidence", {}),
        )
    )


def write(results: Sequence[Rescored], path: Path) -> None:
    """Write the results to a file of their own, whole or not at all."""
    write_lines(path, (result.to_json() for result in results))


def _plain(score: Score) -> dict[str, object]:
    return {
        "value": score.value,
        "status": str(score.status),
        "parts": dict(score.parts),
        "reason": score.reason,
    }
