"""A typed Python function as a tool that a model may call.

The schema that the model sees comes out of the function's hints and docstring; the arguments it writes are
checked against the same schema before the function runs. What goes wrong inside a call becomes a bounded
text for the model (`ToolResult`); only a failure of ours (`InfrastructureError`) is raised.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import inspect
import json
import re
import threading
import traceback
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

from ..sandboxes.base import SandboxError
from .chat import ToolCall, ToolResult
from .errors import InfrastructureError, ToolError, UserError, nearest
from .schema import Function, arguments_model, is_method, read_docstring, schema_of

if TYPE_CHECKING:
    import pydantic

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
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
    longer declares `blocking=True` and runs in a thread of its own. `lazy=True` builds the schema when it is first
    asked for, and not at once: for tools that are made when a module is imported.

    Attributes:
        name: What the model calls it; letters, digits, `_` and `-`, at most 64.
        description: What the model is told about it.
        timeout_s: Seconds until the call is given up, None for no limit. An inline function cannot be
            interrupted, so it has none in effect; a blocking one is left behind in its thread.
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
        timeout_s: float | None = 30.0,
        output_chars: int = 8_000,
        blocking: bool = False,
        lazy: bool = False,
    ) -> None:
        self.name = getattr(function, "__name__", type(function).__name__) if name is None else name
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"a tool's name must be letters, digits, _ and -, at most 64, got {self.name!r}; "
                "give one with name="
            )
        if timeout_s is not None and not timeout_s > 0:
            raise UserError(f"tool {self.name!r}: timeout_s must be positive or None, got {timeout_s!r}")
        if output_chars < 100:
            raise UserError(f"tool {self.name!r}: output_chars must be at least 100, got {output_chars!r}")
        summary, self._described = read_docstring(inspect.getdoc(function) or "")
        self.description = (summary if description is None else description).strip()
        if not self.description:
            raise UserError(
                f"tool {self.name!r} has no description: write a docstring that tells the model what it does"
            )
        self.function = function
        self.timeout_s = timeout_s
        self.output_chars = output_chars
        self.is_async = inspect.iscoroutinefunction(function)
        if self.is_async and blocking:
            raise UserError(f"tool {self.name!r} is asynchronous: leave blocking=True out")
        self.inline = not self.is_async and not blocking
        self.unbound = is_method(function)
        if not lazy:
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

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments: always an object without further properties."""
        return schema_of(self.name, self._arguments)

    @functools.cached_property
    def _arguments(self) -> type[pydantic.BaseModel]:
        return arguments_model(self.name, self.function, self._described)

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
        try:
            work = self.function(**arguments) if self.is_async else _in_thread(self.function, arguments)
            async with asyncio.timeout(self.timeout_s) as limit:
                value = await work
        except TimeoutError as error:
            if not limit.expired():
                return self._failed(call, error)
            text = f"Error: {self.name} did not finish within {self.timeout_s:g} s and was stopped."
            return ToolResult(call.id, self.name, text, "timeout")
        except Exception as error:
            return self._failed(call, error)
        return self._result(call, value)

    def call_inline(self, call: ToolCall) -> ToolResult:
        """Do what `call` does, without an event loop; only for an `inline` tool."""
        arguments, problem = self._check(call)
        if problem is not None:
            return problem
        try:
            value = self.function(**arguments)
        except Exception as error:
            return self._failed(call, error)
        return self._result(call, value)

    def _check(self, call: ToolCall) -> tuple[dict[str, Any], ToolResult | None]:
        from pydantic import ValidationError  # comes with the first tool, not with the package

        try:
            checked = self._arguments.model_validate(call.arguments)
        except ValidationError as error:
            text = f"Error: {self._explain(error)}"
            return {}, ToolResult(call.id, self.name, self._cut(text), "arguments")
        return dict(checked), None

    def _explain(self, error: pydantic.ValidationError) -> str:
        problems = []
        for item in error.errors(include_url=False, include_context=False)[:5]:
            where = ".".join(str(part) for part in item["loc"])[:60]
            if item["type"] == "extra_forbidden":
                problems.append(f"unknown argument {where!r}")
            elif item["type"] == "missing":
                problems.append(f"missing argument {where!r}")
            else:
                problems.append(f"argument {where!r}: {item['msg']}, got {_short(item['input'])}")
        takes = ", ".join(
            f"{name} ({part.get('type', 'any')})" for name, part in self.parameters["properties"].items()
        )
        return f"{'; '.join(problems)}. {self.name} takes: {takes or 'no arguments'}."

    def _failed(self, call: ToolCall, error: Exception) -> ToolResult:
        if isinstance(error, InfrastructureError):
            raise error
        if isinstance(error, SandboxError):
            raise InfrastructureError("sandbox", f"{type(error).__name__}: {error}") from error
        if isinstance(error, ToolError):
            return ToolResult(call.id, self.name, self._cut(f"Error: {error}"), "raised")
        detail = "".join(traceback.format_exception(error))[-_DETAIL_CHARS:]
        text = f"Error: {self.name} raised {type(error).__name__}: {error}"
        return ToolResult(call.id, self.name, self._cut(text), "raised", detail)

    def _result(self, call: ToolCall, value: Any) -> ToolResult:
        if value is None:
            text = ""
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
    timeout_s: float | None = 30.0,
    output_chars: int = 8_000,
    blocking: bool = False,
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
    text = f"Error: there is no tool {_short(name)}; {nearest(name, tools)}"
    return ToolResult(call.id, name, text.encode("utf-8", "replace").decode(), "unknown_tool")


# --- running ----------------------------------------------------------------------------------------------


def _in_thread(function: Function, arguments: Mapping[str, Any]) -> Awaitable[Any]:
    """Run a function in a daemon thread of its own.

    Not in the event loop's pool: that holds a handful of threads, and tools that hang would use it up and
    keep the interpreter from leaving.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():  # given up in the meantime
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        value: Any = None
        failure: Exception | None = None
        try:
            value = context.run(function, **arguments)
        except StopIteration as error:  # a future refuses it
            failure = RuntimeError(f"StopIteration: {error.value}")
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop has closed: nobody is waiting
            return

    threading.Thread(target=work, name=f"tool-{function.__name__}", daemon=True).start()
    return future


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
