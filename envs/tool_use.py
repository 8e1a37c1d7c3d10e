"""Data, tools and a verifier: the model calls tools until it replies without a call, and that is judged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..tools.chat import Reply, ToolCall, ToolResult
from ..tools.errors import UserError
from ..tools.formats import ToolFormat
from ..tools.schema import Function
from ..tools.tool import Tool, unknown_tool
from ..verifiers.base import Task, Verifier
from .base import TextEnv, Turn
from .tasks import TaskSet


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

    `info["tool_results"]` of a step holds the `ToolResult`s, with errors and tracebacks for people. A failure of
    ours in a tool (`InfrastructureError`, a sandbox that broke) ends the episode, ungraded.
    """

    def __init__(
        self,
        tasks: TaskSet | Sequence[Task],
        tools: Sequence[Tool | Function],
        verifier: Verifier,
        *,
        max_turns: int = 8,
        system_prompt: str | None = None,
        format: ToolFormat | None = None,  # noqa: A002 - the name of the contract
        render_mode: str | None = None,
    ) -> None:
        if verifier is None or tasks is None:
            raise UserError(f"{type(self).__name__} needs tasks and a verifier")
        super().__init__(
            tasks=tasks,
            verifier=verifier,
            tools=tools,
            system_prompt=system_prompt,
            max_turns=max_turns,
            format=format,
            render_mode=render_mode,
        )
        self._by_name = {item.name: item for item in self.tools}

    def respond(self, reply: Reply) -> Turn:
        """Run the calls one after the other, or end the episode."""
        if not self.tools or reply.parse_error or not reply.tool_calls:
            return self._without_calls(reply)
        if all(self._is_inline(call) for call in reply.tool_calls):
            return _observed([self._call_inline(call) for call in reply.tool_calls])
        return _run(lambda: self.arespond(reply))

    async def arespond(self, reply: Reply) -> Turn:
        """Run the calls at the same time, or end the episode."""
        if not self.tools or reply.parse_error or not reply.tool_calls:
            return self._without_calls(reply)
        if all(self._is_inline(call) for call in reply.tool_calls):
            return _observed([self._call_inline(call) for call in reply.tool_calls])
        results = await asyncio.gather(*map(self._call, reply.tool_calls), return_exceptions=True)
        done: list[ToolResult] = []
        for result in results:
            if isinstance(result, BaseException):  # of ours; the first in call order
                raise result
            done.append(result)
        return _observed(done)

    def judged(self, reply: Reply) -> Reply:
        """Return the reply without its calls; one whose call could not be read holds no answer."""
        if not self.tools:
            return reply
        if reply.parse_error:
            return Reply("")
        return Reply(reply.content) if reply.tool_calls else reply

    def _without_calls(self, reply: Reply) -> Turn:
        if self.tools and reply.parse_error:
            return Turn(reply.parse_error)
        return Turn(done=True)

    def _is_inline(self, call: ToolCall) -> bool:
        tool = self._by_name.get(call.name)
        return tool is None or tool.inline

    def _call_inline(self, call: ToolCall) -> ToolResult:
        tool = self._by_name.get(call.name)
        return unknown_tool(call, self._by_name) if tool is None else tool.call_inline(call)

    async def _call(self, call: ToolCall) -> ToolResult:
        tool = self._by_name.get(call.name)
        return unknown_tool(call, self._by_name) if tool is None else await tool.call(call)


def _observed(results: Sequence[ToolResult]) -> Turn:
    return Turn([result.as_message() for result in results], info={"tool_results": tuple(results)})


def _run(work: Callable[[], Coroutine[Any, Any, Turn]]) -> Turn:
    """Run asynchronous work from `step`: on a loop of its own, in a thread if this one already has a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    outcome: list[Turn] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="quintain-step")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
