"""What TRL's trainers of preferences are to do: our tokens and masks as their batches.

Each returned task is contract-tested against the TRL in use: the loss of a batch equals the formula of its paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from .dpo_config import PAIRED, DpoLossConfig
from .fit import Task
from .preference import Tokens

IGNORED = -100


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two answers as tokens."""

    chosen: Tokens
    """The better one, prompt included."""
    rejected: Tokens
    """The other one."""
    group: str
    """Rows of one group stay together in a split."""


@dataclass(frozen=True, slots=True)
class KtoRow:
    """One answer as tokens, with its verdict."""

    tokens: Tokens
    """Prompt and answer."""
    label: bool
    """Whether it is wanted."""
    group: str
    """Rows of one group stay together in a split."""


def pair_task(
    rows: Sequence[PairRow],
    held_out: Sequence[PairRow],
    reference: Sequence[tuple[float, float]],
    config: DpoLossConfig,
) -> Task:
    """Return the task of a loss over pairs; `reference` has the log-probabilities of (chosen, rejected) of all rows.

    The reference is empty for the losses that have none (`simpo`, `orpo`).
    """
    everything = [*rows, *held_out]
    if config.loss in PAIRED:
        from trl import DPOConfig, DPOTrainer

        def collate(indices: Sequence[int]) -> dict[str, Tensor]:
            chosen = [everything[index] for index in indices]
            sides = [row.chosen for row in chosen] + [row.rejected for row in chosen]
            batch = padded(sides)
            batch["ref_chosen_logps"] = torch.tensor([reference[index][0] for index in indices])
            batch["ref_rejected_logps"] = torch.tensor([reference[index][1] for index in indices])
            return batch

        options: dict[str, Any] = {
            "loss_type": [config.loss, *(["sft"] if config.nll else [])],
            "loss_weights": [1.0, *([config.nll] if config.nll else [])],
            "beta": config.beta,
            "label_smoothing": config.label_smoothing,
            "precompute_ref_log_probs": True,
            "max_length": None,
        }
        return Task(
            _precomputed(DPOTrainer),
            DPOConfig,
            options,
            len(rows),
            len(held_out),
            collate,
            prepared=drop_copy,
        )

    def apart(indices: Sequence[int]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in ("chosen", "rejected"):
            batch = padded([getattr(everything[index], name) for index in indices])
            found[f"{name}_input_ids"] = batch["input_ids"]
            found[f"{name}_attention_mask"] = batch["attention_mask"]
            found[f"{name}_labels"] = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
        return found

    options = {"beta": config.beta, "max_length": None}
    if config.loss == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        options |= {
            "loss_type": "simpo",
            "simpo_gamma": config.gamma,
            "cpo_alpha": config.nll,
            "label_smoothing": config.label_smoothing,
        }
        return Task(
            _as_given(CPOTrainer), CPOConfig, options, len(rows), len(held_out), apart, prepared=_own_collator
        )
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    orpo = _answers_only(_as_given(ORPOTrainer))
    return Task(orpo, ORPOConfig, options, len(rows), len(held_out), apart, prepared=_own_collator)


def kto_partners(rows: int, held_out: int) -> list[int]:
    """Return for each row the one whose answer stands in its KL estimate, within its part: half the part further."""
    return [(at + rows // 2) % rows for at in range(rows)] + [
        rows + (at + held_out // 2) % held_out for at in range(held_out)
    ]


def kto_task(
    rows: Sequence[KtoRow],
    held_out: Sequence[KtoRow],
    strangers: Sequence[Tokens],
    reference: Sequence[float],
    config: DpoLossConfig,
) -> Task:
    """Return the task of KTO (arXiv 2402.01306).

    `strangers`: of each row its prompt with the answer of another, for the estimate of the KL. `reference` has the
    log-probabilities of all rows, then of all strangers.
    """
    from trl import KTOConfig, KTOTrainer

    everything = [*rows, *held_out]

    def collate(indices: Sequence[int]) -> dict[str, Tensor]:
        batch = padded([everything[index].tokens for index in indices])
        batch |= {f"KL_{name}": value for name, value in padded([strangers[i] for i in indices]).items()}
        batch["label"] = torch.tensor([everything[index].label for index in indices])
        batch["ref_logps"] = torch.tensor([reference[index] for index in indices])
        batch["ref_KL_logps"] = torch.tensor([reference[len(everything) + index] for index in indices])
        return batch

    options = {
        "loss_type": "kto",
        "beta": config.beta,
        "desirable_weight": config.desirable,
        "undesirable_weight": config.undesirable,
        "precompute_ref_log_probs": True,
        "max_length": None,
    }
    return Task(
        _precomputed(KTOTrainer), KTOConfig, options, len(rows), len(held_out), collate, prepared=drop_copy
    )


def padded(sides: Sequence[Tokens]) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and `completion_mask`, filled up at the end. Each [B, T]."""

    def filled(values: Sequence[Sequence[int]]) -> Tensor:
        return pad_sequence([torch.tensor(row, dtype=torch.long) for row in values], batch_first=True)

    return {
        "input_ids": filled([side.ids for side in sides]),
        "attention_mask": filled([[1] * len(side.ids) for side in sides]),
        "completion_mask": filled([[int(mark) for mark in side.mask] for side in sides]),
    }


def drop_copy(trainer: Any) -> None:
    """Take away the second adapter that TRL keeps as a reference: ours is computed, and it would be saved too."""
    model = trainer.model
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def _own_collator(trainer: Any) -> None:
    """Keep the trainer from warning about a collator that is not its own."""
    trainer.use_dpo_data_collator = True


def _precomputed(trainer: type[Any]) -> type[Any]:
    """Return a trainer that finds the reference's log-probabilities in its batches."""

    class Precomputed(trainer):  # type: ignore[misc]
        """The reference comes with the rows."""

        def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    return Precomputed


def _as_given(trainer: type[Any]) -> type[Any]:
    """Return a trainer that tokenises nothing."""

    class AsGiven(trainer):  # type: ignore[misc]
        """Rows come as tokens."""

        def tokenize_row(self, feature: Any, *_: Any, **__: Any) -> Any:
            return feature

    return AsGiven


def _answers_only(trainer: type[Any]) -> type[Any]:
    """Return an ORPO trainer whose likelihood is that of the chosen answer, as in the paper's equation 6.

    TRL's takes the prompt and the results of tools into it.
    """

    class AnswersOnly(trainer):  # type: ignore[misc]
        """Only what the model wrote is learned."""

        def concatenated_forward(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
            both = self.concatenated_inputs(batch, padding_value=0, device=self.accelerator.device)
            labels = both["concatenated_labels"]
            logits = model(
                both["concatenated_input_ids"],
                attention_mask=both["concatenated_attention_mask"],
                use_cache=False,
            ).logits
            half = batch["chosen_labels"].shape[0]
            nll = cross_entropy(
                logits[:half, :-1].flatten(0, 1), labels[:half, 1:].flatten(), ignore_index=IGNORED
            )
            logps = self.get_batch_logps(logits, labels, average_log_prob=True)
            return logps[:half], logps[half:], logits[:half, :-1], logits[half:, :-1], nll

    return AnswersOnly
