"""Conversations as tokens with exact masks, for any chat template; and the mark that tells tokenizers apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from transformers import PreTrainedTokenizerBase

from ...tools.chat import Message
from ...tools.errors import UserError
from ..chat import ChatCodec
from .chat_rows import RowError
from .preference import Tokens


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
    ids: list[int] = []
    mask: list[bool] = []
    said = list(prompt)
    pending: list[Message] = []
    try:
        for message in answer:
            if message["role"] != "assistant":
                pending.append(message)
                continue
            if not ids:
                given = codec.prompt([*said, *pending], tools)
            elif codec.grows(said, pending, tools):
                given = codec.delta(pending)
            else:
                raise RowError("the chat template rewrites earlier turns, so the answer is not one sequence")
            written = codec.encode_reply(codec.reply_text(message))
            ids += [*given, *written]
            mask += [False] * len(given) + [True] * len(written)
            said += [*pending, message]
            pending = []
    except RowError:
        raise
    except UserError as error:
        raise RowError(str(error).split(";")[0]) from None
    return Tokens(tuple(ids), tuple(mask))
