"""Values and their units apart, and expressions that differ by a factor."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from .math_evaluate import Inexact, NoNumber, NotRational, TooLarge, Undefined, exact, sample_point
from .math_nodes import (
    Call,
    Node,
    Num,
    Sym,
    symbols,
    walk,
)


def split_units(node: Node) -> tuple[Node, dict[str, int]]:
    """Return an expression without the units that multiply it, and their powers."""
    units: Counter[str] = Counter()
    value = _without_units(node, 1, units)
    return value, {name: power for name, power in units.items() if power}


def _without_units(node: Node, sign: int, units: Counter[str]) -> Node:
    match node:
        case Sym(name=name) if name.startswith("unit:"):
            units[name[5:]] += sign
            return Num(Fraction(1))
        case Call(name="pow", args=(Sym(name=name), Num(value=power))) if name.startswith("unit:"):
            units[name[5:]] += sign * int(power)
            return Num(Fraction(1))
        case Call(name="pow", args=(Call(name="mul", args=args) as inner, Num(value=power))) if _all_units(
            args
        ):
            _without_units(inner, sign * int(power), units)
            return Num(Fraction(1))
        case Call(name="mul", args=args):
            kept = [
                part
                for part in (_without_units(arg, sign, units) for arg in args)
                if part != Num(Fraction(1))
            ]
            return Num(Fraction(1)) if not kept else kept[0] if len(kept) == 1 else Call("mul", tuple(kept))
        case Call(name="div", args=(top, bottom)):
            above, below = _without_units(top, sign, units), _without_units(bottom, -sign, units)
            return above if below == Num(Fraction(1)) else Call("div", (above, below))
        case Call(name="neg", args=(inner,)):
            stripped = _without_units(inner, sign, units)
            return (
                Num(-stripped.value, stripped.digits)
                if isinstance(stripped, Num)
                else Call("neg", (stripped,))
            )
        case _:
            return node


def _all_units(args: tuple[Node, ...]) -> bool:
    return all(
        (isinstance(a, Sym) and a.name.startswith("unit:"))
        or (
            isinstance(a, Call)
            and a.name == "pow"
            and isinstance(a.args[0], Sym)
            and a.args[0].name.startswith("unit:")
        )
        for a in args
    )


def harmonised(model: Node, node: Node) -> Node:
    """Read `m` in `node` as the model reads it: as a letter if the model has the letter, as its unit if not."""
    letters = {n.name for n in walk(model) if isinstance(n, Sym)}

    def rename(part: Node) -> Node:
        if isinstance(part, Sym):
            if part.name.startswith("unit:") and part.name not in letters and part.name[5:] in letters:
                return Sym(part.name[5:])
            if len(part.name) == 1 and part.name not in letters and f"unit:{part.name}" in letters:
                return Sym(f"unit:{part.name}")
            return part
        if isinstance(part, Call):
            return Call(part.name, tuple(rename(arg) for arg in part.args))
        return part

    return rename(node)


def same_units(one: dict[str, int], other: dict[str, int]) -> bool:
    """Return whether two units are the same; unknown words may be more on one side (5 red apples)."""
    if one == other:
        return True
    if {*one, *other} <= {"deg", "degC", "degF"} and ("deg" in one or "deg" in other):
        return True
    words = [
        set(next(iter(unit)).split()[1:])
        if len(unit) == 1 and next(iter(unit)).startswith("words ")
        else None
        for unit in (one, other)
    ]
    return words[0] is not None and words[1] is not None and (words[0] <= words[1] or words[1] <= words[0])


def unit_text(unit: dict[str, int]) -> str:
    """Return a unit as text."""
    return " ".join(name + (f"^{power}" if power != 1 else "") for name, power in unit.items())


def proportional(one: Node, other: Node, *, sign: int) -> bool:
    """Whether two expressions differ by a constant factor (of a sign, unless it is 0) at every sample point."""
    names = symbols(one) | symbols(other)
    if symbols(one) != symbols(other):
        return False
    ratio: object = None
    agreed = 0
    for index in range(6):
        point = sample_point(names, index)
        try:
            try:
                left, right = exact(one, point), exact(other, point)
                if not left or not right:
                    if left or right:
                        return False
                    continue
                found = right / left
                if (ratio is not None and found != ratio) or found * sign < 0:
                    return False
                ratio = found
            except NotRational:
                evaluation = Inexact(point)
                mp = evaluation.mp
                above, below = evaluation.value(other), evaluation.value(one)
                if isinstance(above, mp.mpc) or isinstance(below, mp.mpc) or not below or not above:
                    continue
                quotient = above / below
                if quotient * sign < 0:
                    return False
                if (
                    ratio is not None
                    and abs(quotient - mp.mpf(str(ratio))) > abs(quotient) * mp.mpf(10) ** -30
                ):
                    return False
                ratio = mp.nstr(quotient, 45)
        except (Undefined, TooLarge, NoNumber):
            continue
        agreed += 1
        if agreed >= 4:
            break
    return agreed >= 3
