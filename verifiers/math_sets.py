"""Sets of real numbers: intervals, unions, inequalities, all brought to sorted pieces and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .math_equal import STRICT, Rules, constant, same
from .math_evaluate import NoNumber, NotRational, TooLarge, Undefined, exact
from .math_nodes import Call, Const, Group, Node, Num, Relation, SetOp, Several, Sym, symbols, walk

FLIPPED = {
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
    "=": "=",
    "!=": "!=",
    "approx": "approx",
    "equiv": "equiv",
}
"""Each relation read from right to left."""
INEQUALITIES = frozenset({"<", ">", "<=", ">=", "!="})
_INF = math.inf
Bound = Node | float
"""An end of an interval: an expression, or minus or plus infinity as a float."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval; a single point is closed with equal ends."""

    low: Bound
    high: Bound
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """Pieces of the line, and the name of the variable that runs over them where one was written."""

    pieces: tuple[Piece, ...]
    name: str | None = None


WHOLE = Region((Piece(-_INF, _INF, False, False),))


def region(node: Node) -> Region | None:
    """Return the set of reals that a node describes, or None where it describes none that we know."""
    match node:
        case Const(name="reals"):
            return WHOLE
        case Const(name="empty"):
            return Region(())
        case Group(left="{|", items=(condition,)):
            return region(condition)
        case Group(left="{", items=items):
            return None if any(isinstance(i, Group | Relation | Several) for i in items) else _points(items)
        case Group(left="(" | "[", right=")" | "]", items=(low, high)) if not isinstance(low, Group):
            return Region((Piece(_bound(low), _bound(high), node.left == "[", node.right == "]"),))
        case SetOp(op=op, left=left, right=right):
            return _combined(op, region(left), region(right))
        case Relation():
            return _solved(node)
        case Several(items=items, joined=joined) if any(isinstance(i, Relation) for i in items):
            return _several(items, joined)
        case _:
            return None


def same_regions(gold: Region, answer: Region, rules: Rules = STRICT) -> bool:
    """Return whether two sets are equal, piece by piece."""
    if gold.name and answer.name and gold.name != answer.name:
        return False
    one, other = _normal(gold), _normal(answer)
    if len(one) != len(other):
        return False
    return all(_same_piece(a, b, rules) for a, b in zip(one, other, strict=True))


def _same_piece(one: Piece, other: Piece, rules: Rules) -> bool:
    for a, b, a_closed, b_closed in (
        (one.low, other.low, one.low_closed, other.low_closed),
        (one.high, other.high, one.high_closed, other.high_closed),
    ):
        if isinstance(a, float) or isinstance(b, float):
            if a != b:
                return False
        elif a_closed != b_closed or not same(a, b, rules):
            return False
    return True


def _points(items: tuple[Node, ...]) -> Region:
    return Region(tuple(Piece(item, item, True, True) for item in items))


def _bound(node: Node) -> Bound:
    if node == Const("inf"):
        return _INF
    if node == Call("neg", (Const("inf"),)):
        return -_INF
    return node


def _value(bound: Bound) -> Fraction | float | None:
    return bound if isinstance(bound, float) else None if symbols(bound) else constant(bound)


def _normal(wanted: Region) -> tuple[Piece, ...]:
    """Sort and merge the pieces; left as they are where an end has letters."""
    keyed = []
    for piece in wanted.pieces:
        low, high = _value(piece.low), _value(piece.high)
        if low is None or high is None:
            return wanted.pieces
        if low < high or (_near(low, high) and piece.low_closed and piece.high_closed):
            keyed.append((low, not piece.low_closed, high, piece))
    keyed.sort(key=lambda entry: entry[:2])
    merged: list[tuple[Fraction | float, Piece]] = []
    for low, _, high, piece in keyed:
        if merged:
            end, last = merged[-1]
            if low < end or (_near(low, end) and (last.high_closed or piece.low_closed)):
                if high > end and not _near(high, end):
                    merged[-1] = (high, Piece(last.low, piece.high, last.low_closed, piece.high_closed))
                elif _near(high, end):
                    closed = last.high_closed or piece.high_closed
                    merged[-1] = (end, Piece(last.low, last.high, last.low_closed, closed))
                continue
        merged.append((high, piece))
    return tuple(piece for _, piece in merged)


def _near(one: Fraction | float, other: Fraction | float) -> bool:
    if one == other:
        return True
    if isinstance(one, float) or isinstance(other, float):
        return False
    return abs(one - other) < Fraction(1, 10**38) * max(abs(one), abs(other))


def _combined(op: str, left: Region | None, right: Region | None) -> Region | None:
    if left is None or right is None:
        return None
    name = left.name or right.name
    if op == "cup":
        return Region(left.pieces + right.pieces, name)
    if op == "setminus":
        outside = _complement(right)
        return None if outside is None else _intersection(left, outside, name)
    return _intersection(left, right, name)


def _complement(inner: Region) -> Region | None:
    pieces = _normal(inner)
    outside: list[Piece] = []
    low: Bound = -_INF
    closed = False
    for piece in pieces:
        if _value(piece.low) is None:
            return None
        outside.append(Piece(low, piece.low, closed, not piece.low_closed))
        low, closed = piece.high, not piece.high_closed
    outside.append(Piece(low, _INF, closed, False))
    return Region(tuple(p for p in outside if p.low != _INF and p.high != -_INF))


