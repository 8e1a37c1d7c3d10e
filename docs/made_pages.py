"""The pages that are made of the code: one for each environment, and the reference of public names."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sphinx.ext.napoleon import Config, GoogleDocstring

from quintain.tools import Tool

FLOORS = {
    "quintain": "The front door",
    "quintain.rl": "Rollouts and learning",
    "quintain.envs": "Environments",
    "quintain.verifiers": "Verifiers",
    "quintain.tools": "Tools",
    "quintain.sandboxes": "Sandboxes",
}

CONTENTS = """

```{toctree}
:hidden:
:caption: Guides

%s
```

```{toctree}
:hidden:
:caption: Made of the code

made/environments
made/reference
made/changes
made/contributing
```
"""


def write(docs: Path) -> None:
    """Write every made page anew into `docs/made`."""
    made = docs / "made"
    shutil.rmtree(made, ignore_errors=True)
    (made / "environments").mkdir(parents=True)
    (made / "reference").mkdir()
    _environments(made)
    _reference(made)
    for name, source in (("contributing", "CONTRIBUTING.md"), ("changes", "CHANGELOG.md")):
        text = (docs.parent / source).read_text(encoding="utf-8")
        (made / f"{name}.md").write_text(re.sub(r"\]\(docs/", "](../", text), encoding="utf-8")


def linked(app: Any, page: str, source: list[str]) -> None:
    """Give the first page its contents, and lead links out of `docs` to a page of the site, or to the bare name."""
    text = source[0].replace("](../CONTRIBUTING.md)", "](made/contributing.md)")
    if not page.startswith("made/"):
        text = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text)
    if page == "index":
        listed = re.findall(r"^- \[[^\]]+\]\((\w+)\.md\)", text, re.MULTILINE)
        text += CONTENTS % "\n".join(listed)
    source[0] = text


def prose(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make a docstring, written for people, reStructuredText: `code`, stars, and programs set in by four spaces."""
    made: list[str] = []
    program = False
    for number, line in enumerate(lines):
        if not line.strip():
            made.append(line)
            continue
        starts = line.startswith("    ") and number > 0 and not lines[number - 1].strip()
        if starts and not program:
            made += ["::", ""]
        program = line.startswith("    ") and (program or starts)
        made.append(line if program else _SPAN.sub(_literal, line))
    if what not in ("attribute", "property", "data"):  # a sentence with a colon is no type
        made = GoogleDocstring(made, Config(napoleon_use_ivar=True), app, what, name, thing, options).lines()
    lines[:] = made


_SPAN = re.compile(r"`([^`\n]+)`(?=(\w?))|(\*)")


def _literal(found: re.Match[str]) -> str:
    if found[3]:
        return "\\*"
    return f"``{found[1]}``" + ("\\ " if found[2] else "")


def _environments(made: Path) -> None:
    from quintain.envs import list_envs
    from quintain.envs_cli import described

    rows = []
    for env_id in (name for name in list_envs() if name.startswith("quintain/")):
        about = described(env_id, {})
        page = env_id.removeprefix("quintain/")
        rows.append(
            (page, f"| [{env_id}](environments/{page}.md) | {about['what']} | {', '.join(about['tags'])} |")
        )
        (made / "environments" / f"{page}.md").write_text(_environment(about), encoding="utf-8")
    listed = "\n".join(f"environments/{page}" for page, _ in rows)
    (made / "environments.md").write_text(
        "# The environments that come along\n\nEach page is made of the environment's card, options and first "
        "task.\n\n| id | what is asked | tags |\n|---|---|---|\n"
        + "\n".join(row for _, row in rows)
        + f"\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n",
        encoding="utf-8",
    )


def _environment(about: dict[str, Any]) -> str:
    parts = [f"# {about['id'].removeprefix('quintain/')}\n\n`{about['id']}`: {about['what']}\n"]
    card = about["card"] or {}
    facts = ("reward", "difficulty", "oracle", "source")
    parts += [f"**{name.capitalize()}.** {card[name]}\n" for name in facts if card.get(name)]
    if card.get("accepted"):
        found = "\n".join(f"- `{key}`: {why[1]}" for key, why in card["accepted"].items())
        parts.append(f"**Findings of the audit that are as they should be here.**\n\n{found}\n")
    if about["options"]:
        rows = "\n".join(
            f"| `{option['name']}` | {_default(option)} | {option['help'].replace('|', '/')} |"
            for option in about["options"]
        )
        parts.append(f"## Options\n\n| option | default | meaning |\n|---|---|---|\n{rows}\n")
    if about.get("tools"):
        rows = "\n".join(
            f"- `{tool['function']['name']}`: {' '.join(tool['function']['description'].split())}"
            for tool in about["tools"]
        )
        parts.append(f"## Tools\n\n{rows}\n")
    if "example" in about:
        shown = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in about["example"])
        parts.append(f"## How an episode begins\n\n{_fenced(shown)}\n")
    else:
        parts.append(f"There is no example here: {about['missing'].splitlines()[0]}\n")
    return "\n".join(parts)


def _default(option: dict[str, Any]) -> str:
    return f"`{json.dumps(option['default'], ensure_ascii=False)}`" if "default" in option else "needed"


def _fenced(text: str) -> str:
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}text\n{text}\n{ticks}"


def public_names(module_name: str) -> Sequence[str]:
    """Return the public names of a module in their order: `__all__`, else what is defined in it without underscore."""
    module = importlib.import_module(module_name)
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module_name
    ]


def rooms(package_name: str) -> list[str]:
    """Return the modules of a floor without names of its own, by name; those of its sub-packages too."""
    package = importlib.import_module(package_name)
    return sorted(found.name for found in pkgutil.walk_packages(package.__path__, f"{package_name}."))


def _reference(made: Path) -> None:
    listed = []
    for floor, title in FLOORS.items():
        page = floor.removeprefix("quintain.")
        names = public_names(floor)
        if names:
            body = _automodule(floor, names)
        else:
            body = "\n".join(f"## {room}\n\n{_automodule(room, public_names(room))}" for room in rooms(floor))
        (made / "reference" / f"{page}.md").write_text(f"# {floor}\n\n{title}.\n\n{body}", encoding="utf-8")
        listed.append(f"reference/{page}")
    (made / "reference.md").write_text(
        "# Reference\n\nMade of the docstrings, floor by floor, from the top down.\n\n```{toctree}\n"
        + "\n".join(listed)
        + "\n```\n",
        encoding="utf-8",
    )


def _automodule(module: str, names: Sequence[str]) -> str:
    parts = [f"```{{eval-rst}}\n.. automodule:: {module}\n   :no-members:\n   :no-index:\n"]
    for name in names:
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value):
            parts.append(f".. autoclass:: {module}.{name}\n   :members:\n   :no-index:\n")
        elif inspect.isfunction(value):
            parts.append(f".. autofunction:: {module}.{name}\n   :no-index:\n")
        elif isinstance(value, Tool):
            parts.append(
                f".. py:data:: {module}.{name}\n   :no-index:\n\n   A tool. {_first(value.description)}\n"
            )
        else:
            parts.append(f".. autodata:: {module}.{name}\n   :no-value:\n   :no-index:\n")
    return "\n".join(parts) + "```\n"


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
