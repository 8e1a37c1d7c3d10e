"""One episode: an environment and an engine take turns, and every token is recorded as it comes.

Whatever goes wrong on our side ends the episode ungraded, with the kind of failure in `Trajectory.info["kind"]`:
`engine` or what the engine says it was (`EngineError.kind`), `time`, `prompt` (too long to be asked), `setup` (the chat
template, the config), `environment` (its code raised), `verifier`, `system` (an error of the operating system), or
the kind of an `InfrastructureError`.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ..envs.base import TextEnv
from ..tools.chat import Message
from ..tools.errors import InfrastructureError
from ..verifiers.base import Score
from .chat import ChatCodec
from .config import RolloutConfig
from .engines.base import Completion, Engine, EngineError, FinishReason, Sampling
from .engines.scripted import Onlooker
from .seeds import derive
from .selfcheck import checked
from .stage import Answered, LocalStage, Stage, StageError, failure_kind
from .trajectory import StopReason, Timing, Trajectory, Turn

CLOSE_S = 30.0
"""How long an environment may take to close; then it is left, and the trajectory's `info` says so."""


@dataclass(frozen=True, slots=True)
class Start:
    """What an episode begins with."""

    id: str
    """Becomes `Trajectory.id`."""
    group: int
    """Becomes `Trajectory.group`."""
    seed: int
    """Seeds the environment's randomness, and the sampler's if `sampler_seed` does not."""
    task: int | None = None
    """The index of the task in the environment's task set; None lets the environment draw one."""
    sampler_seed: int | None = None
    """Seeds the sampler: episodes of a group begin alike and sample apart."""


