"""The warm start: supervised fine-tuning on trajectories, through TRL's `SFTTrainer`.

Batches come packed, with their tokens and labels, so nothing is rendered or tokenised again, and exactly the tokens
that a trajectory's mask marks are in the loss.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tools.errors import UserError
from ..verifiers.base import Score
from .attention import enable_packing, packed_rows
from .chat import ChatCodec
from .config import SftConfig
from .forward import plain
from .learner import NonFiniteError
from .optim import MuonAdamW, schedule
from .packing import PackedBatch, pack
from .trajectory import StopReason, Trajectory, Turn

IGNORED = -100
"""The label of a token that is not in the loss."""


def labels(batch: PackedBatch) -> Tensor:
    """Return the labels of the rows: the sampled tokens, and `IGNORED` for all others. [R, T]"""
    labels_RT = torch.full_like(batch.ids_RT, IGNORED)
    labels_RT.view(-1)[batch.places_N + 1] = batch.targets_N
    return labels_RT


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
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer

    played = [t for t in trajectories if t.turns]
    if not played:
        raise UserError("there are no demonstrations to learn from")
    tokens = sum(len(t.ids) for t in played)
    alone = not enable_packing(plain(model))
    per_step = max(1, round(config.tokens_per_step * len(played) / tokens))

    def collate(examples: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Pack the chosen trajectories: no padding, and none sees another."""
        chosen = [played[example["index"]] for example in examples]
        # A shared beginning would put two labels on one place.
        (batch,) = pack(chosen, budget=sys.maxsize, alone=alone, share=False)
        rows: dict[str, Any] = {
            "input_ids": batch.ids_RT,
            "position_ids": batch.positions_RT,
            "labels": labels(batch),
        }
        if batch.segments:
            rows["packed_segments"] = batch.segments
        return rows

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Passes the metrics on and stops at a loss that is not finite."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if on_step is not None:
                found = {
                    "loss": loss,
                    "lr": float(logs.get("learning_rate", 0.0)),
                    "grad_norm": float(logs.get("grad_norm", 0.0)),
                }
                if "mean_token_accuracy" in logs:
                    found["token_accuracy"] = float(logs["mean_token_accuracy"])
                on_step(int(state.global_step), found)
            if not np.isfinite(loss):
                raise NonFiniteError(f"the SFT loss is {loss} in step {state.global_step}")

    optimizer: torch.optim.Optimizer
    if config.optimizer == "muon":
        optimizer = MuonAdamW(model, lr=config.lr, muon_lr=config.muon_lr, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.lr,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
        )
    plan = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: schedule(step, config.steps, config.warmup_steps, config.lr_final)
    )
    with tempfile.TemporaryDirectory(prefix="quintain-sft-") as scratch, _generators_kept():
        arguments = TrlConfig(
            output_dir=scratch,
            max_steps=config.steps,
            per_device_train_batch_size=per_step,
            max_grad_norm=1.0,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed % 2**32,
            data_seed=seed % 2**32,
            bf16=False,
            fp16=False,
            use_cpu=model.device.type == "cpu",
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            max_length=None,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({"index": list(range(len(played)))}),
            data_collator=collate,
            processing_class=tokenizer,
            optimizers=(optimizer, plan),
            callbacks=[Watch()],
        )
        _keep_quiet(trainer)
        with contextlib.nullcontext() if alone else packed_rows():
            trainer.train()


def read_demonstrations(path: Path, codec: ChatCodec) -> list[Trajectory]:
    """Read a JSONL file of `{"messages": [...]}` rows, with optional `tools`, as trajectories.

    The assistant's messages become the sampled tokens. Raises `UserError` with the row's number for a row
    without messages, without an assistant's turn, or with a role that is unknown.
    """
    if not path.is_file():
        raise UserError(f"sft.demonstrations: there is no file {path}; give a JSONL file or 'demonstrator'")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            found.append(_demonstration(line, f"{path}, row {number}", number, codec))
    return found


def _demonstration(line: str, where: str, number: int, codec: ChatCodec) -> Trajectory:
    try:
        row = json.loads(line)
        messages = row["messages"]
        roles = [message["role"] for message in messages]
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    except (KeyError, TypeError):
        raise UserError(
            f'{where}: a row must be {{"messages": [{{"role": ..., "content": ...}}, ...]}}, got {line:.80}'
        ) from None
    if "assistant" not in roles or roles[0] == "assistant":
        raise UserError(
            f"{where}: needs a user's message first and an assistant's reply, got the roles {roles}"
        )
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[tuple[int, int]] = []
    pending: list[Any] = []
    samples = [0]
    tools = row.get("tools") or ()
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            pending.append(message)
            continue
        if not turns:
            given = codec.prompt(pending, tools)
        elif codec.grows(messages[: at - len(pending)], pending, tools):
            given = codec.delta(pending)
        else:  # the template rewrites what was said: the model sees the conversation anew
            given = codec.prompt(messages[:at], tools)
            samples.append(len(ids))
        written = codec.encode_reply(codec.reply_text(message))
        pending = []
        turns.append((len(ids) + len(given), len(ids) + len(given) + len(written)))
        ids += [*given, *written]
        mask += [False] * len(given) + [True] * len(written)
    return Trajectory(
        id=f"demonstration-{number}",
        task_id=str(row.get("id", number)),
        group=number,
        ids=ids,
        mask=mask,
        logprobs=[0.0] * len(ids),
        versions=[-1] * len(ids),
        turns=[Turn(start, end, 0.0) for start, end in turns],
        messages=messages,
        score=Score.ungraded("a demonstration"),
        stop=StopReason.TERMINATED,
        samples=samples,
    )


def _keep_quiet(trainer: Any) -> None:
    """Take away the callback that prints every log line."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the process's random generators back afterwards: the trainer seeds them for itself."""
    plain, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)
