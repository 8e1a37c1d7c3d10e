"""Calls of an environment's own tools, for probes that look round in its sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...tools.chat import ToolCall
from ...tools.tool import Tool
from ..base import TextEnv
from .played import Played

Kind = Literal["python", "shell"]

_CODE = {"code", "program", "source", "script", "python"}
_COMMAND = {"command", "cmd", "commands", "bash", "shell"}


@dataclass(frozen=True, slots=True)
class Door:
    """A tool that runs what the model writes."""

    tool: Tool
    kind: Kind
    """What it runs."""
    parameter: str
    """The argument that takes it."""

    def reply(self, env: TextEnv, what: str) -> str:
        """Return the reply that has `what` run, as the environment's format writes it."""
        return env.format.render("", None, [ToolCall("", self.tool.name, {self.parameter: what})])


def doors(env: TextEnv) -> list[Door]:
    """Return the tools that run Python or shell commands, told by the names of tool and arguments."""
    found: list[Door] = []
    for tool in env.tools:
        properties = tool.parameters.get("properties", {})
        for name in properties:
            kind = _kind(tool.name.lower(), name.lower())
            if kind is not None and properties[name].get("type") == "string":
                found.append(Door(tool, kind, name))
                break
    return found


def _kind(tool: str, parameter: str) -> Kind | None:
    if parameter in _COMMAND or (
        parameter in _CODE and any(word in tool for word in ("shell", "bash", "terminal"))
    ):
        return "shell"
    return "python" if parameter in _CODE and "sql" not in tool else None


def output(played: Played) -> str:
    """Return what the tools gave in an episode, all of it."""
    return "\n".join(message["content"] for message in played.messages if message.get("role") == "tool")
