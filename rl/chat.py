"""Between messages and token ids: prompts, the deltas that continue a conversation, and replies as text.

What the model sampled is never tokenised again. A conversation grows by appending: the ids of the prompt, the
sampled ids as they came, then the *delta*, which is what the chat template puts after a finished reply when
the environment's new messages follow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..tools.chat import Message
from ..tools.errors import UserError

CACHE = 20_000
"""How many rendered prompts and deltas are kept: tool results repeat, and rendering costs half a millisecond."""

_ASKED: Message = {"role": "user", "content": "q"}
_ANSWERED: Message = {"role": "assistant", "content": "a"}


class ChatCodec:
    """Turns messages into ids and sampled ids into text, for one tokenizer and its chat template.

    Args:
        tokenizer: with a chat template, or give one.
        chat_template: a Jinja template that replaces the tokenizer's own.

    Raises `UserError` if there is no template, if it has no generation prompt, or if what it renders cannot be
    continued by appending.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = chat_template or tokenizer.chat_template
        if not isinstance(self.template, str):
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template; give one with model.chat_template"
            )
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._prompts: dict[str, list[int]] = {}
        self._deltas: dict[str, list[int]] = {}
        self._check_generation_prompt()
        self.end_id, self._after_end = self._find_end()
        self.stop_ids: tuple[int, ...] = tuple({self.end_id, tokenizer.eos_token_id} - {None})

    def prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Return the ids of a conversation that waits for the model's reply.

        `tools`: the schemas the template shows to the model, in the OpenAI form.
        """
        key = json.dumps([messages, tools])
        if key not in self._prompts:
            text = self._render(messages, tools=tools, generation=True)
            _remember(self._prompts, key, self.encode(text))
        return self._prompts[key]

    def delta(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids to append after a reply that ended with a stop token, when `messages` come next."""
        key = json.dumps(messages)
        if key not in self._deltas:
            before: list[Message] = [_ASKED, _replied(messages)]
            start = self._render(before)
            whole = self._render([*before, *messages], generation=True)
            if not whole.startswith(start):
                raise UserError(
                    "the chat template rewrites what came before when "
                    f"{[m['role'] for m in messages]} messages follow a reply, so the conversation cannot be "
                    "continued token by token; use a template that only appends (model.chat_template)"
                )
            _remember(self._deltas, key, self.encode(self._after_end + whole[len(start) :]))
        return self._deltas[key]

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, special tokens in it read as such, none added."""
        if self._backend is not None:
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
            return ids
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_reply(self, text: str) -> list[int]:
        """Return the ids of a reply written by something else than the model, the stop token included."""
        return [*self.encode(text), self.end_id]

    def reply_text(self, message: Message) -> str:
        """Return an assistant's message as the template writes it, without what ends it."""
        waiting = self._render([_ASKED], generation=True)
        whole = self._render([_ASKED, message])
        end = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        if not whole.startswith(waiting) or end not in whole[len(waiting) :]:
            raise UserError(f"the chat template writes no reply for the message {message!r:.120}")
        return whole[len(waiting) : whole.rindex(end)]

    def decode_reply(self, ids: Sequence[int]) -> str:
        """Return the text of a sampled reply, without the stop token that ends it."""
        body = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        text: str = (
            self._backend.decode(list(body), skip_special_tokens=False)
            if self._backend is not None
            else self.tokenizer.decode(list(body), skip_special_tokens=False)
        )
        return text

    def _render(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), generation: bool = False
    ) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=generation,
        )
        return str(text)

    def _check_generation_prompt(self) -> None:
        waiting, plain = self._render([_ASKED], generation=True), self._render([_ASKED])
        if waiting == plain or not waiting.startswith(plain):
            raise UserError(
                "the chat template adds no generation prompt (it must honour add_generation_prompt), so the model "
                "would not know that it is its turn; give another with model.chat_template"
            )

    def _find_end(self) -> tuple[int, str]:
        """Return the id that ends a reply in this template, and the text that the template puts after it."""
        waiting = self._render([_ASKED], generation=True)
        whole = self._render([_ASKED, _ANSWERED])
        tail = whole[len(waiting) :].lstrip().removeprefix("a") if whole.startswith(waiting) else ""
        ids = self.encode(tail)
        special = set(self.tokenizer.all_special_ids)
        if not ids or (ids[0] not in special and ids[0] != self.tokenizer.eos_token_id):
            raise UserError(
                "the chat template does not end a reply with a special token, so the end of a reply cannot be "
                f"sampled (after a reply it writes {tail!r}); give another with model.chat_template"
            )
        return ids[0], tail[len(str(self.tokenizer.convert_ids_to_tokens(ids[0]))) :]


def _replied(following: Sequence[Message]) -> Message:
    """Return a reply that `following` can come after: some templates want the call before its result."""
    calls = [m for m in following if m["role"] == "tool"]
    if not calls:
        return _ANSWERED
    return {
        "role": "assistant",
        "content": "a",
        "tool_calls": [
            {
                "id": m.get("tool_call_id", "call_0"),
                "type": "function",
                "function": {"name": m.get("name", "f"), "arguments": {}},
            }
            for m in calls
        ],
    }


def _remember(cache: dict[str, list[int]], key: str, ids: list[int]) -> None:
    if len(cache) >= CACHE:
        cache.clear()
    cache[key] = ids
