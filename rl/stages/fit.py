"""TRL's trainers under our frame: our rows and masks go in, our metrics and checkpoints come out, a kill costs nothing.

The order of the rows is drawn before anything is trained, from the run's seed, so a run that goes on sees exactly the
rows that it would have seen. Optimiser, schedule, checkpoints and random states are ours; the loss is TRL's.
"""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...tools.errors import UserError
from ..chat import ChatCodec
from ..checkpoint import load_weights, save_checkpoint
from ..learner import NonFiniteError
from ..masters import Masters
from ..metrics import Event, peak_memory_mb
from ..models import load_model, read_template
from ..optim import Mastered, MuonAdamW, schedule
from ..seeds import derive, generator
from .stage import StageRun
from .stage_config import OptimConfig, StageConfig

RENAMED = {"learning_rate": "lr", "mean_token_accuracy": "token_accuracy"}
"""Metrics of TRL under our names; others keep theirs."""
LEFT_OUT = {"epoch", "model_preparation_time", "num_tokens", "total_flos", "train_loss", "step"}
RUNTIME = ("runtime", "per_second")


@dataclass(frozen=True, slots=True)
class Trainee:
    """What is trained, and what a checkpoint of it holds beside."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: ChatCodec

    @property
    def chat_template(self) -> str:
        """Saved with every checkpoint."""
        return self.codec.template

    def longest(self, asked: int | None) -> int:
        """Return the most tokens of a row: what was asked for, or the model's context.

        Raises `UserError` if that is more than the model sees.
        """
        context = int(self.model.config.get_text_config().max_position_embeddings)
        if asked is not None and asked > context:
            raise UserError(f"data.max_tokens is {asked}, but the model sees {context} tokens at most")
        return asked or context


def load_trainee(config: StageConfig, texts: Iterable[str] = ()) -> Trainee:
    """Return the model that the stage starts from. `texts` are what the embedded model's tokenizer learns from.

    Raises `UserError` for a model that cannot be had.
    """
    model, tokenizer = load_model(config.model, seed=config.seed, texts=texts)
    return Trainee(model, tokenizer, ChatCodec(tokenizer, read_template(config.model)))


@dataclass(frozen=True, slots=True)
class Task:
    """What a trainer of TRL is to do."""

    trainer: type[Any]
    """Such as `trl.DPOTrainer`."""
    config: type[Any]
    """Its config, such as `trl.DPOConfig`."""
    options: Mapping[str, Any]
    """Options of that config beside the common ones."""
    rows: int
    """Rows to train on; their indices are 0 to rows - 1."""
    held_out: int
    """Rows to evaluate on; their indices follow."""
    collate: Callable[[Sequence[int]], dict[str, Any]]
    """Makes the trainer's batch of the rows with these indices."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of the trainer."""
    prepared: Callable[[Any], None] = lambda trainer: None
    """Called with the trainer before its first step, while the weights are still those of the start."""
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    """What the training runs inside of."""


def plan(rows: int, optim: OptimConfig, seed: int) -> list[int]:
    """Return the indices of the rows in the order they are learned: whole steps, every epoch in an order of its own.

    Raises `UserError` where there are no rows.
    """
    if rows < 1:
        raise UserError("there are no rows to learn from")
    steps = optim.steps or max(1, round(optim.epochs * rows / optim.batch))
    order: list[int] = []
    epoch = 0
    while len(order) < steps * optim.batch:
        order += generator(seed, "order", epoch).permutation(rows).tolist()
        epoch += 1
    return order[: steps * optim.batch]


def make_optimizer(model: PreTrainedModel, optim: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of the trainable weights; of half-precision ones it moves float32 masters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    masters = Masters(trained, gather=False)
    inner: torch.optim.Optimizer
    if optim.optimizer == "muon":
        inner = MuonAdamW(
            model, lr=optim.lr, muon_lr=optim.muon_lr, weight_decay=optim.weight_decay, masters=masters
        )
    else:
        moved = [masters.of(p) for p in trained]
        inner = torch.optim.AdamW(moved, lr=optim.lr, betas=(0.9, 0.95), weight_decay=optim.weight_decay)
    return Mastered(masters, inner) if masters.state() else inner


@dataclass(frozen=True, slots=True)
class Loop:
    """How a trainer goes through its rows."""

    scratch: Path
    """A folder that the trainer may write to."""
    steps: int
    """Optimiser steps."""
    micro_batch: int
    """Rows of a forward pass."""
    accumulate: int = 1
    """Forward passes of a step."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    seed: int = 0
    """Seeds what the trainer draws itself."""
    shuffled: bool = False
    """Whether the trainer draws the order of the rows; else it is the given one."""


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    order: Sequence[int],
    loop: Loop,
    optimizer: torch.optim.Optimizer,
    factor: Callable[[int], float],
) -> Any:
    """Return TRL's trainer for `task`; it learns the rows of `order` at `factor(step)` times the learning rates."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    options: dict[str, Any] = {
        "output_dir": str(loop.scratch),
        "max_steps": loop.steps,
        "per_device_train_batch_size": loop.micro_batch,
        "per_device_eval_batch_size": loop.micro_batch,
        "gradient_accumulation_steps": loop.accumulate,
        "max_grad_norm": loop.max_grad_norm,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": loop.seed % 2**32,
        "data_seed": loop.seed % 2**32,
        "bf16": False,
        "fp16": False,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        **({} if loop.shuffled else {"train_sampling_strategy": "sequential"}),
        **task.options,
    }
    held_out = list(range(task.rows, task.rows + task.held_out))
    trainer = _staged(task.trainer)(
        model=model,
        args=task.config(**options),
        train_dataset=Dataset.from_dict({"index": list(order)}),
        eval_dataset=Dataset.from_dict({"index": held_out}) if held_out else None,
        data_collator=lambda examples: task.collate([int(example["index"]) for example in examples]),
        processing_class=tokenizer,
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)),
        **task.arguments,
    )
    trainer.remove_callback(PrinterCallback)  # it prints every line of the log
    return trainer


