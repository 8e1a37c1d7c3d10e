"""A training run, top to bottom: prepare, warm start, then sample, score, compare, learn, again and again.

This file is the order of things; each thing is a call to the room that does it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..envs import registry
from ..envs.base import TextEnv
from ..tools.chat import Message
from ..tools.errors import UserError
from . import credit
from .advantages import zero_variance_fraction
from .chat import ChatCodec
from .checkpoint import Checkpoint, checkpoints, load_weights, save_checkpoint
from .config import Config
from .engines import make_engine
from .engines.base import Engine
from .evaluate import evaluate
from .learner import Learner, NonFiniteError
from .metrics import Event, MetricsLog
from .models import TINY, load_model, read_template
from .rl_config import RlConfig
from .rollout import Demonstrator, EnginePolicy, ScriptedPolicy, Start, rollout
from .seeds import derive, generator
from .sft import read_demonstrations, warm_start
from .trajectory import Trajectory

CORPUS_EPISODES = 400
"""Demonstrations whose text the embedded model's tokenizer is trained on."""

Watcher = Callable[[Event], None]


class UngradedError(RuntimeError):
    """More episodes of a step could not be graded than `rollout.max_ungraded` allows."""


def train(
    config: Config, run_dir: Path, on_event: Watcher = lambda event: None, *, resume: bool = False
) -> None:
    """Run `config` in `run_dir`, telling `on_event` what happens.

    With `resume` the run goes on from its newest checkpoint; one without any starts over. Raises `UserError` for
    what the config asks for and cannot be had, `UngradedError` and `NonFiniteError` when the run must not go on;
    what was written until then stays.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRACKIO_DISABLE_TELEMETRY", "1")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    asyncio.run(_train(config, run_dir, on_event, resume=resume))


async def _train(config: Config, run_dir: Path, on_event: Watcher, *, resume: bool) -> None:
    found = checkpoints(run_dir) if resume else []
    last = found[-1] if found else None
    state = last.state() if last is not None else {}
    board = run_dir / "tensorboard" if config.run.tensorboard else None
    position = state.get("metrics_position", 0) if resume else None
    with MetricsLog(run_dir / "metrics.jsonl", position=position, tensorboard=board) as log:

        def tell(event: Event) -> None:
            log.write(event)
            on_event(event)

        run = _prepare(config, run_dir, log, tell)
        try:
            await _stages(run, last)
        finally:
            await run.engine.close()
            run.env.close()
            run.held_out.close()


@dataclass(slots=True)
class _Run:
    """What the stages of a run share."""

    config: Config
    folder: Path
    log: MetricsLog
    tell: Watcher
    env: TextEnv
    held_out: TextEnv
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: ChatCodec
    engine: Engine


def _prepare(config: Config, folder: Path, log: MetricsLog, tell: Watcher) -> _Run:
    env = registry.make(config.env.id, **config.env.kwargs)
    held_out = registry.make(config.env.id, **config.env.held_out_kwargs)
    if config.rl is None and config.sft is None:
        raise UserError("the config has neither an [sft] nor an [rl] section, so there is nothing to train")
    tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    model, tokenizer = load_model(config.model, seed=config.seed, texts=_corpus(config, env))
    codec = ChatCodec(tokenizer, read_template(config.model))
    context = int(model.config.get_text_config().max_position_embeddings)
    if config.rollout.episode_tokens > context:
        raise UserError(
            f"rollout.episode_tokens is {config.rollout.episode_tokens}, but the model sees {context} tokens at most"
        )
    tell(Event("prepare", 0, 0, message=f"engine {config.engine.kind}"))
    engine = make_engine(config.engine, model, tokenizer, seed=config.seed)
    return _Run(config, folder, log, tell, env, held_out, model, tokenizer, codec, engine)


def _corpus(config: Config, env: TextEnv) -> Iterator[str]:
    """Yield the text that the embedded model's tokenizer learns from: everything said in demonstrations."""
    if config.model.path != TINY:
        return
    write = _demonstrator(env)
    yield '{"name": "f", "arguments": {}}\n<|im_start|>system\ntool f(x)\nuser\nassistant\ntool\n'
    for number in range(CORPUS_EPISODES):
        episode, rng = env.fresh(), generator(config.seed, "corpus", number)
        _, info = episode.reset(seed=derive(config.seed, "corpus", number) % 2**32)
        said: list[Message] = list(info["messages"])
        over = False
        while not over:
            yield from (message["content"] for message in said)
            assert episode.task is not None
            reply = write(episode.task, episode.messages, rng)
            yield reply
            _, _, terminated, truncated, info = episode.step(reply)
            said, over = info["messages"], terminated or truncated


