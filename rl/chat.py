"""Between messages and token ids: prompts, the deltas that continue a conversation, and replies as text.

What the model sampled is never tokenised again. A conversation grows by appending: the ids of the prompt, the
sampled ids as they came, then the *delta*, which is what the chat template puts after a finished reply when
the environment's new messages follow. Where a template rewrites what was said before, there is nothing to append
to, and the conversation goes on as a new sequence with a prompt of its own: see `ChatCodec.grows`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..tools.chat import Message
from ..tools.errors import UserError

CACHE = 20_000
"""How many rendered prompts and deltas are kept: tool results repeat, and rendering costs half a millisecond."""

_MARK, _THOUGHT, _CALLED = "QXZQ", "ZQXZ", "XQZX"
"""The words, the reasoning and the tool of a reply that is only there to be found again in a rendering."""
_ASKED: Message = {"role": "user", "content": "q"}
_ANSWERED: Message = {"role": "assistant", "content": _MARK}


class ChatCodec:
    """Turns messages into ids and sampled ids into text, for one tokenizer and its chat template.

    Args:
        tokenizer: with a chat template, or give one.
        chat_template: a Jinja template that replaces the tokenizer's own.

    Raises `UserError` if there is no template, if it has no generation prompt, or if the tokenizer does not know
    what ends a reply in it.
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
        self._growth: dict[str, bool] = {}
        self._check_generation_prompt()
        self._writes_calls = self._finds_calls()
        self.end_id, self._end = self._find_end()
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
        """Return the ids to append after a reply that ended with a stop token, when `messages` come next.

        Raises `UserError` for messages that the template cannot write.
        """
        key = json.dumps(messages)
        if key not in self._deltas:
            whole = self._whole(messages)
            # Llama 3 writes of a reply with calls the calls alone.
            mark = max(whole.rfind(_MARK), whole.rfind(_CALLED))
            at = whole.find(self._end, mark)
            if mark < 0 or at < 0:
                raise UserError(
                    f"the chat template writes no end of a reply before {_roles(messages)} messages, so the "
                    "conversation cannot be continued; give another with model.chat_template"
                )
            # With what ends the reply in front, so that the text is cut into tokens as it is in a whole rendering.
            _remember(self._deltas, key, self.encode(whole[at:])[1:])
        return self._deltas[key]

    def grows(
        self, messages: Sequence[Message], following: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> bool:
        """Say whether a conversation grows by appending when `following` come after it.

        `messages` end with the model's reply. The rule: the template writes a conversation of the same *shape*, made
        of placeholders (the same roles, replies with words, reasoning and calls where these have them, tools if
        there are any), with `following` and without. It grows if the longer text begins with the shorter one, and
        the reply in it still has its words, its reasoning and its calls. Otherwise the template has rewritten what
        the engine saw: Qwen 3 drops `<think>` once a new question comes, Mistral moves tools and system prompt to
        the last question. Placeholders are used because a reply's own text may be written another way than the model
        wrote it, which is no reason to feed it that way.
        """
        shape = _shape(messages, following, tools)
        if shape not in self._growth:
            if len(self._growth) >= CACHE:
                self._growth.clear()
            self._growth[shape] = self._shape_grows(messages, following, tools)
        return self._growth[shape]

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
        if not whole.startswith(waiting) or self._end not in whole[len(waiting) :]:
            raise UserError(f"the chat template writes no reply for the message {message!r:.120}")
        return whole[len(waiting) : whole.rindex(self._end)]

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
        try:
            return self._apply(messages, tools, generation)
        except Exception as error:
            try:  # Mistral's templates take call ids of nine letters and digits alone
                return self._apply([_nine(m) for m in messages], tools, generation)
            except Exception:
                raise UserError(
                    f"the chat template cannot write {_roles(messages)} messages: {error}; give another with "
                    "model.chat_template, or the environment a tool-call format that this one knows"
                ) from error

    def _apply(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], generation: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=generation,
        )
        return str(text)

    def _whole(self, following: Sequence[Message]) -> str:
        """Return a question, a reply that `following` can come after, and `following`, waiting for the next reply."""
        calls = [m for m in following if m["role"] == "tool"]
        try:
            return self._render([_ASKED, _replied(_MARK, calls), *following], generation=True)
        except UserError:
            if len(calls) < 2:
                raise
            # Llama 3 refuses a reply with two calls; their results it writes all the same.
            return self._render([_ASKED, _replied(_MARK, calls[:1]), *following], generation=True)

    def _shape_grows(
        self, messages: Sequence[Message], following: Sequence[Message], tools: Sequence[dict[str, Any]]
    ) -> bool:
        found = _placeholders([*messages, *following])
        earlier, reply, new = found[: len(messages) - 1], found[len(messages) - 1], found[len(messages) :]
        before = self._render(earlier, tools, generation=True)
        after = self._render([*earlier, reply, *new], tools, generation=True)
        if not after.startswith(before):
            return False
        calls = [_CALLED] if self._writes_calls and reply.get("tool_calls") else []
        words = [word for word in (_MARK, _THOUGHT) if word in str(reply["content"])]
        return all(word in after[len(before) :] for word in words + calls)

    def _check_generation_prompt(self) -> None:
        waiting, plain = self._render([_ASKED], generation=True), self._render([_ASKED])
        replied = self._render([_ASKED, _ANSWERED])
        # Mistral's needs none: what follows the question is the reply itself.
        ready = replied.startswith(plain) and replied[len(plain) :].lstrip().startswith(_MARK)
        if not ready and (waiting == plain or not waiting.startswith(plain)):
            raise UserError(
                "the chat template adds no generation prompt (it must honour add_generation_prompt), so the model "
                "would not know that it is its turn; give another with model.chat_template"
            )

    def _finds_calls(self) -> bool:
        """Say whether the template writes tool calls at all; one that does not leaves them in the text."""
        result: Message = {"role": "tool", "content": "t", "name": _CALLED, "tool_call_id": "call_0"}
        try:
            return _CALLED in self._render([_ASKED, _replied("", [result])])
        except UserError:
            return False

    def _find_end(self) -> tuple[int, str]:
        """Return the id and the text of what ends a reply in this template."""
        whole = self._render([_ASKED, _ANSWERED])
        tail = whole.rpartition(_MARK)[2]
        ids = self.encode(tail)
        known = {
            *self.tokenizer.all_special_ids,
            *self.tokenizer.added_tokens_decoder,
            self.tokenizer.eos_token_id,
        }
        if not ids or ids[0] not in known:
            word = tail.split("\n")[0].strip()
            if word.startswith("<"):
                raise UserError(
                    f"the chat template ends a reply with {word!r}, which the tokenizer does not know as one token "
                    f"(it reads {len(self.encode(word))}), so the end of a reply cannot be sampled; add the token, or "
                    "give a template of this tokenizer with model.chat_template"
                )
            raise UserError(
                "the chat template does not end a reply with a special token, so the end of a reply cannot be "
                f"sampled (after a reply it writes {tail!r}); give another with model.chat_template"
            )
        return ids[0], str(self.tokenizer.convert_ids_to_tokens(ids[0]))


