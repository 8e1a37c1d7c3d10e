"""Float32 masters of half-precision weights: what the optimiser moves, so that small steps are not rounded away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Masters:
    """Keeps a float32 copy of each trained bfloat16 or float16 weight and gathers its gradients in float32.

    A gradient is added to the master's, and freed, as soon as the backward pass has it, so sums over micro-batches
    are exact to float32 and two sets of gradients never exist. Float32 weights are their own masters.

    Args:
        parameters: the trained weights.
        keep: False lets half-precision weights be their own masters, too.
        gather: False leaves the gradients with the weights, for a loop that sums and clips them there; `fetch` takes
            them over then.
    """

    def __init__(self, parameters: Iterable[Tensor], *, keep: bool = True, gather: bool = True) -> None:
        self._halves: list[tuple[Tensor, Tensor]] = []
        self._of: dict[int, Tensor] = {}
        for parameter in parameters:
            if not keep or parameter.dtype not in (torch.bfloat16, torch.float16):
                self._of[id(parameter)] = parameter
                continue
            master = parameter.detach().float().clone().requires_grad_(True)
            self._halves.append((parameter, master))
            self._of[id(parameter)] = master
            if gather:
                parameter.register_post_accumulate_grad_hook(self._gather)  # type: ignore[no-untyped-call]

    def of(self, parameter: Tensor) -> Tensor:
        """Return what the optimiser is to move for `parameter`."""
        return self._of[id(parameter)]

    def fetch(self) -> None:
        """Take the gradients over from the weights, which keep them."""
        for half, master in self._halves:
            master.grad = None if half.grad is None else half.grad.float()

    def publish(self) -> None:
        """Write the masters into the weights that are run; call it after a step of the optimiser."""
        with torch.no_grad():
            for half, master in self._halves:
                half.copy_(master)

    def state(self) -> list[Tensor]:
        """Return the masters of half-precision weights: a checkpoint of the rounded ones would lose the rest."""
        return [master.detach() for _, master in self._halves]

    def restore(self, state: Sequence[Tensor]) -> None:
        """Take over what `state` returned."""
        with torch.no_grad():
            for (_, master), saved in zip(self._halves, state, strict=True):
                master.copy_(saved)
        self.publish()

    def _gather(self, half: Tensor) -> None:
        if half.grad is None:
            return
        master = self._of[id(half)]
        if master.grad is None:
            master.grad = half.grad.float()
        else:
            master.grad.add_(half.grad)
        half.grad = None
