"""How a model spells a tool call, read and written: a room for each format, and the formats by name.

`format_named("llama3")` gives one by its name, as an environment does with `format="llama3"`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UserError, nearest
from .base import ToolFormat, Unreadable
from .hermes import Hermes

__all__ = ["ToolFormat", "Unreadable", "Hermes", "format_named", "FORMATS"]


def _llama3() -> ToolFormat:
    from .llama3 import Llama3

    return Llama3()


def _mistral() -> ToolFormat:
    from .mistral import Mistral

    return Mistral("args")


def _mistral_list() -> ToolFormat:
    from .mistral import Mistral

    return Mistral("list")


def _pythonic() -> ToolFormat:
    from .pythonic import Pythonic

    return Pythonic()


def _qwen_xml() -> ToolFormat:
    from .qwen_xml import QwenXml

    return QwenXml()


def _react() -> ToolFormat:
    from .react import ReAct

    return ReAct()


FORMATS: dict[str, Callable[[], ToolFormat]] = {
    "hermes": Hermes,
    "llama3": _llama3,
    "mistral": _mistral,
    "mistral-list": _mistral_list,
    "pythonic": _pythonic,
    "qwen-xml": _qwen_xml,
    "react": _react,
}
"""The formats by name. `template:NAME` is one more: the response template of that tokenizer."""


def format_named(name: str | ToolFormat | None) -> ToolFormat:
    """Return the format of that name; a format as it is, and `Hermes` for None.

    Raises `UserError` for an unknown name, naming the nearest.
    """
    if name is None:
        return Hermes()
    if isinstance(name, ToolFormat):
        return name
    if not isinstance(name, str):
        raise UserError(f"format must be a name or a ToolFormat, got {type(name).__name__}")
    kind, _, tokenizer = name.partition(":")
    if kind == "template" and tokenizer:
        from .template import ResponseTemplate

        return ResponseTemplate.of(tokenizer)
    if name not in FORMATS:
        choices = [*FORMATS, "template:TOKENIZER"]
        raise UserError(f"there is no tool-call format {name!r}; {nearest(name, choices)}")
    return FORMATS[name]()
