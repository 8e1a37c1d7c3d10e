"""Whether two expressions have the same value: exact first, then 50 digits at sample points, then SymPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from .math_evaluate import (
    PRIMES,
    Inexact,
    NoNumber,
    NotRational,
    Point,
    TooLarge,
    Undefined,
    context,
    exact,
    residue,
    sample_point,
)
from .math_nodes import Call, Const, Node, Num, symbols, walk, works

Decider = Callable[[Node, Node], bool | None]
"""Decides what evaluation leaves open: equal, different, or None for "cannot say"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as equal; the defaults are the strict reading of an answer."""

    digits: int = 6
    """Significant digits to which a decimal must agree with an exact value that it stands for."""
    units: bool = True
    """Whether a different unit is a different answer; a missing one is forgiven either way."""
    require_units: bool = False
    """Whether a unit that the gold answer has must be written."""
    percent_as_number: bool = False
    """Whether `50` and `0.5` both count for `50 %`."""
    ordered_lists: bool = False
    """Whether the order of a list of solutions matters."""
    unfinished: bool = False
    """Whether an answer may leave a sum, integral, limit or determinant to the verifier."""
    relative_tolerance: float = 0.0
    """Relative difference that still counts as equal, between numbers."""
    ignore_case: bool = True
    """Whether the case of words does not matter."""


STRICT = Rules()


class TooLargeToCompare(ValueError):  # noqa: N818
    """A value is beyond the budgets, so two different forms of it cannot be compared."""


def same(gold: Node, answer: Node, rules: Rules = STRICT, decide: Decider | None = None) -> bool:
    """Return whether two expressions are equal as values.

    Raises `TooLargeToCompare` where a value is beyond the budgets and `NoNumber` for what is no expression.
    """
    if gold == answer:
        return True
    if works(gold) != works(answer):
        return rules.unfinished and decide is not None and bool(decide(gold, answer))
    if isinstance(gold, Num) and isinstance(answer, Num):
        return same_numbers(gold, answer, rules)
    for literal, other in ((gold, answer), (answer, gold)):
        if isinstance(literal, Num) and literal.digits is not None and not symbols(other):
            return _decimal_for(literal, other, rules)
    if rules.relative_tolerance and not symbols(gold) and not symbols(answer):
        return _close(gold, answer, rules.relative_tolerance)
    return _same_everywhere(gold, answer, decide)


# --- numbers and decimals


def same_numbers(gold: Num, answer: Num, rules: Rules) -> bool:
    """Compare two literal numbers: exactly, or to the digits of a decimal that has enough of them."""
    if gold.value == answer.value:
        return True
    if rules.relative_tolerance:
        return abs(gold.value - answer.value) <= Fraction(rules.relative_tolerance) * abs(gold.value)
    if gold.digits is None and answer.digits is None:
        return False
    if gold.digits is not None and answer.digits is not None:
        return _same_decimals(gold, answer, rules.digits)
    decimal, other = (gold, answer) if gold.digits is not None else (answer, gold)
    return _stands_for(decimal, other.value, rules.digits)


def _same_decimals(one: Num, other: Num, digits: int) -> bool:
    short, long = sorted((one, other), key=lambda number: number.digits or 0)
    kept, available = short.digits or 0, long.digits or 0
    if kept < digits:
        return False
    if kept >= 14 and _relative(one.value, other.value) < Fraction(1, 10**12):
        return True
    return kept < available and rounded(long.value, kept) == short.value


def _stands_for(decimal: Num, value: Fraction, digits: int) -> bool:
    """Whether a decimal is a rounding of an exact rational, or its truncation, to enough digits."""
    if decimal.digits is None or decimal.digits < digits:
        return False
    if value.denominator == 1 and not decimal.scientific:
        return decimal.digits >= 14 and _relative(decimal.value, value) < Fraction(1, 10**12)
    return _agrees(decimal.value, value, digits)


def _agrees(decimal: Fraction, value: Fraction, digits: int) -> bool:
    return rounded(decimal, digits) == rounded(value, digits) or truncated(decimal, digits) == truncated(
        value, digits
    )


def _relative(one: Fraction, other: Fraction) -> Fraction:
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else Fraction(0)


def _decimal_length(number: int) -> int:
    """Return the number of decimal digits of a positive whole number, without writing it out."""
    length = int(number.bit_length() * 0.30102999566) + 1
    while length > 1 and 10 ** (length - 1) > number:
        length -= 1
    while 10**length <= number:
        length += 1
    return length


def _scale(value: Fraction, digits: int) -> Fraction:
    """Return the power of ten that leaves `digits` digits before the point."""
    value = abs(value)
    exponent = _decimal_length(value.numerator) - _decimal_length(value.denominator)
    if value < Fraction(10) ** exponent:
        exponent -= 1
    return Fraction(10) ** (digits - 1 - exponent)


def rounded(value: Fraction, digits: int) -> Fraction:
    """Round half away from zero to significant digits."""
    if not value:
        return value
    scale = _scale(value, digits)
    whole = int(abs(value) * scale + Fraction(1, 2))
    return (whole if value > 0 else -whole) / scale


def truncated(value: Fraction, digits: int) -> Fraction:
    """Cut to significant digits."""
    if not value:
        return value
    scale = _scale(value, digits)
    return int(value * scale) / scale


def _decimal_for(literal: Num, other: Node, rules: Rules) -> bool:
    """Compare a decimal with a constant expression."""
    value = constant(other)
    if value is None:
        return False
    if rules.relative_tolerance:
        return abs(value - literal.value) <= Fraction(rules.relative_tolerance) * abs(value)
    if value == literal.value:
        return True
    return _stands_for(literal, value, rules.digits)


def constant(node: Node) -> Fraction | None:
    """Return the real value of an expression without letters, exact or to 40 digits; None for none.

    Raises `TooLargeToCompare` beyond the budgets.
    """
    try:
        return exact(node, {})
    except (Undefined, NoNumber):
        return None
    except (NotRational, TooLarge):
        pass
    try:
        value = Inexact({}).value(node)
    except TooLarge:
        raise TooLargeToCompare("too large to compare") from None
    except (Undefined, NoNumber):
        return None
    mp = context()
    if isinstance(value, mp.mpc):
        if abs(value.imag) > mp.mpf(10) ** -40 * abs(value):
            return None
        value = value.real
    if not value:
        return Fraction(0)
    sign, mantissa, exponent, _ = value._mpf_
    number = Fraction(int(mantissa)) * (Fraction(2) ** int(exponent))
    return -number if sign else number


def _close(gold: Node, answer: Node, tolerance: float) -> bool:
    one, other = constant(gold), constant(answer)
    if one is None or other is None:
        return False
    return abs(one - other) <= Fraction(tolerance) * abs(one)


# --- expressions


def _same_everywhere(gold: Node, answer: Node, decide: Decider | None) -> bool:
    names = symbols(gold) | symbols(answer)
    complexes = any(n == Const("i") for node in (gold, answer) for n in walk(node))
    too_large = lost = False
    for complex_allowed in (False, True) if names and not complexes else (True,):
        agreed = 0
        for index in range(8 if names else 1):
            if index == 5 and agreed >= 2 and not _discrete(gold, answer):
                break
            try:
                verdict = same_at(gold, answer, sample_point(names, index), complex_allowed=complex_allowed)
            except TooLarge:
                too_large = True
                continue
            if verdict is False:
                return False
            lost = lost or verdict == "lost"
            agreed += verdict is True
        if agreed >= (2 if names else 1):
            return True
    if too_large:
        if not names:
            residues = [(residue(gold, prime), residue(answer, prime)) for prime in PRIMES]
            if all(one is not None and other is not None for one, other in residues):
                return all(one == other for one, other in residues)
        raise TooLargeToCompare("too large to compare")
    return lost and decide is not None and bool(decide(gold, answer))


def _discrete(*nodes: Node) -> bool:
    discrete = {"factorial", "factorial2", "binom", "floor", "ceil"}
    return any(isinstance(n, Call) and n.name in discrete for node in nodes for n in walk(node))


def same_at(
    gold: Node, answer: Node, point: Point, *, complex_allowed: bool
) -> bool | Literal["lost"] | None:
    """Compare at one point: True, False, None where one of the two has no (real) value, or that precision was lost."""
    try:
        return exact(gold, point) == exact(answer, point)
    except NotRational:
        pass
    except TooLarge:
        pass
    except Undefined:
        return None
    for digits in (50, 120, 1200):
        one, other = Inexact(point, digits), Inexact(point, digits)
        try:
            left = one.value(gold)
        except Undefined:
            left = None
        try:
            right = other.value(answer)
        except Undefined:
            right = None
        if left is None or right is None:
            return None
        mp = one.mp
        if not complex_allowed and (isinstance(left, mp.mpc) or isinstance(right, mp.mpc)):
            return None
        if left == right and not (one.lost or other.lost):
            return True
        verdict = _near(mp, left, right, digits)
        if verdict is False:
            return False
        if verdict and not (one.lost or other.lost):
            return True
    return "lost"


def _near(mp: Any, left: Any, right: Any, digits: int) -> bool | None:
    """Whether two values agree to all but the last digits; None where both could be zero."""
    largest = max(abs(left), abs(right))
    if not largest:
        return True
    difference = abs(left - right)
    if difference <= largest * mp.mpf(10) ** (12 - digits):
        return True
    if largest < mp.mpf(10) ** (12 - digits):  # both may be rounding errors of zero: look closer
        return True if digits > 1000 else None
    return False
