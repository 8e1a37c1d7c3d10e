"""Nodes out of nodes: what the reader does when it has read an operator."""

from __future__ import annotations

from fractions import Fraction

from .math_nodes import (
    Call,
    Const,
    Matrix,
    Node,
    Num,
    Sym,
    Unreadable,
    symbols,
    walk,
)
from .math_units import unit_powers


def signed(op: str, node: Node) -> Node:
    """Return `node` under a sign; `pm` and `mp` stay as they are."""
    if op == "+":
        return node
    if op == "-":
        if isinstance(node, Matrix) and node.kind == "matrix":
            return Matrix(tuple(tuple(signed("-", cell) for cell in row) for row in node.rows))
        if isinstance(node, Num):
            return Num(-node.value, node.digits, node.scientific)
        if isinstance(node, Call) and node.name in {"mul", "div"} and isinstance(node.args[0], Num):
            return Call(node.name, (signed("-", node.args[0]), *node.args[1:]))
        return Call("neg", (node,))
    return Call(op, (node,))


def times(left: Node, right: Node) -> Node:
    """Return a product; a matrix takes a factor into its cells."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Matrix) and one.kind == "matrix" and not isinstance(other, Matrix):
            return Matrix(tuple(tuple(times(other, cell) for cell in row) for row in one.rows))
    if isinstance(left, Call) and left.name == "mul":
        return Call("mul", (*left.args, right))
    return Call("mul", (left, right))


def over(top: Node, bottom: Node) -> Node:
    """Return a quotient; a matrix takes a divisor into its cells."""
    if isinstance(top, Matrix) and top.kind == "matrix":
        return Matrix(tuple(tuple(over(cell, bottom) for cell in row) for row in top.rows))
    return Call("div", (top, bottom))


def product(factors: list[Node]) -> Node:
    """Return the product of factors, or the only one."""
    return factors[0] if len(factors) == 1 else Call("mul", tuple(factors))


def inverse(node: Node) -> Node:
    """Return 1 over a node."""
    return Call("pow", (node, Num(Fraction(-1))))


def unit_factors(words: str, power: int) -> list[Node]:
    """Read words as unit symbols with their powers; the last takes `power` as well."""
    if not words.strip(" /"):
        return []
    powers = unit_powers(words)
    factors: list[Node] = []
    for index, (name, own) in enumerate(powers.items()):
        exponent = own * (power if index == len(powers) - 1 else 1)
        unit = Sym(f"unit:{name}")
        factors.append(unit if exponent == 1 else Call("pow", (unit, Num(Fraction(exponent)))))
    return factors


def words_as_units(node: Node) -> Node:
    """Read the words of a fraction such as `\\frac{\\text{m}}{\\text{s}^2}` as units where they are known ones."""
    match node:
        case Sym(name=name) if name.startswith("text:"):
            powers = unit_powers(name[5:])
            if powers and not any(unit.startswith("words ") for unit in powers):
                return product(unit_factors(name[5:], 1))
            return node
        case Call(name="pow" | "mul" as name, args=args):
            return Call(name, tuple(words_as_units(arg) for arg in args))
        case _:
            return node


def percent(node: Node) -> Node:
    """Return a hundredth of a node."""
    if isinstance(node, Num):
        return Num(node.value / 100, node.digits, node.scientific)
    return Call("div", (node, Num(Fraction(100))))


def scaled(node: Node, factor: int) -> Node:
    """Return a node times a whole number."""
    if isinstance(node, Num):
        return Num(node.value * factor, node.digits, node.scientific)
    return times(node, Num(Fraction(factor)))


def primed(node: Node) -> Node:
    """Return a letter with a prime. Raises `Unreadable` for anything else."""
    if not isinstance(node, Sym):
        raise Unreadable("a prime on something that is no letter")
    return Sym(node.name + "'")


def strip_degrees(node: Node) -> Node:
    """Return a node without the degree sign that was read last."""
    if isinstance(node, Call) and node.name == "mul" and node.args[-1] == Sym("unit:deg"):
        return product(list(node.args[:-1]))
    return node


def proper(node: Node) -> bool:
    """Whether a node is a fraction of whole numbers between 0 and 1."""
    return (
        isinstance(node, Call)
        and node.name == "div"
        and all(isinstance(a, Num) and a.digits is None and a.value.denominator == 1 for a in node.args)
        and 0 < node.args[0].value < node.args[1].value  # type: ignore[union-attr]
    )


def quotient(node: Node) -> Fraction:
    """Return the value of a fraction of whole numbers."""
    assert isinstance(node, Call)
    top, bottom = node.args
    assert isinstance(top, Num) and isinstance(bottom, Num)
    return top.value / bottom.value


def has_pi(node: Node) -> bool:
    """Whether a constant has pi in it."""
    return any(n == Const("pi") for n in walk(node)) and not symbols(node)


def is_differential(node: Node) -> bool:
    """Whether a node is `dy`, as a product of two letters."""
    if not (isinstance(node, Call) and node.name == "mul" and len(node.args) == 2):
        return False
    return node.args[0] in (Sym("d"), Sym("partial")) and isinstance(node.args[1], Sym)


def letters(node: Node) -> str:
    """Return the letters of a product, joined."""
    assert isinstance(node, Call)
    return "".join(a.name for a in node.args if isinstance(a, Sym))
