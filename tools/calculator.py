"""A calculator that computes exactly and cannot be made to do anything else.

The expression is read by the small parser below, never by Python. Numbers are fractions, so `0.1 + 0.2` is
`0.3`; the length of the input, its nesting and the size of every intermediate result are bounded.
"""

from __future__ import annotations

import decimal
import re
from fractions import Fraction

from .errors import ToolError
from .tool import Tool

MAX_CHARS = 400
"""Characters of an expression."""
MAX_DEPTH = 40
"""Parentheses and signs inside each other."""
MAX_BITS = 2048
"""Bits of the numerator and of the denominator of every intermediate result: about 600 digits."""
DIGITS = 12
"""Significant digits of a result that has no short exact form."""

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(\*\*|//|[-+*/%()])|(\S))"
)
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_HINTS = {
    ",": "write numbers without commas",
    "^": "write ** for a power",
    "=": "write one expression, without =",
    "$": "write numbers without units",
}


class CalculatorError(ToolError):
    """The expression has no value here; the text says why."""


def calculate(expression: str) -> str:
    """Return the value of `expression` as text, or `Error: ...` saying why it has none. Never raises.

    Integers are printed whole, decimals exactly where at most 12 significant digits do, else rounded to 12.
    """
    try:
        return shown(evaluate(expression))
    except CalculatorError as error:
        return f"Error: {error}"


def evaluate(expression: str) -> Fraction:
    """Return the exact value of `expression`: numbers, `+ - * / // % **` and parentheses, as in Python.

    Raises `CalculatorError` for anything else.
    """
    if len(expression) > MAX_CHARS:
        raise CalculatorError(f"{len(expression)} characters are too many, at most {MAX_CHARS} are read")
    parser = _Parser(_tokens(expression.translate(_SPELLINGS)))
    value = parser.sum(0)
    if parser.token:
        raise CalculatorError(f"unexpected {parser.token!r}")
    return value


def shown(value: Fraction) -> str:
    """Return a fraction as an integer, an exact decimal of at most 12 digits, or one rounded to 12."""
    if value.denominator == 1:
        return str(value.numerator)
    with decimal.localcontext(prec=DIGITS) as context:
        context.Emax, context.Emin = decimal.MAX_EMAX, decimal.MIN_EMIN
        rounded = (decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)).normalize()
    return f"{rounded:f}" if -DIGITS <= rounded.adjusted() < 40 else f"{rounded:e}"


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for number, operator, other in _TOKEN.findall(text):
        if other:
            hint = _HINTS.get(other, "use numbers, + - * / // % ** and parentheses")
            raise CalculatorError(f"unexpected {other!r}; {hint}")
        tokens.append(number or operator)
    if not tokens:
        raise CalculatorError("the expression is empty")
    return tokens


class _Parser:
    """Recursive descent over the tokens; each method reads one level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._next = 0

    @property
    def token(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self.token
        self._next += 1
        return token

    def sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self.token in ("+", "-"):
            if self._take() == "+":
                value = _bounded(value + self._product(depth))
            else:
                value = _bounded(value - self._product(depth))
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while self.token in ("*", "/", "//", "%"):
            operator, right = self._take(), self._signed(depth)
            if operator == "*":
                value = _bounded(value * right)
            elif right == 0:
                raise CalculatorError("division by zero")
            elif operator == "/":
                value = _bounded(value / right)
            elif operator == "//":
                value = Fraction(value // right)
            else:
                value = _bounded(value % right)
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise CalculatorError(f"the expression is nested more than {MAX_DEPTH} deep")
        if self.token == "-":
            self._take()
            return -self._signed(depth + 1)
        if self.token == "+":
            self._take()
            return self._signed(depth + 1)
        base = self._atom(depth)
        if self.token == "**":
            self._take()
            return _power(base, self._signed(depth + 1))  # to the right: 2**3**2 is 2**9
        return base

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token == "(":
            value = self.sum(depth + 1)
            if self.token != ")":
                raise CalculatorError("a closing parenthesis is missing")
            self._take()
            return value
        if not token:
            raise CalculatorError("the expression ends too early")
        if not token[0].isdigit() and token[0] != ".":
            raise CalculatorError(f"unexpected {token!r}")
        if token.isdecimal():  # most numbers are
            return _bounded(Fraction(int(token)))
        exponent = re.split("[eE]", token)[1:]
        if exponent and len(exponent[0].lstrip("+-0")) > 3:
            raise CalculatorError("a number is too large")
        return _bounded(Fraction(token))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculatorError("an exponent must be a whole number")
    if base == 0 and exponent < 0:
        raise CalculatorError("division by zero")
    size = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
    if size * abs(exponent) > MAX_BITS:  # a lower bound of the result's bits, known before computing it
        raise CalculatorError("the result is too large")
    if abs(base) == 1 or base == 0:  # their exponent may be as large as the input can write it
        exponent = exponent % 2 if base else min(exponent, Fraction(1))
    return _bounded(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise CalculatorError("the result is too large")
    return value


def _calculator(expression: str) -> str:
    """Compute an arithmetic expression.

    Args:
        expression: For example (12*7-9)/3
    """
    return shown(evaluate(expression))


calculator = Tool(_calculator, name="calculator", lazy=True)
"""The calculator as a tool with one parameter, `expression`."""
