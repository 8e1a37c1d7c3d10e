"""`quintain new NAME`: an environment package to start from, which installs, passes its tests and its own audit."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from pathlib import Path
from string import Template

from .tools.errors import UserError, nearest

TEMPLATES = Path(__file__).parent / "templates" / "new"

KINDS = {
    "single-turn": "Add up the even numbers of a list.",
    "tool": "Find out what a basket costs by looking prices up.",
    "game": "Find a hidden code by how many digits stand in the right place.",
}
"""What can be made, and what the example in it is about."""

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_MAX_NAME = 60


def scaffold(name: str, kind: str = "single-turn", parent: Path | None = None) -> Path:
    """Write an environment package into a new folder and return the folder.

    Args:
        name: The project: lower-case letters, digits, hyphens; the folder and the import package are named by it.
        kind: One of `KINDS`.
        parent: Where the folder is made, by default here.

    Raises `UserError` for a name that cannot be a package, an unknown kind and a folder that exists; nothing is
    written then.
    """
    module = module_of(name)
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r}; {nearest(kind, KINDS)}")
    parent = Path() if parent is None else parent
    if not parent.is_dir():
        raise UserError(f"there is no folder {str(parent)!r} to make {name!r} in")
    folder = parent / name
    if folder.exists():
        raise UserError(f"{str(folder)!r} exists already; choose another name, or move it away")
    values = {
        "project": name,
        "module": module,
        "class": _class_of(module),
        "env_id": env_id_of(module),
        "what": KINDS[kind],
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        "train.toml": "train.toml",
        f"src/{module}/__init__.py": "init.py",
        f"src/{module}/environment.py": f"{kind}.py",
        f"tests/test_{module}.py": "test.py",
    }
    written = {path: _filled(template, values) for path, template in files.items()}
    folder.mkdir()
    try:
        for path, text in written.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder)  # all or nothing; it was made by us a moment ago
        raise
    return folder


def module_of(name: str) -> str:
    """Return the import package of a project. Raises `UserError` if the name cannot be one."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise UserError(
            f"{name!r} cannot be the name of a package: take lower-case letters, digits and single hyphens, "
            f"beginning with a letter, at most {_MAX_NAME}, such as word-chains"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UserError(f"{name!r} is a word or a module of Python itself; choose another name")
    if module in ("quintain", "gymnasium", "numpy", "pytest", "tests", "test"):
        raise UserError(f"{name!r} would hide the package of that name; choose another")
    return module


def env_id_of(module: str) -> str:
    """Return the id under which the package registers its environment."""
    return f"{module}/{_class_of(module)}-v0"


def _class_of(module: str) -> str:
    return "".join(part.capitalize() for part in module.split("_"))


def _filled(template: str, values: dict[str, str]) -> str:
    return Template((TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(values)
