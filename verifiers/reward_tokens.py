"""What a reward model reads: one way from messages to tokens, for training it and for asking it.

It reads the messages, not the tokens that a policy sampled, so its tokenizer need not be the policy's. The schemas of
tools are not shown to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..tools.chat import Message

SEPARATOR = "\n"
"""What ends a step of a reply, for process reward models."""


def conversation_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of a conversation, up to the last end-of-turn token: at least one.

    What a template writes after the last turn says nothing about it. Characters that UTF-8 cannot write are replaced.
    """
    clean = _clean(messages)
    if not tokenizer.chat_template:
        return _plain(tokenizer, "\n\n".join(m["content"] for m in clean)) or [_pad(tokenizer)]
    found = [int(t) for t in tokenizer.apply_chat_template(clean, tokenize=True, return_dict=False)]
    end = tokenizer.eos_token_id
    if end is not None and end in found:
        found = found[: len(found) - found[::-1].index(end)]
    return found or [_pad(tokenizer)]


def steps_of(reply: str, separator: str = SEPARATOR) -> list[str]:
    """Return the steps of a reply, each with the separator that ends it; steps without words are left out."""
    return [part + separator for part in reply.split(separator) if part.strip()]


def step_ids(tokenizer: Any, before: Sequence[Message], steps: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens of a conversation and a reply in steps, and the place of the last token of each step.

    Steps are tokenised one by one, so that each begins at a token of its own. Raises `ValueError` without steps.
    """
    if not steps:
        raise ValueError("a reply without steps cannot be judged step by step")
    clean = _clean(before)
    if tokenizer.chat_template:
        asked = tokenizer.apply_chat_template(
            clean, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        ids = [int(t) for t in asked]
    else:
        ids = _plain(tokenizer, "\n\n".join(m["content"] for m in clean))
    ends = []
    for step in steps:
        ids += _plain(tokenizer, step.encode("utf-8", "replace").decode()) or [_pad(tokenizer)]
        ends.append(len(ids) - 1)
    return ids, ends


def _plain(tokenizer: Any, text: str) -> list[int]:
    return [int(t) for t in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _pad(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def _clean(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**m, "content": m["content"].encode("utf-8", "replace").decode("utf-8")} for m in messages]
