"""A recording gateway: an OpenAI-compatible endpoint in front of any engine, for agents written with anything.

An agent that speaks to `/v1/chat/completions` (the OpenAI SDK, an agent framework, a shell script) is rolled out and
trained as it is: for each session the gateway records the exact token ids, who wrote them, and the sampler's
log-probabilities. See `gateway_record` for when a request continues a sequence and when it begins another.

It listens on this machine alone, answers only requests that are addressed to it by a loopback name (a web page cannot
be tricked into using it), and keeps the end of a session, with its score, to whoever holds the gateway or its control
key: an agent cannot grade itself.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..tools.errors import UserError
from ..tools.formats import ToolFormat, format_named
from ..verifiers.base import Score
from .chat import ChatCodec
from .engines.base import Completion, Engine, EngineError, FinishReason, Sampling
from .gateway_protocol import ChatReply, ChatRequest, RequestError, pieces, read_request, whole
from .gateway_record import Sample, Session
from .selfcheck import checked
from .trajectory import Trajectory

MAX_BODY = 32 * 2**20
"""Bytes of one request."""
_log = logging.getLogger(__name__)
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_NAME = re.compile(r"[\w.:@-]{1,128}")


class Gateway:
    """An OpenAI-compatible server on 127.0.0.1 that records what an engine samples.

        async with Gateway(engine, codec) as gateway:
            client = openai.AsyncOpenAI(base_url=gateway.url("episode-7"), api_key="unused")
            ...                                             # the agent works
            trajectory = gateway.finish("episode-7", Score(1.0))

    A session is named by the path (`gateway.url(name)`), the header `X-Quintain-Session` or the field `user`, in this
    order; without a name it is `default`.

    Args:
        engine: what answers. It is used from the event loop that the gateway is started in, and not closed here.
        codec: the chat template of the engine's model.
        model: the name under which it is listed; requests may name any.
        format: how the model writes tool calls, see `tools.formats`.
        port: where to listen; 0 takes a free one.
        max_tokens: tokens of a reply where the request names no limit.
        timeout_s: seconds for one reply; then the request fails and the session may go on.
        cached: sequences whose caches the engine keeps at most; the longest unused goes first.
        on_finish: sees the trajectory of each session that ends, before anybody else.
    """

    def __init__(
        self,
        engine: Engine,
        codec: ChatCodec,
        *,
        model: str = "quintain",
        format: ToolFormat | str = "hermes",  # noqa: A002 - the name that environments use
        port: int = 0,
        max_tokens: int = 1024,
        timeout_s: float = 600.0,
        cached: int = 64,
        on_finish: Callable[[Trajectory], None] | None = None,
    ) -> None:
        if max_tokens < 1 or timeout_s <= 0 or cached < 1:
            raise UserError(
                f"max_tokens, timeout_s and cached must be above 0, got {max_tokens}, {timeout_s}, {cached}"
            )
        self.engine, self.codec, self.model = engine, codec, model
        self.format = format_named(format)
        self.port, self.max_tokens, self.timeout_s, self.cached = port, max_tokens, timeout_s, cached
        self.control_key = secrets.token_urlsafe(24)
        """Lets another process end sessions: `POST /sessions/NAME/finish` with it as the bearer token."""
        self._on_finish = on_finish
        self._sessions: dict[str, Session] = {}
        self._finished: set[str] = set()
        self._held: OrderedDict[str, Sample] = OrderedDict()  # by last use
        self._runner: web.AppRunner | None = None

    # --- In this process ------------------------------------------------------------------------------------

    def url(self, session: str | None = None) -> str:
        """Return the `base_url` for a client, of one session or without a name in it."""
        root = f"http://127.0.0.1:{self.port}"
        return f"{root}/v1" if session is None else f"{root}/s/{_checked_name(session)}/v1"

    def begin(self, session: str, *, group: int = 0, task_id: str = "") -> None:
        """Say what a session is about; one that nobody announced begins with its first request.

        Raises `UserError` if the name is taken, or cannot stand in a path.
        """
        if session in self._sessions or session in self._finished:
            raise UserError(f"there is a session {session!r} already: names are used once")
        self._sessions[_checked_name(session)] = Session(session, group, task_id)

    @property
    def sessions(self) -> list[str]:
        """The names of the sessions that are not finished."""
        return list(self._sessions)

    def finish(self, session: str, score: Score) -> Trajectory:
        """End a session and return it as a trajectory; requests that still come for it are refused.

        A reply that is still being written is dropped. Raises `UserError` for a session that is not there.
        """
        if session not in self._sessions:
            raise UserError(
                f"there is no session {session!r}; open are: {', '.join(self._sessions) or 'none'}"
            )
        found = self._sessions.pop(session)
        self._finished.add(session)
        for key in [key for key in self._held if key.rpartition("#")[0] == session]:
            del self._held[key]
            self.engine.release(key)
        trajectory = found.trajectory(score)
        if self._on_finish is not None:
            self._on_finish(trajectory)
        return trajectory

    async def start(self) -> None:
        """Listen. Raises `UserError` if the port is taken."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_guarded])
        for prefix in ("", "/s/{session}"):
            app.router.add_post(f"{prefix}/v1/chat/completions", self._chat)
            app.router.add_get(f"{prefix}/v1/models", self._models)
        app.router.add_post("/sessions/{session}/finish", self._finish)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self.port, shutdown_timeout=1.0).start()
        except OSError as error:
            await self.close()
            raise UserError(f"cannot listen on port {self.port}: {error.strerror}; choose another") from None
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening; what is recorded stays. Closing twice is fine."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- Over HTTP ------------------------------------------------------------------------------------------

    async def _models(self, request: web.Request) -> web.Response:
        entry = {"id": self.model, "object": "model", "created": 0, "owned_by": "quintain"}
        return web.json_response({"object": "list", "data": [entry]})

    async def _finish(self, request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(sent.encode(), self.control_key.encode()):
            raise RequestError("a session is ended with the control key of the gateway alone", status=401)
        body = await _json(request)
        value = body.get("score") if isinstance(body, dict) else None
        try:
            if value is None:
                score = Score.ungraded("no score was given")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                score = Score(value)
            else:
                raise ValueError(f"score must be a number from 0 to 1 or null, got {value!r:.40}")
            trajectory = self.finish(request.match_info["session"], score)
        except ValueError as error:
            raise RequestError(str(error)) from None
        return web.Response(text=trajectory.to_json(), content_type="application/json")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = read_request(await _json(request))
        name = (
            request.match_info.get("session")
            or request.headers.get("X-Quintain-Session")
            or asked.user
            or "default"
        )
        answer = await self._answer(self._session(name), asked)
        if not asked.stream:
            return web.json_response(whole(answer, asked))
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        for piece in pieces(answer, asked):
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _session(self, name: str) -> Session:
        if name in self._finished:
            raise RequestError(f"the session {name!r} is finished", status=409, code="session_finished")
        if name not in self._sessions:
            try:
                self.begin(name)
            except UserError as error:
                raise RequestError(str(error)) from None
        return self._sessions[name]

    async def _answer(self, session: Session, asked: ChatRequest) -> ChatReply:
        """Sample the reply to a request and record it; what fails leaves the record as it was."""
        try:
            sample, given, new = session.sample_for(asked.messages, asked.tools, self.codec)
        except UserError as error:
            raise RequestError(f"the chat template cannot write this conversation: {error}") from None
        prompt = [*sample.ids, *given]
        room = self.engine.context_length - len(prompt)
        if room < 1:
            raise RequestError(
                f"the conversation has {len(prompt)} tokens, the model's context is {self.engine.context_length}",
                param="messages",
                code="context_length_exceeded",
            )
        sampling = Sampling(
            max_tokens=min(asked.max_tokens or self.max_tokens, room),
            stop_ids=self.codec.stop_ids,
            temperature=asked.temperature,
            seed=asked.seed,
        )
        said = self._stopped(await self._sampled(session, sample, prompt, sampling), asked.stop)
        if session.name in self._finished:
            raise RequestError(
                f"the session {session.name!r} is finished", status=409, code="session_finished"
            )
        text, cut = self.codec.decode_reply(said.ids), False
        for stop in asked.stop:
            if stop in text:
                text, cut = text[: text.index(stop)], True
        reply = self.format.parse(text, session.calls)
        session.calls += len(reply.tool_calls)
        session.temperatures.add(asked.temperature)
        if not sample.ids:
            session.samples.append(sample)
        sample.add(given, new, said, reply)
        sample.open = said.finish is FinishReason.STOP and not cut
        ended = "stop" if cut or said.finish is FinishReason.STOP else "length"
        return ChatReply(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=asked.model,
            reply=reply,
            finish="tool_calls" if reply.tool_calls and ended == "stop" else ended,
            tokens=[
                (self.codec.tokenizer.decode([token]), value)
                for token, value in zip(said.ids, said.logprobs, strict=True)
            ]
            if asked.logprobs
            else [("", value) for value in said.logprobs],
            prompt_tokens=len(prompt),
        )

    async def _sampled(
        self, session: Session, sample: Sample, prompt: list[int], sampling: Sampling
    ) -> Completion:
        self._hold(sample)
        sample.busy = True
        done = False
        try:
            async with asyncio.timeout(self.timeout_s):
                said = checked(await self.engine.generate(prompt, sampling, session=sample.key), sampling)
            done = True
            return said
        except TimeoutError:
            problem = f"the engine wrote no reply within {self.timeout_s:g} s"
            status, code = 504, "timeout"
        except EngineError as error:
            problem, status, code = f"the engine failed: {error}", 502, "engine_error"
        except ValueError as error:
            problem, status, code = str(error), 400, "context_length_exceeded"
        finally:
            sample.busy = False
            if not done:  # a client that has gone, too: what the engine holds of it is of no use
                self._held.pop(sample.key, None)
                self.engine.release(sample.key)
        session.errors.append(problem)
        raise RequestError(problem, status=status, code=code)

    def _stopped(self, said: Completion, stops: tuple[str, ...]) -> Completion:
        """Cut a completion after the token that completes the first stop string in it."""

        def stops_within(count: int) -> bool:
            text = self.codec.decode_reply(said.ids[:count])
            return any(stop in text for stop in stops)

        if not stops or not stops_within(len(said.ids)):
            return said
        low, high = 1, len(said.ids)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if stops_within(middle) else (middle + 1, high)
        versions = said.versions[:low]
        version = versions[-1] if versions else said.version
        return Completion(said.ids[:low], said.logprobs[:low], said.finish, version, versions)

    def _hold(self, sample: Sample) -> None:
        """Count a sample as the one used last, and let go of the cache of the one that was not used for longest."""
        self._held[sample.key] = sample
        self._held.move_to_end(sample.key)
        idle = [key for key, held in self._held.items() if not held.busy and key != sample.key]
        for key in idle[: max(0, len(self._held) - self.cached)]:
            del self._held[key]
            self.engine.release(key)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"a session's name has 1 to 128 letters, digits or any of . _ : @ -, got {name[:140]!r}"
        )
    return name


async def _json(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise RequestError("the content type must be application/json", status=415)
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise RequestError("the body is no JSON") from None


@web.middleware
async def _guarded(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer only what is addressed to this machine, and write every refusal in OpenAI's shape."""
    try:
        if not _LOOPBACK.fullmatch(request.headers.get("Host", "")):
            raise RequestError("the gateway answers on this machine alone: ask 127.0.0.1", status=403)
        response: web.StreamResponse = await handler(request)
        return response
    except RequestError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPException as error:
        problem = RequestError(f"{request.method} {request.path}: {error.reason}", status=error.status)
        return web.json_response(problem.body, status=error.status)
    except Exception as error:  # a mistake of ours: the client is told in the shape it can read
        _log.exception("the gateway failed")
        problem = RequestError(f"the gateway failed: {type(error).__name__}: {error}", status=500)
        return web.json_response(problem.body, status=500)
