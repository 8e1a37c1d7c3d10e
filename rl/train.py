"""A training run, top to bottom: prepare, warm start, then sample, score, compare, learn, again and again.

This file is the order of things; each thing is a call to the room that does it.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import credit
from .advantages import zero_variance_fraction
from .batch_metrics import batch_metrics, time_split
from .boards import recording
from .checkpoint import Checkpoint, checkpoints, load_weights, save_checkpoint
from .config import Config
from .engines.scripted import DemonstratorEngine
from .evaluate import evaluate, headline
from .guard import Guard
from .history import History
from .journal import Journal, clear, journal_of
from .learner import NonFiniteError
from .metrics import Clock, Event, Watcher, peak_memory_mb
from .models import TINY
from .prepare import Run, demonstrator, make_learner, prepare
from .ranks import Launch, take_launch
from .rewarded import set_step
from .rl_config import RlConfig
from .rollout import Start, UngradedError, raise_if_ungraded, rollout
from .seeds import derive
from .selfcheck import DeliveryCheck, check_recorded, raise_if_mismatched, retokenized
from .sft import read_demonstrations, warm_start
from .task_stream import TaskStream, task_at
from .trajectory import Trajectory

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
    if config.threads is not None:
        torch.set_num_threads(config.threads)
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
            await _stages(run, last)
        finally:
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
                run.env, engine, run.codec, starts, config.rollout, journal=journal, breaker=True
            )
        raise_if_ungraded(demonstrations, config.rollout.max_ungraded)
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


async def _reinforce(run: Run, rl: RlConfig, last: Checkpoint | None) -> None:
    """Sample groups, compare, learn, evaluate, save: the loop of the whole project."""
    config = run.config
    learner = _learner(run, rl, last)
    delivery = DeliveryCheck(run.engine, run.model, config.rollout.temperature)
    tasks = TaskStream(run.env, rl, config.seed)
    begun = learner.steps if last is None else last.step
    history = History(run.folder, begun)
    guard = Guard.of_run(config, run.folder, run.env, run.held_out, run.codec, begun)
    if last is None:
        _save(run, 0, {"learner": learner.state(), "tasks": tasks.state()})
    else:
        learner.restore(last.state()["learner"])
        tasks.restore(last.state()["tasks"])
    for step in range(learner.steps + 1, rl.steps + 1):
        clock = Clock()
        set_step(run.env, step)
        batch, sampled = await _sample(run, rl, tasks, step)
        clock.lap("rollout_s")
        if config.run.save_trajectories_every and step % config.run.save_trajectories_every == 0:
            _write_trajectories(run.folder, "rl", step, sampled)
        raise_if_ungraded(sampled, config.rollout.max_ungraded)

        kept = [t for t in batch if t.graded]
        for trajectory in kept:
            check_recorded(trajectory)
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
        raise_if_mismatched(learned["sampler_mismatch"], config.rollout.max_mismatch)
        clock.lap("learn_s")
        await run.engine.load(run.model, step)
        await delivery.after_load(kept)
        clock.lap("sync_s")

        metrics = batch_metrics(sampled) | learned | advantages.metrics | tasks.summary() | clock.laps
        metrics["retokenized"] = retokenized(sampled, run.codec)
        metrics["zero_variance"] = zero_variance_fraction(
            np.array([t.reward for t in sampled]),
            np.array([t.group for t in sampled]),
            np.array([t.graded for t in sampled]),
        )
        metrics |= time_split(sampled, clock.laps["rollout_s"])
        metrics["tokens_per_s"] = metrics["sampled_tokens"] / max(clock.laps["rollout_s"], 1e-9)
        metrics["memory_mb"] = peak_memory_mb()
        metrics |= await guard.look(step, kept, metrics, learner)
        alarms = history.add_step(metrics)
        run.tell(Event("rl", step, rl.steps, metrics | {"alarms": float(len(alarms))}, "; ".join(alarms)))

        success = None
        if step == rl.steps or (config.eval.every and step % config.eval.every == 0):
            success = await _evaluate(run, step, "after" if step == rl.steps else "during")
        best = success is not None and history.add_evaluation(step, success)
        done = rl.stop_at is not None and success is not None and success >= rl.stop_at
        done = done or metrics.get("guard/stop", 0.0) > 0
        if done or best or step == rl.steps or step % config.run.checkpoint_every == 0:
            state = {"learner": learner.state(), "tasks": tasks.state()}
            _save(run, step, state, best=success if best else None)
        if done:
            break
    if run.launch is not None:
        learner.close()


def _learner(run: Run, rl: RlConfig, last: Checkpoint | None) -> Any:
    """Return the learner of this process, or what leads that of all ranks: the loop uses them alike."""
    if run.launch is None:
        return make_learner(run.config, rl, run.model)
    from . import many

    leader = many.lead(run.config, rl, run.model, run.launch, None if last is None else last.path)
    run.save_shards = leader.save
    return leader


async def _sample(
    run: Run, rl: RlConfig, tasks: TaskStream, step: int
) -> tuple[list[Trajectory], list[Trajectory]]:
    """Play the groups of a step. Return the episodes to learn from, and all that were played.

    With `resample_rounds`, groups in which all rewards agree are replaced by groups of other tasks (dynamic
    sampling; DAPO, arXiv 2503.14476, section 3.2); with `rollout.oversample`, groups to replace them with are played
    at the same time. Every group up to the last one that is needed, in the order of the draw, is played to its end
    before any is chosen, so quick episodes are not preferred. A step in which no group at all says anything keeps
    them.
    """
    extra = math.ceil(rl.groups * run.config.rollout.oversample)
    with journal_of(run.folder, "rl", step) as journal:
        everything = await _play_groups(run, rl, tasks, step, journal, first=0, count=rl.groups, extra=extra)
        for _ in range(rl.resample_rounds):
            missing = rl.groups - len(_informative(everything))
            if missing <= 0:
                break
            first = max(t.group for t in everything) + 1
            everything += await _play_groups(run, rl, tasks, step, journal, first=first, count=missing)
    if not rl.resample_rounds and not extra:
        return everything, everything
    chosen = set(_informative(everything)[: rl.groups])
    return ([t for t in everything if t.group in chosen] if chosen else everything), everything


async def _play_groups(
    run: Run,
    rl: RlConfig,
    tasks: TaskStream,
    step: int,
    journal: Journal,
    *,
    first: int,
    count: int,
    extra: int = 0,
) -> list[Trajectory]:
    config = run.config
    indices = tasks.next(step, first, count)
    if extra:
        indices += tasks.next(step, first + count, extra)
    starts = [
        Start(
            id=f"rl-{step}-{group}-{member}",
            group=group,
            seed=derive(config.seed, "rl", step, group),
            task=task,
            sampler_seed=derive(config.seed, "rl", step, group, member),
        )
        for group, task in enumerate(indices, first)
        for member in range(rl.group_size)
    ]
    finished = 0

    def on_finish(trajectory: Trajectory) -> None:
        nonlocal finished
        finished += 1
        run.tell(Event("rl", step - 1, rl.steps, message=f"rollout {finished}/{len(starts)}"))

    batch = await rollout(
        run.env,
        run.engine,
        run.codec,
        starts,
        config.rollout,
        temperature=config.rollout.temperature,
        on_finish=on_finish,
        journal=journal,
        breaker=True,
        enough=(lambda done: len(_informative(done)) >= rl.groups) if extra else None,
    )
    played = {t.group for t in batch}
    tasks.learn({group: task for group, task in enumerate(indices, first) if group in played}, batch)
    return batch


def _informative(batch: Sequence[Trajectory]) -> list[int]:
    """Return the groups whose graded episodes differ in reward, in order."""
    rewards: dict[int, set[float]] = {}
    for trajectory in batch:
        rewards.setdefault(trajectory.group, set())
        if trajectory.graded:
            rewards[trajectory.group].add(trajectory.reward)
    return [group for group, found in rewards.items() if len(found) > 1]


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
        )
    _write_trajectories(run.folder, phase, step, played)
    raise_if_ungraded(played, config.rollout.max_ungraded)
    run.tell(Event("eval", step, total, metrics, message=label))
    success = headline(metrics)
    assert success is not None
    return success


def _write_trajectories(folder: Path, phase: str, step: int, batch: Sequence[Trajectory]) -> None:
    """Write trajectories to a file of their own, whole or not at all."""
    target = folder / "trajectories" / f"{phase}-{step:06d}.jsonl"
    target.parent.mkdir(exist_ok=True)
    work = target.with_suffix(".part")
    with work.open("w", encoding="utf-8") as file:
        for trajectory in batch:
            file.write(trajectory.to_json() + "\n")
    work.replace(target)


def _save(run: Run, step: int, state: Mapping[str, object], best: float | None = None) -> None:
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
    clear(run.folder)
