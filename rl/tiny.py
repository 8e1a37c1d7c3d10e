"""The embedded model: a Llama-type network and a tokenizer small enough to learn in minutes on a CPU.

Both are made in place and deterministic in their inputs; nothing is downloaded. The classes are those of
transformers, so a saved checkpoint loads anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .config import TinyModelConfig

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")

CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n' }}{% endif %}
{%- for tool in tools %}
{{- 'tool ' + tool.function.name + '(' + (tool.function.parameters.properties | default({}) | join(', ')) + ')' }}
{{- '' if loop.last else '\\n' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if not (loop.first and tools and message.role == 'system') %}
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
"""ChatML with tools shown by name and parameters alone: a model this small learns the rest from examples."""


def build_tokenizer(texts: Iterable[str], config: TinyModelConfig) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `texts`.

    Every digit is a token of its own, so that numbers look alike wherever they stand; words keep their leading
    space and their punctuation, so that the fixed parts of a tool call become single tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d| ?[^\s\d]+|\s"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[PAD, START, END, *TAGS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=config.context,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    config: TinyModelConfig, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator
) -> LlamaForCausalLM:
    """Make the network with weights drawn from `generator`: normal, standard deviation half of width^-1/2.

    Projections into the residual stream are scaled down by the square root of their number. Measured on the
    calculator's demonstrations: twice the scale, or embeddings of half of it, learn to copy numbers 1.5 times slower.
    """
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(
        devices=[]
    ):  # the constructor draws from the process's generator: keep it clean
        model = LlamaForCausalLM(shape)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                scale = 0.5 * config.width**-0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * config.layers) ** 0.5
                parameter.normal_(0.0, scale, generator=generator)
            else:
                parameter.fill_(1.0)
    return model
