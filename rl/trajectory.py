"""One episode as tokens: what the sampler produced, who wrote each token, and what it was worth.

This is the one format that feeds everything: SFT, preference pairs, PPO and GRPO, evaluation, the viewer.
A trajectory is made while the episode runs and never rebuilt from text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from ..tools.chat import Message
from ..verifiers.base import Score, Status


class StopReason(StrEnum):
    """Why an episode ended."""

    TERMINATED = "terminated"
    """The environment said that the task is over."""
    TRUNCATED = "truncated"
    """The environment cut the episode (a turn limit)."""
    TURNS = "turns"
    """The model had as many turns as `rollout.turns` allows."""
    TURN_TOKENS = "turn_tokens"
    """A reply reached the limit of one turn without its stop token."""
    EPISODE_TOKENS = "episode_tokens"
    """The token budget of the episode was used up."""
    CONTEXT = "context"
    """The model's context was used up."""
    EPISODE_TIME = "episode_time"
    """`rollout.episode_s` was over: how fast our machines are says nothing about the work, so it is ungraded."""
    PHASE_TIME = "phase_time"
    """`rollout.phase_s` was over before the episode was; ungraded."""
    ERROR = "error"
    """Something of ours failed; the score is ungraded and says what."""


CUT = frozenset(
    {
        StopReason.TRUNCATED,
        StopReason.TURNS,
        StopReason.TURN_TOKENS,
        StopReason.EPISODE_TOKENS,
        StopReason.CONTEXT,
    }
)
"""Ends that are no ends: a limit of ours, after which more would have come."""
TOO_LONG = frozenset({StopReason.TURN_TOKENS, StopReason.EPISODE_TOKENS, StopReason.CONTEXT})
"""Those of them that are limits of tokens."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of an episode went, in seconds of wall clock. It is measured, so no two runs agree in it."""

    engine_s: float = 0.0
    """Waiting for replies."""
    environment_s: float = 0.0
    """In the environment: its start and its steps with their tools."""
    attempts: int = 1
    """How often the episode was played: more than once where something of ours failed at first."""
    verifier_s: float = 0.0
    """In the environment's verifier."""


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
    """One episode. The four per-token sequences have equal length T.

    Mostly that is one sequence: what the engine saw and wrote, from the first prompt to the last reply. Where the
    chat template rewrites what was said before (see `chat.ChatCodec.grows`), the engine saw several, and they lie
    here end to end; `samples` says where each begins. The learner runs each by itself; score, turns and advantages
    are the episode's.
    """

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
    """More, in plain JSON data: `kind` (what failed) and `traceback` of an episode that could not be graded ..."""
    samples: Sequence[int] = (0,)
    """Where in `ids` each sequence that the engine saw begins; the first at 0."""
    seed: int = 0
    """What the environment's randomness follows from."""
    task: int | None = None
    """The index of the task in the environment's task set; None where the environment drew one."""
    timing: Timing = field(default=Timing(), compare=False)
    """Where the time went. Not part of `to_json`: the files of two equal runs are equal."""

    def __post_init__(self) -> None:
        """Refuse sequences of different lengths, and samples that do not follow each other."""
        lengths = {
            "ids": len(self.ids),
            "mask": len(self.mask),
            "logprobs": len(self.logprobs),
            "versions": len(self.versions),
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the per-token sequences of trajectory {self.id} differ in length: {lengths}")
        bounds = [*self.samples, len(self.ids)]
        if bounds[0] != 0 or any(a >= b for a, b in pairwise(self.samples)) or bounds[-2] > bounds[-1]:
            raise ValueError(
                f"the samples of trajectory {self.id} must begin at 0 and follow each other within its "
                f"{len(self.ids)} tokens, got {list(self.samples)}"
            )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The stretch of `ids` of each sample, as (start, end)."""
        return list(pairwise([*self.samples, len(self.ids)]))

    @property
    def length(self) -> int:
        """The tokens of the longest sequence that the engine saw: what limits and memory go by."""
        return max(end - start for start, end in self.spans)

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
    def trainable(self) -> bool:
        """Whether its ids are tokens; where an endpoint returns none, larger numbers stand for text (`text_codec`)."""
        return max(self.ids, default=0) < 2**40

    @property
    def sampled_tokens(self) -> int:
        """How many tokens the model wrote."""
        return sum(self.mask)

    def to_json(self, *, exact: bool = False) -> str:
        """Return the trajectory as one line of JSON; `exact` keeps all digits of the log-probabilities and `timing`."""
        record: dict[str, Any] = {
            "id": self.id,
            "task_id": self.task_id,
            "group": self.group,
            "ids": list(self.ids),
            "mask": [int(m) for m in self.mask],
            "logprobs": list(self.logprobs) if exact else [round(p, 6) for p in self.logprobs],
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
            "samples": list(self.samples),
            "seed": self.seed,
            "task": self.task,
        }
        if exact:
            spent = self.timing
            record["timing"] = [spent.engine_s, spent.environment_s, spent.attempts, spent.verifier_s]
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Trajectory:
        """Read what `to_json` wrote (without `exact`, log-probabilities are kept to 1e-6)."""
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
            samples=record.get("samples", [0]),
            seed=record.get("seed", 0),
            task=record.get("task"),
            timing=Timing(*record.get("timing", ())),
        )
