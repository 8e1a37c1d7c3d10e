"""What the gateway records of a session: samples that grow as the conversation does, and the trajectory they become.

The rule. A request *extends* a recorded sample if it shows the same tools, begins with that sample's messages (the
model's last reply included; reasoning may be left out, as most clients do), adds only messages that the model did
not write, the reply had ended by itself, and the chat template continues it by appending (`ChatCodec.grows`). Then
the template's delta is appended to the very ids that were sampled. Any other request begins a new sample with a
prompt of its own: a history that was edited, summed up or cut, an agent beside the first, a request repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..tools.chat import Message, Reply
from ..verifiers.base import Score
from .chat import ChatCodec
from .engines.base import Completion
from .trajectory import StopReason, Trajectory, Turn


@dataclass(slots=True, eq=False)
class Sample:
    """One sequence in the making."""

    key: str
    """The engine's name of it."""
    tools: str = ""
    messages: list[Message] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    open: bool = False
    """Whether its last reply ended by itself, so that a delta may follow."""
    busy: bool = False
    """Whether a request is working on it."""

    def add(self, given: Sequence[int], new: Sequence[Message], said: Completion, reply: Reply) -> None:
        """Append what was given to the model and what it wrote."""
        self.messages.extend([*new, reply.as_message()])
        start = len(self.ids) + len(given)
        self.ids.extend([*given, *said.ids])
        self.mask.extend([False] * len(given) + [True] * len(said.ids))
        self.logprobs.extend([0.0] * len(given) + list(said.logprobs))
        self.versions.extend([-1] * len(given) + list(said.versions or [said.version] * len(said.ids)))
        self.turns.append(
            Turn(
                start,
                len(self.ids),
                0.0,
                tool_calls=len(reply.tool_calls),
                parse_error=reply.parse_error is not None,
            )
        )


@dataclass(slots=True)
class Session:
    """One agent at work: the samples of its requests."""

    name: str
    group: int = 0
    task_id: str = ""
    samples: list[Sample] = field(default_factory=list)
    calls: int = 0
    """Tool calls so far: their ids count up."""
    begun: int = 0
    """Samples that were begun, the unfinished ones included."""
    temperatures: set[float] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def sample_for(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], codec: ChatCodec
    ) -> tuple[Sample, list[int], Sequence[Message]]:
        """Return the sample that a request extends, or a new one, with the ids to append and the messages in them."""
        shown = json.dumps(tools, sort_keys=True)
        for sample in sorted(self.samples, key=lambda sample: -len(sample.messages)):
            known = len(sample.messages)
            new = messages[known:]
            if (
                sample.open
                and not sample.busy
                and sample.tools == shown
                and new
                and all(message["role"] != "assistant" for message in new)
                and all(_same(a, b) for a, b in zip(sample.messages, messages, strict=False))
                and codec.grows(sample.messages, new, tools)
            ):
                return sample, codec.delta(new), new
        self.begun += 1
        fresh = Sample(f"{self.name}#{self.begun}", shown)
        return fresh, codec.prompt(messages, tools), messages

    def trajectory(self, score: Score) -> Trajectory:
        """Return the session as one trajectory, its samples end to end in the order of their first replies.

        It is one trajectory however many samples there are, so that it counts once in its group.
        """
        info: dict[str, Any] = {"temperatures": sorted(self.temperatures)}
        if self.errors:
            info["errors"] = self.errors
        if len(self.samples) > 1:
            info["conversations"] = [sample.messages for sample in self.samples]
        starts, turns, at = [], [], 0
        for sample in self.samples:
            starts.append(at)
            turns += [
                Turn(t.start + at, t.end + at, t.reward, t.tool_calls, t.tool_errors, t.parse_error)
                for t in sample.turns
            ]
            at += len(sample.ids)
        if turns and score.graded:
            last = turns[-1]
            turns[-1] = Turn(
                last.start, last.end, score.value, last.tool_calls, last.tool_errors, last.parse_error
            )
        if not turns:
            reason = f"the session {self.name!r} has no reply: " + (
                self.errors[-1] if self.errors else "none asked"
            )
            score = Score.ungraded(reason)
        return Trajectory(
            id=self.name,
            task_id=self.task_id or self.name,
            group=self.group,
            ids=[token for sample in self.samples for token in sample.ids],
            mask=[mine for sample in self.samples for mine in sample.mask],
            logprobs=[value for sample in self.samples for value in sample.logprobs],
            versions=[version for sample in self.samples for version in sample.versions],
            turns=turns,
            messages=self.samples[-1].messages if self.samples else [],
            score=score,
            stop=StopReason.TERMINATED if score.graded else StopReason.ERROR,
            info=info,
            samples=starts or [0],
        )


def _same(ours: Message, theirs: Message) -> bool:
    """Say whether two messages are one; reasoning aside, which clients may drop."""
    keys = ("role", "content", "tool_calls", "tool_call_id")
    return all((ours.get(key) or None) == (theirs.get(key) or None) for key in keys)
