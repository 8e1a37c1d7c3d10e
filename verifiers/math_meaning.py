"""What an answer stands for when it is said in another form: words for a set, a labelled point, a derivation."""

from __future__ import annotations

import re
from fractions import Fraction

from .math_nodes import Call, Const, Group, Node, Num, Relation, SetOp, Sym, Text, show, symbols, walk


def applies(node: Node) -> bool:
    """Whether the value of an unknown function stands in a node."""
    return any(isinstance(n, Call) and n.name.startswith("apply:") for n in walk(node))


def of_x(name: Node) -> bool:
    """Whether a node is the value of an unknown function at `x`."""
    return isinstance(name, Call) and name.name.startswith("apply:") and name.args == (Sym("x"),)


def divides(node: Node) -> bool:
    """Whether something with letters is divided by."""
    for n in walk(node):
        if isinstance(n, Call) and n.name == "div" and symbols(n.args[1]):
            return True
        if isinstance(n, Call) and n.name == "pow" and isinstance(n.args[1], Num) and n.args[1].value < 0:
            return True
    return False


def is_derivation(gold: Node, answer: Relation) -> bool:
    """Whether `x(x+2) = x^2+2x` answers a question for an expression: its sides are not the same text twice."""
    if isinstance(gold, Relation) or not symbols(gold):
        return False
    return len({show(side) for side in answer.sides}) == len(answer.sides)


def unlabelled_point(node: Node) -> Node:
    """Return the coordinates of `P(3,4)`; anything else as it is."""
    match node:
        case Call(name=name, args=args) if len(name) == 7 and name.startswith("apply:") and name[6].isupper():
            return Group("(", ")", args) if len(args) > 1 else node
        case Call(name="mul", args=(Sym(name=letter), Group(left="(", right=")") as point)):
            return point if len(letter) == 1 and letter.isupper() else node
        case _:
            return node


def rows_of(node: Group) -> tuple[tuple[Node, ...], ...] | None:
    """Return the rows of `[[1,2],[3,4]]`, or None."""
    rows = [item.items for item in node.items if isinstance(item, Group) and item.left in "[("]
    return tuple(rows) if rows and len(rows) == len(node.items) else None


_EMPTY = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)(?: exists?)?|(?:the )?empty set"
)
_REALS = re.compile(
    r"(?:the set of )?(?:all )?real(?:s| numbers)(?: (?:except|other than)(?: for)? (?P<but>.+))?"
)


def meaning(node: Node) -> Node | None:
    """Return the set that words name ("all real numbers except 0"); a node without words as it is."""
    if not isinstance(node, Text):
        return node
    words = re.sub(r"^[a-z]\s*(?:=|is|are)\s*|\s*[.,]\s*$", "", node.words)
    if _EMPTY.fullmatch(words):
        return Const("empty")
    found = _REALS.fullmatch(words)
    if found is None:
        return None
    if found["but"] is None:
        return Const("reals")
    points = re.findall(r"-?\d+(?:/\d+)?", found["but"])
    rest = re.sub(r"-?\d+(?:/\d+)?|[a-z]\s*=|\band\b|[\s,]", "", found["but"])
    if rest or not points:
        return None
    return SetOp("setminus", Const("reals"), Group("{", "}", tuple(Num(Fraction(p)) for p in points)))
