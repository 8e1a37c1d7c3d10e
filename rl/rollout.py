"""Rollouts: episodes of an environment played by a policy, recorded token by token as they happen.

One coroutine plays one episode; hundreds run at once and the engine batches what they ask for. Whatever goes
wrong on our side ends that episode alone, ungraded.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..envs.base import TextEnv
from ..tools.chat import Message, Reply
from ..verifiers.base import Score, Task
from .chat import ChatCodec
from .config import RolloutConfig
from .engines.base import Completion, Engine, FinishReason, Sampling
from .seeds import derive
from .trajectory import StopReason, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Start:
    """What an episode begins with."""

    id: str
    """Becomes `Trajectory.id`."""
    group: int
    """Becomes `Trajectory.group`."""
    seed: int
    """Seeds the environment's and the sampler's randomness."""
    task: int | None = None
    """The index of the task in the environment's task set; None lets the environment draw one."""


class Policy(Protocol):
    """Whoever answers: an engine, or a scripted demonstrator."""

    async def reply(
        self,
        ids: Sequence[int],
        messages: Sequence[Message],
        task: Task | None,
        sampling: Sampling,
        session: str,
    ) -> Completion:
        """Return the next reply to a conversation, as tokens."""
        ...

    def release(self, session: str) -> None:
        """Say that the episode `session` is over."""
        ...


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """A model behind an engine."""

    engine: Engine

    async def reply(
        self,
        ids: Sequence[int],
        messages: Sequence[Message],
        task: Task | None,
        sampling: Sampling,
        session: str,
    ) -> Completion:
        """Sample from the engine."""
        return await self.engine.generate(ids, sampling, session=session)

    def release(self, session: str) -> None:
        """Free the engine's cache of the episode."""
        self.engine.release(session)


Demonstrator = Callable[[Task, Sequence[Message], np.random.Generator], str]
"""Writes the next reply to a conversation about a task, as text in the environment's format."""


@dataclass(slots=True)
class ScriptedPolicy:
    """A demonstrator as a policy: its text becomes tokens once, with log-probability 0."""

    demonstrator: Demonstrator
    codec: ChatCodec
    _generators: dict[str, np.random.Generator] = field(default_factory=dict)

    async def reply(
        self,
        ids: Sequence[int],
        messages: Sequence[Message],
        task: Task | None,
        sampling: Sampling,
        session: str,
    ) -> Completion:
        """Ask the demonstrator; a reply over the limit is cut."""
        if task is None:
            raise ValueError("a demonstrator needs an environment with tasks")
        if session not in self._generators:
            self._generators[session] = np.random.default_rng(sampling.seed)
        text = self.demonstrator(task, messages, self._generators[session])
        reply = self.codec.encode_reply(text)
        finish = FinishReason.STOP if len(reply) <= sampling.max_tokens else FinishReason.LENGTH
        reply = reply[: sampling.max_tokens]
        return Completion(reply, [0.0] * len(reply), finish, version=-1)

    def release(self, session: str) -> None:
        """Forget the episode."""
        self._generators.pop(session, None)