def _demonstrator(env: TextEnv) -> Demonstrator:
    write = env.demonstrator or env.oracle
    if write is None:
        raise UserError(
            f"{type(env).__name__} has no demonstrator, which sft.demonstrations = 'demonstrator' and the embedded "
            "model need: name a JSONL file of demonstrations, or train a model that can speak already"
        )
    return write


async def _stages(run: _Run, last: Checkpoint | None) -> None:
    """Warm start, then RL, with evaluations in between; `last` is where a resumed run goes on."""
    config = run.config
    if last is not None:
        load_weights(last, run.model)
    elif config.sft is not None:
        if config.model.path != TINY:
            await _evaluate(run, 0, "before")
        await _warm_start(run)
    await run.engine.load(run.model, 0)
    if last is None:
        await _evaluate(run, 0, "after SFT" if config.sft is not None else "before")
        if config.rl is None:
            _save(run, 0, {})
    if config.rl is not None:
        await _reinforce(run, config.rl, last)
    run.tell(Event("done", 0, 0, message=str(run.folder)))


async def _warm_start(run: _Run) -> None:
    config = run.config
    assert config.sft is not None
    sft = config.sft
    run.tell(Event("sft", 0, sft.steps, message="demonstrations"))
    if sft.demonstrations == "demonstrator":
        starts = [
            Start(f"sft-{n}", n, derive(config.seed, "sft", n), _task(run.env, config.seed, "sft", n))
            for n in range(sft.episodes)
        ]
        policy = ScriptedPolicy(_demonstrator(run.env), run.codec)
        demonstrations = await rollout(run.env, policy, run.codec, starts, config.rollout)
        _raise_if_ungraded(demonstrations, config.rollout.max_ungraded)
    else:
        demonstrations = read_demonstrations(Path(sft.demonstrations), run.codec)[: sft.episodes]
    _write_trajectories(run.folder, "sft", 0, demonstrations[:64])
    began = time.monotonic()

    def on_step(step: int, metrics: dict[str, float]) -> None:
        speed = step * sft.tokens_per_step / max(time.monotonic() - began, 1e-9)
        run.tell(Event("sft", step, sft.steps, {**metrics, "tokens_per_s": speed}))

    warm_start(
        run.model,
        run.tokenizer,
        demonstrations,
        sft,
        seed=derive(config.seed, "sft trainer"),
        on_step=on_step,
    )


async def _reinforce(run: _Run, rl: RlConfig, last: Checkpoint | None) -> None:
    """Sample groups, compare, learn, evaluate, save: the loop of the whole project."""
    config = run.config
    learner = Learner(
        run.model,
        rl,
        temperature=config.rollout.temperature,
        generator=generator(config.seed, "minibatches"),
        longest=config.rollout.episode_tokens,
    )
    if last is None:
        _save(run, 0, learner.state())
    else:
        learner.restore(last.state()["learner"])
    for step in range(learner.steps + 1, rl.steps + 1):
        clock = time.monotonic()
        starts = [
            Start(
                id=f"rl-{step}-{group}-{member}",
                group=group,
                seed=derive(config.seed, "rl", step, group, member),
                task=_task(run.env, config.seed, "rl", (step - 1) * rl.groups + group),
            )
            for group in range(rl.groups)
            for member in range(rl.group_size)
        ]
        finished = 0

        def on_finish(trajectory: Trajectory, step: int = step, total: int = len(starts)) -> None:
            nonlocal finished
            finished += 1
            run.tell(Event("rl", step - 1, rl.steps, message=f"rollout {finished}/{total}"))

        batch = await rollout(
            run.env,
            EnginePolicy(run.engine),
            run.codec,
            starts,
            config.rollout,
            temperature=config.rollout.temperature,
            on_finish=on_finish,
        )
        rollout_s = time.monotonic() - clock
        if config.run.save_trajectories_every and step % config.run.save_trajectories_every == 0:
            _write_trajectories(run.folder, "rl", step, batch)
        _raise_if_ungraded(batch, config.rollout.max_ungraded)

        rewards_N = np.array([t.reward for t in batch])
        groups_N = np.array([t.group for t in batch])
        graded_N = np.array([t.graded for t in batch])

        clock = time.monotonic()
        kept = [t for t in batch if t.graded]
        measured = learner.measure(kept)
        advantages = credit.assign(
            kept, rl, measured, kl_coef=learner.kl_coef, longest=config.rollout.episode_tokens
        )
        try:
            learned = learner.update(kept, advantages, measured)
        except NonFiniteError:
            _write_trajectories(run.folder, "nonfinite", step, batch)
            raise
        if learned.get("skipped_minibatches"):
            _write_trajectories(run.folder, "nonfinite", step, batch)
        await run.engine.load(run.model, step)
        learn_s = time.monotonic() - clock

        metrics = batch_metrics(batch)
        metrics.update(learned)
        metrics.update(advantages.metrics)
        metrics["zero_variance"] = zero_variance_fraction(rewards_N, groups_N, graded_N)
        metrics["tokens_per_s"] = metrics["sampled_tokens"] / max(rollout_s, 1e-9)
        metrics.update(rollout_s=rollout_s, learn_s=learn_s)
        run.tell(Event("rl", step, rl.steps, metrics))

        success = None
        if step == rl.steps or (config.eval.every and step % config.eval.every == 0):
            success = await _evaluate(run, step, "after" if step == rl.steps else "during")
        done = rl.stop_at is not None and success is not None and success >= rl.stop_at
        if done or step == rl.steps or step % config.run.checkpoint_every == 0:
            _save(run, step, learner.state())
        if done:
            break


