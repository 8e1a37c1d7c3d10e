"""Environments behind an OpenEnv server, played through the real client over its WebSocket.

    env = OpenEnv("http://localhost:8000")

Every episode has a session of its own on the server, opened by `reset` and closed when the episode ends. What OpenEnv
calls an action and an observation are records; the fields that hold the text are found from the server's schema, or
named.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

import aiohttp

from ...tools.chat import Message, Reply
from ...tools.errors import InfrastructureError, UserError
from ...verifiers.base import Task
from ..base import Turn
from ..card import Card
from .foreign import ForeignEnv, Randomness, Said, World, boundary, need, seeds_as_tasks

LIBRARY = "openenv"
T = TypeVar("T")


class OpenEnv(ForeignEnv):
    """An environment of an OpenEnv server.

    The return is the sum of the server's rewards. A server of ours says when an episode could not be graded; it then
    is ungraded here as well.

    Args:
        url: Of the server, `http://` or `ws://`.
        action: The field of an action that takes the reply; None finds it if there is only one text field.
        observation: The field of an observation that the model sees; None takes its chat messages or its only text
            field, and the whole record as JSON where it has neither.
        reset: Further arguments of the server's `reset`.
        headers: HTTP headers, for a server that wants to know who asks.
        split: "train", "validation" or "test"; no seed of one belongs to another.
        seed: Other seeds give other episodes.
        scale: The return that is worth 0, and the one that is worth 1.
        max_turns: Replies until we end the episode; None leaves that to the server.
        timeout_s: Seconds that the server may take to connect, to reset and to step, each.
        render_mode: None or "ansi".

    Raises `UserError` if the package is missing, the server cannot be reached, or `action` is needed.
    """

    library = LIBRARY

    def __init__(
        self,
        url: str,
        *,
        action: str | None = None,
        observation: str | None = None,
        reset: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        split: str = "train",
        seed: int = 0,
        scale: Sequence[float] = (0.0, 1.0),
        max_turns: int | None = None,
        timeout_s: float = 60.0,
        render_mode: str | None = None,
    ) -> None:
        need("openenv.core")
        self.url = url.rstrip("/")
        self.field = observation
        self.reset_options = dict(reset or {})
        self.headers = dict(headers or {})
        self.timeout_s = timeout_s
        self.loop = _Loop()
        try:
            self.action = self._action_field(action)
        except BaseException:
            self.loop.close()
            raise
        tasks = seeds_as_tasks(f"{LIBRARY}-{self.url}", split, seed)
        super().__init__(scale=scale, tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self._opened.append(self.loop)
        self.card = Card(
            what=f"The OpenEnv environment at {self.url}.",
            reward=f"The server's rewards, summed and mapped from {self.low:g}..{self.high:g} to 0..1.",
            difficulty="That of the server.",
            oracle="None.",
            source=self.url,
            tags=(LIBRARY,),
        )

    def begin(self, task: Task) -> str | Sequence[Message]:
        """Open a session and reset it."""
        self._hang_up()
        own = task.info.get("seed")
        seed = int(self.np_random.integers(2**31)) if own is None else int(own)
        with boundary(LIBRARY, f"the server at {self.url} cannot start an episode"):
            client, said = self.loop.run(self._start(seed), 2 * self.timeout_s + 5)
        self.world = World(client, Randomness(seed))
        return said.text

    def open(self, task: Task, seed: int) -> Any:
        """Not used: sessions are opened by `begin`."""
        raise NotImplementedError

    def play(self, env: Any, action: str) -> Said:
        """Step."""
        return self.loop.run(self._step(env, action), self.timeout_s + 5)

    def respond(self, reply: Reply) -> Turn:
        """Step, and wait."""
        with boundary(LIBRARY, "a step failed"):
            return self.paid(self.play(self.world.env, reply.content))

    async def arespond(self, reply: Reply) -> Turn:
        """Step without blocking the event loop."""
        with boundary(LIBRARY, "a step failed"):
            said = await self.loop.arun(self._step(self.world.env, reply.content), self.timeout_s + 5)
        return self.paid(said)

    def fresh(self) -> Self:
        """Return another environment on the same server, in no session."""
        other = super().fresh()
        other.__dict__.pop("world", None)
        return other

    def close(self) -> None:
        """Close the session; the environment that was constructed also ends the connections of its copies."""
        self._hang_up()
        super().close()

    # --- on the loop

    async def _start(self, seed: int) -> tuple[Any, Said]:
        from openenv.core import GenericEnvClient

        client = GenericEnvClient(
            base_url=self.url,
            connect_timeout_s=self.timeout_s,
            message_timeout_s=self.timeout_s,
            headers=self.headers or None,
        )
        try:
            await client.connect()
            return client, self._said(await client.reset(seed=seed, **self.reset_options))
        except BaseException:
            with suppress(Exception):
                await client.close()
            raise

    async def _step(self, client: Any, action: str) -> Said:
        said = self._said(await client.step({self.action: action}))
        if said.done:  # the server has a limited number of sessions
            with suppress(Exception):
                await client.close()
        return said

    def _said(self, result: Any) -> Said:
        record: Mapping[str, Any] = result.observation
        told = (result.metadata or record.get("metadata") or {}).get("score")
        if isinstance(told, Mapping) and told.get("graded") is False:
            raise InfrastructureError(LIBRARY, f"the server could not grade: {told.get('reason')}")
        return Said(self._text(record), result.reward, bool(result.done))

    def _text(self, record: Mapping[str, Any]) -> str | Sequence[Message]:
        if self.field is not None:
            if self.field not in record:
                raise KeyError(f"the observation has no field {self.field!r}; it has: {', '.join(record)}")
            value = record[self.field]
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        messages = record.get("messages")
        if isinstance(messages, list) and all(_is_message(item) for item in messages):
            return messages
        rest = {key: value for key, value in record.items() if key != "metadata"}
        texts = [value for value in rest.values() if isinstance(value, str)]
        return texts[0] if len(texts) == 1 else json.dumps(rest, ensure_ascii=False)

    def _action_field(self, named: str | None) -> str:
        try:
            schema = self.loop.run(self._schema(), self.timeout_s + 5)
        except Exception as error:
            raise UserError(
                f"no OpenEnv server answers at {self.url}: {type(error).__name__}: {error}"
            ) from error
        fields = {key: part for key, part in schema["action"]["properties"].items() if key != "metadata"}
        if named is not None:
            if named not in fields:
                raise UserError(
                    f"an action of {self.url} has no field {named!r}; it has: {', '.join(fields)}"
                )
            return named
        texts = [key for key, part in fields.items() if part.get("type") == "string"]
        if len(texts) != 1:
            raise UserError(
                f"which field of an action of {self.url} takes the reply? Give action=; "
                f"the fields are: {', '.join(fields) or 'none'}"
            )
        return str(texts[0])

    async def _schema(self) -> dict[str, Any]:
        address = self.url.replace("ws://", "http://", 1).replace("wss://", "https://", 1)
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=self.headers) as session,
            session.get(f"{address}/schema") as response,
        ):
            response.raise_for_status()
            schema: dict[str, Any] = await response.json()
        return schema

    def _hang_up(self) -> None:
        world = self.__dict__.pop("world", None)
        if world is not None:
            with suppress(Exception):
                self.loop.run(_closed(world.env), 5.0)


async def _closed(client: Any) -> None:
    await client.close()


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item


class _Loop:
    """An event loop in a thread, for the client's connections: `step` and `astep` are both welcome to it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quintain-openenv", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Run `work` and wait for it, at most `limit_s` seconds."""
        return self._started(work, limit_s).result(limit_s + 5)

    async def arun(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Run `work` and await it, at most `limit_s` seconds."""
        return await asyncio.wrap_future(self._started(work, limit_s))

    def _started(self, work: Coroutine[Any, Any, T], limit_s: float) -> Future[T]:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the environment has been closed")
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self._loop)

    def close(self) -> None:
        """Stop the thread. Closing twice is fine."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()
