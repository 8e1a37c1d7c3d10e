"""Bugs made by machine: one small change at a place of a program that still gives a program.

The changes are those that people make: a wrong comparison, a number off by one, a wrong sign, `and` for `or`, the
smaller for the larger, a forgotten `not`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mod,),
    ast.Mod: (ast.FloorDiv,),
}
_NAMES = {"max": "min", "min": "max"}
_STEPS = 3_000  # rounds of loops that a broken program gets; a right one needs a few hundred


def with_bug(source: str, rng: np.random.Generator) -> str:
    """Return a program that differs from `source` by one bug, each that can be made with equal chance."""
    tree = ast.parse(source)
    changes = [change for node in ast.walk(tree) for change in _changes(node)]
    if changes:
        changes[int(rng.integers(len(changes)))]()
    return ast.unparse(tree) + "\n"


def _changes(node: ast.AST) -> list[Callable[[], None]]:
    """Return what can go wrong at a node, as functions that do it."""
    if isinstance(node, ast.Compare):
        return [
            partial(node.ops.__setitem__, index, new())
            for index, op in enumerate(node.ops)
            for new in _COMPARE.get(type(op), ())
        ]
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return [partial(setattr, node, "op", new()) for new in _ARITHMETIC.get(type(node.op), ())]
    if isinstance(node, ast.BoolOp):
        return [partial(setattr, node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return [partial(setattr, node, "value", node.value + by) for by in (1, -1)]
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return [partial(setattr, node, "id", _NAMES[node.id])]
    if isinstance(node, ast.If) and isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not):
        return [partial(setattr, node, "test", node.test.operand)]
    return []


# --- running programs that are ours but for a bug


class RunawayError(Exception):
    """A broken program went round its loops too often."""


def bounded(source: str, name: str) -> Callable[..., Any]:
    """Return a function of a program of ours that stops with `RunawayError` instead of running for ever.

    Counts rounds of loops, not time: the same program stops at the same place on every machine. For our own programs
    with a bug of ours in them, never for text that a model wrote.
    """
    tree = _Counting().visit(ast.parse(source))
    left = [0]

    def tick(state: Mapping[str, Any]) -> None:
        left[0] -= 1
        if left[0] < 0 or any(_is_huge(value) for value in state.values()):
            raise RunawayError

    scope: dict[str, Any] = {_TICK: tick}
    exec(compile(ast.fix_missing_locations(tree), f"<{name}>", "exec"), scope)
    function = scope[name]

    def call(*args: Any) -> Any:
        left[0] = _STEPS
        return function(*args)

    return call


_TICK = "_quintain_tick"


class _Counting(ast.NodeTransformer):
    """Puts a count at the head of every loop."""

    def visit_For(self, node: ast.For) -> Any:
        """Count the rounds of a `for`."""
        return self._counted(node)

    def visit_While(self, node: ast.While) -> Any:
        """Count the rounds of a `while`."""
        return self._counted(node)

    def _counted(self, node: ast.For | ast.While) -> Any:
        self.generic_visit(node)
        node.body.insert(0, ast.parse(f"{_TICK}(locals())").body[0])
        return node


def _is_huge(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() > 4_000
    return isinstance(value, list | str | set | dict | tuple) and len(value) > 5_000
