"""The stage `quintain reward-model`: a model with one output, by Bradley-Terry, outcome or step labels.

Trained by TRL's `RewardTrainer`: its own loss for pairs, the cross entropy of labels at given tokens in its place for
outcomes and steps. What comes out is read by `verifiers.RewardModel`, token for token as it was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ...tools.atomic import write_atomically
from ...tools.errors import UserError
from ...verifiers.reward_model import chunks, logits_at
from ..chat import ChatCodec
from ..checkpoint import checkpoints, load_weights
from ..config import ModelConfig
from ..metrics import Event
from ..models import SMOLLM2, TINY, load_model, pick_device, read_template, smollm2_folder
from ..seeds import derive, generator
from .chat_rows import Rows
from .fit import Task, Trainee, fit
from .reward_model_config import RewardModelConfig
from .reward_report import JudgedPair, label_report, pair_report
from .reward_rows import RewardRow, Side, read_reward_rows
from .splits import split, strings_of
from .stage import StageRun

REPORT = "reward_model.json"
"""The file in the run's folder with accuracy, calibration and length bias."""
SAMPLE = 512
"""Conversations that the mean and the deviation of the logits are taken from."""


def run_stage(run: StageRun[RewardModelConfig]) -> None:
    """Train the reward model, report on the rows that were held out, and note the scale of its logits.

    Raises `UserError` for rows, a model or a tokenizer that cannot be used.
    """
    config = run.config
    if config.members > 1:
        from .reward_ensemble import train_members

        train_members(run)
        return
    run.tell(Event("prepare", 0, 0, message=f"model {config.model.path}"))
    model, tokenizer, template = load_reward_model(config)
    rows, learned, held_out = split_rows(config, model, tokenizer)
    if rows.skipped:
        run.tell(Event("prepare", 0, 0, message=rows.report()))
    if config.bootstrap:
        drawn = generator(config.seed, "bootstrap").integers(len(learned), size=len(learned))
        learned = [learned[place] for place in drawn]
    freeze(model, config.frozen_layers)
    task = reward_task(config, [*learned, *held_out], len(learned), int(tokenizer.pad_token_id))
    fit(
        run,
        Trainee(model, tokenizer, ChatCodec(tokenizer, template)),
        task,
        config.optim,
        eval_every=config.rows.eval_every,
    )
    last = checkpoints(run.folder)[-1]
    if run.resumed is not None and run.resumed.step == last.step:
        load_weights(last, model)
    model.eval()
    scale = _statistics(model, learned, tokenizer)
    note_statistics(last.path, scale)
    found = report(model, tokenizer, held_out)
    found["rows"] = {"learned": len(learned), "held_out": len(held_out), "left_out": rows.counts()}
    found["logits"] = {"mean": scale[0], "deviation": scale[1]}
    write_atomically(run.folder / REPORT, json.dumps(found, indent=2) + "\n")
    told = headline(found)
    if told:
        run.tell(Event("check", last.step, last.step, told, message="held-out rows"))