def fit(
    run: StageRun[Any],
    trainee: Trainee,
    task: Task,
    optim: OptimConfig,
    *,
    eval_every: int = 0,
    begin: int = 0,
) -> None:
    """Train, evaluate and save as the configs say, from the beginning or from where the run was stopped.

    `begin` is the step of the run that comes before the first of this training: a run may train several times.

    The last step leaves a checkpoint. Raises `NonFiniteError` for a loss that is not finite.
    """
    order = plan(task.rows, optim, derive(run.config.seed, "training", begin))
    steps = len(order) // optim.batch
    resumed = run.resumed if run.resumed is not None and run.resumed.step > begin else None
    done = 0 if resumed is None else min(resumed.step - begin, steps)
    run.done = begin + steps
    model = trainee.model
    if resumed is not None and done == steps:
        if resumed.step == run.done:
            load_weights(resumed, model)
        return
    state = resumed.state() if resumed is not None else {}
    optimizer = make_optimizer(model, optim)
    if state:
        optimizer.load_state_dict(state["optimizer"])
    warmup = round(optim.warmup * steps)

    def factor(step: int) -> float:
        return schedule(min(done + step, steps - 1), steps, warmup, optim.lr_final)

    def save(step: int) -> None:
        random_state = torch.get_rng_state()
        save_checkpoint(
            run.folder,
            step,
            model,
            trainee.tokenizer,
            trainee.chat_template,
            {
                "optimizer": optimizer.state_dict(),
                "random": random_state,
                "metrics_position": run.log.position,
            },
            keep=run.config.run.keep_checkpoints,
        )
        torch.set_rng_state(random_state)  # merging an adapter draws weights that it throws away

    with tempfile.TemporaryDirectory(prefix="quintain-") as scratch, generators_kept(), task.around():
        loop = Loop(
            Path(scratch),
            steps - done,
            optim.micro_batch,
            optim.batch // optim.micro_batch,
            optim.max_grad_norm,
            derive(run.config.seed, "trainer"),
        )
        rows = order[done * optim.batch :]
        trainer = make_trainer(model, trainee.tokenizer, task, rows, loop, optimizer, factor)
        task.prepared(trainer)
        if resumed is not None:
            load_weights(resumed, model)
        trainer.save_ours = lambda: save(begin + done + int(trainer.state.global_step))
        trainer.add_callback(
            _watch(run, begin + done, begin + steps, eval_every, bool(task.held_out), state.get("random"))
        )
        if task.held_out and not done:
            trainer.evaluate()
        trainer.train()


def _staged(trainer: type[Any]) -> type[Any]:
    """Return a trainer that takes the data set as it is and saves our checkpoints in place of its own."""

    class Staged(trainer):  # type: ignore[misc]
        """TRL's trainer under our frame."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # rows come as tokens with their masks, through the collator

        def _save_checkpoint(self, *_: Any, **__: Any) -> None:
            self.save_ours()

    return Staged


def _watch(
    run: StageRun[Any], done: int, steps: int, eval_every: int, held_out: bool, random_state: Any
) -> Any:
    """Return the callback that tells of each step, asks for evaluations and checkpoints, and stops at a bad loss."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Between the trainer and the run."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal random_state
            if random_state is not None:  # dropout goes on where the run was stopped
                torch.set_rng_state(random_state)
                random_state = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step = done + int(state.global_step)
            control.should_save = step == steps or step % run.config.run.checkpoint_every == 0
            control.should_evaluate = held_out and (
                step == steps or (bool(eval_every) and step % eval_every == 0)
            )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            step = done + int(state.global_step)
            found = our_metrics(logs)
            run.tell(Event("train", step, steps, found | {"memory_mb": peak_memory_mb()}))
            if not math.isfinite(found["loss"]):
                raise NonFiniteError(f"the loss of {run.config.stage} is {found['loss']} in step {step}")

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            step = done + int(state.global_step)
            found = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
            run.tell(Event("check", step, steps, our_metrics(found)))

    return Watch()


def our_metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a log of TRL under our names, without counters and timings."""
    return {
        RENAMED.get(name, name): float(value)
        for name, value in logs.items()
        if isinstance(value, int | float) and name not in LEFT_OUT and not name.endswith(RUNTIME)
    }


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put the process's random generators back afterwards: the trainer seeds them for itself."""
    plain, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)
