"""What evaluation leaves open, decided by SymPy: builds its expressions node by node, never from text.

Runs in a worker of the guard; import it only there.
"""

from __future__ import annotations

from typing import Any

import sympy

from .math_nodes import Call, Const, Matrix, Node, Num, Sym, Work


def decide(gold: Node, answer: Node) -> bool | None:
    """Return whether two expressions are equal, or None if SymPy cannot say."""
    try:
        difference = sympy.simplify(to_sympy(gold) - to_sympy(answer))
    except (Untranslatable, TypeError, ValueError, NotImplementedError, AttributeError):
        return None
    zero = difference.equals(0) if hasattr(difference, "equals") else None
    return None if zero is None else bool(zero)


class Untranslatable(Exception):  # noqa: N818
    """The node has no SymPy form here."""


def to_sympy(node: Node) -> Any:
    """Return a node as a SymPy expression. Raises `Untranslatable` for what is no expression."""
    match node:
        case Num(value=value):
            return sympy.Rational(value.numerator, value.denominator)
        case Sym(name=name):
            return sympy.Symbol(name)
        case Const(name="pi"):
            return sympy.pi
        case Const(name="e"):
            return sympy.E
        case Const(name="i"):
            return sympy.I
        case Const(name="inf"):
            return sympy.oo
        case Matrix(rows=rows, kind="matrix"):
            return sympy.Matrix([[to_sympy(cell) for cell in row] for row in rows])
        case Work(kind="det", args=(*_, matrix)):
            return to_sympy(matrix).det()
        case Work(kind="gcd" | "lcm"):
            raise Untranslatable
        case Call(name=name, args=args):
            return _call(name, [to_sympy(arg) for arg in args])
        case _:
            raise Untranslatable


def _call(name: str, args: list[Any]) -> Any:
    match name:
        case "add":
            return sympy.Add(*args)
        case "mul":
            return sympy.Mul(*args)
        case "neg":
            return -args[0]
        case "div":
            return args[0] / args[1]
        case "pow":
            return args[0] ** args[1]
        case "root":
            return sympy.root(args[0], args[1])
        case "ln":
            return sympy.log(args[0])
        case "log":
            return sympy.log(args[0], args[1])
        case "abs":
            return sympy.Abs(args[0])
        case "binom":
            return sympy.binomial(*args)
        case "floor" | "ceil":
            return (sympy.floor if name == "floor" else sympy.ceiling)(args[0])
    if name.startswith("apply:"):
        return sympy.Function(name[6:])(*args)
    function = getattr(sympy, {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}.get(name, name), None)
    if function is None or name not in _FUNCTIONS:
        raise Untranslatable
    return function(args[0])


_FUNCTIONS = frozenset(
    (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "sqrt",
        "factorial",
    )
)
