"""One episode as tokens: what the sampler produced, who wrote each token, and what it was worth.

This is the one format that feeds everything: SFT, preference pairs, PPO and GRPO, evaluation, the viewer.
A trajectory is made while the episode runs and never rebuilt from text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..tools.chat import Message
from ..verifiers.base import Score, Status


class StopReason(StrEnum):
    """Why an episode ended."""

    TERMINATED = "terminated"
    """The environment said that the task is over."""
    TRUNCATED = "truncated"
    """The environment cut the episode (a turn limit)."""
    TURN_TOKENS = "turn_tokens"
    """A reply reached the limit of one turn without its stop token."""
    EPISODE_TOKENS = "episode_tokens"
    """The token budget of the episode, or the model's context, was used up."""
    ERROR = "error"
    """Something of ours failed; the score is ungraded and says what."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the model inside a trajectory."""

    start: int
    """Index in `Trajectory.ids` of its first sampled token."""
    end: int
    """Index after its last sampled token (the stop token included)."""
    reward: float
    """What the environment's step gave for it."""
    tool_calls: int = 0
    """How many calls the reply made."""
    tool_errors: int = 0
    """How many of them came back with an error."""
    parse_error: bool = False
    """Whether a call in it could not be read."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode. The four per-token sequences have equal length T."""

    id: str
    """Unique in the run: phase, step, group and member."""
    task_id: str
    """`Task.id`, or the seed of an environment without tasks."""
    group: int
    """Episodes of one group share the task; their rewards are compared."""
    ids: Sequence[int]
    """Token ids: prompt, replies and the environment's messages, as the engine saw them. [T]"""
    mask: Sequence[bool]
    """True where the model sampled the token: only these are trained on. [T]"""
    logprobs: Sequence[float]
    """The sampler's log-probability (nats) of a sampled token, 0.0 elsewhere. [T]"""
    versions: Sequence[int]
    """The version of the weights that sampled the token, -1 elsewhere. [T]"""
    turns: Sequence[Turn]
    """The replies in order."""
    messages: Sequence[Message]
    """The conversation, for people and verifiers; never re-tokenised."""
    score: Score
    """The verifier's judgement, or the sum of the rewards where there is no verifier."""
    stop: StopReason
    """Why the episode ended."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """More, in plain JSON data (the error's traceback ...)."""

    def __post_init__(self) -> None:
        """Refuse sequences of different lengths."""
        lengths = {
            "ids": len(self.ids),
            "mask": len(self.mask),
            "logprobs": len(self.logprobs),
            "versions": len(self.versions),
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the per-token sequences of trajectory {self.id} differ in length: {lengths}")

    @property
    def reward(self) -> float:
        """The sum of the turns' rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def graded(self) -> bool:
        """Whether the score is a judgement; if not, the trajectory stays out of statistics and loss."""
        return self.score.graded

    @property
    def success(self) -> bool:
        """Whether the work was judged to be fully right."""
        return self.score.graded and self.score.value >= 1.0

    @property
    def sampled_tokens(self) -> int:
        """How many tokens the model wrote."""
        return sum(self.mask)

    def to_json(self) -> str:
        """Return the trajectory as one line of JSON."""
        record = {
            "id": self.id,
            "task_id": self.task_id,
            "group": self.group,
            "ids": list(self.ids),
            "mask": [int(m) for m in self.mask],
            "logprobs": [round(p, 6) for p in self.logprobs],
            "versions": list(self.versions),
            "turns": [
                [t.start, t.end, t.reward, t.tool_calls, t.tool_errors, t.parse_error] for t in self.turns
            ],
            "messages": list(self.messages),
            "score": {
                "value": self.score.value,
                "parts": dict(self.score.parts),
                "status": str(self.score.status),
                "reason": self.score.reason,
            },
            "stop": str(self.stop),
            "info": dict(self.info),
        }
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Trajectory:
        """Read what `to_json` wrote (log-probabilities are kept to 1e-6)."""
        record = json.loads(line)
        score = record["score"]
        return cls(
            id=record["id"],
            task_id=record["task_id"],
            group=record["group"],
            ids=record["ids"],
            mask=[bool(m) for m in record["mask"]],
            logprobs=record["logprobs"],
            versions=record["versions"],
            turns=[Turn(*turn) for turn in record["turns"]],
            messages=record["messages"],
            score=Score(score["value"], score["parts"], Status(score["status"]), score["reason"]),
            stop=StopReason(record["stop"]),
            info=record["info"],
        )