def headline(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a report that are told as metrics."""
    names = ("accuracy", "low", "high", "auc")
    told = {name: float(found[name]) for name in names if found.get(name) is not None}
    error = found["calibration"]["error"]
    return told | ({} if error is None else {"calibration_error": float(error)})


def split_rows(
    config: RewardModelConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[Rows[RewardRow], list[RewardRow], list[RewardRow]]:
    """Return what was read, the rows to learn from and those that are held out.

    Raises `UserError` for rows that cannot be used, and where none is left to learn from.
    """
    context = int(model.config.get_text_config().max_position_embeddings)
    rows = read_reward_rows(config, tokenizer, min(config.rows.max_tokens or context, context))
    seed = config.seed if config.split_seed is None else config.split_seed
    learned, held_out = split(rows.kept, lambda row: row.group, config.rows.held_out, seed)
    if not learned:
        raise UserError(f"data.path: {config.data.path}: no row is left to learn from; lower rows.held_out")
    return rows, learned, held_out


# --- the model


def load_reward_model(config: RewardModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Return a model with one output made of a language model or of a reward model, its tokenizer and its template.

    The output of a new one begins with weights of deviation 1 / sqrt(width + 1), drawn from the seed (arXiv
    2009.01325, appendix B.1). The padding must differ from the end of a turn, or the last token would be taken for
    padding. Raises `UserError` for a model with several outputs, and a tokenizer without a chat template or a
    token for padding.
    """
    path = str(smollm2_folder()) if config.model.path == SMOLLM2 else config.model.path
    kept = _reward_config(path)
    if kept is not None:
        model, tokenizer = _again(path, config.model)
    else:
        texts = strings_of(config.data.path) if config.model.path == TINY else ()
        base, tokenizer = load_model(config.model, seed=config.seed, texts=texts)
        model = with_head(base, derive(config.seed, "head"))
    template = read_template(config.model) or getattr(tokenizer, "chat_template", None)
    if not template:
        raise UserError(
            f"model.path {config.model.path!r} has no chat template: name a file in model.chat_template"
        )
    tokenizer.chat_template = template
    _set_padding(model, tokenizer)
    return model, tokenizer, template


def with_head(base: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return the sequence-classification model with one output on the trunk of a language model."""
    plain = {k: v for k, v in base.config.to_dict().items() if k not in ("id2label", "label2id")}
    settings = type(base.config).from_dict({**plain, "num_labels": 1, "architectures": None})
    with torch.random.fork_rng(devices=[]):  # the constructor draws from the process's generator
        try:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(settings)
        except ValueError:
            raise UserError(
                f"model.path: transformers has no sequence-classification model for {type(base).__name__}"
            ) from None
    trunk = getattr(model, model.base_model_prefix)
    trunk.load_state_dict(base.base_model.state_dict())
    head = getattr(model, "score", None)
    if head is None:
        raise UserError(f"model.path: {type(model).__name__} has no linear output called `score`")
    with torch.no_grad():
        draws = torch.Generator().manual_seed(seed)
        head.weight.normal_(0.0, 1 / math.sqrt(head.in_features + 1), generator=draws)
    return model.to(device=base.device, dtype=base.dtype)


def freeze(model: PreTrainedModel, blocks: int) -> None:
    """Keep the embeddings and the first `blocks` blocks as they are; 0 keeps nothing.

    Raises `UserError` for more blocks than there are.
    """
    if not blocks:
        return
    trunk = getattr(model, model.base_model_prefix)
    layers = getattr(trunk, "layers", None)
    if layers is None or blocks > len(layers):
        had = "no blocks that can be told apart" if layers is None else f"{len(layers)} blocks"
        raise UserError(f"frozen_layers is {blocks}, but {type(model).__name__} has {had}")
    for module in (trunk.get_input_embeddings(), *layers[:blocks]):
        module.requires_grad_(False)


def _reward_config(path: str) -> Any:
    """Return the config of a folder that holds a reward model; None for anything else."""
    if not (Path(path) / "config.json").is_file():
        return None
    found = AutoConfig.from_pretrained(path)
    if not any("SequenceClassification" in name for name in found.architectures or ()):
        return None
    if found.num_labels != 1:
        raise UserError(
            f"model.path {path!r} has {found.num_labels} outputs; a reward model has one (num_labels=1)"
        )
    return found


def _again(path: str, config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=getattr(torch, config.dtype))
    return model.to(pick_device(config.device)), AutoTokenizer.from_pretrained(path)


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    end = tokenizer.eos_token_id
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == end:
        special = [
            token for token in tokenizer.all_special_tokens if tokenizer.convert_tokens_to_ids(token) != end
        ]
        if not special:
            raise UserError(
                "the tokenizer has no special token beside the end of a turn, so padding could not be told from it: "
                "give it a pad_token"
            )
        tokenizer.pad_token = tokenizer.unk_token if tokenizer.unk_token in special else special[0]
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


# --- training


def reward_task(config: RewardModelConfig, rows: Sequence[RewardRow], learned: int, pad: int) -> Task:
    """Return what `RewardTrainer` is to do; the rows after the first `learned` are held out."""
    from trl import RewardConfig, RewardTrainer

    pairs, scale = config.data.kind == "pairs", config.data.margin

    def collate(indices: Sequence[int]) -> dict[str, Any]:
        chosen = [rows[index] for index in indices]
        sides = [row.sides[0] for row in chosen] + ([row.sides[1] for row in chosen] if pairs else [])
        ids_BT, mask_BT = padded(sides, pad)
        batch: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if not pairs:
            batch["ends"] = [list(side.ends) for side in sides]
            batch["labels"] = torch.tensor([label for row in chosen for label in row.labels])
        elif scale:
            batch["margin"] = torch.tensor([scale * row.margin for row in chosen])
        return batch

    options: dict[str, Any] = {"max_length": None, "disable_dropout": True}
    if pairs and config.center:
        options["center_rewards_coefficient"] = config.center
    return Task(
        RewardTrainer if pairs else _labelled(RewardTrainer),
        RewardConfig,
        options,
        rows=learned,
        held_out=len(rows) - learned,
        collate=collate,
    )


def padded(sides: Sequence[Side], pad: int) -> tuple[Tensor, Tensor]:
    """Return the ids of conversations, padded on the right, and their attention mask. [B, T], [B, T]"""
    longest = max(len(side.ids) for side in sides)
    ids_BT = torch.tensor([[*side.ids, *[pad] * (longest - len(side.ids))] for side in sides])
    mask_BT = torch.tensor([[1] * len(side.ids) + [0] * (longest - len(side.ids)) for side in sides])
    return ids_BT, mask_BT


def _labelled(trainer: type[Any]) -> type[Any]:
    """Return the trainer with the cross entropy of labels at given tokens as its loss."""

    class Labelled(trainer):  # type: ignore[misc]
        """`RewardTrainer` for outcome and process reward models (Lightman et al. 2023, arXiv 2305.20050)."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """Return the mean over labels of the binary cross entropy of sigmoid(logit)."""
            mode = "train" if self.model.training else "eval"
            logits_N = logits_at(model, inputs["input_ids"], inputs["attention_mask"], inputs["ends"]).float()
            labels_N = inputs["labels"].to(logits_N.device).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_N, labels_N)
            right = ((logits_N > 0) == (labels_N >= 0.5)).float().mean().item()
            self._metrics[mode]["accuracy"].append(right)
            self._metrics[mode]["mean_reward"].append(logits_N.mean().item())
            return (loss, {"logits": logits_N}) if return_outputs else loss

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            """Evaluate the loss alone: the number of labels differs between batches."""
            with torch.no_grad():
                loss = self.compute_loss(model, self._prepare_inputs(inputs))
            return loss.detach(), None, None

    return Labelled


# --- what it has learned


@torch.inference_mode()
def logits_of(
    model: PreTrainedModel, sides: Sequence[Side], pad: int, *, tokens: int = 16_384
) -> list[list[float]]:
    """Return the logits of each conversation at its ends."""
    found: dict[int, list[float]] = {}
    for chunk in chunks(range(len(sides)), 32, tokens, lambda place: len(sides[place].ids)):
        chosen = [sides[place] for place in chunk]
        ids_BT, mask_BT = padded(chosen, pad)
        ends = [side.ends for side in chosen]
        values = logits_at(model, ids_BT.to(model.device), mask_BT.to(model.device), ends).float().tolist()
        for place, own in zip(chunk, ends, strict=True):
            found[place], values = values[: len(own)], values[len(own) :]
    return [found[place] for place in range(len(sides))]


def report(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[RewardRow]
) -> dict[str, Any]:
    """Return what the model knows about rows, in plain JSON data; see `reward_report`."""
    sides = [side for row in rows for side in row.sides]
    return report_of(logits_of(model, sides, int(tokenizer.pad_token_id)), rows)


def report_of(said: Sequence[Sequence[float]], rows: Sequence[RewardRow]) -> dict[str, Any]:
    """Return the report of logits that somebody gave the sides of rows, in their order."""
    if not rows or len(rows[0].sides) == 2:
        return pair_report(
            [
                JudgedPair(
                    said[2 * at][0],
                    said[2 * at + 1][0],
                    (len(row.sides[0].ids), len(row.sides[1].ids)),
                    row.margin,
                    row.category,
                )
                for at, row in enumerate(rows)
            ]
        )
    each = [
        (logit, label, row)
        for row, own in zip(rows, said, strict=True)
        for logit, label in zip(own, row.labels, strict=True)
    ]
    return label_report(
        [logit for logit, _, _ in each],
        [label for _, label, _ in each],
        [len(row.sides[0].ids) for _, _, row in each],
        [row.category for _, _, row in each],
    )


def _statistics(
    model: PreTrainedModel, rows: Sequence[RewardRow], tokenizer: PreTrainedTokenizerBase
) -> tuple[float, float]:
    """Return mean and deviation of the logits on the first rows that were learned."""
    sides = [side for row in rows[:SAMPLE] for side in row.sides][:SAMPLE]
    said = logits_of(model, sides, int(tokenizer.pad_token_id))
    values = torch.tensor([value for own in said for value in own], dtype=torch.float64)
    deviation = float(values.std()) if len(values) > 1 else 1.0
    return float(values.mean()), deviation if deviation > 1e-6 else 1.0


def note_statistics(folder: Path, scale: tuple[float, float]) -> None:
    """Write mean and deviation of the logits into a model folder's config, where the verifier looks for them."""
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings["reward_statistics"] = [scale[0], scale[1]]
    write_atomically(path, json.dumps(settings, indent=2) + "\n")
