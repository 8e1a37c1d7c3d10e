"""Supervised fine-tuning through TRL's `SFTTrainer`: the stage `quintain sft`, and the warm start of `quintain train`.

Batches come packed, with their tokens and labels, so nothing is rendered or tokenised again, and exactly the tokens
that a trajectory's mask marks are in the loss.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...envs import registry
from ...tools.errors import UserError
from ..attention import enable_packing, packed_rows
from ..chat import ChatCodec
from ..config import SftConfig
from ..forward import plain
from ..learner import NonFiniteError
from ..metrics import Event
from ..models import TINY, load_model, read_template
from ..optim import schedule
from ..packing import PackedBatch, pack
from ..prepare import demonstration_texts
from ..trajectory import Trajectory
from .chat_rows import Rows
from .demonstrations import choose_verified, fit_length, read_demonstrations, read_run
from .encode import converse, tokenizer_mark
from .fit import (
    Loop,
    Task,
    Trainee,
    fit,
    generators_kept,
    load_trainee,
    make_optimizer,
    make_trainer,
    our_metrics,
)
from .sampling import gold, sample_groups
from .sft_config import SftStageConfig
from .splits import split, strings_of
from .stage import StageRun
from .stage_config import OptimConfig

IGNORED = -100
"""The label of a token that is not in the loss."""


def labels(batch: PackedBatch) -> Tensor:
    """Return the labels of the rows: the sampled tokens, and `IGNORED` for all others. [R, T]"""
    labels_RT = torch.full_like(batch.ids_RT, IGNORED)
    labels_RT.view(-1)[batch.places_N + 1] = batch.targets_N
    return labels_RT


def sft_task(
    model: PreTrainedModel, rows: Sequence[Trajectory], held_out: Sequence[Trajectory] = (), loss: str = "nll"
) -> Task:
    """Return what `SFTTrainer` is to do with trajectories: packed, none sees another, the mask says what is learned."""
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer

    alone = not enable_packing(plain(model))
    everything = [*rows, *held_out]

    def collate(indices: Sequence[int]) -> dict[str, Any]:
        chosen = [everything[index] for index in indices]
        # A shared beginning would put two labels on one place.
        (batch,) = pack(chosen, budget=sys.maxsize, alone=alone, share=False)
        found: dict[str, Any] = {
            "input_ids": batch.ids_RT,
            "position_ids": batch.positions_RT,
            "labels": labels(batch),
        }
        if batch.segments:
            found["packed_segments"] = batch.segments
        return found

    return Task(
        SFTTrainer,
        TrlConfig,
        {
            "max_length": None,
            "packing": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "loss_type": loss,
        },
        rows=len(rows),
        held_out=len(held_out),
        collate=collate,
        around=contextlib.nullcontext if alone else packed_rows,
    )


def warm_start(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trajectories: Sequence[Trajectory],
    config: SftConfig,
    *,
    seed: int,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train `model` in place on the model's tokens of `trajectories` for `config.steps` steps.

    `on_step(step, metrics)` is called after each step. Raises `NonFiniteError` for a loss that is not finite,
    `UserError` if there is nothing to learn from.
    """
    from transformers import TrainerCallback

    played = [t for t in trajectories if t.turns]
    if not played:
        raise UserError("there are no demonstrations to learn from")
    tokens = sum(len(t.ids) for t in played)
    per_step = max(1, round(config.tokens_per_step * len(played) / tokens))

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Passes the metrics on and stops at a loss that is not finite."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            found = our_metrics(logs)
            if on_step is not None:
                shown = ("loss", "lr", "grad_norm", "token_accuracy")
                on_step(int(state.global_step), {name: found[name] for name in shown if name in found})
            if not np.isfinite(found["loss"]):
                raise NonFiniteError(f"the SFT loss is {found['loss']} in step {state.global_step}")

    optim = OptimConfig(
        optimizer=config.optimizer, lr=config.lr, muon_lr=config.muon_lr, weight_decay=config.weight_decay
    )
    task = sft_task(model, played)
    with tempfile.TemporaryDirectory(prefix="quintain-sft-") as scratch, generators_kept(), task.around():
        trainer = make_trainer(
            model,
            tokenizer,
            task,
            range(len(played)),
            Loop(Path(scratch), config.steps, per_step, seed=seed, shuffled=True),
            make_optimizer(model, optim),
            lambda step: schedule(step, config.steps, config.warmup_steps, config.lr_final),
        )
        trainer.add_callback(Watch())
        trainer.train()


