"""The scripted engine: a function as the policy, behind the same protocol as a model.

With it every rollout, test, benchmark and page of documentation runs without a model: ids in, ids out. A
demonstrator, which writes text and may know the answer, becomes an engine too.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ...envs.base import Policy
from ..stage import Played
from .base import Completion, EngineError, FinishReason, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..chat import ChatCodec

Demonstrator = Policy
"""Writes the next reply to a conversation about a task, as text in the environment's format."""
Said = Sequence[int] | Completion
Script = Callable[[Sequence[int], Sampling], Said | Awaitable[Said]]
"""Writes the ids that come after `ids`, a stop token at the end included; plain or asynchronous.

It returns the ids alone (they get the log-probability 0.0) or a whole `Completion`.
"""

ENDLESS = 2**31
"""The context of a function: there is no limit to it."""


@runtime_checkable
class Onlooker(Protocol):
    """An engine that is shown the episodes it plays in, which a model never is: it may know the answer."""

    def look(self, session: str, env: Played) -> None:
        """Take note that `session` is played in `env`, which has just been reset."""
        ...


class ScriptedEngine:
    """An `Engine` whose policy is a function.

    Args:
        script: what answers, see `Script`. Whatever it raises is the engine's failure, as a model's would be.
        context_length: the most tokens that one request may have.

        engine = ScriptedEngine(lambda ids, sampling: codec.encode_reply("17"))
    """

    def __init__(self, script: Script, *, context_length: int = ENDLESS) -> None:
        self.script = script
        self.context_length = context_length
        self.version = 0

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Ask the function. A reply over `max_tokens` or the context is cut, as a model's would be."""
        room = min(sampling.max_tokens, self.context_length - len(ids))
        if room < 1:
            raise ValueError(f"the prompt has {len(ids)} tokens, the context is {self.context_length}")
        try:
            said = self._say(ids, sampling, session)
            if inspect.isawaitable(said):
                said = await said
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"the scripted engine failed: {type(error).__name__}: {error}") from error
        if isinstance(said, Completion):
            return said
        written = list(said)
        stop = next((at for at, token in enumerate(written) if token in sampling.stop_ids), None)
        if stop is None and len(written) < room:
            raise EngineError(
                f"the script wrote {len(written)} tokens without a stop token ({sampling.stop_ids}) at the end, and "
                f"there was room for {room}: a model would have gone on"
            )
        finish = FinishReason.STOP if stop is not None and stop < room else FinishReason.LENGTH
        written = written[: room if stop is None else min(stop + 1, room)]
        return Completion(written, [0.0] * len(written), finish, version=self.version)

    def _say(self, ids: Sequence[int], sampling: Sampling, session: str | None) -> Said | Awaitable[Said]:
        return self.script(ids, sampling)

    def release(self, session: str) -> None:
        """Nothing is kept."""

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Count the version up; a function has no weights."""
        self.version = version

    async def close(self) -> None:
        """Nothing is held."""


class DemonstratorEngine(ScriptedEngine):
    """A demonstrator as an engine: it is shown task and conversation, and its text becomes tokens once.

    Args:
        demonstrator: writes the next reply, with a generator of its own for each episode.
        codec: turns the text into tokens.
    """

    def __init__(self, demonstrator: Demonstrator, codec: ChatCodec) -> None:
        super().__init__(lambda ids, sampling: ())
        self.version = -1  # no weights have written this
        self._write, self._codec = demonstrator, codec
        self._played: dict[str, tuple[Played, np.random.Generator | None]] = {}

    def look(self, session: str, env: Played) -> None:
        """Take note of the episode."""
        self._played[session] = (env, None)

    def _say(self, ids: Sequence[int], sampling: Sampling, session: str | None) -> Said:
        if session is None or session not in self._played:
            raise EngineError("a demonstrator answers in episodes only: it has to be shown the environment")
        env, rng = self._played[session]
        if env.task is None:
            raise EngineError("a demonstrator needs an environment with tasks")
        if rng is None:
            rng = np.random.default_rng(sampling.seed)
            self._played[session] = (env, rng)
        return self._codec.encode_reply(self._write(env.task, env.messages, rng))

    def release(self, session: str) -> None:
        """Forget the episode."""
        self._played.pop(session, None)