@dataclass(slots=True)
class _Record:
    """A trajectory in the making."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    samples: list[int] = field(default_factory=lambda: [0])
    waits: dict[str, float] = field(default_factory=lambda: {"engine": 0.0, "environment": 0.0})
    """Seconds by what was waited for."""
    at: str = "environment"
    """What is being waited for now ..."""
    since: float = field(default_factory=time.monotonic)
    """... and since when."""

    @property
    def seen(self) -> int:
        """How many tokens the engine sees: those of the last sample."""
        return len(self.ids) - self.samples[-1]

    def given(self, ids: Sequence[int]) -> None:
        """Append tokens that the model did not write."""
        self.ids.extend(ids)
        self.mask.extend([False] * len(ids))
        self.logprobs.extend([0.0] * len(ids))
        self.versions.extend([-1] * len(ids))

    def anew(self, ids: Sequence[int]) -> None:
        """Begin another sample with a prompt of its own."""
        self.samples.append(len(self.ids))
        self.given(ids)

    def sampled(self, completion: Completion) -> None:
        """Append tokens that the model wrote."""
        self.ids.extend(completion.ids)
        self.mask.extend([True] * len(completion.ids))
        self.logprobs.extend(completion.logprobs)
        self.versions.extend(completion.versions or [completion.version] * len(completion.ids))

    def unasked(self) -> None:
        """Take back a sample that the model was never asked to continue."""
        if len(self.samples) > 1 and True not in self.mask[self.samples[-1] :]:
            start = self.samples.pop()
            for column in (self.ids, self.mask, self.logprobs, self.versions):
                del column[start:]

    def wait_for(self, what: str) -> None:
        """Book the time until now, and say what is waited for next."""
        now = time.monotonic()
        self.waits[self.at] += now - self.since
        self.at, self.since = what, now


async def play_episode(
    env: TextEnv | Stage,
    engine: Engine,
    codec: ChatCodec,
    start: Start,
    limits: RolloutConfig,
    *,
    temperature: float = 1.0,
    deadline: float | None = None,
) -> Trajectory:
    """Play one episode to its end, or to a limit, on an environment (here or elsewhere) that is closed afterwards.

    `deadline` is the loop's time at which the whole phase ends. Never raises for a failure of ours: the trajectory
    then is ungraded and keeps what was played. When it is cancelled, the environment is closed all the same.
    """
    stage = LocalStage(env) if isinstance(env, TextEnv) else env
    record = _Record()
    info: dict[str, Any] = {}
    begun = asyncio.get_running_loop().time()
    ends = begun + limits.episode_s
    phase_first = deadline is not None and deadline < ends
    try:
        async with asyncio.timeout_at(deadline if phase_first else ends) as clock:
            if deadline is not None and begun >= deadline:
                await asyncio.sleep(0)  # too late to begin: the timeout ends it here
            score, stop = await _play(stage, engine, codec, start, limits, temperature, record, info)
    except TimeoutError as error:
        if clock.expired():
            stop = StopReason.PHASE_TIME if phase_first else StopReason.EPISODE_TIME
            allowed = f"phase_s = {limits.phase_s:g}" if phase_first else f"episode_s = {limits.episode_s:g}"
            score = Score.ungraded(f"time: rollout.{allowed} was over, waiting for the {record.at}")
            info["kind"] = "time"
        else:
            score, stop = _failed(error, record, info), StopReason.ERROR
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # Nobody has cancelled this episode: the engine or the environment has dropped its own work.
        score, stop = _failed(error, record, info), StopReason.ERROR
    except Exception as error:
        score, stop = _failed(error, record, info), StopReason.ERROR
    finally:
        engine.release(start.id)
        await _close(stage, info)
    record.unasked()
    record.wait_for("")
    return Trajectory(
        id=start.id,
        task_id=f"seed {start.seed}" if stage.task_id is None else stage.task_id,
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
        samples=record.samples,
        seed=start.seed,
        task=start.task,
        timing=Timing(
            record.waits["engine"],
            record.waits["environment"] - stage.judged_s,
            verifier_s=stage.judged_s,
        ),
    )


async def _play(
    stage: Stage,
    engine: Engine,
    codec: ChatCodec,
    start: Start,
    limits: RolloutConfig,
    temperature: float,
    record: _Record,
    info: dict[str, Any],
) -> tuple[Score, StopReason]:
    # What isinstance of the protocol would tell, which looks at all of its members for every episode.
    onlooker = cast(Onlooker, engine) if hasattr(engine, "look") else None
    opening = await stage.areset(start.seed, start.task, shown=onlooker is not None)
    schemas = opening.schemas
    sampler_seed = start.seed if start.sampler_seed is None else start.sampler_seed
    if onlooker is not None:
        onlooker.look(start.id, stage.played)
    record.messages.extend(opening.messages)
    record.given(codec.prompt(record.messages, schemas))
    while True:
        room, cut = _room(record.seen, limits, engine.context_length)
        if room < 1 and not record.turns:  # the model was never asked: that is no wrong answer
            info["kind"] = "prompt"
            return Score.ungraded(_too_long(record.seen, limits, engine.context_length)), cut
        if room < 1:
            return _unfinished(record, limits), cut
        sampling = Sampling(
            max_tokens=room,
            stop_ids=codec.stop_ids,
            temperature=temperature,
            seed=derive(sampler_seed, "turn", len(record.turns)),
        )
        record.wait_for("engine")
        sample = record.samples[-1]
        seen = record.ids[sample:] if sample else record.ids
        completion = checked(await engine.generate(seen, sampling, session=start.id), sampling)
        record.wait_for("environment")
        begin = len(record.ids)
        record.sampled(completion)
        text = codec.decode_reply(completion.ids)
        if (
            completion.finish is FinishReason.LENGTH
        ):  # not a reply yet: what it happens to end on is no answer
            record.turns.append(Turn(begin, len(record.ids), 0.0))
            record.messages.append({"role": "assistant", "content": text})
            return _unfinished(record, limits), cut
        answer = await stage.astep(text)
        record.turns.append(_turn(begin, len(record.ids), answer))
        record.messages.append(answer.reply)
        new = answer.messages
        if answer.score is not None:
            record.messages.extend(new)
            info.update(answer.judged)
            if not answer.score.graded:
                info["kind"] = _kind_of(answer.score)
                return answer.score, StopReason.ERROR
            return answer.score, StopReason.TERMINATED if answer.terminated else StopReason.TRUNCATED
        grows = codec.grows(record.messages, new, schemas)
        record.messages.extend(new)
        if len(record.turns) == limits.turns:
            return _unfinished(record, limits), StopReason.TURNS
        if grows:
            record.given(codec.delta(new))
        else:
            engine.release(start.id)
            record.anew(codec.prompt(record.messages, schemas))


def _room(seen: int, limits: RolloutConfig, context: int) -> tuple[int, StopReason]:
    """Return how many tokens the next reply may have, and which limit that is."""
    return min(
        (limits.turn_tokens, StopReason.TURN_TOKENS),
        (limits.episode_tokens - seen, StopReason.EPISODE_TOKENS),
        (context - seen, StopReason.CONTEXT),
        key=lambda limit: limit[0],
    )


def _too_long(seen: int, limits: RolloutConfig, context: int) -> str:
    if context <= limits.episode_tokens:
        return f"the prompt has {seen} tokens, the model's context is {context}: shorten it or leave the task out"
    return (
        f"the prompt has {seen} tokens, rollout.episode_tokens is {limits.episode_tokens}: "
        "raise it or leave the task out"
    )


def _turn(start: int, end: int, answer: Answered) -> Turn:
    return Turn(start, end, answer.reward, answer.tool_calls, answer.tool_errors, answer.parse_error)


def _unfinished(record: _Record, limits: RolloutConfig) -> Score:
    """Judge an episode that a limit cut: it is worth the rewards it has collected."""
    total = sum(turn.reward for turn in record.turns)
    if len(record.turns) == limits.turns:
        reason = f"cut after {limits.turns} turns"
    else:
        reason = f"cut by a token limit ({limits.turn_tokens} a turn, {limits.episode_tokens} an episode)"
    return Score(min(max(total, 0.0), 1.0), reason=reason)


def _failed(error: BaseException, record: _Record, info: dict[str, Any]) -> Score:
    """Book a failure of ours and return the score that says so."""
    if isinstance(error, StageError):
        info["traceback"], info["kind"] = error.trace, error.kind
        return Score.ungraded(error.reason)
    info["traceback"] = "".join(traceback.format_exception(error))
    if isinstance(error, EngineError):
        info["kind"] = error.kind
    else:
        named = isinstance(error, InfrastructureError)  # it says itself whose it is
        info["kind"] = "engine" if record.at == "engine" and not named else failure_kind(error)
    return Score.ungraded(f"{type(error).__name__}: {error}")


def _kind_of(score: Score) -> str:
    """Return what failed where the environment reports it: `infrastructure: KIND: reason`, else its verifier."""
    what, _, rest = score.reason.partition(": ")
    return rest.partition(":")[0] if what == "infrastructure" else "verifier"


async def _close(stage: Stage, info: dict[str, Any]) -> None:
    """Close an environment; a cancellation meanwhile waits until that is done."""
    closing = asyncio.ensure_future(stage.aclose())
    cancelled = None
    try:
        await asyncio.wait({closing}, timeout=CLOSE_S)
    except asyncio.CancelledError as error:
        cancelled = error
        await asyncio.wait({closing}, timeout=CLOSE_S)
    if not closing.done():
        closing.cancel()
        info["close"] = f"the environment did not close within {CLOSE_S:g} s"
    elif not closing.cancelled() and (failure := closing.exception()) is not None:
        info["close"] = f"the environment did not close: {type(failure).__name__}: {failure}"
    if cancelled is not None:
        raise cancelled
