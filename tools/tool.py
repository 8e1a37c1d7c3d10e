"""A typed Python function as a tool that a model may call.

The schema that the model sees comes out of the function's hints and docstring; the arguments it writes are
checked against the same schema before the function runs. What goes wrong inside a call becomes a bounded
text for the model (`ToolResult`); only a failure of ours (`InfrastructureError`) is raised.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import re
import time
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

from ..sandboxes.base import SandboxError
from .chat import ToolCall, ToolResult
from .docstring import read_docstring
from .errors import InfrastructureError, ToolError, UserError, nearest
from .given_schema import given
from .running import Gate, Pace, in_thread
from .schema import (
    Arguments,
    ArgumentsError,
    Function,
    GivenArguments,
    TypedArguments,
    is_method,
    short,
    takes,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
TIMEOUT_S = 30.0
"""Seconds that a call may take if the tool says nothing else."""

_DETAIL_CHARS = 8_000  # of a traceback kept for a person: the frames near the error are at its end


class Tool:
    """A function that a model may call, with its description and limits.

        @tool
        def area(width: float, height: float) -> float:
            '''Return the area of a rectangle.

            Args:
                width: In metres.
                height: In metres.
            '''
            return width * height

    A tool returns text; anything else it returns is written as JSON. It may be asynchronous. A plain
    function runs inline, on the event loop: right for microseconds of work. One that waits or computes for
    longer declares `blocking=True`, or a `timeout_s` or `concurrency`, and runs in a thread of its own; one that does
    not and is slow all the same is warned about, unless it says `blocking=False`. `lazy=True`
    builds the schema when it is first asked for, and not at once: for tools that are made when a module is imported.

    With `parameters`, the JSON schema of an object, the schema is taken as it is: the function gets the arguments as
    keywords, checked against it, and needs no hints.

    Attributes:
        name: What the model calls it; letters, digits, `_` and `-`, at most 64.
        description: What the model is told about it.
        timeout_s: Seconds until the call is given up, by default 30, None for no limit. An inline function cannot be
            interrupted, so it has none in effect; a blocking one is left behind in its thread.
        concurrency: Calls that may run at the same time, in all episodes together; None for no limit. Waiting for
            a turn is not counted in `timeout_s`.
        output_chars: Characters of output that the model sees; the middle of anything longer is cut out.
        inline: Whether `call_inline` may be used: a plain function that does not block.
        unbound: Whether it is a method whose object is still missing. A decorated method becomes a tool of the object
            when it is read from one, as methods do: `thing.look`.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str | None = None,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout_s: float | types.EllipsisType | None = ...,
        output_chars: int = 8_000,
        blocking: bool | None = None,
        concurrency: int | None = None,
        lazy: bool = False,
    ) -> None:
        if not callable(function):
            raise UserError(f"a tool is made of a function with type hints, got {function!r:.60}")
        self.name = getattr(function, "__name__", type(function).__name__) if name is None else name
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UserError(
                f"a tool's name must be letters, digits, _ and -, at most 64, got {self.name!r}; "
                "give one with name="
            )
        limited = not isinstance(timeout_s, types.EllipsisType) and timeout_s is not None
        self.timeout_s = TIMEOUT_S if isinstance(timeout_s, types.EllipsisType) else timeout_s
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise UserError(f"tool {self.name!r}: timeout_s must be positive or None, got {timeout_s!r}")
        if output_chars < 100:
            raise UserError(f"tool {self.name!r}: output_chars must be at least 100, got {output_chars!r}")
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise UserError(
                f"tool {self.name!r}: concurrency must be at least 1 or None, got {concurrency!r}"
            )
        summary, self._described = read_docstring(inspect.getdoc(function) or "")
        self.description = (summary if description is None else description).strip()
        if not self.description:
            raise UserError(
                f"tool {self.name!r} has no description: write a docstring that tells the model what it does"
            )
        self.function = function
        self.output_chars = output_chars
        self.is_async = is_asynchronous(function)
        if self.is_async and blocking:
            raise UserError(f"tool {self.name!r} is asynchronous: leave blocking=True out")
        if blocking is False and (limited or concurrency) and not self.is_async:
            raise UserError(
                f"tool {self.name!r} is a plain function that runs inline, where nothing can limit it: "
                "leave blocking=False out, and it runs in a thread"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UserError(f"tool {self.name!r} is a generator: return a text or a list instead of yielding")
        self.inline = not (self.is_async or blocking or limited or concurrency)
        self._pace = None if blocking is False else Pace()
        self.concurrency = concurrency
        self._gate = None if concurrency is None else Gate(concurrency)
        self.unbound = is_method(function)
        if parameters is not None:
            self.__dict__["_arguments"] = GivenArguments(given(self.name, parameters))
        elif not lazy:
            _ = self.parameters  # whatever is wrong with the hints is said here

    @classmethod
    def from_function(cls, function: Function, **options: Any) -> Tool:
        """Make a tool of a typed function; the options are those of the constructor.

        Raises `UserError` for a parameter without a type hint, a type without a JSON schema, `*args` or
        `**kwargs`, and a missing description.
        """
        return cls(function, **options)

    def __get__(self, instance: object, owner: type | None = None) -> Tool:
        """Bind a tool that is a method to its object; any other is itself."""
        if instance is None or not self.unbound:
            return self
        bound = copy.copy(self)  # with the schema, if it is made
        bound.function = types.MethodType(self.function, instance)
        bound.unbound = False
        return bound

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments: always an object. One made from hints allows no further properties."""
        return self._arguments.schema

    @functools.cached_property
    def _arguments(self) -> Arguments:
        return TypedArguments(self.name, self.function, self._described)

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as chat templates and OpenAI-style servers want it; a new dictionary each time."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": json.loads(json.dumps(self.parameters)),
            },
        }

    async def call(self, call: ToolCall) -> ToolResult:
        """Run the call and return what the model will see.

        Wrong arguments, an exception and a timeout are results with `error` set. Raises
        `InfrastructureError` when the failure is ours.
        """
        if self.inline:
            return self.call_inline(call)
        arguments, problem = self._check(call)
        if problem is not None:
            return problem
        if self._gate is None:
            return await self._timed(call, arguments)
        async with self._gate:  # the time limit starts when it is its turn
            return await self._timed(call, arguments)

    async def _timed(self, call: ToolCall, arguments: dict[str, Any]) -> ToolResult:
        try:
            work = self.function(**arguments) if self.is_async else in_thread(self.function, arguments)
            async with asyncio.timeout(self.timeout_s) as limit:
                value = await work
        except TimeoutError as error:
            if not limit.expired():
                return self._failed(call, error)
            text = f"Error: {self.name} did not finish within {self.timeout_s:g} s and was stopped."
            return ToolResult(call.id, self.name, text, "timeout")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._failed(call, RuntimeError(f"it was cancelled from inside: {error!r}"))
        except Exception as error:
            return self._failed(call, error)
        return self._result(call, value)

    def call_inline(self, call: ToolCall) -> ToolResult:
        """Do what `call` does, without an event loop; only for an `inline` tool."""
        arguments, problem = self._check(call)
        if problem is not None:
            return problem
        began = time.perf_counter()
        try:
            value = self.function(**arguments)
        except Exception as error:
            return self._failed(call, error)
        finally:
            if self._pace is not None:
                self._pace.note(self.name, time.perf_counter() - began)
        return self._result(call, value)

    def _check(self, call: ToolCall) -> tuple[dict[str, Any], ToolResult | None]:
        if self.unbound:
            raise UserError(
                f"the tool {self.name!r} is a method without its object: call the object's, as in `thing.{self.name}`"
            )
        try:
            return self._arguments.check(call.arguments), None
        except ArgumentsError as error:
            what, detail = str(error), None
        except (
            Exception,
            RecursionError,
        ) as error:  # of a validator that somebody wrote, or a thousand levels
            what, detail = f"the arguments cannot be read ({type(error).__name__})", _trace(error)
        text = f"Error: {what}. {self.name} takes: {takes(self.parameters)}."
        return {}, ToolResult(call.id, self.name, self._cut(text), "arguments", detail)

    def _failed(self, call: ToolCall, error: Exception) -> ToolResult:
        if isinstance(error, InfrastructureError):
            raise error
        if isinstance(error, SandboxError):
            raise InfrastructureError("sandbox", f"{type(error).__name__}: {error}") from error
        if isinstance(error, ToolError):
            return ToolResult(call.id, self.name, self._cut(f"Error: {_said(error)}"), "raised")
        text = f"Error: {self.name} raised {type(error).__name__}: {_said(error)}"
        return ToolResult(call.id, self.name, self._cut(text), "raised", _trace(error))

    def _result(self, call: ToolCall, value: Any) -> ToolResult:
        if value is None:
            text = ""
        elif inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            return self._failed(
                call, TypeError("the function returned something to await: write `async def`")
            )
        elif isinstance(value, str):
            text = str(value)
        else:
            try:
                text = json.dumps(value, ensure_ascii=False, default=str)
            except Exception as error:
                return self._failed(call, error)
        return ToolResult(call.id, self.name, self._cut(text))

    def _cut(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # lone surrogates cannot be tokenised or stored
        if len(text) <= self.output_chars:
            return text
        mark = f"\n[... {len(text) - self.output_chars} characters left out ...]\n"
        kept = max(self.output_chars - len(mark), 0)
        return text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


@overload
def tool(function: Function) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | types.EllipsisType | None = ...,
    output_chars: int = 8_000,
    blocking: bool | None = None,
    concurrency: int | None = None,
) -> Callable[[Function], Tool]: ...
def tool(function: Function | None = None, **options: Any) -> Tool | Callable[[Function], Tool]:
    """Make a function a `Tool`: `@tool`, or with its limits `@tool(timeout_s=5, blocking=True)`."""
    if function is not None:
        return Tool(function)
    return functools.partial(Tool.from_function, **options)


def as_tools(tools: Iterable[Tool | Function]) -> tuple[Tool, ...]:
    """Return the tools as a tuple, functions made into tools.

    Raises `UserError` for two tools of one name.
    """
    made = tuple(item if isinstance(item, Tool) else Tool(item) for item in tools)
    names = [item.name for item in made]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two tools are named {name!r}; give one of them another name: Tool(f, name=...)")
    return made


def unknown_tool(call: ToolCall, tools: Mapping[str, Tool]) -> ToolResult:
    """Return the result of a call to a tool that does not exist: it tells the model which ones do."""
    name = call.name[:64]
    text = f"Error: there is no tool {short(name)}; {nearest(name, tools)}"
    return ToolResult(call.id, name, text.encode("utf-8", "replace").decode(), "unknown_tool")


def is_asynchronous(function: Function) -> bool:
    """Return whether calling it gives something to await: a coroutine function, or an object that is called as one."""
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(type(function).__call__)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an error of the model's own making, or a broken one
        return "(its text cannot be shown)"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_DETAIL_CHARS:]
