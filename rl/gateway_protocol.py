"""The words of the gateway: what a chat-completion request asks for, and how answers and refusals are written.

A request is read strictly. What cannot be honoured exactly, or is not known, is refused with a sentence that says so:
an option that is silently dropped would change what is sampled, and with it what is learned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..tools.chat import Message, Reply

MAX_STOPS = 16
"""Stop strings of one request."""

_IGNORED = frozenset(
    {"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""Fields that change nothing of what is sampled."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "parallel_tool_calls": (True,),
    "tool_choice": ("auto", "none"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Options that are taken with these values only: any other would change the distribution in a way that the recorded
log-probabilities do not tell, or is not supported."""


class RequestError(Exception):
    """A request cannot be honoured: the text says why, `status` and `code` go to the client."""

    def __init__(
        self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat-completion request that can be honoured."""

    model: str
    messages: tuple[Message, ...]
    """In our own shape: arguments are objects, contents are text."""
    tools: tuple[dict[str, Any], ...]
    max_tokens: int | None
    temperature: float
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    logprobs: bool
    user: str | None


def read_request(body: object) -> ChatRequest:
    """Return what a request asks for. Raises `RequestError`."""
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    asked = {key: value for key, value in body.items() if value is not None and key not in _IGNORED}
    for key, fine in _NEUTRAL.items():
        if key in asked and asked.pop(key) not in fine:
            allowed = " or ".join(json.dumps(value) for value in fine)
            raise RequestError(
                f"{key} = {json.dumps(body[key])[:80]} cannot be honoured: what is recorded must be what the model "
                f"sampled from its whole distribution, one reply at a time; leave it out (it may be {allowed})",
                param=key,
                code="unsupported_value",
            )
    model = _taken(asked, "model", str, "quintain")
    messages = _messages(asked.pop("messages", None))
    tools = _tools(asked.pop("tools", []))
    if body.get("tool_choice") == "none":
        tools = ()
    limits = [_whole(asked, key, 1) for key in ("max_tokens", "max_completion_tokens")]
    temperature = _taken(asked, "temperature", (int, float), 1.0)
    if not 0 <= temperature <= 100 or not math.isfinite(temperature):
        raise RequestError(f"temperature must be from 0 on, got {temperature}", param="temperature")
    stop = asked.pop("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > MAX_STOPS or not all(isinstance(s, str) and s for s in stop):
        raise RequestError(f"stop must be a text or a list of at most {MAX_STOPS} texts", param="stop")
    seed = _whole(asked, "seed", None)
    stream = _taken(asked, "stream", bool, False)
    options = _taken(asked, "stream_options", dict, {})
    logprobs = _taken(asked, "logprobs", bool, False)
    user = _taken(asked, "user", str, None)
    if asked:
        names = ", ".join(sorted(map(str, asked)))
        raise RequestError(f"the gateway does not know {names[:200]}: leave it out", param=sorted(asked)[0])
    return ChatRequest(
        model=model,
        messages=messages,
        tools=tools,
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        temperature=float(temperature),
        seed=None if seed is None else seed % 2**63,
        stop=tuple(stop),
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        logprobs=logprobs,
        user=user,
    )


def _taken(asked: dict[str, Any], key: str, kind: Any, default: Any) -> Any:
    value = asked.pop(key, default)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if value is not default and (
        not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    ):
        names = " or ".join(k.__name__ for k in kinds)
        raise RequestError(f"{key} must be of type {names}, got {json.dumps(value)[:80]}", param=key)
    return value


def _whole(asked: dict[str, Any], key: str, least: int | None) -> int | None:
    value = cast("int | None", _taken(asked, key, int, None))
    if value is not None and least is not None and value < least:
        raise RequestError(f"{key} must be at least {least}, got {value}", param=key)
    return value


def _tools(given: object) -> tuple[dict[str, Any], ...]:
    if not isinstance(given, list):
        raise RequestError("tools must be a list", param="tools")
    for tool in given:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError("each of tools must be a function with a name", param="tools")
    # Some templates read these two without asking whether they are there.
    empty = {"description": "", "parameters": {"type": "object", "properties": {}}}
    return tuple({"type": "function", "function": {**empty, **tool["function"]}} for tool in given)


def _messages(given: object) -> tuple[Message, ...]:
    if not isinstance(given, list) or not given:
        raise RequestError("messages must be a list with at least one message", param="messages")
    found: list[Message] = []
    names: dict[str, str] = {}
    for at, message in enumerate(given):
        where = f"messages[{at}]"
        if not isinstance(message, dict):
            raise RequestError(f"{where} must be an object", param=where)
        role = {"developer": "system"}.get(str(message.get("role")), message.get("role"))
        plain: dict[str, Any] = {"role": role, "content": _text(message.get("content"), where)}
        if role == "assistant":
            reasoning = message.get("reasoning_content")
            if isinstance(reasoning, str):
                plain["reasoning_content"] = reasoning
            if message.get("tool_calls"):
                plain["tool_calls"] = _calls(message["tool_calls"], where, names)
        elif role == "tool":
            called = message.get("tool_call_id")
            if not isinstance(called, str):
                raise RequestError(f"{where} answers no call: tool_call_id is missing", param=where)
            plain["tool_call_id"] = called
            plain["name"] = names.get(called, str(message.get("name", "")))
        elif role not in ("system", "user"):
            raise RequestError(
                f"{where} has the role {role!r}; the roles are system, user, assistant, tool", param=where
            )
        found.append(cast("Message", plain))
    if found[-1]["role"] == "assistant":
        raise RequestError(
            "the last message is the assistant's: there is nothing to reply to", param="messages"
        )
    return tuple(found)


def _text(content: object, where: str) -> str:
    parts = content if isinstance(content, list) else [content]
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if text is not None and not isinstance(text, str):
            raise RequestError(f"{where}: content must be text", param=where)
        texts.append(text or "")
    whole_text = "".join(texts)
    if not is_unicode(whole_text):
        raise RequestError(f"{where}: content holds half of a surrogate pair", param=where)
    return whole_text


def is_unicode(text: str) -> bool:
    """Say whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _calls(given: object, where: str, names: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        for call in cast("list[Any]", given):
            function = call["function"]
            arguments = json.loads(function["arguments"] or "{}")
            if not isinstance(arguments, dict):
                raise TypeError
            names[call["id"]] = function["name"]
            found.append(
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": function["name"], "arguments": arguments},
                }
            )
    except (LookupError, TypeError, ValueError, RecursionError):
        raise RequestError(
            f"{where}: each of tool_calls needs an id and a function with a name and arguments (a JSON object as text)",
            param=where,
        ) from None
    return found


# --- Answers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the gateway answers with."""

    id: str
    created: int
    model: str
    reply: Reply
    finish: str
    """`stop`, `length` or `tool_calls`."""
    tokens: Sequence[tuple[str, float]]
    """The text and the log-probability (nats) of each sampled token."""
    prompt_tokens: int


def whole(answer: ChatReply, request: ChatRequest) -> dict[str, Any]:
    """Return a `chat.completion`."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "refusal": None, **_said(answer.reply)},
        "finish_reason": answer.finish,
        "logprobs": _logprobs(answer) if request.logprobs else None,
    }
    return {**_head(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)}


def pieces(answer: ChatReply, request: ChatRequest) -> list[dict[str, Any]]:
    """Return the same as `chat.completion.chunk`s."""
    head = _head(answer, "chat.completion.chunk")
    said = _said(answer.reply)
    calls = said.pop("tool_calls", [])
    logprobs = _logprobs(answer) if request.logprobs else None
    deltas: list[dict[str, Any]] = [{"role": "assistant", **said}]
    deltas += [{"tool_calls": [{"index": at, **call}]} for at, call in enumerate(calls)]
    found = [
        {
            **head,
            "choices": [
                {
                    "index": 0,
                    "delta": delta,
                    "finish_reason": None,
                    "logprobs": None if number else logprobs,
                }
            ],
        }
        for number, delta in enumerate(deltas)
    ]
    found.append(
        {
            **head,
            "choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish, "logprobs": None}],
        }
    )
    if request.include_usage:
        found = [{**piece, "usage": None} for piece in found]
        found.append({**head, "choices": [], "usage": _usage(answer)})
    return found


def _head(answer: ChatReply, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _said(reply: Reply) -> dict[str, Any]:
    message = cast("Mapping[str, Any]", reply.as_message())
    said: dict[str, Any] = {"content": message["content"] or (None if reply.tool_calls else "")}
    if reply.reasoning is not None:
        said["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for call in reply.tool_calls
        ]
    return said


def _logprobs(answer: ChatReply) -> dict[str, Any]:
    return {
        "content": [
            {"token": text, "logprob": value, "bytes": list(text.encode()), "top_logprobs": []}
            for text, value in answer.tokens
        ],
        "refusal": None,
    }


def _usage(answer: ChatReply) -> dict[str, int]:
    count = len(answer.tokens)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": count,
        "total_tokens": answer.prompt_tokens + count,
    }
