"""What evaluation leaves open, decided by SymPy: builds its expressions node by node, never from text.

Runs in a worker of the guard; import it only there.
"""

from __future__ import annotations

from typing import Any

import sympy

from .math_nodes import Call, Const, Matrix, Node, Num, Relation, Sym, Unreadable, Work
from .math_reader import read


def decide(gold: Node, answer: Node) -> bool | None:
    """Return whether two expressions are equal, or None if SymPy cannot say."""
    try:
        difference = sympy.simplify(to_sympy(gold) - to_sympy(answer))
    except (Untranslatable, Unreadable, TypeError, ValueError, NotImplementedError, AttributeError):
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
        case Work(kind="sum" | "prod" as kind, args=(Sym(name=low), Sym(name=high), body)):
            letter, start = _assigned(low)
            total = sympy.Sum if kind == "sum" else sympy.Product
            return total(to_sympy(body), (letter, start, to_sympy(read(high.removeprefix("to "))))).doit()
        case Work(
            kind="int", args=(low, high, Call(name="mul", args=(*factors, Sym(name="d"), Sym(name=name))))
        ):
            letter = sympy.Symbol(name)
            body = sympy.Mul(*(to_sympy(factor) for factor in factors))
            if not isinstance(low, Sym) or not isinstance(high, Sym):
                raise Untranslatable
            ends = [
                to_sympy(read(low.name.removeprefix("from "))),
                to_sympy(read(high.name.removeprefix("to "))),
            ]
            return sympy.integrate(body, (letter, *ends))
        case Work(kind="lim", args=(Sym(name=low), _, body)):
            letter, target = _assigned(low)
            return sympy.limit(to_sympy(body), letter, target)
        case Call(name=name, args=args):
            return _call(name, [to_sympy(arg) for arg in args])
        case _:
            raise Untranslatable


def _assigned(text: str) -> tuple[Any, Any]:
    """Read `k=1` or `x\\to0` below a sum or a limit."""
    relation = read(
        text.removeprefix("from ").replace("to", "\\to ") if "=" not in text else text.removeprefix("from ")
    )
    if not isinstance(relation, Relation) or len(relation.sides) != 2:
        raise Untranslatable
    return to_sympy(relation.sides[0]), to_sympy(relation.sides[1])


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
