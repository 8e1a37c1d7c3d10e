"""Tools that share the state of one episode: a session, a folder, a database, a connection.

A plain `Tool` remembers nothing between calls. Tools that do belong to a `Toolkit`: an environment works on a fresh
copy of it in every episode, opens it before the first call, reads the evidence at the end, and closes it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self

from .errors import UserError
from .schema import Function
from .tool import Tool


class Toolkit:
    """Tools with a state. Subclass it; the methods that are decorated with `@tool` are its tools:

        class Notes(Toolkit):
            async def open(self, setup):
                self.lines = list(setup.get("notes", []))

            @tool
            def note(self, text: str) -> str:
                '''Write a line down.'''
                self.lines.append(text)
                return f"{len(self.lines)} lines"

            async def evidence(self):
                return {"notes": self.lines}

    Rules for subclasses: what `__init__` sets is shared by all episodes (a pool, a corpus, limits) and stays as it is;
    the state of an episode is set in `open` and nowhere else. `open`, the calls, `evidence` and `close` of one episode
    run on one event loop, so they may hold what is bound to it.

    Attributes:
        open_s: Seconds that `open` may take, and `evidence`; after that the episode ends ungraded.
        close_s: Seconds that `close` may take; after that it is given up.
    """

    open_s: float = 120.0
    close_s: float = 30.0

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model may call, bound to this copy: names and schemas are equal in every episode.

        As it stands, the decorated methods in the order in which they are written, those of base classes first.
        """
        bound: tuple[Tool, ...] | None = self.__dict__.get("_bound")
        if bound is None:
            bound = self._bound = tuple(getattr(self, name) for name in _tool_names(type(self)))
        return bound

    def fresh(self) -> Self:
        """Return a copy for one episode, not opened yet. Costs microseconds; what is shared is shared."""
        other = copy.copy(self)
        other.__dict__.pop("_bound", None)
        return other

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Make the state of an episode. Called before the first call, or before the evidence is read.

        `setup` is what the environment gives, for a `ToolEnv` the `info` of the task. Raises `UserError` for a setup
        that makes no sense, and whatever it likes when something of ours fails: the episode then ends ungraded.
        """

    async def evidence(self) -> Mapping[str, Any]:
        """Return what the verifier may see of the state at the end: plain JSON data that we read ourselves."""
        return {}

    async def close(self) -> None:
        """Free the state of the episode. Also called when `open` failed; closing twice is fine."""

    def shutdown(self) -> None:
        """Free what the episodes share and this toolkit opened itself; `open` may open it anew."""


def split(tools: Iterable[Tool | Function | Toolkit]) -> tuple[tuple[Tool, ...], tuple[Toolkit, ...]]:
    """Return all the tools in the order given, functions made into tools, and the toolkits among the items.

    Raises `UserError` for two tools of one name, a toolkit class instead of a toolkit, a toolkit without tools and
    anything that is no tool.
    """
    made: list[Tool] = []
    kits: list[Toolkit] = []
    if isinstance(tools, Tool | Toolkit | str) or not isinstance(tools, Iterable):
        raise UserError(
            f"tools must be a list of functions, Tools and Toolkits, got {tools!r:.60}; write [...]"
        )
    for item in tools:
        if isinstance(item, type) and issubclass(item, Toolkit):
            raise UserError(f"{item.__name__} is the class of a toolkit: write {item.__name__}()")
        if isinstance(item, Toolkit):
            if not item.tools:
                name = type(item).__name__
                raise UserError(f"the toolkit {name} has no tools: decorate its methods with @tool")
            kits.append(item)
            made.extend(item.tools)
        elif isinstance(item, Tool):
            made.append(item)
        elif callable(item):
            made.append(Tool(item))
        else:
            raise UserError(f"a tool is a function, a Tool or a Toolkit, got {type(item).__name__}")
    seen: set[str] = set()
    for one in made:
        if one.name in seen:
            raise UserError(
                f"two tools are named {one.name!r}; give one of them another name: Tool(f, name=...)"
            )
        if one.unbound:
            raise UserError(
                f"the tool {one.name!r} is a method without its object: give the object's, as in `thing.{one.name}`"
            )
        seen.add(one.name)
    return tuple(made), tuple(kits)


def _tool_names(cls: type) -> list[str]:
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Tool):
                names[name] = None
    return [name for name in names if isinstance(getattr(cls, name, None), Tool)]
