"""Episodes that a stage plays: the gold score before and after, demonstrations of a teacher, groups for pairs."""

from __future__ import annotations

import asyncio
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...envs import registry
from ...tools.errors import UserError
from ..chat import ChatCodec
from ..engines import make_engine
from ..evaluate import evaluate
from ..journal import TRAJECTORIES, journal_of, read, write_trajectories
from ..metrics import Event
from ..rewarded import reward_of
from ..rollout import Start, raise_if_ungraded, rollout
from ..seeds import derive
from ..task_stream import task_at
from ..trajectory import Trajectory
from .sampling_config import PlayConfig, StageEvalConfig
from .stage import StageRun


def check_env(config: PlayConfig, model: PreTrainedModel) -> None:
    """Refuse an environment that is not there, and episodes longer than the model sees, with `UserError`."""
    from ...tools.errors import nearest

    known = registry.list_envs()
    if config.env.id not in known:
        raise UserError(f"env.id: there is no environment {config.env.id!r}; {nearest(config.env.id, known)}")
    context = int(model.config.get_text_config().max_position_embeddings)
    if config.rollout.episode_tokens > context:
        raise UserError(
            f"rollout.episode_tokens is {config.rollout.episode_tokens}, but the model sees {context} tokens at most"
        )


def gold(
    run: StageRun[Any],
    config: StageEvalConfig | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    codec: ChatCodec,
    step: int,
    label: str,
) -> dict[str, float]:
    """Play the held-out problems with the model as it is, tell the result as `eval`, and return its metrics.

    Without a config nothing is played. Raises `UngradedError` where too many episodes could not be graded.
    """
    if config is None:
        return {}
    check_env(config, model)

    async def play() -> tuple[dict[str, float], list[Trajectory]]:
        env = registry.make(config.env.id, **config.env.held_out_kwargs)
        engine = make_engine(config.engine, model, tokenizer, seed=run.config.seed)
        try:
            await engine.load(model, step)
            with journal_of(run.folder, f"eval-{label}", step) as journal:
                return await evaluate(
                    env, engine, codec, config.eval, config.rollout, seed=run.config.seed, label=f"eval-{step}",
                    journal=journal,
                )  # fmt: skip
        finally:
            await engine.close()
            env.close()

    run.tell(Event("eval", step, config.eval.problems, message=label))
    training = model.training
    model.eval()
    metrics, played = asyncio.run(play())
    model.train(training)
    write_trajectories(run.folder, f"eval-{label}", step, played)
    raise_if_ungraded(played, config.rollout.max_ungraded)
    run.tell(Event("eval", step, config.eval.problems, metrics, message=label))
    return metrics


def sample_groups(
    run: StageRun[Any],
    config: PlayConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    codec: ChatCodec,
    *,
    phase: str,
    step: int,
    groups: int,
    size: int,
    first: int = 0,
) -> tuple[list[Trajectory], tuple[dict[str, Any], ...]]:
    """Return `size` episodes of each of `groups` tasks, and the schemas of the tools that their prompts show.

    They are in `trajectories/PHASE-STEP.jsonl` when this returns, and read from there by a run that goes on; a run
    that was killed in between goes on with its journal. `first` is the place in the stream of tasks where these
    groups begin. Raises `UngradedError` where too many could not be graded.
    """
    check_env(config, model)
    env = registry.make(config.env.id, **config.env.kwargs)
    if config.env.verifier is not None:
        env.verifier = reward_of(env, config.env.verifier)
    tools = tuple(env.schemas)
    path = run.folder / TRAJECTORIES / f"{phase}-{step:06d}.jsonl"
    try:
        if path.is_file():
            return list(read(path)), tools
        seed = run.config.seed
        starts = [
            Start(
                id=f"{phase}-{step}-{group}-{member}",
                group=group,
                seed=derive(seed, phase, group),
                task=task_at(env, seed, phase, group),
                sampler_seed=derive(seed, phase, step, group, member),
            )
            for group in range(first, first + groups)
            for member in range(size)
        ]

        async def play() -> list[Trajectory]:
            engine = make_engine(config.engine, model, tokenizer, seed=seed)
            try:
                await engine.load(model, step)
                with journal_of(run.folder, phase, step) as journal:
                    return await rollout(
                        env, engine, codec, starts, config.rollout, temperature=config.rollout.temperature,
                        journal=journal, breaker=True,
                    )  # fmt: skip
            finally:
                await engine.close()

        training = model.training
        model.eval()
        played = asyncio.run(play())
        model.train(training)
        raise_if_ungraded(played, config.rollout.max_ungraded)
        write_trajectories(run.folder, phase, step, played)
        return played, tools
    finally:
        env.close()