async def rollout(
    env: TextEnv,
    policy: Policy,
    codec: ChatCodec,
    starts: Sequence[Start],
    limits: RolloutConfig,
    *,
    temperature: float = 1.0,
    on_finish: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play one episode for every start and return them in that order.

    `env` is the definition; every episode plays on a `fresh()` one of its own. At most `limits.concurrency`
    run at a time. `on_finish` sees each trajectory as soon as it is done.
    """
    gate = asyncio.Semaphore(limits.concurrency)

    async def one(start: Start) -> Trajectory:
        async with gate:
            trajectory = await play_episode(
                env.fresh(), policy, codec, start, limits, temperature=temperature
            )
        if on_finish is not None:
            on_finish(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(start)) for start in starts]
    return [task.result() for task in tasks]


@dataclass(slots=True)
class _Record:
    """A trajectory in the making."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def given(self, ids: Sequence[int]) -> None:
        """Append tokens that the model did not write."""
        self.ids.extend(ids)
        self.mask.extend([False] * len(ids))
        self.logprobs.extend([0.0] * len(ids))
        self.versions.extend([-1] * len(ids))

    def sampled(self, completion: Completion) -> None:
        """Append tokens that the model wrote."""
        self.ids.extend(completion.ids)
        self.mask.extend([True] * len(completion.ids))
        self.logprobs.extend(completion.logprobs)
        self.versions.extend([completion.version] * len(completion.ids))


async def play_episode(
    env: TextEnv,
    policy: Policy,
    codec: ChatCodec,
    start: Start,
    limits: RolloutConfig,
    *,
    temperature: float = 1.0,
) -> Trajectory:
    """Play one episode to its end, or to a limit, on an environment that is closed afterwards.

    Never raises for a failure of ours: the trajectory then has the stop `error` and an ungraded score with
    the reason, and keeps what was played.
    """
    record = _Record()
    info: dict[str, Any] = {}
    try:
        score, stop = await _play(env, policy, codec, start, limits, temperature, record)
    except Exception as error:
        score = Score.ungraded(f"{type(error).__name__}: {error}")
        stop = StopReason.ERROR
        info["traceback"] = traceback.format_exc()
    finally:
        policy.release(start.id)
        await env.aclose()
    return Trajectory(
        id=start.id,
        task_id=env.task.id if env.task is not None else f"seed {start.seed}",
        group=start.group,
        ids=record.ids,
        mask=record.mask,
        logprobs=record.logprobs,
        versions=record.versions,
        turns=record.turns,
        messages=record.messages,
        score=score,
        stop=stop,
        info=info,
    )


async def _play(
    env: TextEnv,
    policy: Policy,
    codec: ChatCodec,
    start: Start,
    limits: RolloutConfig,
    temperature: float,
    record: _Record,
) -> tuple[Score, StopReason]:
    options = None if start.task is None else {"task": start.task}
    _, info = env.reset(seed=start.seed % 2**32, options=options)
    record.messages.extend(info["messages"])
    record.given(codec.prompt(record.messages, env.schemas))
    while True:
        room = min(limits.turn_tokens, limits.episode_tokens - len(record.ids))
        if room < 1 and not record.turns:  # the model was never asked: that is no wrong answer
            reason = (
                f"the prompt has {len(record.ids)} tokens, rollout.episode_tokens is {limits.episode_tokens}"
            )
            return Score.ungraded(f"{reason}: raise it or leave the task out"), StopReason.EPISODE_TOKENS
        if room < 1:
            return _unfinished(record, limits), StopReason.EPISODE_TOKENS
        sampling = Sampling(
            max_tokens=room,
            stop_ids=codec.stop_ids,
            temperature=temperature,
            seed=derive(start.seed, "turn", len(record.turns)),
        )
        completion = await policy.reply(record.ids, record.messages, env.task, sampling, start.id)
        begin = len(record.ids)
        record.sampled(completion)
        if (
            completion.finish is FinishReason.LENGTH
        ):  # not a reply yet: what it happens to end on is no answer
            text = codec.decode_reply(completion.ids)
            record.turns.append(Turn(begin, len(record.ids), 0.0))
            record.messages.append({"role": "assistant", "content": text})
            cut = StopReason.TURN_TOKENS if room == limits.turn_tokens else StopReason.EPISODE_TOKENS
            return _unfinished(record, limits), cut
        _, reward, terminated, truncated, info = await env.astep(codec.decode_reply(completion.ids))
        record.turns.append(_turn(begin, len(record.ids), float(reward), info))
        record.messages.append(info["reply"].as_message())
        record.messages.extend(info["messages"])
        if terminated or truncated:
            score: Score = info["score"]
            if not score.graded:
                return score, StopReason.ERROR
            return score, StopReason.TERMINATED if terminated else StopReason.TRUNCATED
        record.given(codec.delta(info["messages"]))


def _turn(start: int, end: int, reward: float, info: dict[str, Any]) -> Turn:
    reply: Reply = info["reply"]
    return Turn(
        start=start,
        end=end,
        reward=reward,
        tool_calls=len(reply.tool_calls),
        tool_errors=sum(result.error is not None for result in info.get("tool_results", ())),
        parse_error=reply.parse_error is not None,
    )


def _unfinished(record: _Record, limits: RolloutConfig) -> Score:
    """Judge an episode that a token limit cut: it is worth the rewards it has collected."""
    total = sum(turn.reward for turn in record.turns)
    reason = f"cut by a token limit ({limits.turn_tokens} a turn, {limits.episode_tokens} an episode)"
    return Score(min(max(total, 0.0), 1.0), reason=reason)
