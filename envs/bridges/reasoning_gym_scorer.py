"""The other process of the reasoning-gym bridge: the library's scorers, on what a model wrote.

Some scorers give the answer to Python's `eval` (lists of `string_insertion`, `spiral_matrix`, `binary_matrix`,
`n_queens`), some to SymPy's `parse_expr`, which is `eval` as well. Here both are replaced by readers that evaluate
nothing but literals and arithmetic, in a process that is killed when it takes too long or too much memory.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
from collections.abc import Callable
from typing import Any

_EVALUATED = (
    "algorithmic.string_insertion", "algorithmic.spiral_matrix", "algorithmic.binary_matrix", "games.n_queens",
)  # fmt: skip
_PARSED = ("games.countdown", "games.puzzle24")
_TRIGONOMETRY = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sec", "csc", "cot")
_NAMES = frozenset((*_TRIGONOMETRY, "pi", "sqrt", "exp", "log", "ln", "Abs", "abs", "factorial"))
_NAME = re.compile(r"[^\W\d]\w*")
_ALLOWED = re.compile(r"[\w\s.,+\-*/^()!=]*")
_MOST = 2000  # characters of an expression


class UnreadableError(ValueError):
    """What the model wrote is no expression of the kind that is asked for."""


def created(name: str, config: str, seed: int = 1) -> Any:
    """Return a data set of one item. `config` is a JSON object; a composite's parts are objects in it."""
    from reasoning_gym.factory import create_dataset

    fields: dict[str, Any] = json.loads(config)
    if name == "composite":
        from reasoning_gym.composite import DatasetSpec

        parts = fields.get("datasets", ())
        fields["datasets"] = [DatasetSpec(**{"weight": 1.0, "config": {}, **part}) for part in parts]
    return create_dataset(name, seed=seed, size=1, **fields)


def score(name: str, config: str, entry: dict[str, Any], answer: str) -> float | str:
    """Return what the scorer of a generator gives; a text if it raised, which says how.

    Runs in a worker process.
    """
    try:
        value = float(_scorer(name, config)(answer, entry))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return value


def checked(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Return `parse_expr` for arithmetic only: no strings, no attributes, no names but those of mathematics."""

    @functools.wraps(parse)
    def read(text: Any, *args: Any, **kwargs: Any) -> Any:
        written = str(text)
        if len(written) > _MOST or not _ALLOWED.fullmatch(written) or re.search(r"\.\s*[^\W\d]", written):
            raise UnreadableError(f"this is no arithmetic: {written[:80]!r}")
        for word in _NAME.findall(written):
            if len(word) > 1 and word not in _NAMES:
                raise UnreadableError(f"there is no function {word[:40]!r}")
        return parse(text, *args, **kwargs)

    return read


@functools.cache
def _harden() -> None:
    for path in _EVALUATED:
        importlib.import_module(f"reasoning_gym.{path}").__dict__["eval"] = ast.literal_eval
    import sympy

    sympy.parse_expr = checked(sympy.parse_expr)
    for path in _PARSED:
        importlib.import_module(f"reasoning_gym.{path}").__dict__["parse_expr"] = sympy.parse_expr


@functools.lru_cache(maxsize=128)
def _scorer(name: str, config: str) -> Callable[[str, Any], float]:
    _harden()
    made: Callable[[str, Any], float] = created(name, config).score_answer
    return made
