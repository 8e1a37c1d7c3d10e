"""An episode that a probe has played: what was said, what was paid, and how it ended."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...verifiers.base import Score, Task
from ..transcript import transcribed

_SHOWN = 20_000  # characters of one text in JSON
_FULL = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class Start:
    """Which episode: the same start gives the same task in every copy of the environment."""

    seed: int
    """Given to `reset`."""
    task: int | None = None
    """Index of the task; None where the environment draws or makes its own."""

    @property
    def options(self) -> dict[str, Any] | None:
        """What `reset` gets as its options."""
        return None if self.task is None else {"task": self.task}

    def __str__(self) -> str:
        return f"seed {self.seed}" if self.task is None else f"task {self.task}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Step:
    """One reply and what came of it."""

    reply: str
    observation: str
    reward: Any
    terminated: Any
    truncated: Any
    info: Mapping[str, Any]
    cpu_s: float = field(default=0.0, compare=False)
    """Seconds of processor time of this process that the step took."""


@dataclass(frozen=True, slots=True)
class Played:
    """One episode, from its start to its end or to where the probe left it."""

    start: Start
    task: Task | None
    """The problem; None if `reset` failed."""
    opening: str
    """The first observation."""
    info: Mapping[str, Any]
    """What `reset` gave beside it."""
    messages: tuple[Mapping[str, Any], ...]
    """The whole conversation as the environment keeps it."""
    steps: tuple[Step, ...]
    error: str = ""
    """What the environment raised, or that it took too long; empty if all went well."""
    late: bool = False
    """Whether `error` is that it took too long."""

    @property
    def replies(self) -> tuple[str, ...]:
        """What was said to the environment."""
        return tuple(step.reply for step in self.steps)

    @property
    def ended(self) -> bool:
        """Whether the environment ended the episode."""
        return bool(self.steps) and bool(self.steps[-1].terminated or self.steps[-1].truncated)

    @property
    def score(self) -> Score | None:
        """The judgement at the end, if there is one."""
        score = self.steps[-1].info.get("score") if self.steps else None
        return score if isinstance(score, Score) else None

    @property
    def reward(self) -> float:
        """The sum of the rewards; NaN if one of them is no number."""
        try:
            return float(sum(step.reward for step in self.steps))
        except (TypeError, ValueError):
            return float("nan")

    @property
    def worth(self) -> float | None:
        """What the episode earned: the sum of its rewards, None if it was not graded or went wrong."""
        if self.error or (self.score is not None and not self.score.graded):
            return None
        return self.reward

    @property
    def earned(self) -> float:
        """The same with 0.0 where nothing was graded: what a probe that looks for gain counts."""
        worth = self.worth
        return 0.0 if worth is None or worth != worth else worth

    @property
    def full(self) -> bool:
        """Whether it earned full marks."""
        return self.earned >= _FULL

    def key(self) -> list[Any]:
        """Return what must be equal when the same episode is played again, as plain JSON data."""
        steps = [
            [s.observation, plain(s.reward), bool(s.terminated), bool(s.truncated), plain(s.info)]
            for s in self.steps
        ]
        return [self.opening, plain(self.info), *steps, self.error.partition("\n")[0]]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; very long texts are cut."""
        score = self.score
        return {
            "seed": self.start.seed,
            "task": self.start.task,
            "task_id": None if self.task is None else self.task.id,
            "opening": short(self.opening, _SHOWN),
            "steps": [
                {
                    "reply": short(step.reply, _SHOWN),
                    "observation": short(step.observation, _SHOWN),
                    "reward": plain(step.reward),
                    "terminated": bool(step.terminated),
                    "truncated": bool(step.truncated),
                }
                for step in self.steps
            ],
            "score": None
            if score is None
            else {"value": score.value, "status": str(score.status), "reason": short(score.reason, 2000)},
            "error": self.error,
        }

    def shown(self, limit: int = 300) -> str:
        """Return the episode as lines for a person, each text cut to `limit` characters."""
        lines = [f"({self.start})"]
        if any(message.get("role") == "system" for message in self.messages[:1]):
            lines.append(_line(self.messages[0], limit))
        lines.append(_line({"role": "user", "content": self.opening}, limit))
        for step in self.steps:
            lines.append(_line({"role": "assistant", "content": str(step.reply)}, limit))
            if step.observation:
                lines.append(_line({"role": "user", "content": step.observation}, limit))
            if step.reward or step.terminated or step.truncated:
                lines.append(f"-> reward {step.reward}")
        if self.score is not None:
            lines.append(
                f"-> score {self.score.value:g} {self.score.status} {short(self.score.reason, limit)}"
            )
        if self.error:
            lines.append(f"-> {short(self.error, 3 * limit)}")
        return "\n".join(lines)


def _line(message: Any, limit: int) -> str:
    cut: Any = {**message, "content": short(message["content"], limit)}
    return transcribed(cut)


def short(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters, the middle left out."""
    if len(text) <= limit:
        return text
    half = max(limit // 2 - 20, 10)
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def plain(value: Any) -> Any:
    """Return a value as plain JSON data that can be compared across processes; objects by the name of their class.

    Of a `Score` only value and status count: a reason may tell seconds.
    """
    if isinstance(value, Score):
        return {"value": value.value, "status": str(value.status)}
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (
            f.name for f in dataclasses.fields(value) if f.name != "detail"
        )  # tracebacks are for people
        return {name: plain(getattr(value, name)) for name in fields}
    return type(value).__name__
