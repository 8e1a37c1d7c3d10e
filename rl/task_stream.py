"""Which tasks come next: all of them in turn, or those that a curriculum chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ..envs.base import TextEnv
from ..envs.curriculum import Curriculum
from ..tools.errors import UserError
from .rl_config import RlConfig
from .seeds import derive, generator
from .trajectory import Trajectory


def task_at(env: TextEnv, seed: int, stream: str, number: int) -> int | None:
    """Return the index of the `number`-th task of a stream: an endless set by hash, a finite one by epochs."""
    if env.tasks is None:
        return None
    size = env.tasks.size
    if size is None:
        return derive(seed, stream, number) % env.tasks.span
    epoch, place = divmod(number, size)
    return int(generator(seed, stream, "epoch", epoch).permutation(size)[place])


class TaskStream:
    """Chooses the tasks of each step. Everything random follows from `seed`.

    Raises `UserError` for a curriculum over an environment without tasks.
    """

    def __init__(self, env: TextEnv, rl: RlConfig, seed: int) -> None:
        self._env, self._seed, self._groups = env, seed, rl.groups
        self._curriculum: Curriculum | None = None
        if rl.curriculum is not None:
            if env.tasks is None:
                raise UserError(
                    f"rl.curriculum needs an environment with tasks, {type(env).__name__} has none"
                )
            chosen = rl.curriculum
            self._curriculum = Curriculum(
                env.tasks,
                low=chosen.low,
                high=chosen.high,
                bucket=chosen.bucket,
                explore=chosen.explore,
                half_life=chosen.half_life,
                seed=derive(seed, "curriculum"),
            )

    def next(self, step: int, first: int, count: int) -> list[int | None]:
        """Return the tasks of `count` groups of a step, of which `first` were drawn before."""
        if self._curriculum is not None:
            return list(self._curriculum.next(count))
        seed, env = self._seed, self._env
        if first == 0:
            return [task_at(env, seed, "rl", (step - 1) * self._groups + group) for group in range(count)]
        return [task_at(env, seed, f"rl again {step}", group) for group in range(first, first + count)]

    def learn(self, tasks: Mapping[int, int | None], batch: Sequence[Trajectory]) -> None:
        """Tell the curriculum how the groups went."""
        if self._curriculum is None:
            return
        for group, task in tasks.items():
            graded = [t.success for t in batch if t.group == group and t.graded]
            if task is not None and graded:
                self._curriculum.update(task, sum(graded) / len(graded), len(graded))

    def summary(self) -> dict[str, float]:
        """Return what the log shows."""
        if self._curriculum is None:
            return {}
        return {f"curriculum/{name}": value for name, value in self._curriculum.summary().items()}

    def state(self) -> str:
        """Return what `restore` needs."""
        return json.dumps(None if self._curriculum is None else self._curriculum.state_dict())

    def restore(self, state: str) -> None:
        """Go on from what `state` returned."""
        if self._curriculum is not None:
            self._curriculum.load_state_dict(json.loads(state))
