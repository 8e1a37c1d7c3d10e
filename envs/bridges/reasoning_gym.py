"""Every generator of reasoning-gym as an environment: `reasoning-gym/countdown-v0` and a hundred more.

The library makes item `i` of a data set from `seed + i`, so that neighbouring seeds share almost all their items.
Here each task has a seed of its own, hashed from generator, split, seed and index; seeds of different splits are
different numbers, whatever the hash.
"""

from __future__ import annotations

import atexit
import functools
import json
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError, nearest
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.guard import Guard, GuardMemory, GuardTimeout
from ..card import Card
from ..registry import register
from ..single_turn import SingleTurnEnv
from ..tasks import TaskSet
from . import reasoning_gym_scorer as scorer
from .foreign import SPLITS, Randomness, boundary, construction, need, split_seed

LIBRARY = "reasoning-gym"
SYSTEM_PROMPT = "Solve the problem. Write the final answer, and nothing else, between <answer> and </answer>."
_KEPT = 512  # entries that are kept between the drawing of a task and its judgement


class ReasoningGym(SingleTurnEnv):
    """Problems of one generator of reasoning-gym, judged by the library's own scorer.

    The answer is what stands in the last `<answer>` tags of the reply, and there is none without them. Several
    scorers pay a little for any answer at all; `full_marks=True` pays for nothing but a right one.

    Args:
        name: The generator, for example "countdown".
        split: "train", "validation" or "test"; no seed of one belongs to another.
        seed: Other seeds give other tasks.
        config: Fields of the generator's configuration, but for seed and size.
        full_marks: Pay 1 for full marks and 0 for anything less.
        system_prompt: Says how the answer is to be written.
        render_mode: None or "ansi".

    Raises `UserError` if the library is missing, has no such generator, or refuses the configuration.
    """

    def __init__(
        self,
        name: str,
        *,
        split: str = "train",
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        full_marks: bool = False,
        system_prompt: str | None = SYSTEM_PROMPT,
        render_mode: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError(
                f"{LIBRARY}/{name}: there is no split {split!r}; the choices are: {', '.join(SPLITS)}"
            )
        self.items = _Items(name, dict(config or {}))
        items = self.items

        def make(rng: np.random.Generator, index: int) -> Task:
            own = split_seed(rng, split)
            with boundary(LIBRARY, f"{name} made no item of seed {own}"):
                entry = items[own]
                answer = entry["answer"]
                kept = {"item": own, "difficulty": _plain(entry["metadata"].get("difficulty"))}
                return Task("", str(entry["question"]), answer if answer is None else str(answer), info=kept)

        tasks = TaskSet.generated(make, name=f"{LIBRARY}-{name}", split=split, seed=seed)
        super().__init__(
            tasks, _Scorer(items, full_marks), system_prompt=system_prompt, render_mode=render_mode
        )
        if tasks[0].answer is not None:
            self.oracle = _oracle
        self.card = Card(
            what=f"Solve a problem made by reasoning-gym's generator {name}.",
            reward="What the library's scorer gives, in [0, 1]; "
            + ("full marks only." if full_marks else "some scorers pay a little for any answer."),
            difficulty=f"The fields of the generator's configuration: {', '.join(items.fields) or 'none'}.",
            oracle="The generator's own answer."
            if self.oracle
            else "None: the library has no answer to show.",
            source="reasoning-gym, Apache-2.0; generated",
            tags=("single-turn", LIBRARY),
        )


class _Items:
    """The entries of a generator by seed. The library is not thread-safe, so one call runs at a time."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        need("reasoning_gym")
        factory = need_factory()
        if name not in factory.DATASETS:
            raise UserError(f"{LIBRARY} has no generator {name!r}; {nearest(name, factory.DATASETS)}")
        known = factory.DATASETS[name][1].__dataclass_fields__
        self.fields = tuple(sorted(set(known) - {"seed", "size"}))
        for field in config:
            if field not in self.fields:
                raise UserError(
                    f"{LIBRARY}/{name} has no configuration {field!r}; {nearest(field, self.fields)}"
                )
        try:
            self.config = json.dumps(config)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{LIBRARY}/{name}: the configuration must be plain JSON data: {error}"
            ) from error
        self.name = name
        self._create = functools.partial(scorer.created, name, self.config)
        self._lock = threading.RLock()
        self._kept: dict[int, dict[str, Any]] = {}
        with construction(LIBRARY, name), Randomness(0).installed():
            self._shared = self._create(seed=1)
            # Some generators draw from the seed when they are made; those are made anew for every item.
            self._again = all(
                self._reseeded(s)["question"] == self._create(seed=s)[0]["question"] for s in (2, 3)
            )

    def __getitem__(self, seed: int) -> dict[str, Any]:
        """Return the entry of a seed."""
        with self._lock:
            entry = self._kept.get(seed)
            if entry is None:
                with Randomness(seed).installed():
                    entry = self._reseeded(seed) if self._again else self._create(seed=seed)[0]
                if len(self._kept) >= _KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[seed] = entry
            return entry

    def _reseeded(self, seed: int) -> dict[str, Any]:
        self._shared.seed = seed
        if hasattr(self._shared.config, "seed"):
            self._shared.config.seed = seed
        entry: dict[str, Any] = self._shared[0]
        return entry


class _Scorer(Verifier):
    """The scorer of the library, in a process of its own."""

    def __init__(self, items: _Items, full_marks: bool) -> None:
        self.items = items
        self.full_marks = full_marks

    @property
    def name(self) -> str:
        """The generator's name."""
        return self.items.name

    def score(self, episode: Episode) -> Score:
        """Judge the answer. A scorer that chokes on it, though not on the right answer, has found it wrong."""
        answer = answer_in(episode.reply.content)
        if answer is None:
            return _NO_ANSWER
        entry = self.items[episode.task.info["item"]]
        paid = self._ask(entry, answer)
        if isinstance(paid, str) and isinstance(entry["answer"], str):
            return self._unread(paid, self._ask(entry, entry["answer"]))
        return self._score(paid)

    async def ascore(self, episode: Episode) -> Score:
        """Judge without blocking the event loop."""
        answer = answer_in(episode.reply.content)
        if answer is None:
            return _NO_ANSWER
        entry = self.items[episode.task.info["item"]]
        guard = _guard()
        try:
            paid = await guard.acall(scorer.score, self.name, self.items.config, entry, answer)
        except (GuardTimeout, GuardMemory) as error:
            paid = str(error)
        if isinstance(paid, str) and isinstance(entry["answer"], str):
            gold = await guard.acall(scorer.score, self.name, self.items.config, entry, entry["answer"])
            return self._unread(paid, gold)
        return self._score(paid)

    def _ask(self, entry: dict[str, Any], answer: str) -> float | str:
        try:
            paid: float | str = _guard().call(scorer.score, self.name, self.items.config, entry, answer)
        except (GuardTimeout, GuardMemory) as error:
            return str(error)
        return paid

    def _unread(self, failure: str, gold: float | str) -> Score:
        if isinstance(gold, str):
            return Score.ungraded(f"the scorer of {LIBRARY} fails on the right answer too: {gold}")
        return Score(0.0, reason=f"the scorer could not read the answer: {failure}")

    def _score(self, paid: float | str) -> Score:
        if isinstance(paid, str):
            return Score.ungraded(f"the scorer of {LIBRARY} failed: {paid}")
        if not math.isfinite(paid):
            return Score.ungraded(f"the scorer of {LIBRARY} gave {paid}")
        value = min(max(paid, 0.0), 1.0)
        return Score(
            float(value == 1.0) if self.full_marks else value,
            parts={self.name: paid},
            reason=f"{LIBRARY} gave {paid:g}",
        )


_NO_ANSWER = Score(0.0, reason="there is no answer between <answer> and </answer>")


@functools.cache
def _guard() -> Guard:
    """Return the process that scores, started at its first use and shared by all generators."""
    guard = Guard(1, preload=("reasoning_gym", scorer.__name__), wall_s=10.0, memory_mb=2048)
    atexit.register(guard.close)
    return guard


def answer_in(text: str) -> str | None:
    """Return what stands in the last `<answer>` tags, stripped; None without them."""
    before, closed, _ = text.rpartition("</answer>")
    _, opened, answer = before.rpartition("<answer>")
    return answer.strip() if closed and opened else None


def register_family() -> None:
    """Register every generator as `reasoning-gym/NAME-v0`. Raises `UserError` if the library is missing."""
    for name in need_factory().DATASETS:
        register(f"{LIBRARY}/{name}-v0", "quintain.envs.bridges.reasoning_gym:ReasoningGym", {"name": name})


def need_factory() -> Any:
    """Return the registry module of the library."""
    need("reasoning_gym")
    from reasoning_gym import factory

    return factory


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return f"<answer>{task.answer}</answer>"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
