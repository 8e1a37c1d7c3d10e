"""How weights are moved: Muon for matrices with AdamW for the rest, as one optimiser; the schedule of the rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .masters import Masters


def schedule(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the factor on the learning rate at `step` (from 0): up linearly, then down linearly to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    return 1 - (1 - final) * min(done, 1.0)


def decay_groups(trained: Sequence[Tensor], weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Return the groups of an optimiser: matrices decay; norms and biases are left alone."""
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay, "lr": lr},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0, "lr": lr},
    ]


class MuonAdamW(torch.optim.Optimizer):
    """Muon (orthogonalised momentum; Jordan et al. 2024, "Muon: An optimizer for hidden layers") on the matrices
    inside the network, AdamW on embeddings, heads, norms and biases. Both are torch's own.

    Args:
        model: what is trained.
        lr: the learning rate of AdamW.
        muon_lr: the learning rate of Muon.
        weight_decay: decoupled, of both; norms and biases are left alone.
        masters: what is moved in the place of half-precision weights.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        muon_lr: float,
        weight_decay: float = 0.0,
        masters: Masters | None = None,
    ) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        outer = {
            id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)
        }
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is not None:
            outer |= {id(p) for p in head.parameters()}
        moved = [(p, p if masters is None else masters.of(p)) for p in trained.values()]
        matrices = [m for p, m in moved if p.dim() == 2 and id(p) not in outer]
        rest = [m for p, m in moved if p.dim() > 1 and not (p.dim() == 2 and id(p) not in outer)]
        scalars = [m for p, m in moved if p.dim() <= 1]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": rest, "weight_decay": weight_decay},
                    {"params": scalars, "weight_decay": 0.0},
                ],
                lr=lr,
                betas=(0.9, 0.95),
            )
        ]
        if matrices:
            self.parts.append(torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with both."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """Make the parts' groups ours: a scheduler changes the rates here, and the parts must see it."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


class Mastered(torch.optim.Optimizer):
    """An optimiser of float32 masters, for a loop that sums, clips and clears gradients of half-precision weights.

    Args:
        masters: the masters, which leave the gradients with the weights (`gather=False`).
        inner: the optimiser that moves them.
    """

    def __init__(self, masters: Masters, inner: torch.optim.Optimizer) -> None:
        self.masters, self.inner = masters, inner
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the masters by the gradients of the weights, and write them into the weights."""
        loss = closure() if closure is not None else None
        self.masters.fetch()
        self.inner.step()
        self.masters.publish()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimiser and the masters: rounded weights would lose the rest."""
        return {"inner": self.inner.state_dict(), "masters": self.masters.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the weights become what the masters are."""
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups
        self.masters.restore(state_dict["masters"])
