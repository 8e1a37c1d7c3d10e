"""A person as the policy: play an episode of any environment in the terminal.

What the person types is the reply. `/calculator 12*7` is short for a tool call; a line that ends in a backslash goes
on in the next; `/help` says the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from .envs import TextEnv, make
from .tools import Message, Tool, ToolCall
from .verifiers import Score

_COLOURS = {"system": "magenta", "user": "cyan", "tool": "yellow"}
_HELP = """\
Type your reply and press Enter. A line that ends in \\ goes on in the next line.
/TOOL ARGUMENT     call a tool that needs one argument: /calculator 12*7
/TOOL {"x": 1}     call a tool with its arguments as JSON
/task              show the conversation again
/help              show this
/quit              leave (Ctrl-D and Ctrl-C do too)"""


class _LeftError(Exception):
    """The person has had enough."""


def play(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    console: Console | None = None,
) -> Score | None:
    """Play one episode in the terminal and return its score, or None if the person left before the end.

    Args:
        env_id: A registered environment.
        kwargs: Its options.
        seed: Of the episode; None for a new one each time.
        console: Where to show it.

    Raises `UserError` for an unknown environment or option.
    """
    console = console or Console(highlight=False)
    env = make(env_id, **(kwargs or {}))
    try:
        return _episode(env, seed, console)
    except (_LeftError, EOFError, KeyboardInterrupt):
        console.print("\nYou left before the end: no score.")
        return None
    finally:
        env.close()


def _episode(env: TextEnv, seed: int | None, console: Console) -> Score:
    _, info = env.reset(seed=seed)
    _show_tools(env, console)
    _show(info["messages"], console)
    console.print(Text("/help says what you can type.", style="dim"))
    turn = 0
    while True:
        turn += 1
        limit = "" if env.max_turns is None else f" of {env.max_turns}"
        text = _read_reply(env, console, f"turn {turn}{limit}> ")
        _, reward, terminated, truncated, info = env.step(text)
        _show(info["messages"], console)
        if terminated or truncated:
            score: Score = info["score"]
            _show_end(score, truncated, console)
            return score
        if reward:
            console.print(f"reward {reward:g}")


def _read_reply(env: TextEnv, console: Console, prompt: str) -> str:
    """Read what the person types until it is a reply."""
    while True:
        text = _read_lines(console, prompt)
        word, _, rest = text.partition(" ")
        if not word.startswith("/"):
            return text
        if word == "/quit":
            raise _LeftError
        if word == "/help":
            console.print(_HELP, markup=False)
        elif word == "/task":
            _show(env.messages, console)
        else:
            call = _as_call(env, word[1:], rest.strip())
            if isinstance(call, ToolCall):
                return env.format.render("", None, [call])
            console.print(Text(call, style="red"))


def _read_lines(console: Console, prompt: str) -> str:
    lines = [console.input(Text(prompt, style="bold green"))]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(console.input(Text("... ", style="green")))
    return "\n".join(lines)


def _as_call(env: TextEnv, name: str, rest: str) -> ToolCall | str:
    """Return the call that a shorthand means, or what is wrong with it."""
    tools = {tool.name: tool for tool in env.tools}
    if name not in tools:
        known = ", ".join(f"/{known}" for known in [*tools, "task", "help", "quit"])
        return f"There is no /{name}. You can type a reply, or {known}."
    properties: dict[str, Any] = tools[name].parameters["properties"]
    if rest.startswith("{"):
        try:
            arguments = json.loads(rest)
        except ValueError as error:
            return f"That is not JSON: {error}."
        if not isinstance(arguments, dict):
            return "The arguments must be a JSON object."
        return ToolCall("", name, arguments)
    needed = tools[name].parameters["required"] or list(properties)[:1]
    if not rest and not tools[name].parameters["required"]:
        return ToolCall("", name, {})
    if len(needed) != 1 or not rest:
        example = json.dumps(dict.fromkeys(needed, "..."))
        return f"/{name} needs {', '.join(needed) or 'no arguments'}: /{name} {example}"
    (parameter,) = needed
    return ToolCall("", name, {parameter: _value(rest, properties[parameter])})


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


# --- showing ----------------------------------------------------------------------------------------------


def _show_tools(env: TextEnv, console: Console) -> None:
    if not env.tools:
        return
    lines = Text()
    for tool in env.tools:
        lines.append(_usage(tool), style="bold")
        lines.append(f"  {tool.description}\n")
        for name, schema in tool.parameters["properties"].items():
            kind = schema.get("type", "any")
            lines.append(f"    {name} ({kind})  {schema.get('description', '')}\n", style="dim")
    lines.rstrip()
    console.print(Panel(lines, title="tools", title_align="left", border_style="dim"))


def _usage(tool: Tool) -> str:
    return " ".join([f"/{tool.name}", *(name.upper() for name in tool.parameters["required"])])


def _show(messages: list[Message], console: Console) -> None:
    for message in messages:
        title = message["role"] if "name" not in message else f"{message['role']}: {message['name']}"
        body = Text(message["content"])
        for part in message.get("tool_calls", []):
            arguments = json.dumps(part["function"]["arguments"], ensure_ascii=False)
            body.append(f"\n{part['function']['name']} {arguments}")
        colour = _COLOURS.get(message["role"], "green")
        console.print(Panel(body, title=Text(title), title_align="left", border_style=colour))


def _show_end(score: Score, truncated: bool, console: Console) -> None:
    if truncated:
        console.print("The turns are used up.")
    if not score.graded:
        console.print(Text(f"Not graded: {score.reason}", style="yellow"))
        return
    style = "bold green" if score.value >= 1 else "bold red" if score.value <= 0 else "bold yellow"
    line = Text(f"Score {score.value:g}", style=style)
    if score.reason:
        line.append(f"  ({score.reason})", style="default")
    console.print(line)
    for name, value in score.parts.items():
        console.print(Text(f"  {name}: {value:g}"))
