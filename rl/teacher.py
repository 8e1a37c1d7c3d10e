"""The teacher of on-policy distillation: a frozen model that reads what the student wrote.

It says how likely it finds each token of the student (`logprobs`), or gives its whole distribution there, some hundreds
of tokens at a time (`beside`). Only the tokens that the student wrote are asked about, with everything before them,
results of tools included, as the context.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tools.errors import UserError
from .config import ModelConfig
from .forward import Beside, Finish, check_forward, hidden_states, plain, token_logprobs
from .models import TINY, load_model
from .packing import PackedBatch
from .teacher_config import TeacherConfig


class Teacher:
    """A frozen model that scores a student's tokens.

    Args:
        model: the teacher, on its device.
        config: what its word counts.
        vocabulary: the size of the student's head; what the teacher's has beyond it, unused places, is left out of its
            distributions.

    Raises `UserError` for a model that makes its logits in a way that is not known here.
    """

    def __init__(self, model: PreTrainedModel, config: TeacherConfig, vocabulary: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = config
        self._vocabulary = vocabulary
        check_forward(model)

    @torch.no_grad()
    def logprobs(self, batch: PackedBatch, temperature: float) -> Tensor:
        """Return the teacher's log-probability of each trained token. [N]"""
        found: Tensor = token_logprobs(self.model, batch.to(self.model.device), temperature)[0]
        return found.to(batch.ids_RT.device)

    @torch.no_grad()
    def beside(self, batch: PackedBatch, temperature: float) -> Beside:
        """Return what gives the teacher's distributions at the trained tokens."""
        here = batch.to(self.model.device)
        hidden_NH = hidden_states(self.model, here)[here.places_N]
        whole = plain(self.model)
        head, finish = whole.get_output_embeddings(), Finish(whole.config.get_text_config(), temperature)

        @torch.no_grad()
        def logprobs(rows: slice) -> Tensor:
            logits_NV = finish(head(hidden_NH[rows]))[:, : self._vocabulary]
            return torch.log_softmax(logits_NV, dim=-1).to(batch.ids_RT.device)

        return Beside(logprobs, self.config.beta)


def load_teacher(
    config: TeacherConfig,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    longest: int,
) -> Teacher:
    """Return the teacher of `student`, whose tokenizer is `tokenizer`.

    `longest`: the most tokens of an episode. Raises `UserError` for a model that cannot be loaded, does not know the
    student's tokens, or sees fewer tokens than an episode may have.
    """
    if config.path == TINY:
        raise UserError(
            "rl.teacher.path = 'tiny' would be a model that has learned nothing: give the folder of a trained one"
        )
    device = str(student.device) if config.device is None else config.device
    model, words = load_model(
        ModelConfig(path=config.path, dtype=config.dtype, device=device), seed=0, section="rl.teacher"
    )
    _check_words(config.path, words.get_vocab(), tokenizer.get_vocab())
    ours, theirs = _head_size(student), _head_size(model)
    if theirs < ours:
        raise UserError(
            f"rl.teacher.path {config.path!r} has a head of {theirs} tokens and the student one of {ours}: a token of "
            "the student may be none of the teacher's; use a teacher whose head is at least as large"
        )
    context = int(model.config.get_text_config().max_position_embeddings)
    if longest > context:
        raise UserError(
            f"rollout.episode_tokens is {longest}, but rl.teacher.path {config.path!r} sees {context} tokens at most"
        )
    return Teacher(model, config, ours)


def _check_words(path: str, theirs: dict[str, int], ours: dict[str, int]) -> None:
    """Raise `UserError` unless every token of the student is the same one of the teacher."""
    apart = sorted((token, number) for token, number in ours.items() if theirs.get(token) != number)
    if apart:
        token, number = min(apart, key=lambda one: one[1])
        found = f"number {theirs[token]}" if token in theirs else "unknown"
        raise UserError(
            f"rl.teacher.path {path!r} has another vocabulary than the student: {len(apart)} of the student's "
            f"{len(ours)} tokens differ, first {token!r}, which is number {number} here and {found} there. A teacher "
            "scores the student's tokens, so it needs the same tokenizer; a teacher of another one can write "
            "demonstrations: quintain sft with a section [teacher]"
        )


def _head_size(model: PreTrainedModel) -> int:
    return int(plain(model).get_output_embeddings().weight.shape[0])
