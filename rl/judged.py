"""Another verdict on episodes that were just played: by a second verifier, a reward model, a gold that is held out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..envs.base import TextEnv
from ..tools.chat import Reply
from ..verifiers.base import Episode, Score, Task, Verifier
from .chat import ChatCodec
from .rescore import judgeable
from .trajectory import Trajectory


def episode_of(env: TextEnv, codec: ChatCodec, trajectory: Trajectory) -> Episode:
    """Return the episode as the environment's verifier saw it.

    Without a task set the task is the first user message, and its answer is not known.
    """
    if env.tasks is not None and trajectory.task is not None:
        task = env.tasks[trajectory.task]
    else:
        asked = next((m["content"] for m in trajectory.messages if m["role"] == "user"), "")
        task = Task(trajectory.task_id, asked)
    if "judged" in trajectory.info:
        reply = Reply(str(trajectory.info["judged"]))
    else:
        turn = trajectory.turns[-1]
        text = codec.decode_reply(list(trajectory.ids[turn.start : turn.end]))
        reply = env.format.parse(text, 0, env.tools)
    return Episode(task, reply, tuple(trajectory.messages), trajectory.info.get("evidence", {}))


async def judge_all(
    env: TextEnv,
    codec: ChatCodec,
    verifier: Verifier,
    trajectories: Sequence[Trajectory],
    *,
    at_once: int = 64,
) -> list[Score]:
    """Return what `verifier` says about each episode, in their order.

    An episode that a limit has cut, or that broke, was judged by no verifier: its own score stands. Evidence that
    was too large to be kept makes the verdict ungraded.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(trajectory: Trajectory) -> Score:
        if not judgeable(trajectory):
            return trajectory.score
        if "no_evidence" in trajectory.info:
            return Score.ungraded(f"the evidence was not kept: {trajectory.info['no_evidence']}")
        async with gate:
            return await verifier.acall(episode_of(env, codec, trajectory))

    return await asyncio.gather(*(one(t) for t in trajectories))
