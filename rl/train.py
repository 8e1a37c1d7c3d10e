"""A training run, top to bottom: prepare, warm start, then sample, score, compare, learn, again and again.

This file is the order of things; each thing is a call to the room that does it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import credit
from .advantages import zero_variance_fraction
from .batch_metrics import batch_metrics, staleness, time_split
from .boards import recording
from .checkpoint import Checkpoint, checkpoints, load_weights, save_checkpoint
from .config import Config
from .credit_file import write_credit
from .engines.scripted import DemonstratorEngine
from .evaluate import evaluate, headline
from .guard import Guard
from .history import History
from .journal import clear, journal_of, write_trajectories
from .learner import NonFiniteError
from .metrics import Clock, Event, Watcher, peak_memory_mb
from .models import TINY
from .pipeline import Pipeline, shared_threads
from .prepare import Run, demonstrator, make_learner, open_workers, prepare
from .ranks import Launch, take_launch
from .rl_config import RlConfig
from .rollout import Start, UngradedError, raise_if_ungraded, rollout
from .seeds import derive
from .selfcheck import check_recorded, check_staleness, raise_if_mismatched, retokenized
from .stages.demonstrations import read_demonstrations
from .stages.sft import warm_start
from .task_stream import TaskStream, task_at

__all__ = ["UngradedError", "train"]


def train(
    config: Config, run_dir: Path, on_event: Watcher = lambda event: None, *, resume: bool = False
) -> None:
    """Run `config` in `run_dir`, telling `on_event` what happens.

    With `resume` the run goes on from its newest checkpoint; one without any starts over. Raises `UserError` for
    what the config asks for and cannot be had, `UngradedError` and `NonFiniteError` when the run must not go on;
    what was written until then stays.

    Under torchrun every rank calls this; those after the first only share the learner's work and write nothing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRACKIO_DISABLE_TELEMETRY", "1")
    threads = config.threads or shared_threads(config)
    if threads is not None:
        torch.set_num_threads(threads)
    launch = take_launch()
    if launch is not None:
        from . import many

        many.check(config)
        many.take_device(config, launch)
        if launch.rank > 0:
            many.follow_run(config, launch)
            return
    asyncio.run(_train(config, run_dir, on_event, resume=resume, launch=launch))


async def _train(
    config: Config, run_dir: Path, on_event: Watcher, *, resume: bool, launch: Launch | None
) -> None:
    found = checkpoints(run_dir) if resume else []
    last = found[-1] if found else None
    state = last.state() if last is not None else {}
    position = state.get("metrics_position", 0) if resume else None
    settings = config.model_dump(mode="json")
    with recording(config.run, settings, run_dir, on_event, position=position) as (log, tell):
        run = prepare(config, run_dir, log, tell)
        run.launch = launch
        try:
            run.workers = await open_workers(config)
            await _stages(run, last)
        finally:
            if run.workers is not None:
                await run.workers.aclose()
            await run.engine.close()
            run.env.close()
            run.held_out.close()


async def _stages(run: Run, last: Checkpoint | None) -> None:
    """Warm start, then RL, with evaluations in between; `last` is where a resumed run goes on."""
    config = run.config
    if last is not None:
        load_weights(last, run.model)
    elif config.sft is not None:
        if config.model.path != TINY:
            await _evaluate(run, 0, "before")
        await _warm_start(run)
    await run.engine.load(run.model, 0 if last is None else last.step)
    if last is None:
        await _evaluate(run, 0, "after SFT" if config.sft is not None else "before")
        if config.rl is None:
            _save(run, 0, {})
    if config.rl is not None:
        await _reinforce(run, config.rl, last)
    run.tell(Event("done", 0, 0, message=str(run.folder)))


async def _warm_start(run: Run) -> None:
    config = run.config
    assert config.sft is not None
    sft = config.sft
    run.tell(Event("sft", 0, sft.steps, message="demonstrations"))
    if sft.demonstrations == "demonstrator":
        starts = [
            Start(f"sft-{n}", n, derive(config.seed, "sft", n), task_at(run.env, config.seed, "sft", n))
            for n in range(sft.episodes)
        ]
        engine = DemonstratorEngine(demonstrator(run.env), run.codec)
        with journal_of(run.folder, "sft", 0) as journal:
            demonstrations = await rollout(
                run.env,
                engine,
                run.codec,
                starts,
                config.rollout,
                journal=journal,
                breaker=True,
                stage=run.stage(run.env),
            )
        raise_if_ungraded(demonstrations, config.rollout.max_ungraded)
    else:
        demonstrations = read_demonstrations(Path(sft.demonstrations), run.codec).kept[: sft.episodes]
    write_trajectories(run.folder, "sft", 0, demonstrations[:64])
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