def run_stage(run: StageRun[SftStageConfig]) -> None:
    """Fine-tune as the config says; see `stage.StageRun`. Raises `UserError` for rows that cannot be used."""
    config = run.config
    run.tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    trainee = load_trainee(config, _texts(config))
    rows = _rows(run, trainee)
    model = trainee.model
    learned, kept = split(rows.kept, lambda one: one.task_id, config.data.held_out, config.seed)
    counts = {
        "rows": len(learned), "rows_held_out": len(kept), "rows_left_out": len(rows.skipped),
        "tokens": sum(len(one.ids) for one in learned), "tokens_learned": sum(one.sampled_tokens for one in learned),
    }  # fmt: skip
    run.tell(Event("prepare", 0, 0, counts, message=rows.report() or f"{len(rows.kept)} rows"))
    if run.resumed is None:
        gold(run, config.eval, model, trainee.tokenizer, trainee.codec, 0, "before")
    fit(
        run,
        trainee,
        sft_task(model, learned, kept, config.sft.loss),
        config.optim,
        eval_every=config.data.eval_every,
    )
    gold(run, config.eval, model, trainee.tokenizer, trainee.codec, run.done, "after")


def _texts(config: SftStageConfig) -> Iterator[str]:
    """Yield what the embedded model's tokenizer learns from."""
    if config.model.path != TINY:
        return
    if config.data.path is not None:
        yield from strings_of(config.data.path)
    elif config.teacher is not None:
        env = registry.make(config.teacher.env.id, **config.teacher.env.kwargs)
        yield from demonstration_texts(env, config.seed)
        env.close()


def _rows(run: StageRun[SftStageConfig], trainee: Trainee) -> Rows[Trajectory]:
    config, codec = run.config, trainee.codec
    data = config.data
    if config.teacher is not None:
        rows = _taught(run, trainee)
    elif data.path is not None and (data.path / "config.toml").is_file():
        rows = choose_verified(
            read_run(data.path, codec, data.kind), min_score=data.min_score, per_task=data.per_task
        )
    else:
        assert data.path is not None
        rows = read_demonstrations(
            data.path, codec, form=data.form, learn=data.learn, on_bad=data.on_bad, what="data.path"
        )
        rows = choose_verified(rows, min_score=data.min_score, per_task=data.per_task)
    longest = trainee.longest(data.max_tokens)
    rows = fit_length(rows, longest, data.on_long, str(data.path or "teacher"))
    if not rows.kept:
        raise UserError(f"there is nothing to learn from: {rows.report() or 'no rows'}")
    return rows


def _taught(run: StageRun[SftStageConfig], trainee: Trainee) -> Rows[Trajectory]:
    """Return the verified episodes of the teacher, in the student's tokens."""
    config = run.config
    teacher = config.teacher
    assert teacher is not None
    model, tokenizer, codec = trainee.model, trainee.tokenizer, trainee.codec
    if teacher.model is not None:
        run.tell(Event("prepare", 0, 0, message=f"teacher {teacher.model.path}"))
        model, tokenizer = load_model(teacher.model, seed=config.seed)
        codec = ChatCodec(tokenizer, read_template(teacher.model))
    run.tell(Event("prepare", 0, 0, message=f"{teacher.tasks} x {teacher.samples} episodes of the teacher"))
    played, tools = sample_groups(
        run,
        teacher,
        model,
        tokenizer,
        codec,
        phase="teacher",
        step=0,
        groups=teacher.tasks,
        size=teacher.samples,
    )
    rows = choose_verified(
        Rows(played, list(range(1, len(played) + 1))), min_score=teacher.min_score, per_task=teacher.per_task
    )
    alike = (
        tokenizer_mark(tokenizer) == tokenizer_mark(trainee.tokenizer)
        and codec.template == trainee.codec.template
    )
    if alike and teacher.engine.kind != "openai":
        return rows
    # Another vocabulary or template: what was said is written in the student's own.
    numbers = iter(rows.numbers)
    return rows.refine(
        lambda one: converse(trainee.codec, list(one.messages), tools, next(numbers), one.task_id)
    )
