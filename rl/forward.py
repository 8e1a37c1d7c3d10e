"""The forward pass of the learner: packed rows through the trunk, the head on the trained tokens alone.

Logits over the whole vocabulary exist for a few hundred tokens at a time, in the backward pass too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ..tools.errors import UserError
from .attention import packed_rows
from .divergence import divergence, divergence_slope
from .packing import PackedBatch

HEAD_LOGITS = 1 << 24
"""Logits that exist at a time: 64 MiB in float32."""

INSIDE = "run_inside"
"""The method of a sharded model that runs a function with its weights gathered."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Beside:
    """Another model's distributions at the trained tokens, that the policy's are held beside."""

    logprobs: Callable[[slice], Tensor]
    """Its log-probabilities, over the policy's vocabulary, at some of the N tokens. [n, V]"""
    beta: float
    """Which divergence is taken; see `divergence.divergence`."""


def token_logprobs(
    model: PreTrainedModel, batch: PackedBatch, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the entropy (nats) of each trained token. [N], [N]

    Both are of the distribution that was sampled from: the softmax of logits / temperature, in float32.
    """
    return policy_pass(model, batch, temperature)[1:3]


def policy_pass(
    model: PreTrainedModel, batch: PackedBatch, temperature: float = 1.0, beside: Beside | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the states that the trained tokens were written in, what `token_logprobs` returns, and how far it is from
    `beside`, in nats; None where there is none. [N, H], [N], [N], [N]
    """

    def run() -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        hidden_NH = _states(model, batch).flatten(0, 1)[batch.places_N]
        return hidden_NH, *_head_pass(model, hidden_NH, batch.targets_N, temperature, beside)

    return inside(model, run)


def hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Return the last hidden state of every place, the rows laid end to end. [R x T, H]"""
    return inside(model, lambda: _states(model, batch)).flatten(0, 1)


def inside(model: nn.Module, run: Callable[[], Result]) -> Result:
    """Return what `run` returns, run as the forward pass of `model`: one that is sharded has its weights at hand."""
    gathered: Callable[[Callable[[], Result]], Result] | None = getattr(model, INSIDE, None)
    return run() if gathered is None else gathered(run)


def _states(model: nn.Module, batch: PackedBatch) -> Tensor:
    trunk = plain(model).base_model
    given = {"input_ids": batch.ids_RT, "position_ids": batch.positions_RT, "use_cache": False}
    if batch.segments:
        with packed_rows():
            hidden_RTH = trunk(**given, packed_segments=batch.segments).last_hidden_state
    else:  # a causal model does not see the unused places, which come last
        hidden_RTH = trunk(**given).last_hidden_state
    states: Tensor = hidden_RTH
    return states


def head_logprobs(
    model: PreTrainedModel, hidden_NH: Tensor, targets_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return what `token_logprobs` returns, from the states that the trained tokens were written in."""
    return _head_pass(model, hidden_NH, targets_N, temperature, None)[:2]


def _head_pass(
    model: PreTrainedModel, hidden_NH: Tensor, targets_N: Tensor, temperature: float, beside: Beside | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    whole = plain(model)
    head = whole.get_output_embeddings()
    finish = Finish(whole.config.get_text_config(), temperature)
    # Beside another's, some four tensors of that size exist at a time.
    size = max(1, HEAD_LOGITS // head.weight.shape[0] // (1 if beside is None else 4))
    if finish.linear and type(head) is nn.Linear and getattr(head, "bias", None) is None:
        found: tuple[Tensor, Tensor, Tensor] = _LinearHead.apply(  # type: ignore[no-untyped-call]
            hidden_NH, head.weight, targets_N, finish.scale, size, beside
        )
        return found if beside is not None else (*found[:2], None)
    parts = []
    for start in range(0, max(len(hidden_NH), 1), size):
        here = slice(start, start + size)
        given = (head, hidden_NH[here], targets_N[here], finish, here, beside)
        kept = not torch.is_grad_enabled() or len(hidden_NH) <= size
        parts.append(_head(*given) if kept else checkpoint(_head, *given, use_reentrant=False))
    logps, entropies, distances = zip(*parts, strict=True)
    return torch.cat(logps), torch.cat(entropies), None if beside is None else torch.cat(distances)


def plain(model: nn.Module) -> Any:
    """Return the model itself, out of what `peft` puts round it; its adapters stay where they are."""
    inside = getattr(model, "get_base_model", None)
    return model if inside is None else inside()


def layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a model, in order: the blocks that transformers says must stay whole."""
    names = set(getattr(plain(module), "_no_split_modules", None) or ())
    return [part for part in module.modules() if type(part).__name__ in names and part is not module]


@torch.no_grad()
def check_forward(model: PreTrainedModel) -> None:
    """Raise `UserError` if the learner's log-probabilities are not those of the model's own forward pass.

    That happens where a model changes its logits in a way that is not known here.
    """
    ids_RT = torch.arange(2, 10, device=model.device)[None] % plain(model).config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    theirs = torch.log_softmax(plain(model)(input_ids=ids_RT, use_cache=False).logits[0].float(), -1)
    states = plain(model).base_model(input_ids=ids_RT, use_cache=False).last_hidden_state[0]
    ours, _ = head_logprobs(model, states[:-1], ids_RT[0, 1:])
    model.train(was_training)
    theirs = theirs[:-1].gather(1, ids_RT[0, 1:, None])[:, 0]
    gap = (ours - theirs).abs().max().item()
    if not gap < (1e-3 if states.dtype == torch.float32 else 0.1):
        raise UserError(
            f"{type(plain(model)).__name__} makes its logits in a way that the learner does not know: its "
            f"log-probabilities differ by {gap:.3g} nats from the head's alone, so it cannot be trained"
        )


class Finish:
    """What is done to the head's output before the softmax: the model's own scaling and capping, the temperature."""

    def __init__(self, config: Any, temperature: float = 1.0) -> None:
        scale = getattr(config, "logit_scale", None) or 1.0
        divided = getattr(config, "logits_scaling", None) or 1.0
        self.scale = float(scale) / float(divided)
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.temperature = temperature
        self.linear = self.cap is None
        if self.linear:
            self.scale /= temperature

    def __call__(self, logits_NV: Tensor) -> Tensor:
        """Return the logits that the softmax is taken of, in float32."""
        scaled = logits_NV.float() * self.scale
        if self.cap is None:
            return scaled
        capped: Tensor = torch.tanh(scaled / self.cap) * (self.cap / self.temperature)
        return capped


def _head(
    head: nn.Module, hidden_NH: Tensor, targets_N: Tensor, finish: Finish, here: slice, beside: Beside | None
) -> tuple[Tensor, Tensor, Tensor]:
    logp_NV = torch.log_softmax(finish(head(hidden_NH)), dim=-1)
    entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
    distance_N = (
        torch.zeros_like(entropy_N)
        if beside is None
        else divergence(logp_NV, beside.logprobs(here), beside.beta)
    )
    return logp_NV.gather(1, targets_N[:, None])[:, 0], entropy_N, distance_N


class _LinearHead(torch.autograd.Function):
    """Log-probabilities, entropies and divergences of a plain linear head, a few tokens at a time in both directions.

    The logits are made again in the backward pass instead of kept, and their gradient is written in place:
    d log p_t / dz = onehot - p, dH / dz = -p (log p + H), and `divergence_slope`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        targets_N: Tensor,
        scale: float,
        size: int,
        beside: Beside | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = len(hidden_NH)
        logp_N = hidden_NH.new_empty(count, dtype=torch.float32)
        entropy_N, norm_N, distance_N = (torch.empty_like(logp_N) for _ in range(3))
        for start in range(0, count, size):
            here = slice(start, start + size)
            z_NV = (hidden_NH[here] @ weight_VH.T).float().mul_(scale)
            norm_N[here] = z_NV.logsumexp(-1)
            logp_N[here] = z_NV.gather(1, targets_N[here, None])[:, 0] - norm_N[here]
            z_NV.sub_(norm_N[here, None])
            entropy_N[here] = -torch.linalg.vecdot(z_NV.exp(), z_NV)
            if beside is not None:
                distance_N[here] = divergence(z_NV, beside.logprobs(here), beside.beta)
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, norm_N, entropy_N)
        ctx.scale, ctx.size, ctx.beside = scale, size, beside
        return logp_N, entropy_N, distance_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_logp_N, by_entropy_N, by_distance_N = gradients
        beside: Beside | None = ctx.beside
        hidden_NH, weight_VH, targets_N, norm_N, entropy_N = ctx.saved_tensors
        with_entropy = bool(by_entropy_N.any())
        to_hidden = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden_NH), ctx.size):
            here = slice(start, start + ctx.size)
            logp_NV = (hidden_NH[here] @ weight_VH.T).float().mul_(ctx.scale).sub_(norm_N[here, None])
            slope_NV = None
            if beside is not None:
                slope_NV = divergence_slope(logp_NV, beside.logprobs(here), beside.beta)
            if with_entropy:
                factor = logp_NV + entropy_N[here, None]
                factor.mul_(by_entropy_N[here, None]).add_(by_logp_N[here, None])
                dz_NV = logp_NV.exp_().mul_(factor).neg_()
            else:
                dz_NV = logp_NV.exp_().mul_(-by_logp_N[here, None])
            dz_NV.scatter_add_(1, targets_N[here, None], by_logp_N[here, None])
            if slope_NV is not None:
                dz_NV.add_(slope_NV.mul_(by_distance_N[here, None]))
            dz = dz_NV.mul_(ctx.scale).to(weight_VH.dtype)
            if to_hidden is not None:
                to_hidden[here] = dz @ weight_VH
            if to_weight is not None:
                to_weight += dz.T @ hidden_NH[here]
        weights = None if to_weight is None else to_weight.to(weight_VH.dtype)
        return to_hidden, weights, None, None, None, None
