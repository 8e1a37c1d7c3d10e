"""Data, tools and a verifier: the model calls tools until it replies without a call, and that is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from ..tools.chat import Reply, ToolResult
from ..tools.errors import UserError
from ..tools.final_answer import FinalAnswer
from ..tools.formats import ToolFormat, format_named
from ..tools.schema import Function
from ..tools.tool import Tool
from ..tools.toolkit import Toolkit, split
from ..verifiers.base import Task, Verifier
from .base import TextEnv, Turn
from .episode_tools import EpisodeTools, Home
from .tasks import TaskSet

T = TypeVar("T")


class ToolEnv(TextEnv):
    """Let the model use tools for at most `max_turns` replies, then judge its final reply.

        @tool
        def add(a: int, b: int) -> int:
            '''Return the sum.'''
            return a + b

        env = ToolEnv([Task("1", "What is 17 + 25?", "42")], [add], FinalNumber(), max_turns=4)

    A reply with calls is answered by one tool message for each, in the order of the calls; in `astep` they run at
    the same time. A reply with a call that cannot be read is answered by a user message that says what was wrong,
    and none of its calls runs. A reply without calls ends the episode, and without tools any reply does. At the
    turn limit the verifier sees the last reply without its calls, so that a number in a call is no answer.

    `tools` are functions, `Tool`s and `Toolkit`s. Each episode works on toolkits of its own: they are opened with
    `setup(task)` before the first call that needs them, the verifier sees what they say became of their state as
    `episode.evidence`, and they are closed when the episode is over, the environment is closed or a step is cancelled.

    With a final-answer tool (`tools.final_answer`) the answer that is judged is its argument, and calling it ends the
    episode; a reply without calls is then told so.

    `info["tool_results"]` of a step holds the `ToolResult`s, with errors and tracebacks for people. A failure of
    ours in a tool (`InfrastructureError`, a sandbox that broke) ends the episode, ungraded.
    """

    _apart = TextEnv._apart | {"_live", "_owner", "_closing"}

    def __init__(
        self,
        tasks: TaskSet | Sequence[Task],
        tools: Sequence[Tool | Function | Toolkit],
        verifier: Verifier,
        *,
        max_turns: int = 8,
        system_prompt: str | None = None,
        format: ToolFormat | str | None = None,  # noqa: A002 - the name of the contract
        render_mode: str | None = None,
    ) -> None:
        if verifier is None or tasks is None:
            raise UserError(f"{type(self).__name__} needs tasks and a verifier")
        made, self._kits = split(tools)
        self._final = next((item.name for item in made if isinstance(item, FinalAnswer)), None)
        self._handed_in: str | None = None
        written = format_named(format)
        if made and not written.native:  # no chat template tells the model of its tools
            system_prompt = "\n\n".join(filter(None, [system_prompt, written.instructions(made)]))
        super().__init__(
            tasks=tasks,
            verifier=verifier,
            tools=made,
            system_prompt=system_prompt,
            max_turns=max_turns,
            format=written,
            render_mode=render_mode,
        )
        self._live: EpisodeTools | None = None
        self._owner = True  # of what the toolkits share; a `fresh` copy is not
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def toolkits(self) -> tuple[Toolkit, ...]:
        """The toolkits that the episodes get copies of; their tools are among `tools`."""
        return self._kits

    def setup(self, task: Task) -> Mapping[str, Any]:
        """Return what the toolkits of an episode are opened with; as it stands, the `info` of its task."""
        return task.info

    def respond(self, reply: Reply) -> Turn:
        """Run the calls, or end the episode."""
        if not self.tools or reply.parse_error or not reply.tool_calls:
            return self._without_calls(reply)
        live = self._tools_now()
        if all(map(live.direct, reply.tool_calls)):
            return self._observed([live.call_directly(call) for call in reply.tool_calls])
        return self._run(lambda: self.arespond(reply))

    async def arespond(self, reply: Reply) -> Turn:
        """Run the calls at the same time, or end the episode."""
        if not self.tools or reply.parse_error or not reply.tool_calls:
            return self._without_calls(reply)
        live = self._tools_now()
        if all(map(live.direct, reply.tool_calls)):
            return self._observed([live.call_directly(call) for call in reply.tool_calls])
        return self._observed(await live.call(reply.tool_calls))

    def evidence(self) -> Mapping[str, Any]:
        """Return what the toolkits say became of their state, in one mapping."""
        return self._run(self._tools_now().evidence) if self._kits else {}

    async def aevidence(self) -> Mapping[str, Any]:
        """Return the same without blocking the event loop."""
        return await self._tools_now().evidence() if self._kits else {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; see `TextEnv.reset`. The toolkits of one that was left unfinished are closed."""
        self.finish()
        self._handed_in = None
        return super().reset(seed=seed, options=options)

    def fresh(self) -> Self:
        """Return another environment of the same definition; see `TextEnv.fresh`."""
        other = super().fresh()
        other._live = None
        other._owner = False
        return other

    def get_state(self) -> dict[str, Any]:
        """Return the episode as plain data, the state of its toolkits included; see `TextEnv.get_state`."""
        state = super().get_state()
        state["toolkits"] = {} if self._live is None else self._live.get_state(self._kits)
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `get_state` was called; see `TextEnv.set_state`."""
        self.finish()
        super().set_state(state)
        if state["toolkits"]:
            self._tools_now().set_state(state["toolkits"], self._kits)

    def finish(self) -> None:
        """Close the toolkits of the episode."""
        live, self._live = self._live, None
        if live is not None:
            live.close_now(self._closing)

    async def afinish(self) -> None:
        """Close the toolkits of the episode without blocking the event loop."""
        if self._live is not None:
            await self._live.close()
        self.finish()

    def close(self) -> None:
        """Close the toolkits of the episode, and what all episodes share if this is the definition, not a copy."""
        self.finish()
        if self._owner:
            for kit in self._kits:
                kit.shutdown()
        super().close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await self.afinish()
        await asyncio.to_thread(self.close) if self._owner else self.close()

    def judged(self, reply: Reply) -> Reply:
        """Return the reply without its calls; one whose call could not be read holds no answer.

        In ReAct and with a final-answer tool, it is the answer that was handed in.
        """
        if not self.tools:
            return reply
        if self._final is not None:
            return Reply(self._handed_in or "")
        if reply.parse_error:
            return Reply("")
        return Reply(reply.content) if reply.tool_calls or reply.in_text else reply

    def _without_calls(self, reply: Reply) -> Turn:
        if self.tools and reply.parse_error:
            return Turn(reply.parse_error)
        if self._final is not None:
            return Turn(
                f"Error: there is no tool call. When you are done, call {self._final} with the answer."
            )
        return Turn(done=True)

    def _observed(self, results: Sequence[ToolResult]) -> Turn:
        if self._final is not None:
            answers = [result.answer for result in results if result.answer is not None]
            self._handed_in = answers[0] if answers else None
        done = self._handed_in is not None
        return Turn(self.format.observe(results), done=done, info={"tool_results": tuple(results)})

    def _tools_now(self) -> EpisodeTools:
        if self._live is None:
            self._live = EpisodeTools(self.tools, self._kits, self._setup_now)
        return self._live

    def _setup_now(self) -> Mapping[str, Any]:
        assert self.task is not None
        return self.setup(self.task)

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._kits:
            return self._tools_now().run(work)
        home = Home()  # nothing is kept from step to step, so nothing is left to close
        try:
            return home.run(work)
        finally:
            home.close()