def _intersection(left: Region, right: Region, name: str | None) -> Region | None:
    pieces: list[Piece] = []
    for a in left.pieces:
        for b in right.pieces:
            low = _later(a.low, a.low_closed, b.low, b.low_closed, 1)
            high = _later(a.high, a.high_closed, b.high, b.high_closed, -1)
            if low is None or high is None:
                return None
            pieces.append(Piece(low[0], high[0], low[1], high[1]))
    if any(_value(p.low) is None or _value(p.high) is None for p in pieces):
        return Region(tuple(pieces), name)
    return Region(_normal(Region(tuple(pieces))), name)


def _later(a: Bound, a_closed: bool, b: Bound, b_closed: bool, sign: int) -> tuple[Bound, bool] | None:
    """Return the more restrictive of two ends: the larger one for sign 1, the smaller for -1."""
    for one, other, closed in ((a, b, b_closed), (b, a, a_closed)):
        if one == -_INF * sign:
            return other, closed
    one_value, other_value = _value(a), _value(b)
    if one_value is None or other_value is None:
        return (a, a_closed and b_closed) if a == b else None
    if _near(one_value, other_value):
        return a, a_closed and b_closed
    return (a, a_closed) if (one_value > other_value) == (sign > 0) else (b, b_closed)


# --- inequalities


def _several(items: tuple[Node, ...], joined: str) -> Region | None:
    regions = [region(item) for item in items]
    known = [r for r in regions if r is not None]
    if len(known) != len(items):
        return None
    names = {r.name for r in known if r.name}
    if len(names) > 1:
        return None
    if joined != "or":
        total: Region | None = known[0]
        for other in known[1:]:
            total = _combined("cap", total, other)
        if joined == "and" or (total is not None and _normal(total)):
            return total
    return Region(tuple(p for r in known for p in r.pieces), next(iter(names), None))


def _solved(relation: Relation) -> Region | None:
    """Solve a chain of relations in one unknown that stands alone, in bars, or linearly."""
    if "in" in relation.ops:
        if relation.ops == ("in",):
            inside = region(relation.sides[1])
            return None if inside is None else Region(inside.pieces, _name(relation.sides[0]))
        return None
    total: Region | None = None
    for left, op, right in zip(relation.sides, relation.ops, relation.sides[1:], strict=False):
        if op not in FLIPPED or op in {"approx", "equiv"}:
            return None
        one = _solve_one(left, op, right)
        if one is None:
            return None
        if total is not None and total.name != one.name:
            return None
        total = one if total is None else _combined("cap", total, one)
        if total is None:
            return None
    return total


def _name(node: Node) -> str | None:
    """Return the name of an unknown that may stand alone: a letter, or an unknown function's value."""
    match node:
        case Sym(name=name) if not name.startswith(("unit:", "text:")):
            return name
        case Call(name=name) if name.startswith("apply:"):
            return repr(node)
        case _:
            return None


def _solve_one(left: Node, op: str, right: Node) -> Region | None:
    for one, other, relation in ((left, right, op), (right, left, FLIPPED[op])):
        name = _name(one)
        if name is not None and not _contains(other, one):
            return Region(_half(relation, other), name)
        if (
            isinstance(one, Call)
            and one.name == "abs"
            and (name := _name(one.args[0]))
            and not symbols(other)
        ):
            return _absolute(relation, other, name)
        if isinstance(one, Call) and one.name == "abs" and len(symbols(one)) == 1 and not symbols(other):
            return _absolute_of(relation, one.args[0], other)
    names = symbols(left) | symbols(right)
    if len(names) != 1:
        return None
    return _linear(left, op, right, next(iter(names)))


def _contains(node: Node, part: Node) -> bool:
    return any(n == part for n in walk(node))


def _half(op: str, bound: Node) -> tuple[Piece, ...]:
    end = _bound(bound)
    match op:
        case "<" | "<=":
            return (Piece(-_INF, end, False, op == "<="),)
        case ">" | ">=":
            return (Piece(end, _INF, op == ">=", False),)
        case "=":
            return (Piece(end, end, True, True),)
        case _:
            return (Piece(-_INF, end, False, False), Piece(end, _INF, False, False))


def _absolute(op: str, bound: Node, name: str) -> Region | None:
    minus: Node = Num(-bound.value, bound.digits) if isinstance(bound, Num) else Call("neg", (bound,))
    closed = op in {"<=", ">="}
    match op:
        case "<" | "<=":
            return Region((Piece(minus, bound, closed, closed),), name)
        case ">" | ">=":
            return Region((Piece(-_INF, minus, False, closed), Piece(bound, _INF, closed, False)), name)
        case "=":
            return Region((Piece(minus, minus, True, True), Piece(bound, bound, True, True)), name)
        case _:
            return None


def _absolute_of(op: str, inside: Node, bound: Node) -> Region | None:
    """Solve `|2x-1| < 3` as the chain, or the two sides, that it stands for."""
    minus: Node = Num(-bound.value, bound.digits) if isinstance(bound, Num) else Call("neg", (bound,))
    if op in {"<", "<="}:
        return _solved(Relation((minus, inside, bound), (op, op)))
    below, above = _solve_one(inside, FLIPPED[op], minus), _solve_one(inside, op, bound)
    if op not in {">", ">="} or below is None or above is None:
        return None
    return Region(below.pieces + above.pieces, above.name)


def _linear(left: Node, op: str, right: Node, name: str) -> Region | None:
    difference = Call("add", (left, Call("neg", (right,))))
    try:
        at = [exact(difference, {name: Fraction(x)}) for x in (0, 1, 2, 5)]
    except (NotRational, Undefined, TooLarge, NoNumber):
        return None
    slope = at[1] - at[0]
    if not slope or at[2] - at[1] != slope or at[3] - at[0] != 5 * slope:
        return None
    relation = op if slope > 0 else FLIPPED[op]
    return Region(_half(relation, Num(-at[0] / slope)), name)
