"""The value of an expression at a point: exact where it is rational, else at 50 digits.

Every operation is bounded before it is done: the size of powers, factorials and binomials is estimated
first, so an answer such as `9^{9^{9^9}}` costs nothing. Unknown functions and unfinished work take a
value that depends on nothing but their form and arguments, so that equal forms agree.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from .math_nodes import Call, Const, Node, Num, Sym, Work, number_text, show

MAX_BITS = 60_000
"""Exact numbers larger than this are not computed."""
MAX_EXPONENT = 200_000
"""Numbers beyond 2 to this power are not computed at 50 digits either."""
DIGITS = 50
"""Working precision of the inexact evaluation, in decimal digits."""

Point = Mapping[str, Fraction]


class NotRational(Exception):  # noqa: N818
    """The value is not a rational number that the exact evaluation can reach."""


class Undefined(Exception):  # noqa: N818
    """There is no value at this point: a division by zero, a logarithm of zero."""


class TooLarge(Exception):  # noqa: N818
    """The value is too large to be computed within the budgets."""


class NoNumber(Exception):  # noqa: N818
    """The node is not a number: a set, a tuple, a relation."""


def pseudo_value(key: str) -> Fraction:
    """Return a number in (0.3, 2.3) that depends on nothing but `key`."""
    digest = int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big")
    return Fraction(3, 10) + Fraction(digest % 19_997 + 1, 9_973 + digest % 7)


# --- exact


def exact(node: Node, point: Point) -> Fraction:
    """Return the exact rational value.

    Raises `NotRational`, `Undefined`, `TooLarge` or `NoNumber` where there is none.
    """
    match node:
        case Num(value=value):
            return value
        case Sym(name=name):
            if name in point:
                return point[name]
            if name == "unit:deg":
                raise NotRational
            return pseudo_value(name)
        case Call(name=name, args=args):
            operation = _EXACT.get(name)
            if operation is not None:
                return _bounded(operation([exact(arg, point) for arg in args]))
            if name.startswith("apply:"):
                return pseudo_value(name + "|" + "|".join(number_text(exact(arg, point)) for arg in args))
            raise NotRational
        case Work():
            return pseudo_value(show(node))
        case Const(name=name):
            if name in {"pi", "e", "i"}:
                raise NotRational
            raise NoNumber
        case _:
            raise NoNumber


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooLarge
    return value


def _divide(args: list[Fraction]) -> Fraction:
    if not args[1]:
        raise Undefined
    return args[0] / args[1]


def _power(args: list[Fraction]) -> Fraction:
    base, exponent = args
    if exponent.denominator != 1:
        root = _perfect_root(base, exponent.denominator)
        return _power([root, Fraction(exponent.numerator)])
    whole = exponent.numerator
    if not base:
        if whole <= 0:
            raise Undefined
        return Fraction(0)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and (size - 1) * abs(whole) > MAX_BITS:
        raise TooLarge
    if abs(base) == 1:
        return Fraction(1) if base == 1 or whole % 2 == 0 else Fraction(-1)
    return base**whole


def _perfect_root(base: Fraction, degree: int) -> Fraction:
    if base < 0 or degree > 64:
        raise NotRational
    top, bottom = _integer_root(base.numerator, degree), _integer_root(base.denominator, degree)
    if top is None or bottom is None:
        raise NotRational
    return Fraction(top, bottom)


def _integer_root(number: int, degree: int) -> int | None:
    if number.bit_length() > 4000:
        return None
    if degree == 2:
        root = math.isqrt(number)
    else:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            if middle**degree <= number:
                low = middle
            else:
                high = middle - 1
        root = low
    return root if root**degree == number else None


def _root(args: list[Fraction]) -> Fraction:
    base, degree = args
    if degree.denominator != 1 or degree <= 0:
        raise NotRational
    if base < 0 and degree.numerator % 2:
        return -_perfect_root(-base, degree.numerator)
    return _perfect_root(base, degree.numerator)


def _factorial(args: list[Fraction]) -> Fraction:
    if args[0].denominator != 1:
        raise NotRational
    number = args[0].numerator
    if number < 0:
        raise Undefined
    if number > 6000:
        raise TooLarge
    return Fraction(math.factorial(number))


def _double_factorial(args: list[Fraction]) -> Fraction:
    if args[0].denominator != 1:
        raise NotRational
    number = args[0].numerator
    if number < -1:
        raise Undefined
    if number > 6000:
        raise TooLarge
    return Fraction(math.prod(range(number, 0, -2)))


def _binomial(args: list[Fraction]) -> Fraction:
    if args[0].denominator != 1 or args[1].denominator != 1:
        raise NotRational
    above, below = args[0].numerator, args[1].numerator
    if below < 0 or above < 0:
        raise Undefined
    if min(below, abs(above - below)) > 6000 or above.bit_length() * min(below, 6000) > 4 * MAX_BITS:
        raise TooLarge
    return Fraction(math.comb(above, below))


_EXACT: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "add": lambda args: sum(args, Fraction(0)),
    "mul": lambda args: math.prod(args, start=Fraction(1)),
    "neg": lambda args: -args[0],
    "div": _divide,
    "ratio": lambda args: _divide(args) if len(args) == 2 else _not_rational(args),
    "pow": _power,
    "sqrt": lambda args: _perfect_root(args[0], 2),
    "root": _root,
    "abs": lambda args: abs(args[0]),
    "floor": lambda args: Fraction(math.floor(args[0])),
    "ceil": lambda args: Fraction(math.ceil(args[0])),
    "factorial": _factorial,
    "factorial2": _double_factorial,
    "binom": _binomial,
    "sgn": lambda args: Fraction((args[0] > 0) - (args[0] < 0)),
}


def _not_rational(args: list[Fraction]) -> Fraction:
    raise NotRational


PRIMES = (2_305_843_009_213_693_951, 4_611_686_018_427_387_847)
"""Two primes near 2^61 and 2^62: numbers too large to write are compared by their residues."""


def residue(node: Node, prime: int) -> int | None:
    """Return an arithmetic constant modulo a prime, or None for anything but sums, products and whole powers."""
    match node:
        case Num(value=value):
            if value.denominator % prime == 0:
                return None
            return value.numerator * pow(value.denominator, -1, prime) % prime
        case Call(name="add" | "mul" | "neg" | "div" as name, args=args):
            parts = [residue(arg, prime) for arg in args]
            known = [part for part in parts if part is not None]
            if len(known) != len(parts):
                return None
            match name:
                case "add":
                    return sum(known) % prime
                case "mul":
                    return math.prod(known) % prime
                case "neg":
                    return -known[0] % prime
                case _:
                    return known[0] * pow(known[1], -1, prime) % prime if known[1] else None
        case Call(name="pow", args=(base, exponent)):
            below = residue(base, prime)
            try:
                power = exact(exponent, {})
            except (NotRational, Undefined, TooLarge, NoNumber):
                return None
            if below is None or power.denominator != 1 or (power < 0 and not below):
                return None
            return pow(below, power.numerator, prime)
        case _:
            return None


# --- at 50 digits

_local = threading.local()


def context(digits: int = DIGITS) -> Any:
    """Return this thread's own mpmath context at a precision: the shared one is not safe between threads."""
    contexts: dict[int, Any] | None = getattr(_local, "contexts", None)
    if contexts is None:
        contexts = _local.contexts = {}
    if digits not in contexts:
        from mpmath.ctx_mp import MPContext

        contexts[digits] = MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


