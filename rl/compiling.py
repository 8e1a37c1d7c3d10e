"""`torch.compile` for the learner's passes: every layer of the trunk, compiled once for rows of any length.

Attention over packed rows stays as it is, since its layout is another one each time; what lies round it is compiled.
Only packed passes run compiled code: generation, whose shapes and caches are of another kind, does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..tools.errors import UserError
from .attention import Sealed
from .forward import layers


def compile_layers(module: nn.Module) -> None:
    """Have the layers of `module` run compiled code where they are given packed rows.

    A copy of the module made later would still run the layers of this one: copy first. Raises `UserError` where the
    module has no layers that can be told apart.
    """
    found = layers(module)
    if not found:
        raise UserError(
            f"rl.compile compiles a model layer by layer, and {type(module).__name__} does not say what its layers "
            "are: leave rl.compile out"
        )
    for layer in found:
        layer.forward = _packed_only(layer.forward)


def check_compiler(device: torch.device) -> None:
    """Raise `UserError` if nothing can be compiled for `device` here."""
    try:
        torch.compile(_probe)(torch.ones(3, device=device))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        wanted = "a C++ compiler (g++ or clang)" if device.type == "cpu" else "Triton and a C compiler"
        raise UserError(
            f"rl.compile needs {wanted}, and torch could not compile anything for {device.type} here "
            f"({type(error).__name__}: {first}): install it, or leave rl.compile out"
        ) from error


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def _packed_only(plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(plain, dynamic=True)

    @functools.wraps(plain)
    def forward(*args: Any, **options: Any) -> Any:
        segments = options.get("packed_segments")
        if segments is None:
            return plain(*args, **options)
        # Sealed, so that the compiled code does not depend on where the sequences lie.
        return compiled(*args, **{**options, "packed_segments": Sealed(segments)})

    return forward