async def _reinforce(run: Run, rl: RlConfig, last: Checkpoint | None) -> None:
    """Sample groups, compare, learn, evaluate, save: the loop of the whole project."""
    config = run.config
    learner = _learner(run, rl, last)
    tasks = TaskStream(run.env, rl, config.seed)
    state = None if last is None else last.state()
    if state is not None:
        learner.restore(state["learner"])
    history = History(run.folder, learner.steps)
    guard = Guard.of_run(config, run.folder, run.env, run.held_out, run.codec, learner.steps)
    async with Pipeline(run, rl, tasks, done=learner.steps, state=state) as pipeline:
        if last is None:
            _save(run, 0, {"learner": learner.state(), **pipeline.state()})
        for step in range(learner.steps + 1, rl.steps + 1):
            clock = Clock()
            sampled = await pipeline.episodes(step)
            clock.lap("wait_s")
            everything = sampled.everything
            saved = config.run.save_trajectories_every and step % config.run.save_trajectories_every == 0
            if saved:
                write_trajectories(run.folder, "rl", step, everything)
            raise_if_ungraded(everything, config.rollout.max_ungraded)

            kept = [t for t in sampled.batch if t.graded]
            for trajectory in kept:
                check_recorded(trajectory)
            check_staleness(kept, learner.steps, rl.staleness)
            measured = await pipeline.compute(learner.measure, kept)
            advantages = credit.assign(
                kept, rl, measured, kl_coef=learner.kl_coef, longest=config.rollout.episode_tokens
            )
            if saved:
                write_credit(run.folder, step, kept, advantages, measured)
            try:
                learned = await pipeline.compute(learner.update, kept, advantages, measured)
            except NonFiniteError:
                write_trajectories(run.folder, "nonfinite", step, sampled.batch)
                raise
            if learned.get("skipped_minibatches"):
                write_trajectories(run.folder, "nonfinite", step, sampled.batch)
            raise_if_mismatched(learned["sampler_mismatch"], config.rollout.max_mismatch)
            clock.lap("learn_s")
            await pipeline.trained(step, kept)
            clock.lap("sync_s")

            metrics = batch_metrics(everything) | learned | advantages.metrics | sampled.summary | clock.laps
            metrics |= {"rollout_s": sampled.seconds} | time_split(everything, sampled.seconds)
            if rl.staleness:
                metrics |= staleness(kept, step - 1)
            metrics["retokenized"] = retokenized(everything, run.codec)
            metrics["zero_variance"] = zero_variance_fraction(
                np.array([t.reward for t in everything]),
                np.array([t.group for t in everything]),
                np.array([t.graded for t in everything]),
            )
            metrics["tokens_per_s"] = metrics["sampled_tokens"] / max(sampled.seconds, 1e-9)
            metrics["memory_mb"] = peak_memory_mb()
            metrics |= await guard.look(step, kept, metrics, learner)
            alarms = history.add_step(metrics)
            run.tell(Event("rl", step, rl.steps, metrics | {"alarms": float(len(alarms))}, "; ".join(alarms)))

            ends = step == rl.steps
            evaluates = ends or (config.eval.every > 0 and step % config.eval.every == 0)
            stopped = metrics.get("guard/stop", 0.0) > 0
            saves = ends or stopped or step % config.run.checkpoint_every == 0
            if not (evaluates or saves):
                continue
            await pipeline.settle()
            success = await _evaluate(run, step, "after" if ends else "during") if evaluates else None
            best = success is not None and history.add_evaluation(step, success)
            done = rl.stop_at is not None and success is not None and success >= rl.stop_at
            done = done or stopped
            if done or best or saves:
                state = {"learner": learner.state(), **pipeline.state()}
                _save(run, step, state, best=success if best else None, sampled=pipeline.sampled)
            if done:
                break
    if run.launch is not None:
        learner.close()


def _learner(run: Run, rl: RlConfig, last: Checkpoint | None) -> Any:
    """Return the learner of this process, or what leads that of all ranks: the loop uses them alike."""
    if run.launch is None:
        return make_learner(run.config, rl, run.model, teacher=run.teacher)
    from . import many

    checkpoint = None if last is None else last.path
    leader = many.lead(run.config, rl, run.model, run.launch, checkpoint, teacher=run.teacher)
    run.save_shards = leader.save
    return leader


async def _evaluate(run: Run, step: int, label: str) -> float:
    """Evaluate on the held-out problems and return the success that the run is judged by."""
    config = run.config
    total = config.eval.problems
    run.tell(Event("eval", step, total, message=label))
    phase = f"eval-{label.replace(' ', '-')}"
    with journal_of(run.folder, phase, step) as journal:
        metrics, played = await evaluate(
            run.held_out,
            run.engine,
            run.codec,
            config.eval,
            config.rollout,
            seed=config.seed,
            label=f"eval-{step}",
            journal=journal,
            stage=run.stage(run.held_out),
        )
    write_trajectories(run.folder, phase, step, played)
    raise_if_ungraded(played, config.rollout.max_ungraded)
    run.tell(Event("eval", step, total, metrics, message=label))
    success = headline(metrics)
    assert success is not None
    return success


def _save(
    run: Run,
    step: int,
    state: Mapping[str, object],
    *,
    best: float | None = None,
    sampled: int | None = None,
) -> None:
    """Write a checkpoint, and clear the journals of what it holds: the episodes up to those of step `sampled`."""
    save_checkpoint(
        run.folder,
        step,
        run.model,
        run.tokenizer,
        run.codec.template,
        {**state, "metrics_position": run.log.position},
        keep=run.config.run.keep_checkpoints,
        best=best if run.config.run.keep_best else None,
        shards=run.save_shards,
    )
    clear(run.folder, later=sampled)
