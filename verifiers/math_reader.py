"""From tokens to a tree: a precedence parser for answers, not for all of LaTeX.

Levels, loosest first: answers side by side, relations, ratios, set operations, sums, products, powers.
Depth and size are bounded, so reading takes bounded time; nothing is evaluated.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .math_atoms import AtomReader
from .math_build import (
    inverse,
    over,
    percent,
    primed,
    product,
    proper,
    quotient,
    scaled,
    signed,
    strip_degrees,
    times,
    unit_factors,
)
from .math_lexer import Token, tokens
from .math_nodes import (
    Call,
    Const,
    Modulo,
    Node,
    Num,
    Relation,
    SetOp,
    Several,
    Sym,
    Text,
    Unreadable,
    Work,
    walk,
)
from .math_tidy import tidy
from .math_units import MULTIPLES, PERCENT, unit_powers

MAX_TOKENS = 1500
"""More tokens are no answer."""

_RELATIONS = frozenset({"=", "!=", "<", ">", "<=", ">=", "in", "notin", "approx", "equiv", "to", "implies"})
_CLOSERS = frozenset({")", "]", "}", "set}", ")>", ")floor", ")ceil", "|", "&", "\\\\"})


def read(text: str, *, thousands: bool = True) -> Node:
    """Read one answer.

    Raises `Unreadable` with the reason for anything that is not one: too long, too deep, not closed,
    a command that is not known.
    """
    tidied = tidy(text)
    if not tidied:
        raise Unreadable("empty")
    found = tokens(tidied, thousands=thousands)
    if len(found) > MAX_TOKENS:
        raise Unreadable(f"{len(found)} tokens are too many for an answer (at most {MAX_TOKENS})")
    if not found:
        raise Unreadable("empty")
    if all(token.kind == "text" for token in found):
        return Text(plain_words(text))
    node = _Parser(found).whole()
    return node if not _prose(node) else Text(plain_words(text))


def plain_words(text: str) -> str:
    """Return the words of a text without LaTeX wrapping, in lower case with single spaces."""
    text = tidy(text)
    text = _WRAPPING.sub(" ", text)
    text = re.sub(r"\\[,;:! ~]|[{}$~]|\\quad|\\qquad", " ", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!\"'`*").lower()
    return re.sub(r"^\((\w)\)$", r"\1", text)


_WRAPPING = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|cal)|mbox|hbox|operatorname|boxed|fbox|left|right)\b\s*"
)


def _prose(node: Node) -> bool:
    """Whether words stand inside what would be a product: then the whole is a sentence, not an expression."""
    for part in walk(node):
        if isinstance(part, Call) and any(
            isinstance(a, Sym) and a.name.startswith("text:") for a in part.args
        ):
            return True
    return False


class _Parser(AtomReader):
    # --- answers side by side

    def whole(self) -> Node:
        """Read everything. Raises `Unreadable` for what is left over."""
        node = self.answers(frozenset())
        if self.at < len(self.tokens):
            raise Unreadable(f"{self.tokens[self.at].text!r} was not expected")
        return node

    def answers(self, stop: frozenset[str]) -> Node:
        """Read answers side by side up to one of `stop`."""
        items, joined = self.items(stop)
        if len(items) == 1:
            return items[0]
        if not items:
            raise Unreadable("empty")
        return Several(tuple(items), joined)

    def items(self, stop: frozenset[str]) -> tuple[list[Node], str]:
        """Read a list up to one of `stop`, and the last joiner."""
        self.enter()
        items: list[Node] = []
        joined = ","
        while True:
            while self.accept(",", ";", "\\\\", "!", "&") or (
                self.peek() in {"and", "or"} and "ends" not in stop
            ):
                if self.peek() in {"and", "or"}:
                    joined = self.peek() or joined
                    self.at += 1
            if (
                self.at >= len(self.tokens)
                or self.peek() in stop
                or self.peek() in _CLOSERS - {"|", "&", "\\\\"}
            ):
                break
            items.append(self.item())
            if self.at >= len(self.tokens) or self.peek() in stop:
                break
            if self.peek() not in {",", ";", "and", "or", "\\\\", "&"}:
                break
        self.depth -= 1
        return items, joined

    # --- relations and sets

    def item(self) -> Node:
        """Read one answer: a chain of relations, perhaps modulo something."""
        self.enter()
        sides, ops = [], []
        if self.peek() in {"=", "approx"}:  # "= 5" continues the line above
            self.at += 1
        sides.append(self.ratio())
        while (op := self.peek()) in _RELATIONS:
            assert op is not None
            self.at += 1
            if (
                self.token() is not None
                and self.tokens[self.at].kind == "cmd"
                and self.tokens[self.at].text == "not"
            ):
                raise Unreadable("a negated relation cannot be read here")
            ops.append(op)
            sides.append(self.ratio())
        node: Node = sides[0] if not ops else Relation(tuple(sides), tuple(ops))
        if self.accept("pmod"):
            node = Modulo(node, self.power())
        elif self.peek() == "(" and self.peek(1) == "pmod":
            self.at += 2
            node = Modulo(node, self.power())
            self.expect(")")
        self.depth -= 1
        return node

    def ratio(self) -> Node:
        """Read `a:b`."""
        parts = [self.sets()]
        while not self.in_set and self.accept(":"):
            parts.append(self.sets())
        return parts[0] if len(parts) == 1 else Call("ratio", tuple(parts))

    def sets(self) -> Node:
        """Read unions, intersections and differences."""
        node = self.sum()
        while (op := self.peek()) in {"cup", "cap", "setminus"}:
            assert op is not None
            self.at += 1
            node = SetOp(op, node, self.sum())
        return node

    # --- sums and products

    def sum(self) -> Node:
        """Read a sum; plus-minus is kept."""
        self.enter()
        terms: list[Node] = []
        op = "+"
        if self.peek() in {"+", "-", "pm", "mp"}:
            op = self.peek() or "+"
            self.at += 1
        while True:
            term = self.product()
            terms.append(signed(op, term))
            if self.peek() not in {"+", "-", "pm", "mp"}:
                break
            op = self.peek() or "+"
            self.at += 1
            while self.peek() in {"+", "-"}:  # 3 + -2
                op = {"+": op, "-": {"+": "-", "-": "+"}.get(op, op)}[self.peek() or "+"]
                self.at += 1
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Call("add", tuple(terms))

    def product(self) -> Node:
        """Read a product, written or implied."""
        node = self.factor()
        while True:
            if self.accept("*"):
                node = times(node, self.signed_factor())
            elif self.accept("/"):
                token = self.token()
                if token is not None and token.kind == "text" and self._unit_follows(token):
                    node = times(node, inverse(self.units()))
                else:
                    node = over(node, self.signed_factor())
            elif self.accept("bmod"):
                node = Work("mod", (node, self.factor()))
            elif self._starts_factor():
                node = self._juxtaposed(node)
            else:
                return node

    def _unit_follows(self, token: Token) -> bool:
        return self.at > 1 and bool(unit_powers(token.text)) and not token.text.startswith(" ")

    def _starts_factor(self) -> bool:
        token = self.token()
        if token is None:
            return False
        if token.kind != "op":
            return token.kind != "end"
        if token.text == "(" and self.peek(1) == "pmod":
            return False
        return token.text in {"(", "[", "{", "set{", "<(", "floor(", "ceil("} or (
            token.text == "|" and not self.in_set and not self._bar_open
        )

    def _juxtaposed(self, left: Node) -> Node:
        """Read what stands beside a factor: a mixed number's fraction, a unit, or a product's next factor."""
        token = self.tokens[self.at]
        before = self.tokens[self.at - 1]
        whole = before.kind == "num" and before.value is not None and before.value.denominator == 1
        if whole and before.digits is None and token.kind == "cmd" and token.text == "frac":
            fraction = self.atom()
            if proper(fraction) and isinstance(left, Num):
                sign = -1 if left.value < 0 else 1
                return self.followed(Num(left.value + sign * quotient(fraction)))
            if proper(fraction) and isinstance(left, Call) and left.name == "mul":
                raise Unreadable("a mixed number inside a product")
            return times(left, self.followed(fraction))
        if token.kind == "num":
            following = self.tokens[self.at + 1 : self.at + 3]
            if (
                whole
                and isinstance(left, Num)
                and len(following) == 2
                and following[0].text == "/"
                and following[1].kind == "num"
                and token.value is not None
                and following[1].value
                and token.value < following[1].value
            ):
                self.at += 3
                sign = -1 if left.value < 0 else 1
                return self.followed(Num(left.value + sign * token.value / following[1].value))
            if before.kind == "num":
                raise Unreadable(f"two numbers side by side: {before.text} {token.text}")
        if token.kind == "text":
            return self._with_words(left)
        if token.text == "[" or (token.text == "set{"):
            raise Unreadable(f"{token.text!r} was not expected after a value")
        return times(left, self.factor())

    def _with_words(self, left: Node) -> Node:
        token = self.tokens[self.at]
        lower = token.text.lower().strip(". ")
        if lower in PERCENT:
            self.at += 1
            return percent(left)
        if lower in MULTIPLES:
            self.at += 1
            return scaled(left, MULTIPLES[lower])
        if isinstance(left, Sym) and left.name.startswith("text:"):
            self.at += 1
            return Sym(f"{left.name} {lower}")
        return times(left, self.units())

    def units(self) -> Node:
        """Read words after a value as a product of unit symbols."""
        words: list[str] = []
        factors: list[Node] = []
        while (token := self.token()) is not None and token.kind == "text":
            words.append(token.text)
            self.at += 1
            following = self.token()
            if self.peek() == "^" and following is not None:
                self.at += 1
                exponent = self.exponent()
                power = int(exponent.value) if isinstance(exponent, Num) and abs(exponent.value) < 100 else 1
                factors.extend(unit_factors(" ".join(words), power))
                words = []
            elif (
                self.peek() == "/"
                and self.at + 1 < len(self.tokens)
                and self.tokens[self.at + 1].kind == "text"
            ):
                words.append("/")
                self.at += 1
            elif (
                self.peek() == "*"
                and self.at + 1 < len(self.tokens)
                and self.tokens[self.at + 1].kind == "text"
            ):
                self.at += 1
        factors.extend(unit_factors(" ".join(words), 1))
        return product(factors) if factors else Num(Fraction(1))

    def signed_factor(self) -> Node:
        """Read a factor with its sign."""
        if self.accept("-"):
            return signed("-", self.signed_factor_once())
        self.accept("+")
        return self.factor()

    def signed_factor_once(self) -> Node:
        return self.factor()

    # --- powers and what follows a value

    def factor(self) -> Node:
        """Read one factor."""
        return self.power()

    def power(self) -> Node:
        """Read a value and what follows it."""
        self.enter()
        node = self.followed(self.atom())
        self.depth -= 1
        return node

    def followed(self, node: Node) -> Node:
        """Read what follows a value: powers, degrees, factorials, percent signs, primes, indices."""
        while True:
            if self.accept("^"):
                if self.peek() == "deg" or (self.peek() == "{" and self.peek(1) == "deg"):
                    braced = self.accept("{")
                    self.at += 1
                    node = self._degrees(node)
                    if braced:
                        if (token := self.token()) is not None and token.text in {"C", "F"}:
                            node = times(strip_degrees(node), Sym("unit:deg" + token.text))
                            self.at += 1
                        self.expect("}")
                elif self.peek() == "'":
                    self.at += 1
                    node = primed(node)
                elif self.peek() == "{" and self.peek(1) == "'":
                    self.at += 1
                    while self.accept("'"):
                        node = primed(node)
                    self.expect("}")
                elif self._ordinal():
                    continue
                else:
                    node = Call("pow", (node, self.exponent()))
            elif self.accept("deg"):
                node = self._degrees(node)
            elif self.peek() == "!":
                self.at += 1
                double = self.accept("!")
                node = Call("factorial2" if double else "factorial", (node,))
            elif self.accept("%"):
                node = percent(node)
            elif self.peek() == "'" and isinstance(node, Sym):
                self.at += 1
                node = primed(node)
            elif self.peek() == "_":
                node = self._subscript(node)
            else:
                break
        return node

    def _degrees(self, node: Node) -> Node:
        token = self.token()
        if token is not None and token.kind in {"name", "text"} and token.text in {"C", "F"}:
            self.at += 1
            return times(node, Sym("unit:deg" + token.text))
        return times(node, Sym("unit:deg"))

    def _ordinal(self) -> bool:
        """Skip `^{\\text{th}}`."""
        index = self.at
        braced = index < len(self.tokens) and self.tokens[index].text == "{"
        index += braced
        if index < len(self.tokens) and self.tokens[index].text.lower() in {"th", "st", "nd", "rd"}:
            self.at = index + 1 + braced
            return True
        return False

    def exponent(self) -> Node:
        """Read the argument of `^`: a group, a signed number, a letter, a fraction."""
        if self.accept("-"):
            return signed("-", self.exponent())
        self.accept("+")
        token = self.token()
        if token is None:
            raise Unreadable("an exponent is missing at the end")
        if token.kind == "op" and token.text in {"(", "{"}:
            return self.atom()
        if token.kind == "op" and token.text not in {"|", "floor(", "ceil("}:
            raise Unreadable(f"{token.text!r} cannot be an exponent")
        node = self.atom()
        if self.peek() == "^":  # a^b^c is a^(b^c)
            self.at += 1
            self.enter()
            node = Call("pow", (node, self.exponent()))
            self.depth -= 1
        return node

    def _subscript(self, node: Node) -> Node:
        self.at += 1
        index = self.raw_group()
        if isinstance(node, Sym):
            return Sym(f"{node.name}_{index}")
        if isinstance(node, Num) and index.isdigit() and 2 <= int(index[:4]) <= 62:
            return times(node, Sym(f"unit:base {int(index)}"))
        if isinstance(node, Const):
            return Sym(f"{node.name}_{index}")
        raise Unreadable("an index on something that is no letter")
