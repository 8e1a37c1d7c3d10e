"""Conversations as tokens with exact masks, for any chat template; and the mark that tells tokenizers apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Score
from ..chat import ChatCodec
from ..trajectory import StopReason, Trajectory, Turn
from .chat_rows import RowError
from .preference import Tokens

Learn = Literal["all", "last"]
"""Which of the assistant's messages are learned."""


def tokenizer_mark(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return 16 hex digits that two tokenizers share only if they have the same tokens with the same ids."""
    words = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])))
    return blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def encode_answer(
    codec: ChatCodec,
    prompt: Sequence[Message],
    answer: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
) -> Tokens:
    """Return a prompt and its answer as tokens; the mask marks what the assistant wrote in the answer alone.

    The tokens are those that the model would see if it had written the answer turn by turn: the rendered prompt, the
    reply with its stop token, the template's delta for what came back, and so on. No generation markers are needed in
    the template. Raises `RowError` where the template rewrites what was said before, so that the turns are not one
    sequence, or cannot write the messages.
    """
    found = converse(codec, (*prompt, *answer), tools, 0, begin=len(prompt))
    if len(found.samples) > 1:
        raise RowError("the chat template rewrites earlier turns, so the answer is not one sequence")
    return Tokens(tuple(found.ids), tuple(found.mask))


def converse(
    codec: ChatCodec,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    number: int,
    name: object = None,
    *,
    learn: Learn = "all",
    begin: int = 0,
) -> Trajectory:
    """Return a conversation as a trajectory: the assistant's messages from `begin` on are the sampled tokens.

    Where the template rewrites what was said, the conversation goes on in a sample of its own, as the model would see
    it. Raises `RowError` for one without an assistant's turn to learn, or that begins with one.
    """
    if messages[0]["role"] == "assistant":
        raise RowError("the conversation begins with the assistant: a user's message comes first")
    if all(message["role"] != "assistant" for message in messages[begin:]):
        raise RowError("no message of the assistant to learn from")
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[tuple[int, int]] = []
    pending: list[Message] = []
    samples = [0]
    try:
        for at, message in enumerate(messages):
            if message["role"] != "assistant" or at < begin:
                pending.append(message)
                continue
            if not turns:
                given = codec.prompt(pending, tools)
            elif codec.grows(messages[: at - len(pending)], pending, tools):
                given = codec.delta(pending)
            else:  # the template rewrites what was said: the model sees the conversation anew
                given = codec.prompt(messages[:at], tools)
                samples.append(len(ids))
            written = codec.encode_reply(codec.reply_text(message))
            pending = []
            turns.append((len(ids) + len(given), len(ids) + len(given) + len(written)))
            ids += [*given, *written]
            mask += [False] * len(given) + [True] * len(written)
    except UserError as error:
        raise RowError(str(error).split(";")[0]) from None
    if learn == "last":
        (start, end), begin = turns[-1], samples[-1]
        ids, turns, samples = ids[begin:], [(start - begin, end - begin)], [0]
        mask = [start - begin <= at < end - begin for at in range(len(ids))]
    return made(ids, mask, turns, samples, list(messages), number, name)


def made(
    ids: list[int],
    mask: list[bool],
    turns: list[tuple[int, int]],
    samples: list[int],
    messages: list[Message],
    number: int,
    name: object,
) -> Trajectory:
    """Return what was not sampled but written as a trajectory; `turns` are the stretches to learn."""
    return Trajectory(
        id=f"demonstration-{number}",
        task_id=str(number if name is None else name),
        group=number,
        ids=ids,
        mask=mask,
        logprobs=[0.0] * len(ids),
        versions=[-1] * len(ids),
        turns=[Turn(start, end, 0.0) for start, end in turns],
        messages=messages,
        score=Score.ungraded("a demonstration"),
        stop=StopReason.TERMINATED,
        samples=samples,
    )