def batch_metrics(batch: Sequence[Trajectory]) -> dict[str, float]:
    """Return what a step's episodes say by themselves; ungraded ones count in `ungraded` alone."""
    graded = [t for t in batch if t.graded]
    turns = [turn for t in graded for turn in t.turns]
    tokens = sum(t.sampled_tokens for t in graded)
    logp = sum(sum(t.logprobs) for t in graded)
    calls = sum(turn.tool_calls for turn in turns)
    return {
        "reward": _mean([t.reward for t in graded]),
        "success": _mean([t.success for t in graded]),
        # The mean surprise of what was sampled: an unbiased estimate of the policy's entropy a token.
        "entropy": -logp / max(tokens, 1),
        "sampled_tokens": float(tokens),
        "turns": _mean([len(t.turns) for t in graded]),
        "reply_tokens": tokens / max(len(turns), 1),
        "truncated": _mean([t.stop != "terminated" for t in graded]),
        "parse_errors": _mean([turn.parse_error for turn in turns]),
        "tool_errors": sum(turn.tool_errors for turn in turns) / max(calls, 1),
        "ungraded": _mean([not t.graded for t in batch]),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _task(env: TextEnv, seed: int, stream: str, number: int) -> int | None:
    """Return the index of the `number`-th task of a stream: an endless set by hash, a finite one by epochs."""
    if env.tasks is None:
        return None
    size = env.tasks.size
    if size is None:
        return derive(seed, stream, number) % env.tasks.span
    epoch, place = divmod(number, size)
    return int(generator(seed, stream, "epoch", epoch).permutation(size)[place])


async def _evaluate(run: _Run, step: int, label: str) -> float:
    """Evaluate on the held-out problems and return the success that the run is judged by."""
    config = run.config
    total = config.eval.problems
    run.tell(Event("eval", step, total, message=label))
    metrics, played = await evaluate(
        run.held_out,
        run.engine,
        run.codec,
        config.eval,
        config.rollout,
        seed=config.seed,
        label=f"eval-{step}",
    )
    _write_trajectories(run.folder, f"eval-{label.replace(' ', '-')}", step, played)
    _raise_if_ungraded(played, config.rollout.max_ungraded)
    run.tell(Event("eval", step, total, metrics, message=label))
    return metrics["success_greedy"] if config.eval.greedy else metrics["success_sampled"]


def _raise_if_ungraded(batch: Sequence[Trajectory], limit: float) -> None:
    """Stop a run whose episodes cannot be graded: what is left would be a biased sample."""
    ungraded = [t for t in batch if not t.graded]
    if len(ungraded) > limit * len(batch):
        first = ungraded[0]
        raise UngradedError(
            f"{len(ungraded)} of {len(batch)} episodes could not be graded (rollout.max_ungraded = {limit}). "
            f"The first, {first.id}: {first.score.reason}\n{first.info.get('traceback', '')}".rstrip()
        )


def _write_trajectories(folder: Path, phase: str, step: int, batch: Sequence[Trajectory]) -> None:
    """Write trajectories to a file of their own, whole or not at all."""
    target = folder / "trajectories" / f"{phase}-{step:06d}.jsonl"
    target.parent.mkdir(exist_ok=True)
    work = target.with_suffix(".part")
    with work.open("w", encoding="utf-8") as file:
        for trajectory in batch:
            file.write(trajectory.to_json() + "\n")
    work.replace(target)


def _save(run: _Run, step: int, learner: dict[str, object]) -> None:
    save_checkpoint(
        run.folder,
        step,
        run.model,
        run.tokenizer,
        run.codec.template,
        {"learner": learner, "metrics_position": run.log.position},
        keep=run.config.run.keep_checkpoints,
    )
