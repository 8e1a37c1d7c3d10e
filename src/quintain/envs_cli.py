"""`quintain envs`: which environments there are, and all about one of them."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .envs.card import Card
from .envs.registry import list_envs, load, make
from .tools.errors import UserError, nearest

_ARGS = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*(?:\n        .*)*)")
_WIDE = 110  # columns of a terminal in which the list has its tags
_SHOWN = 1200  # characters of a message of the example


def show_list(console: Console, tag: str | None = None, *, as_json: bool = False) -> None:
    """Print the environments: id, what is asked, tags; as JSON with the whole cards.

    Raises `UserError` for a tag that no environment has.
    """
    found = {env_id: _summary(env_id) for env_id in list_envs()}
    if tag is not None:
        known = {each for entry in found.values() for each in entry["tags"]}
        if tag not in known:
            raise UserError(f"no environment has the tag {tag!r}; {nearest(tag, known)}")
        found = {env_id: entry for env_id, entry in found.items() if tag in entry["tags"]}
    if as_json:
        print(json.dumps([{"id": env_id, **entry} for env_id, entry in found.items()], indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("what")
    wide = console.width >= _WIDE
    if wide:
        table.add_column("tags", style="dim")
    for env_id, entry in found.items():
        tags = [Text(", ".join(entry["tags"]))] if wide else []
        table.add_row(Text(env_id, "bold"), Text(entry["what"]), *tags)
    console.print(table)
    console.print(Text("quintain envs ID says more about one; quintain play ID plays it.", "dim"))


def show_one(console: Console, env_id: str, kwargs: dict[str, Any], *, as_json: bool = False) -> None:
    """Print all about an environment: the card, the options, the tools and how an episode begins.

    Data that is not on this machine is not fetched: what is missing for the example is told instead.

    Raises `UserError` for an unknown id and wrong options.
    """
    about = described(env_id, kwargs)
    if as_json:
        print(json.dumps(about, indent=2, ensure_ascii=False))
        return
    console.print(Text(env_id, "bold"))
    for name, value in (about["card"] or {"what": about["what"]}).items():
        _show_fact(console, name, value)
    for name in ("tasks", "max_turns", "oracle", "demonstrator"):
        if name in about:
            unlimited = "no limit" if name == "max_turns" else "endless"
            _show_fact(console, name, unlimited if about[name] is None else about[name])
    _show_options(console, about["options"])
    for schema in about.get("tools", []):
        function = schema["function"]
        arguments = ", ".join(function["parameters"].get("properties", {}))
        console.print(Text.assemble(("\ntool ", "cyan"), (f"{function['name']}({arguments})", "bold")))
        console.print(Text(f"  {function['description']}"))
    if "missing" in about:
        console.print(Text(f"\nNo example: {about['missing']}", "yellow"))
    for message in about.get("example", []):
        text = message["content"]
        cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
        console.print(Panel(Text(cut), title=Text(f"example: {message['role']}"), title_align="left"))


def described(env_id: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all about an environment as plain JSON data; see `show_one`."""
    factory = load(env_id)
    about: dict[str, Any] = {"id": env_id, **_summary(env_id), "options": options_of(factory)}
    # an example must not download a data set; who has it in the cache sees one
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    try:
        env = make(env_id, **kwargs)
    except UserError as error:
        if kwargs:
            raise
        return {**about, "missing": str(error)}
    try:
        _, info = env.reset(seed=0)
        about["tasks"] = "a game without tasks" if env.tasks is None else env.tasks.size
        about["max_turns"] = env.max_turns
        about["oracle"] = env.oracle is not None
        about["demonstrator"] = env.demonstrator is not None
        about["tools"] = [tool.schema for tool in env.tools]
        about["example"] = info["messages"]
    finally:
        env.close()
    return about


def options_of(factory: Any) -> list[dict[str, Any]]:
    """Return the options of an environment: `name`, `default` (absent if it is needed) and `help`, from the docs."""
    texts = _help_of(inspect.getdoc(factory) or "")
    options = []
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        option: dict[str, Any] = {"name": name, "help": texts.get(name, "")}
        if name == "render_mode" and not option["help"]:
            option["help"] = 'None, or "ansi": `render` then returns the conversation.'
        if parameter.default is not parameter.empty:
            option["default"] = _plain(parameter.default)
        options.append(option)
    return options


def _summary(env_id: str) -> dict[str, Any]:
    try:
        factory = load(env_id)
    except UserError as error:  # of another package: it must not hide the others
        return {"what": str(error), "tags": [], "card": None}
    card = getattr(factory, "card", None)
    if isinstance(card, Card):
        return {"what": card.what, "tags": list(card.tags), "card": asdict(card)}
    return {"what": (inspect.getdoc(factory) or "").partition("\n")[0], "tags": [], "card": None}


def _help_of(doc: str) -> Mapping[str, str]:
    section = _ARGS.search(doc)
    if section is None:
        return {}
    found: dict[str, str] = {}
    for names, text in _ENTRY.findall(inspect.cleandoc("\n" + section[1]).replace("\n    ", "\n        ")):
        for name in names.split(", "):
            found[name] = " ".join(text.split())
    return found


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


def _show_fact(console: Console, name: str, value: Any) -> None:
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, Mapping):
        shown = "; ".join(f"{key}: {text}" for key, text in value.items())
    else:
        shown = ", ".join(value) if isinstance(value, list | tuple) else str(value)
    if shown:
        console.print(Text.assemble((f"{name:<14}", "cyan"), shown))


def _show_options(console: Console, options: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\noption", no_wrap=True)
    table.add_column("\ndefault")
    table.add_column("\nmeaning")
    for option in options:
        default = json.dumps(option["default"], ensure_ascii=False) if "default" in option else "needed"
        shown = default if len(default) <= 40 else f"{default[:37]}..."
        table.add_row(Text(option["name"], "bold"), Text(shown), Text(option["help"]))
    console.print(table)
