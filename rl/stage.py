"""Where an episode is played: what a rollout needs of an environment, as plain data.

`LocalStage` is an environment in this process. Elsewhere (`ray_workers`) the same `LocalStage` stands in another
process and what it returns is sent: so both ways tell the same by construction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..envs.base import TextEnv
from ..sandboxes.base import PoolExhausted, WorkerDied
from ..tools.chat import Message, Reply
from ..tools.errors import InfrastructureError, UserError
from ..tools.formats import ToolFormat
from ..verifiers.base import Score, Task

EVIDENCE = 1_000_000
"""Evidence of more characters is not kept with the trajectory."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How an episode begins."""

    task_id: str
    """`Task.id`."""
    messages: list[Message]
    """What the model is asked."""
    schemas: list[dict[str, Any]]
    """The tools, for the chat template."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one reply."""

    reward: float
    """What the step gave."""
    terminated: bool
    """Whether the task is over."""
    truncated: bool
    """Whether the environment cut the episode."""
    reply: Message
    """The reply as it stands in the conversation."""
    messages: list[Message]
    """What the environment said."""
    tool_calls: int
    """How many calls the reply made."""
    tool_errors: int
    """How many of them came back with an error."""
    parse_error: bool
    """Whether a call in it could not be read."""
    score: Score | None = None
    """The judgement, at the end."""
    judged: Mapping[str, Any] = field(default_factory=dict)
    """At the end: what the verifier saw and the conversation does not tell, so that it can be judged again."""
    judged_s: float = 0.0
    """Seconds that the verifier has taken in this episode."""


class Played(Protocol):
    """An episode as an engine may be shown it (`engines.scripted.Onlooker`); every `TextEnv` is one."""

    @property
    def task(self) -> Task | None:
        """The task, its answer included."""
        ...

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation so far."""
        ...

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools in the OpenAI form."""
        ...

    @property
    def format(self) -> ToolFormat:
        """How calls are written."""
        ...


class Stage(Protocol):
    """A place for one episode. It is used once and closed, whatever comes of it."""

    @property
    def task_id(self) -> str | None:
        """The id of the task; None while there is none."""
        ...

    @property
    def played(self) -> Played:
        """The episode, for an engine that was announced with `shown`."""
        ...

    @property
    def judged_s(self) -> float:
        """Seconds that the verifier has taken."""
        ...

    async def areset(self, seed: int, task: int | None, *, shown: bool = False) -> Opening:
        """Begin; `task` is an index or None, see `TextEnv.reset`. With `shown` an engine will look at `played`."""
        ...

    async def astep(self, text: str) -> Answered:
        """Give the environment a reply."""
        ...

    async def aclose(self) -> None:
        """Free what the episode holds."""
        ...


class StageError(Exception):
    """What an environment raised in another process, told as it would be here."""

    def __init__(self, kind: str, reason: str, trace: str) -> None:
        super().__init__(kind, reason, trace)
        self.kind = kind
        """As `failure_kind` says."""
        self.reason = reason
        """The name and the text of the exception."""
        self.trace = trace
        """Its traceback."""


class LocalStage:
    """An environment in this process; see `Stage`."""

    def __init__(self, env: TextEnv) -> None:
        self.env = env

    @property
    def task_id(self) -> str | None:
        """The id of the task; None while there is none."""
        return None if self.env.task is None else self.env.task.id

    @property
    def played(self) -> Played:
        """The environment itself."""
        return self.env

    @property
    def judged_s(self) -> float:
        """Seconds that the verifier has taken."""
        return self.env.judged_s

    async def areset(self, seed: int, task: int | None, *, shown: bool = False) -> Opening:
        """Begin."""
        options = None if task is None else {"task": task}
        _, info = self.env.reset(seed=seed % 2**32, options=options)
        return Opening(info["task_id"], info["messages"], self.env.schemas)

    async def astep(self, text: str) -> Answered:
        """Give the environment a reply."""
        _, reward, terminated, truncated, info = await self.env.astep(text)
        reply: Reply = info["reply"]
        over = terminated or truncated
        return Answered(
            reward=float(reward),
            terminated=terminated,
            truncated=truncated,
            reply=reply.as_message(),
            messages=info["messages"],
            tool_calls=len(reply.tool_calls),
            tool_errors=sum(result.error is not None for result in info.get("tool_results", ())),
            parse_error=reply.parse_error is not None,
            score=info["score"] if over else None,
            judged=_judged(self.env, text) if over else {},
            judged_s=self.env.judged_s,
        )

    async def aclose(self) -> None:
        """Close the environment."""
        await self.env.aclose()


def failure_kind(error: BaseException) -> str:
    """Return what `Trajectory.info["kind"]` calls a failure outside the engine."""
    if isinstance(error, InfrastructureError):
        return error.kind
    if isinstance(error, UserError):
        return "setup"
    if isinstance(error, WorkerDied | PoolExhausted):  # where an environment uses a sandbox by itself
        return "sandbox"
    return "system" if isinstance(error, OSError) else "environment"


def _judged(env: TextEnv, text: str) -> dict[str, Any]:
    seen = env.judged_episode
    if seen is None:
        return {}
    found: dict[str, Any] = {} if seen.reply == text else {"judged": str(seen.reply)}
    if seen.evidence:
        try:
            plain = json.dumps(dict(seen.evidence))
        except (TypeError, ValueError) as error:
            return {**found, "no_evidence": f"it is no plain JSON data: {error}"}
        if len(plain) > EVIDENCE:
            return {**found, "no_evidence": f"it has {len(plain)} characters, {EVIDENCE} are kept"}
        found["evidence"] = json.loads(plain)
    return found
