"""Writes the tables of `README.md` from what stands in `results`, as `pictures.py` draws it.

    python benchmarks/tables.py

A table stands between `<!-- NAME -->` and `<!-- / -->`, where NAME is that of a benchmark; what is between is replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAMES = ("environments", "sandboxes", "judges")
"""Benchmarks with a function `show` that prints the tables of their figures."""


def conditions(machine: dict[str, Any]) -> str:
    """Return on what it was measured, as a sentence."""
    load = f"load {machine['load'][0]:.0f} before and {machine['load_after'][0]:.0f} after"
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    return f"Measured on {machine['time'][:10]}: {where}, {load}."


def section(name: str) -> str:
    """Return the tables of a benchmark."""
    found = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        importlib.import_module(name).show(found["figures"])
    return f"<!-- {name} -->\n\n{conditions(found['machine'])}\n{text.getvalue().rstrip()}\n\n<!-- / -->"


def filled(page: str) -> str:
    """Return a page with all of its tables written anew."""
    for name in NAMES:
        page = re.sub(rf"<!-- {name} -->.*?<!-- / -->", lambda _, name=name: section(name), page, flags=re.S)
    return page


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