class Inexact:
    """One inexact evaluation: remembers whether a small term was lost beside a large one."""

    def __init__(self, point: Point, digits: int = DIGITS) -> None:
        self.point = point
        self.digits = digits
        self.mp = context(digits)
        self.lost = False

    def value(self, node: Node) -> Any:
        """Return an `mpf` or `mpc`. Raises as `exact` does, but never `NotRational`."""
        mp = self.mp
        match node:
            case Num(value=value):
                return self.rational(value)
            case Sym(name=name):
                if name == "unit:deg":
                    return mp.pi / 180
                return self.rational(self.point[name] if name in self.point else pseudo_value(name))
            case Const(name=name):
                if name == "i":
                    return mp.mpc(0, 1)
                if name in {"pi", "e"}:
                    return +getattr(mp, name)
                raise NoNumber
            case Work():
                return self.rational(pseudo_value(show(node)))
            case Call(name=name, args=args):
                return self._call(name, args)
            case _:
                raise NoNumber

    def rational(self, value: Fraction) -> Any:
        """Return a fraction at this precision."""
        if abs(value.numerator.bit_length() - value.denominator.bit_length()) > MAX_EXPONENT:
            raise TooLarge
        return self.mp.mpf(value.numerator) / value.denominator

    def _call(self, name: str, args: tuple[Node, ...]) -> Any:
        if name.startswith("apply:"):
            return self.rational(pseudo_value(name + "|" + "|".join(self._key(arg) for arg in args)))
        try:
            result = self._apply(name, args)
        except ZeroDivisionError:
            raise Undefined from None
        except (ValueError, OverflowError, TypeError, NotImplementedError, ArithmeticError):
            raise Undefined from None
        mp = self.mp
        if not mp.isfinite(result):
            raise Undefined
        if result and mp.mag(result) > MAX_EXPONENT:
            raise TooLarge
        return result

    def _key(self, node: Node) -> str:
        try:
            return number_text(exact(node, self.point))
        except (NotRational, TooLarge):
            return str(self.mp.nstr(self.value(node), 30))

    def _apply(self, name: str, args: tuple[Node, ...]) -> Any:
        mp = self.mp
        if name == "pow":
            return self._power(args)
        values = [self.value(arg) for arg in args]
        first = values[0]
        match name:
            case "add":
                return self._sum(values)
            case "mul":
                return mp.fprod(values)
            case "neg":
                return -first
            case "div" | "ratio":
                if len(values) != 2:
                    raise NoNumber
                if not values[1]:
                    raise Undefined
                return first / values[1]
            case "sqrt":
                return mp.sqrt(first)
            case "root":
                return self._root(first, values[1])
            case "ln":
                if not first:
                    raise Undefined
                return mp.log(first)
            case "log":
                return mp.log(first) / mp.log(values[1])
            case "factorial" | "factorial2":
                if mp.mag(first) > 14:
                    raise TooLarge
                return mp.factorial(first) if name == "factorial" else mp.fac2(first)
            case "binom":
                if max(mp.mag(v) if v else 0 for v in values) > 14:
                    raise TooLarge
                return mp.binomial(*values)
            case "sgn":
                return mp.sign(first)
            case "abs":
                return abs(first)
            case "floor":
                return mp.floor(first)
            case "ceil":
                return mp.ceil(first)
            case "pm" | "mp":
                raise NoNumber
        if first and mp.mag(first) > 1000:
            raise TooLarge
        function = _MP_NAMES.get(name)
        if function is None:
            raise NoNumber
        return getattr(mp, function)(first)

    def _sum(self, values: list[Any]) -> Any:
        mp = self.mp
        total = mp.fsum(values)
        largest = max((mp.mag(v) for v in values if v), default=0)
        smallest = min((mp.mag(v) for v in values if v), default=0)
        if largest - smallest > 3.32 * (self.digits - 12):
            self.lost = True
        return total

    def _power(self, args: tuple[Node, ...]) -> Any:
        mp = self.mp
        base = self.value(args[0])
        try:
            power = exact(args[1], self.point)
        except (NotRational, TooLarge):
            power = None
        exponent = self.value(args[1]) if power is None else self.rational(power)
        if not base:
            if mp.re(exponent) <= 0:
                raise Undefined
            return mp.mpf(0)
        magnitude = abs(mp.re(exponent)) * (abs(mp.log(abs(base), 2)) + 1)
        if magnitude > MAX_EXPONENT or (exponent and mp.mag(exponent) > 64):
            raise TooLarge
        if power is not None and power.denominator == 1:
            return base ** int(power)
        return mp.power(base, exponent)

    def _root(self, base: Any, degree: Any) -> Any:
        mp = self.mp
        if not degree:
            raise Undefined
        if not isinstance(base, mp.mpc) and base < 0 and degree == int(degree) and int(degree) % 2:
            return -mp.power(-base, 1 / degree)
        return mp.power(base, 1 / degree)


_MP_NAMES = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch")},  # noqa: E501
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "arccoth": "acoth", "arcsech": "asech",
    "arccsch": "acsch", "erf": "erf",
}  # fmt: skip


# --- where to look


@lru_cache(maxsize=4096)
def sample(name: str, index: int) -> Fraction:
    """Return the value of the letter `name` at the sample point `index`.

    Points 0-2 are positive, 3-4 have signs by letter, 5-7 are small positive integers.
    """
    digest = int.from_bytes(blake2b(f"{index}:{name}".encode(), digest_size=8).digest(), "big")
    if index >= 5:
        return Fraction(digest % 11 + 2)
    value = Fraction(digest % 2_011 + 211, 701 + digest % 13)
    return -value if (index >= 3 and digest >> 40 & 1) or index == 3 else value


def sample_point(names: frozenset[str], index: int) -> dict[str, Fraction]:
    """Return a deterministic point for letters: the same in every process, thread and run."""
    return {name: sample(name, index) for name in names}
