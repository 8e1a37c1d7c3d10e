"""Templates to text: everything that is put in is escaped unless it is a drawing of ours."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2

STATIC = Path(__file__).parent / "static"
ASSETS = {"style.css": "text/css", "viewer.js": "text/javascript"}
"""The only files that are served, with their types."""


@cache
def asset(name: str) -> str:
    """Return the text of one of `ASSETS`."""
    return (STATIC / name).read_text("utf-8")


def asset_version(name: str) -> str:
    """Return what changes with the text of an asset, for its URL."""
    return sha256(asset(name).encode()).hexdigest()[:12]


@cache
def environment() -> jinja2.Environment:
    """Return the environment of all templates, escaping on."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("quintain.viewer", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["number"] = number
    made.filters["signed"] = signed
    made.filters["percent"] = percent
    made.filters["stop"] = lambda text: str(text).replace("_", " ")
    made.globals["asset_version"] = asset_version
    return made


def render(template: str, **values: Any) -> str:
    """Return a page. Halves of characters, which UTF-8 has no bytes for, become question marks."""
    return environment().get_template(template).render(**values).encode("utf-8", "replace").decode()


def number(value: float | None, digits: int = 3) -> str:
    """Return a number in few characters; a dash for None."""
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def signed(value: float | None) -> str:
    """Return a number with its sign, and a true minus; a dash for None."""
    if value is None:
        return "–"
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def percent(value: float | None, of: float | None = 1.0) -> str:
    """Return a share in percent; a dash where it has no meaning."""
    return "–" if value is None or not of else f"{100 * value / of:.1f} %"