def _replied(text: str, results: Sequence[Message]) -> Message:
    """Return a reply that the `results` of tools can come after: some templates want the call before its result."""
    if not results:
        return {"role": "assistant", "content": text}
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {
                "id": m.get("tool_call_id", "call_0"),
                "type": "function",
                "function": {"name": _CALLED, "arguments": {}},
            }
            for m in results
        ],
    }


def _shape(messages: Sequence[Message], following: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
    marks = [
        m["role"][0]
        + ("r" if m.get("reasoning_content") else "")
        + ("" if m.get("content") else "e")
        + ("c" if m.get("tool_calls") else "")
        for m in messages
    ]
    return f"{bool(tools)} {' '.join(marks)} > {' '.join(m['role'][0] for m in following)}"


def _placeholders(messages: Sequence[Message]) -> list[Message]:
    """Return messages of the same shape that say nothing, each something else (Mistral's templates compare them).

    A reply's reasoning is put into its text, as the model wrote it: a template that knows nothing of reasoning then
    keeps it. Calls are those that the results after them want.
    """
    found: list[Message] = []
    for at, message in enumerate(messages):
        role = message["role"]
        if role == "assistant":
            text = f"{_MARK}{at}" if message.get("content") else ""
            if message.get("reasoning_content"):
                text = f"<think>\n{_THOUGHT}{at}\n</think>\n\n{text}"
            result = messages[at + 1 : at + 2]
            found.append(_replied(text, result if result and result[0]["role"] == "tool" else ()))
        elif role == "tool":
            found.append({**message, "content": "t"})
        else:
            found.append({"role": role, "content": f"{role[0]}{at}"})
    return found


def _nine(message: Message) -> Message:
    """Return the message with call ids of nine letters and digits."""
    changed: dict[str, Any] = dict(message)
    if "tool_call_id" in changed:
        changed["tool_call_id"] = _nine_letters(str(changed["tool_call_id"]))
    if changed.get("tool_calls"):
        changed["tool_calls"] = [
            {**call, "id": _nine_letters(str(call["id"]))} for call in changed["tool_calls"]
        ]
    return changed  # type: ignore[return-value]


def _nine_letters(name: str) -> str:
    return "".join(c for c in name if c.isascii() and c.isalnum())[-9:].rjust(9, "0")


def _roles(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(m["role"]) for m in messages]


def _remember(cache: dict[str, list[int]], key: str, ids: list[int]) -> None:
    if len(cache) >= CACHE:
        cache.clear()
    cache[key] = ids
