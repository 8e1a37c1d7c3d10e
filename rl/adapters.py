"""LoRA: small matrices beside frozen weights, through `peft`; and the one set of weights that both make together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..tools.errors import UserError
from .forward import plain

if TYPE_CHECKING:
    from .config import LoraConfig

ADAPTER = "adapter"
"""The folder of a checkpoint that holds the adapter alone."""


def add_adapter(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PreTrainedModel:
    """Return `model` with a fresh LoRA adapter, which alone is trained; it changes nothing yet.

    LoRA (Hu et al. 2021, arXiv 2106.09685). Raises `UserError` for targets that the model does not have.
    """
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = config.targets[0] if config.targets == ["all-linear"] else config.targets
    made = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha if config.alpha is not None else 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    state = torch.random.get_rng_state()  # peft draws from the process's generator
    torch.manual_seed(seed)
    try:
        adapted: PreTrainedModel = get_peft_model(model, made)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise UserError(f"model.lora.targets {config.targets} does not fit the model: {first}") from error
    finally:
        torch.random.set_rng_state(state)
    return adapted


def has_adapter(model: PreTrainedModel) -> bool:
    """Return whether `model` carries a LoRA adapter of `add_adapter`."""
    return plain(model) is not model


def whole_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights by the names of the plain model, adapters added in; the model stays as it is.

    What a checkpoint and an engine of its own take. A name tied to another comes as well.
    """
    if not has_adapter(model):
        return dict(model.state_dict())
    inside = plain(model)
    deltas = {
        name: module.get_delta_weight(adapter)
        for name, module in inside.named_modules()
        if hasattr(module, "get_delta_weight")
        for adapter in module.active_adapters
        if adapter in module.lora_A
    }
    packed = {name: module for name, module in inside.named_modules() if _is_quantised(module)}
    dtype = inside.get_input_embeddings().weight.dtype
    found: dict[str, Tensor] = {}
    for name, value in inside.state_dict().items():
        if ".lora_" in name:
            continue
        owner, _, kind = name.rpartition(".")
        inner = name.partition(".weight.")[0]
        if inner in packed or (owner in packed and kind not in ("weight", "bias")):
            continue  # how the weights are packed: scales and codes
        if owner in packed and kind == "weight":
            value = _unpacked(packed[owner]).to(dtype)
        if owner.endswith(".base_layer"):
            owner = owner.removesuffix(".base_layer")
            if kind == "weight" and owner in deltas:
                value = (value.float() + deltas[owner].float()).to(value.dtype)
        found[f"{owner}.{kind}" if owner else kind] = value
    return found


def _is_quantised(module: nn.Module) -> bool:
    """Return whether the weight of `module` is packed into few bits by bitsandbytes."""
    if hasattr(module, "base_layer"):  # an adapter, which shows the weight of what it lies beside
        return False
    return type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params")


@torch.no_grad()
def _unpacked(module: nn.Module) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    weight: Tensor = dequantize_module_weight(module)
    return weight.detach()


def save_whole(model: PreTrainedModel, folder: Path) -> None:
    """Save the model as a plain Hugging Face folder, and the adapter, if there is one, in a folder inside."""
    if not has_adapter(model):
        model.save_pretrained(folder)
        return
    inside = plain(model)
    weights = {name: value.contiguous() for name, value in whole_weights(model).items()}
    config = copy.deepcopy(inside.config)
    if hasattr(config, "quantization_config"):  # what is written is whole
        del config.quantization_config
    empty: PreTrainedModel = type(inside)(config).to(inside.get_input_embeddings().weight.dtype)
    empty.load_state_dict(weights)
    empty.save_pretrained(folder)
    model.save_pretrained(folder / ADAPTER)


def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Take over the adapter that `save_whole` wrote into `folder`. Raises `UserError` if there is none that fits."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    path = folder / ADAPTER / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError(f"the checkpoint {folder} holds no adapter, but model.lora asks for one")
    try:
        wrong = set_peft_model_state_dict(model, load_file(path)).unexpected_keys
    except RuntimeError as error:
        raise UserError(f"the adapter of the checkpoint {folder} does not fit the model: {error}") from error
    if wrong:
        raise UserError(f"the adapter of the checkpoint {folder} does not fit the model: it has {wrong[0]}")
