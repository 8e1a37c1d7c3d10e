"""One form for the same thing: plus-minus written out, assignments brought to their values."""

from __future__ import annotations

from collections.abc import Sequence

from .math_nodes import (
    Call,
    Group,
    Matrix,
    Node,
    Relation,
    Several,
    Sym,
    symbols,
    walk,
)


def settled(node: Node) -> Node:
    """Return a node with every plus-minus written out and lists of assignments brought to one form."""
    parts = _expanded(node)
    if isinstance(node, Several):
        flat: list[Node] = []
        for item in node.items:
            inner = settled(item)
            flat.extend(inner.items if isinstance(inner, Several) else [inner])
        return _values(tuple(flat), node.joined)
    if len(parts) > 1:
        return _values(tuple(parts), ",")
    if isinstance(node, Group):
        match node:
            case Group(left="{|", items=(Relation() as condition,)) if named := assignment(condition):
                return settled(Group("{", "}", (named[1],)))
        items: list[Node] = []
        for item in node.items:
            both = _expanded(item)
            items.extend(both if node.left == "{" else [item])
        return Group(node.left, node.right, tuple(items))
    return parts[0]


def _expanded(node: Node) -> list[Node]:
    """Return the two nodes that a plus-minus stands for (upper signs, lower signs), else the node alone."""
    if isinstance(node, Group | Several | Matrix) or not any(
        isinstance(n, Call) and n.name in {"pm", "mp"} for n in walk(node)
    ):
        return [node]
    return [_chosen(node, upper=True), _chosen(node, upper=False)]


def _chosen(node: Node, *, upper: bool) -> Node:
    match node:
        case Call(name="pm" | "mp" as name, args=(inner,)):
            chosen = _chosen(inner, upper=upper)
            return chosen if (name == "pm") == upper else Call("neg", (chosen,))
        case Call(name=name, args=args):
            return Call(name, tuple(_chosen(arg, upper=upper) for arg in args))
        case Relation(sides=sides, ops=ops):
            return Relation(tuple(_chosen(side, upper=upper) for side in sides), ops)
        case _:
            return node


def _values(items: tuple[Node, ...], joined: str) -> Node:
    """Bring `n=2, 3, 4` and `x=2 or x=6` to lists of values; lists of differently named ones stay."""
    assigned = [assignment(item) if isinstance(item, Relation) else None for item in items]
    first = assigned[0]
    if first is not None:
        name, value = first
        if isinstance(value, Several):  # never happens after flattening, but keeps the type honest
            return Several(items, joined)
        if all(not isinstance(item, Relation) for item in items[1:]):
            return Several((value, *items[1:]), joined)
        if all(a is not None and a[0] == name for a in assigned):
            return Several(tuple(a[1] for a in assigned if a is not None), joined)
    return Several(items, joined)


def assignment(relation: Relation, *, broad: bool = False) -> tuple[Node, Node] | None:
    """Return name and value of `x = ... = 3` (or `3 = x`); None if neither end is a name.

    `broad` also takes for a name what only the author of a gold answer would write: `sin A = 1/2`.
    """
    if any(op not in {"=", "approx"} for op in relation.ops):
        return None
    first, last = relation.sides[0], relation.sides[-1]
    for name, value in ((first, last), (last, first)):
        if name is last and isinstance(name, Sym) and name.name.startswith("text:"):
            continue  # `54 = gold` names nothing
        if _is_name(name, broad) and not _is_name(value, False) and not _occurs(name, value):
            return name, value
    return None


def _occurs(name: Node, value: Node) -> bool:
    """Whether what a relation names stands in its value too: then it is an equation, not an assignment."""
    if isinstance(name, Call) and name.name.startswith("apply:"):
        return any(isinstance(n, Call) and n.name == name.name for n in walk(value))
    return bool(symbols(name) & symbols(value))


def _is_name(node: Node, broad: bool) -> bool:
    match node:
        case Sym(name=name):
            return not name.startswith("unit:") and name != "dots"
        case Call(name=name) if name.startswith("apply:"):
            return True
        case Call(name="abs", args=(inner,)):
            return isinstance(inner, Sym) and (broad or len(inner.name) > 1)
        case Call(name="ratio", args=args):
            return all(isinstance(arg, Sym) for arg in args)
        case Call(name="div", args=args):
            return all(isinstance(arg, Sym) and (len(arg.name) > 1 or arg.name.isupper()) for arg in args)
        case Call(name="mul", args=(_, Sym(name=name))):
            return name.startswith("angle ")
        case Call(name="pow", args=(Sym(name=name), _)):
            return broad or (len(name) > 1 and name.isupper())
        case Call(name="sin" | "cos" | "tan", args=(Sym(),)):
            return broad
        case Group(left="(", items=items):
            return all(isinstance(item, Sym) for item in items) and len(items) > 1
        case _:
            return False


def bare(items: Sequence[Node]) -> list[Node]:
    """Return the values of a list of assignments, and other items as they are."""
    values: list[Node] = []
    for item in items:
        named = assignment(item) if isinstance(item, Relation) else None
        values.append(named[1] if named is not None else item)
    return values


def in_order(items: Sequence[Node]) -> list[Node]:
    """Return the values of a list of assignments as a tuple of them: `y=4, x=9` is (9, 4).

    Letters that follow each other in the alphabet go in its order, others as they are written.
    """
    values = named(items)
    if values is not None and all(len(name) == 1 and name.isascii() for name in values):
        letters = sorted(values)
        if [ord(name) - ord(letters[0]) for name in letters] == list(range(len(letters))):
            return [values[name] for name in letters]
    return bare(items)


def named(items: Sequence[Node]) -> dict[str, Node] | None:
    """Return values by name if all items are assignments to different names, else None."""
    found: dict[str, Node] = {}
    for item in items:
        pair = assignment(item) if isinstance(item, Relation) else None
        if pair is None:
            return None
        name = pair[0].name if isinstance(pair[0], Sym) else repr(pair[0])
        if name in found:
            return None
        found[name] = pair[1]
    return found


def vector(matrix: Matrix) -> list[Node] | None:
    """Return the entries of a matrix of one row or one column, else None."""
    if len(matrix.rows) == 1:
        return list(matrix.rows[0])
    if all(len(row) == 1 for row in matrix.rows):
        return [row[0] for row in matrix.rows]
    return None


def residue(node: Node) -> Node:
    """Return the residue of a congruence, or the node."""
    return node.sides[-1] if isinstance(node, Relation) else node
