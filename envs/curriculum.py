"""Curricula: which task comes next, by how often tasks have succeeded so far.

A task that always succeeds, or never does, teaches nothing: its group has no variance. `Curriculum` keeps a belief
about the success rate of each task, or of each bucket of tasks, and prefers those whose rate may lie in a band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..tools.errors import UserError
from .state import generator
from .tasks import TaskSet, item_rng

Bucket = Callable[[int], str | int | float | bool | None]
"""The bucket of the task of an index."""

_VERSION = 1
_TRIES = 32  # candidates looked at for one task; with none in the band, the nearest to it is taken


class Curriculum:
    """Chooses tasks whose success rate lies in a band.

        curriculum = Curriculum(env.tasks, low=0.2, high=0.8)
        for index in curriculum.next(24):
            curriculum.update(index, successes / samples, samples)

    The belief about a task is a Beta distribution that starts uniform; of what was seen, half is forgotten every
    `half_life` calls of `next`, as the policy changes: what was too hard comes again. Candidates are drawn at random, a
    rate is drawn from the belief about each (Thompson sampling), and the first whose rate falls into the band is taken.
    A share of `explore` is taken without a look. An endless set shows a task once only: give it `bucket`, so that what
    is learned about a task counts for all of its kind.

    Everything random follows from `seed`; `state_dict` is plain JSON, and goes on exactly where it was taken.

    Args:
        tasks: The tasks, or their number.
        low, high: The band, 0 <= low < high <= 1.
        bucket: None for a belief about each task; "difficulty" (or another key of `Task.info`); or a function of the
            index that returns plain JSON data.
        explore: Share of tasks that are drawn whatever is believed about them, in [0, 1].
        half_life: Calls of `next` after which half of what was seen is forgotten.
        seed: Of the choices.
    """

    def __init__(
        self,
        tasks: TaskSet | int,
        *,
        low: float = 0.2,
        high: float = 0.8,
        bucket: str | Bucket | None = None,
        explore: float = 0.1,
        half_life: float = 50.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= low < high <= 1:
            raise UserError(f"Curriculum needs 0 <= low < high <= 1, got low={low}, high={high}")
        if not 0 <= explore <= 1:
            raise UserError(f"Curriculum: explore is a share from 0 to 1, got {explore}")
        if not half_life > 0:
            raise UserError(f"Curriculum: half_life must be more than 0 calls, got {half_life}")
        if isinstance(tasks, TaskSet):
            self.span = tasks.span
            if bucket is None and tasks.size is None:
                raise UserError(
                    f"Curriculum: the tasks of {tasks.name} are endless, none comes twice; "
                    'give bucket="difficulty", or a function of the index'
                )
        elif isinstance(tasks, bool) or not isinstance(tasks, int) or tasks < 1:
            raise UserError(f"Curriculum needs a TaskSet or a number of tasks of at least 1, got {tasks!r}")
        else:
            self.span = tasks
            if isinstance(bucket, str):
                raise UserError(f"Curriculum: bucket={bucket!r} needs the TaskSet itself, not its size")
        self.low, self.high, self.explore, self.half_life, self.seed = low, high, explore, half_life, seed
        self.step = 0
        """Calls of `next` so far."""
        self._bucket = _by_info(tasks, bucket) if isinstance(bucket, str) else bucket
        self._seen: dict[str, tuple[float, float, int]] = {}  # key: successes, failures, at which step
        self._rng = item_rng("curriculum", seed)

    def next(self, count: int) -> list[int]:
        """Choose `count` tasks and return their indices: different ones, as far as there are enough."""
        if isinstance(count, bool) or count < 1:
            raise UserError(f"Curriculum.next needs a number of tasks of at least 1, got {count!r}")
        self.step += 1
        chosen: list[int] = []
        taken: set[int] = set()
        for _ in range(count):
            if len(taken) >= self.span:
                taken.clear()
            index = self._choose(taken)
            taken.add(index)
            chosen.append(index)
        return chosen

    def update(self, index: int, success: float, count: int = 1) -> None:
        """Take note of how a task went.

        Args:
            index: The task.
            success: True or False, or the share of `count` episodes that succeeded, in [0, 1]. Ungraded episodes say
                nothing: leave them out of both.
            count: Episodes that were played; 0 changes nothing.

        Raises `UserError` for an index that there is not and a success out of range.
        """
        if not 0 <= index < self.span:
            raise UserError(
                f"Curriculum.update: there is no task {index}, the indices are 0 to {self.span - 1}"
            )
        if not 0 <= success <= 1:  # also refuses NaN
            raise UserError(f"Curriculum.update: success is a share from 0 to 1, got {success!r}")
        if count < 0:
            raise UserError(f"Curriculum.update: count must be at least 0, got {count}")
        if count:
            key = self._key(index)
            good, bad = self._evidence(key)
            self._seen[key] = (good + success * count, bad + (1 - success) * count, self.step)

    def rate(self, index: int) -> float:
        """Return the mean of the belief about the success rate of a task; 0.5 for one that was never seen."""
        return self._rate_of(self._key(index))

    def summary(self) -> dict[str, float]:
        """Return what a log may show: `seen` tasks or buckets, the shares believed `easy`, `in_band` and `hard`."""
        rates = [self._rate_of(key) for key in self._seen]
        total = max(len(rates), 1)
        easy, hard = sum(rate > self.high for rate in rates), sum(rate < self.low for rate in rates)
        return {
            "seen": float(len(rates)),
            "easy": easy / total,
            "in_band": (len(rates) - easy - hard) / total,
            "hard": hard / total,
        }

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, as plain JSON data."""
        return {
            "version": _VERSION,
            "span": self.span,
            "step": self.step,
            "rng": self._rng.bit_generator.state,
            "seen": {key: list(value) for key, value in self._seen.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called. Raises `UserError` for the state of other tasks, or no state."""
        if not isinstance(state, Mapping) or state.get("version") != _VERSION:
            raise UserError(f"this is no state of a Curriculum: {state!r:.80}")
        if state["span"] != self.span:
            raise UserError(
                f"the state is of a Curriculum of {state['span']} tasks, and this one has {self.span}: "
                "has the data changed?"
            )
        self._rng = generator(state["rng"])
        self.step = int(state["step"])
        self._seen = {
            key: (float(good), float(bad), int(at)) for key, (good, bad, at) in state["seen"].items()
        }

    # --- inside

    def _choose(self, taken: set[int]) -> int:
        looks = self._rng.random() >= self.explore
        best, distance = -1, 2.0
        for _ in range(_TRIES):
            index = self._draw(taken)
            if not looks:
                return index
            good, bad = self._evidence(self._key(index))
            rate = float(self._rng.beta(good + 1, bad + 1))
            away = max(self.low - rate, rate - self.high)
            if away <= 0:
                return index
            if away < distance:
                best, distance = index, away
        return best

    def _draw(self, taken: set[int]) -> int:
        """Draw an index that is not taken."""
        if 2 * len(taken) < self.span:  # a free one comes after two draws on average
            while True:
                index = int(self._rng.integers(self.span))
                if index not in taken:
                    return index
        free = [index for index in range(self.span) if index not in taken]
        return free[int(self._rng.integers(len(free)))]

    def _key(self, index: int) -> str:
        return str(index) if self._bucket is None else str(self._bucket(index))

    def _evidence(self, key: str) -> tuple[float, float]:
        """Return how many successes and failures are remembered now."""
        good, bad, at = self._seen.get(key, (0.0, 0.0, self.step))
        kept = 0.5 ** ((self.step - at) / self.half_life)
        return good * kept, bad * kept

    def _rate_of(self, key: str) -> float:
        good, bad = self._evidence(key)
        return (good + 1) / (good + bad + 2)

    def __repr__(self) -> str:
        return f"Curriculum(span={self.span}, low={self.low}, high={self.high}, seen={len(self._seen)})"


def _by_info(tasks: TaskSet | int, key: str) -> Bucket:
    assert isinstance(tasks, TaskSet)

    def bucket(index: int) -> Any:
        task = tasks[index]
        if key not in task.info:
            raise UserError(
                f"Curriculum: the task {task.id!r} has no info[{key!r}] to sort it into a bucket by"
            )
        return task.info[key]

    return bucket
