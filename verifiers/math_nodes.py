"""What the reader makes of an answer: a small tree of typed nodes. Nothing here is ever executed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Num:
    """A number as written."""

    value: Fraction
    """Its exact value."""
    digits: int | None = None
    """Significant digits of a decimal; None for an integer or an exact fraction."""
    scientific: bool = False
    """Written with a power of ten."""


@dataclass(frozen=True, slots=True)
class Sym:
    """A letter, an indexed letter, a point sequence such as `ABCD`, or a unit (`unit:cm`) or words (`text:odd`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """`pi`, `e`, `i`, `inf`, or a named set: `reals`, `empty`, `integers` ..."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation: `add`, `mul`, `div`, `pow`, `neg`, `sqrt`, `sin` ..., or `apply:f` for an unknown function."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Work left to be done: a sum, an integral, a limit, a determinant; equal only to the same form."""

    kind: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A bracketed sequence: tuple, interval or list in its brackets, `{}` for a set."""

    left: str
    right: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Several:
    """Answers side by side, joined by commas, "and" or "or"."""

    items: tuple[Node, ...]
    joined: str = ","
    """`,`, `and` or `or`: the last joiner written."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells; `kind` is `matrix` or `cases`."""

    rows: tuple[tuple[Node, ...], ...]
    kind: str = "matrix"


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as `1 < x <= 2`: one operator less than sides."""

    sides: tuple[Node, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetOp:
    """`cup`, `cap` or `setminus` of two sets."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Text:
    """Words; lower case, single spaces."""

    words: str


@dataclass(frozen=True, slots=True)
class Modulo:
    """`item (mod modulus)`."""

    item: Node
    modulus: Node


Node = Num | Sym | Const | Call | Work | Group | Several | Matrix | Relation | SetOp | Text | Modulo


def children(node: Node) -> tuple[Node, ...]:
    """Return the direct parts of a node."""
    match node:
        case Call(args=args) | Work(args=args):
            return args
        case Group(items=items) | Several(items=items):
            return items
        case Relation(sides=sides):
            return sides
        case Matrix(rows=rows):
            return tuple(cell for row in rows for cell in row)
        case SetOp(left=left, right=right):
            return left, right
        case Modulo(item=item, modulus=modulus):
            return item, modulus
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(children(current))


def symbols(node: Node) -> frozenset[str]:
    """Return the names of the letters in a node; units are not among them."""
    return frozenset(n.name for n in walk(node) if isinstance(n, Sym) and not n.name.startswith("unit:"))


def works(node: Node) -> tuple[str, ...]:
    """Return the kinds of unfinished work in a node, sorted."""
    return tuple(sorted(n.kind for n in walk(node) if isinstance(n, Work)))


_INFIX = {"add": " + ", "mul": "*", "div": "/", "pow": "^"}


def number_text(value: Fraction) -> str:
    """Return a number as text; one of many digits in hexadecimal, which Python writes without a limit."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) < 8000:
        return str(value)
    return f"{value.numerator:#x}/{value.denominator:#x}"


def show(node: Node) -> str:
    """Return a node as compact text, for reasons and as a canonical key."""
    match node:
        case Num(value=value):
            return number_text(value)
        case Sym(name=name) | Const(name=name):
            return name
        case Call(name=name, args=args) if name in _INFIX:
            return "(" + _INFIX[name].join(map(show, args)) + ")"
        case Call(name=name, args=args) | Work(kind=name, args=args):
            return f"{name}({', '.join(map(show, args))})"
        case Group(left=left, right=right, items=items):
            return left + ", ".join(map(show, items)) + right
        case Several(items=items, joined=joined):
            return f" {joined} ".join(map(show, items)) if joined != "," else ", ".join(map(show, items))
        case Matrix(rows=rows, kind=kind):
            return kind + "[" + "; ".join(", ".join(map(show, row)) for row in rows) + "]"
        case Relation(sides=sides, ops=ops):
            return show(sides[0]) + "".join(f" {o} {show(s)}" for o, s in zip(ops, sides[1:], strict=True))
        case SetOp(op=op, left=low, right=high):
            return f"({show(low)} {op} {show(high)})"
        case Text(words=words):
            return f'"{words}"'
        case Modulo(item=item, modulus=modulus):
            return f"{show(item)} (mod {show(modulus)})"


class Unreadable(ValueError):  # noqa: N818  (a verdict on the answer, not a failure)
    """The text is no answer that the reader knows; the message says why."""
