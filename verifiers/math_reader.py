"""From tokens to a tree: a precedence parser for answers, not for all of LaTeX.

Levels, loosest first: answers side by side, relations, ratios, set operations, sums, products, powers.
Depth and size are bounded, so reading takes bounded time; nothing is evaluated.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .math_lexer import WORKS, Token, tidy, tokens
from .math_nodes import (
    Call,
    Const,
    Group,
    Matrix,
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
    symbols,
    walk,
)
from .math_units import MULTIPLES, PERCENT, unit_powers

MAX_DEPTH = 40
"""Deeper nesting is no answer."""
MAX_TOKENS = 1500
"""More tokens are no answer."""

_RELATIONS = frozenset({"=", "!=", "<", ">", "<=", ">=", "in", "notin", "approx", "equiv", "to", "implies"})
_CLOSERS = frozenset({")", "]", "}", "set}", ")>", ")floor", ")ceil", "|", "&", "\\\\"})
_CONSTANTS = {"pi": "pi", "infty": "inf", "e": "e", "i": "i", "emptyset": "empty", "varnothing": "empty"}
_NAMED_SETS = frozenset({"reals", "integers", "naturals", "rationals", "complexes"})
_APPLIED = frozenset(
    {"f", "g", "h", "F", "G", "H", "P", "phi", "varphi", "Phi", "psi", "Gamma", "zeta", "sigma"}
)
_ACCENTS = frozenset(
    {"overline", "bar", "vec", "hat", "tilde", "overrightarrow", "widehat", "angle", "triangle"}
)
ZERO = Num(Fraction(0))


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


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0
        self.in_set = 0

    # --- the token stream

    def peek(self, ahead: int = 0) -> str | None:
        """The text of an operator token ahead, else None."""
        index = self.at + ahead
        if index < len(self.tokens) and self.tokens[index].kind == "op":
            return self.tokens[index].text
        return None

    def token(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def accept(self, *ops: str) -> bool:
        if self.peek() in ops:
            self.at += 1
            return True
        return False

    def expect(self, op: str) -> None:
        if not self.accept(op):
            token = self.token()
            raise Unreadable(f"{op!r} is missing" + (f" before {token.text!r}" if token else " at the end"))

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep for an answer")

    # --- answers side by side

    def whole(self) -> Node:
        node = self.answers(frozenset())
        if self.at < len(self.tokens):
            raise Unreadable(f"{self.tokens[self.at].text!r} was not expected")
        return node

    def answers(self, stop: frozenset[str]) -> Node:
        items, joined = self.items(stop)
        if len(items) == 1:
            return items[0]
        if not items:
            raise Unreadable("empty")
        return Several(tuple(items), joined)

    def items(self, stop: frozenset[str]) -> tuple[list[Node], str]:
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
        parts = [self.sets()]
        while not self.in_set and self.accept(":"):
            parts.append(self.sets())
        return parts[0] if len(parts) == 1 else Call("ratio", tuple(parts))

    def sets(self) -> Node:
        node = self.sum()
        while (op := self.peek()) in {"cup", "cap", "setminus"}:
            assert op is not None
            self.at += 1
            node = SetOp(op, node, self.sum())
        return node

    # --- sums and products

    def sum(self) -> Node:
        self.enter()
        terms: list[Node] = []
        op = "+"
        if self.peek() in {"+", "-", "pm", "mp"}:
            op = self.peek() or "+"
            self.at += 1
        while True:
            term = self.product()
            terms.append(_signed(op, term))
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
        node = self.factor()
        while True:
            if self.accept("*"):
                node = _times(node, self.signed_factor())
            elif self.accept("/"):
                token = self.token()
                if token is not None and token.kind == "text" and self._unit_follows(token):
                    node = _times(node, _inverse(self.units()))
                else:
                    node = _over(node, self.signed_factor())
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

    _bar_open = 0

    def _juxtaposed(self, left: Node) -> Node:
        """Read what stands beside a factor: a mixed number's fraction, a unit, or a product's next factor."""
        token = self.tokens[self.at]
        before = self.tokens[self.at - 1]
        whole = before.kind == "num" and before.value is not None and before.value.denominator == 1
        if whole and before.digits is None and token.kind == "cmd" and token.text == "frac":
            fraction = self.atom()
            if _proper(fraction) and isinstance(left, Num):
                sign = -1 if left.value < 0 else 1
                return self.followed(Num(left.value + sign * _quotient(fraction)))
            if _proper(fraction) and isinstance(left, Call) and left.name == "mul":
                raise Unreadable("a mixed number inside a product")
            return _times(left, self.followed(fraction))
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
        return _times(left, self.factor())

    def _with_words(self, left: Node) -> Node:
        token = self.tokens[self.at]
        lower = token.text.lower().strip(". ")
        if lower in PERCENT:
            self.at += 1
            return _percent(left)
        if lower in MULTIPLES:
            self.at += 1
            return _scaled(left, MULTIPLES[lower])
        if isinstance(left, Sym) and left.name.startswith("text:"):
            self.at += 1
            return Sym(f"{left.name} {lower}")
        return _times(left, self.units())

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
                factors.extend(_unit_factors(" ".join(words), power))
                words = []
            elif (
                self.peek() == "/"
                and self.at + 1 < len(self.tokens)
                and self.tokens[self.at + 1].kind == "text"
            ):
                words.append("/")
                self.at += 1
        factors.extend(_unit_factors(" ".join(words), 1))
        return _product(factors) if factors else Num(Fraction(1))

    def signed_factor(self) -> Node:
        if self.accept("-"):
            return _signed("-", self.signed_factor_once())
        self.accept("+")
        return self.factor()

    def signed_factor_once(self) -> Node:
        return self.factor()

    # --- powers and what follows a value

    def factor(self) -> Node:
        return self.power()

    def power(self) -> Node:
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
                            node = _times(_strip_degrees(node), Sym("unit:deg" + token.text))
                            self.at += 1
                        self.expect("}")
                elif self.peek() == "'":
                    self.at += 1
                    node = _primed(node)
                elif self.peek() == "{" and self.peek(1) == "'":
                    self.at += 1
                    while self.accept("'"):
                        node = _primed(node)
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
                node = _percent(node)
            elif self.peek() == "'" and isinstance(node, Sym):
                self.at += 1
                node = _primed(node)
            elif self.peek() == "_":
                node = self._subscript(node)
            else:
                break
        return node

    def _degrees(self, node: Node) -> Node:
        token = self.token()
        if token is not None and token.kind in {"name", "text"} and token.text in {"C", "F"}:
            self.at += 1
            return _times(node, Sym("unit:deg" + token.text))
        return _times(node, Sym("unit:deg"))

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
            return _signed("-", self.exponent())
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
        index = self._raw_group()
        if isinstance(node, Sym):
            return Sym(f"{node.name}_{index}")
        if isinstance(node, Num) and index.isdigit() and 2 <= int(index[:4]) <= 62:
            return _times(node, Sym(f"unit:base {int(index)}"))
        if isinstance(node, Const):
            return Sym(f"{node.name}_{index}")
        raise Unreadable("an index on something that is no letter")

    def _raw_group(self) -> str:
        """Return the tokens of a group or of one token as text: the index of a letter is a name, not a value."""
        token = self.token()
        if token is None:
            raise Unreadable("an index is missing at the end")
        if token.text != "{":
            self.at += 1
            return token.text
        parts: list[str] = []
        level = 0
        while (token := self.token()) is not None:
            self.at += 1
            level += {"{": 1, "}": -1}.get(token.text if token.kind == "op" else "", 0)
            if level == 0:
                return "".join(parts[1:])
            parts.append(token.text)
        raise Unreadable("'}' is missing at the end")

    # --- atoms

    def atom(self) -> Node:
        self.enter()
        token = self.token()
        if token is None:
            raise Unreadable("a value is missing at the end")
        self.at += 1
        match token.kind:
            case "num":
                assert token.value is not None
                node: Node = self._scientific(Num(token.value, token.digits, token.scientific))
            case "name":
                node = self._name(token.text)
            case "func":
                node = self._function(token.text)
            case "cmd":
                node = self._command(token.text)
            case "text":
                node = self._words(token)
            case "begin":
                node = self._environment(token.text)
            case _:
                node = self._bracket(token.text)
        self.depth -= 1
        return node

    def _words(self, token: Token) -> Node:
        lower = token.text.lower().strip(". ")
        if lower in {
            "no solution",
            "no solutions",
            "no real solution",
            "no real solutions",
            "empty set",
            "none",
        }:
            return Const("empty") if lower != "none" else Sym("text:none")
        if lower in {"all real numbers", "all reals", "real numbers", "all real", "reals"}:
            return Const("reals")
        if lower in {"dollar", "euro", "gbp", "yen"}:  # a currency sign before its number
            following = self.token()
            if following is not None and (following.kind == "num" or following.text in {"-", "\\frac"}):
                return _times(self.signed_factor(), _product(_unit_factors(lower, 1)))
        return Sym("text:" + lower)

    def _scientific(self, number: Num) -> Node:
        """Fold `1.5 x 10^3` into one number that keeps its digits."""
        ten = self.tokens[self.at : self.at + 3]
        if (
            len(ten) < 3
            or ten[0].text != "*"
            or ten[1].kind != "num"
            or ten[1].text != "10"
            or ten[2].text != "^"
        ):
            return number
        start = self.at
        self.at += 3
        exponent = self.exponent()
        if isinstance(exponent, Num) and exponent.value.denominator == 1 and abs(exponent.value) <= 5000:
            digits = number.digits or len(str(abs(number.value.numerator)))
            if self.peek() not in {"!", "^"}:
                return Num(number.value * Fraction(10) ** int(exponent.value), digits, True)
        self.at = start
        return number

    def _name(self, name: str) -> Node:
        if name in _NAMED_SETS:
            if self.peek() == "^":  # R^+, R^3
                self.at += 1
                return Sym(f"{name}^{self._raw_group()}")
            return Const(name)
        constant = _CONSTANTS.get(name)
        if constant is not None and self.peek() != "_":
            return Const(constant)
        primes = 0
        while name in _APPLIED and self.accept("'"):
            primes += 1
        while name in _APPLIED and self.peek() == "^" and self.peek(1) in {"'", "{"}:
            if self.peek(1) == "{" and self.tokens[self.at + 2].text not in {"'", "-"}:
                break
            self.at += 1
            name = f"{name}^{self._raw_group()}"
        index = ""
        if name in _APPLIED and self.peek() == "_":
            self.at += 1
            index = "_" + self._raw_group()
        full = name + index + "'" * primes
        if name.split("^")[0] in _APPLIED and self.peek() == "(":
            self.at += 1
            arguments, _ = self.items(frozenset({")", "]", "|"}))
            if self.accept("|"):
                given, _ = self.items(frozenset({")"}))
                arguments = [*arguments, Text("given"), *given]
            self.expect(")")
            return Call(f"apply:{full}", tuple(arguments))
        return Sym(full)

    def _function(self, name: str) -> Node:
        """Read `sin x`, `sin^2 x`, `sin(x)`, `log_2 8`: the argument is a product up to the next function."""
        power: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.accept("^"):
                power = self.exponent()
            elif name in {"log", "ln", "lg"} and self.accept("_"):
                base = self._group_or_digit()
        token = self.token()
        if token is None:
            raise Unreadable(f"{name} of nothing")
        if token.text in {"(", "|", "{", "["} and token.kind == "op":
            argument = self.atom()
            while self.peek() == "!":
                self.at += 1
                argument = Call("factorial", (argument,))
            if token.text == "{" and self._argument_goes_on():
                argument = _times(argument, self._argument())
        else:
            argument = self._argument()
        if name == "exp":
            node: Node = Call("pow", (Const("e"), argument))
        elif base is not None:
            node = Call("log", (argument, base))
        elif name in {"log", "ln"}:
            node = Call("ln", (argument,))
        elif name == "lg":
            node = Call("log", (argument, Num(Fraction(10))))
        else:
            if power == Num(Fraction(-1)) and not name.startswith("arc"):
                return Call("arc" + name, (argument,))
            node = Call(name, (argument,))
        return node if power is None else Call("pow", (node, power))

    def _argument_goes_on(self) -> bool:
        token = self.token()
        return token is not None and token.kind in {"num", "name"}

    def _argument(self) -> Node:
        sign = "-" if self.accept("-") else "+"
        node = self.power()
        while (token := self.token()) is not None:
            if token.kind in {"num", "name"} or (token.kind == "cmd" and token.text in {"frac", "sqrt"}):
                if token.kind == "num" and self.tokens[self.at - 1].kind == "num":
                    raise Unreadable("two numbers side by side")
                node = _times(node, self.power())
            elif (
                token.text == "/"
                and self.at + 1 < len(self.tokens)
                and self.tokens[self.at + 1].kind == "num"
            ):
                if isinstance(node, Const) or (isinstance(node, Call) and _has_pi(node)):  # sin pi/6
                    self.at += 1
                    node = _over(node, self.power())
                else:
                    break
            else:
                break
        return _signed(sign, node)

    def _command(self, name: str) -> Node:
        if name == "frac":
            return self._fraction()
        if name == "sqrt":
            return self._root()
        if name == "binom":
            return Call("binom", self._pair())
        if name in _ACCENTS:
            return Sym(f"{name} {self._raw_group() if self.peek() == '{' else self._point_names()}")
        if name in WORKS:
            return self._work(name)
        if name == "partial":
            return Sym("partial")
        raise Unreadable(f"\\{name} was not expected")

    def _point_names(self) -> str:
        names: list[str] = []
        while (token := self.token()) is not None and token.kind == "name":
            names.append(token.text)
            self.at += 1
        if not names:
            raise Unreadable("a name is missing")
        return "".join(names)

    def _fraction(self) -> Node:
        top, bottom = self._group_or_digit(), self._group_or_digit()
        if isinstance(top, Sym) and top.name in {"d", "partial"}:
            return Work("derivative", (bottom, self.power()))
        if _is_differential(top) and _is_differential(bottom):
            return Sym(f"derivative {_letters(top)}/{_letters(bottom)}")
        return _over(_words_as_units(top), _words_as_units(bottom))

    def _pair(self) -> tuple[Node, Node]:
        if self.accept("("):
            items, _ = self.items(frozenset({")"}))
            self.expect(")")
            if len(items) != 2:
                raise Unreadable("a binomial of other than two numbers")
            return items[0], items[1]
        return self._group_or_digit(), self._group_or_digit()

    def _root(self) -> Node:
        degree: Node | None = None
        if self.peek() == "[":
            self.at += 1
            degree = self.sum()
            self.expect("]")
        token = self.token()
        if token is None:
            raise Unreadable("a root of nothing")
        if token.kind == "op" and token.text in {"(", "{"}:
            radicand = self.atom()
        else:
            radicand = self.atom()
        if degree is None:
            return Call("sqrt", (radicand,))
        return Call("root", (radicand, degree))

    def _group_or_digit(self) -> Node:
        """Read the argument of a command: a group, or the next single digit or letter (`\\frac12`)."""
        token = self.token()
        if token is None:
            raise Unreadable("an argument is missing at the end")
        if token.kind == "num" and len(token.text) > 1 and token.text.isdigit():
            rest = token.text[1:]
            self.tokens[self.at] = Token("num", rest, value=Fraction(rest))
            return Num(Fraction(token.text[0]))
        if token.kind == "op" and token.text == "-":
            self.at += 1
            return _signed("-", self._group_or_digit())
        return self.atom()

    def _work(self, name: str) -> Node:
        lower: Node = ZERO
        upper: Node = ZERO
        for _ in range(2):
            if self.accept("_"):
                lower = Sym("from " + self._raw_group())
            elif self.accept("^"):
                upper = Sym("to " + self._raw_group())
        if name in {"gcd", "lcm", "det", "max", "min", "sup", "inf"}:
            if self.token() is None:
                return Sym(name)
            return Work(name, (lower, upper, self.atom()))
        return Work(name, (lower, upper, self.sum() if "int" in name else self.product()))

    def _environment(self, name: str) -> Node:
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        in_set, self.in_set = self.in_set, 0
        while True:
            token = self.token()
            if token is None:
                raise Unreadable(f"\\end{{{name}}} is missing")
            if token.kind == "end":
                self.at += 1
                break
            if self.accept("&"):
                continue
            if self.accept("\\\\"):
                if row:
                    rows.append(tuple(row))
                row = []
                continue
            if self.accept(",", ";"):
                continue
            row.append(self.item())
            token = self.token()
            if token is not None and token.kind != "end" and self.peek() not in {"&", "\\\\", ",", ";"}:
                raise Unreadable(f"{token.text!r} was not expected in {name}")
        self.in_set = in_set
        if row:
            rows.append(tuple(row))
        if not rows:
            raise Unreadable(f"an empty {name}")
        if name in {"vmatrix", "Vmatrix"}:
            return Work("det", (Matrix(tuple(rows)),))
        if name in {"aligned", "align", "gathered", "gather", "equation", "split", "alignat"}:
            cells = tuple(cell for cells in rows for cell in cells)
            return cells[-1] if len(cells) == 1 else Several(cells)
        return Matrix(tuple(rows), "cases" if name == "cases" else "matrix")

    # --- brackets

    def _bracket(self, op: str) -> Node:
        match op:
            case "(" | "[":
                return self._parenthesis(op)
            case "{":
                node = self._braced()
                self.expect("}")
                return node
            case "set{":
                return self._set()
            case "<(":
                items, _ = self.items(frozenset({")>"}))
                self.expect(")>")
                return Group("(", ")", tuple(items))
            case "|":
                return self._bars()
            case "floor(" | "ceil(":
                inside = self.sum()
                self.expect(")" + op[:-1])
                return Call(op[:-1], (inside,))
            case "dots":
                return Sym("dots")
            case "-" | "+":
                return _signed(op, self.power())
            case "pm" | "mp":
                return _signed(op, self.product())
            case _:
                raise Unreadable(f"{op!r} was not expected")

    def _braced(self) -> Node:
        bars, self._bar_open = self._bar_open, 0
        in_set, self.in_set = self.in_set, 0
        items, joined = self.items(frozenset({"}", "choose", "over"}))
        if self.peek() in {"choose", "over"} and len(items) == 1:
            name = self.peek()
            self.at += 1
            other = self.answers(frozenset({"}"}))
            items = [Call("binom", (items[0], other)) if name == "choose" else _over(items[0], other)]
        self._bar_open, self.in_set = bars, in_set
        if not items:
            raise Unreadable("an empty group")
        return items[0] if len(items) == 1 else Several(tuple(items), joined)

    def _parenthesis(self, left: str) -> Node:
        bars, self._bar_open = self._bar_open, 0
        in_set, self.in_set = self.in_set, 0
        items, joined = self.items(frozenset({")", "]"}))
        right = self.peek()
        if right not in {")", "]"}:
            raise Unreadable(f"{left!r} is not closed")
        self.at += 1
        self._bar_open, self.in_set = bars, in_set
        if len(items) == 1 and left == "(" and right == ")":
            return items[0]
        if len(items) == 1 and isinstance(items[0], Matrix):
            return items[0]
        if len(items) == 1 and not isinstance(items[0], Several | Group) and left + right == "[]":
            return items[0]
        if joined == "or":
            return Several(tuple(items), joined)
        return Group(left, right or "", tuple(items))

    def _set(self) -> Node:
        self.in_set += 1
        bars, self._bar_open = self._bar_open, 0
        items, _ = self.items(frozenset({"set}", "|", ":"}))
        self.in_set -= 1
        self._bar_open = bars
        if self.accept("|", ":"):
            conditions, joined = self.items(frozenset({"set}"}))
            self.expect("set}")
            if len(items) == 1 and isinstance(items[0], Relation):
                conditions = [items[0], *conditions]
            node: Node = (
                conditions[0]
                if len(conditions) == 1
                else Several(tuple(conditions), "or" if joined == "or" else "and")
            )
            return Group("{|", "}", (node,))
        self.expect("set}")
        return Group("{", "}", tuple(items))

    def _bars(self) -> Node:
        doubled = self.accept("|") if self.peek() == "|" else False
        self._bar_open += 1
        inside = self.answers(frozenset({"|"}))
        self._bar_open -= 1
        self.expect("|")
        if doubled:
            self.expect("|")
        if isinstance(inside, Several):
            raise Unreadable("an absolute value of several things")
        return Call("abs", (inside,))


# --- building nodes


def _signed(op: str, node: Node) -> Node:
    if op == "+":
        return node
    if op == "-":
        if isinstance(node, Matrix) and node.kind == "matrix":
            return Matrix(tuple(tuple(_signed("-", cell) for cell in row) for row in node.rows))
        if isinstance(node, Num):
            return Num(-node.value, node.digits, node.scientific)
        if isinstance(node, Call) and node.name in {"mul", "div"} and isinstance(node.args[0], Num):
            return Call(node.name, (_signed("-", node.args[0]), *node.args[1:]))
        return Call("neg", (node,))
    return Call(op, (node,))


def _times(left: Node, right: Node) -> Node:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Matrix) and one.kind == "matrix" and not isinstance(other, Matrix):
            return Matrix(tuple(tuple(_times(other, cell) for cell in row) for row in one.rows))
    if isinstance(left, Call) and left.name == "mul":
        return Call("mul", (*left.args, right))
    return Call("mul", (left, right))


def _over(top: Node, bottom: Node) -> Node:
    if isinstance(top, Matrix) and top.kind == "matrix":
        return Matrix(tuple(tuple(_over(cell, bottom) for cell in row) for row in top.rows))
    return Call("div", (top, bottom))


def _product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else Call("mul", tuple(factors))


def _inverse(node: Node) -> Node:
    return Call("pow", (node, Num(Fraction(-1))))


def _unit_factors(words: str, power: int) -> list[Node]:
    if not words.strip(" /"):
        return []
    powers = unit_powers(words)
    factors: list[Node] = []
    for index, (name, own) in enumerate(powers.items()):
        exponent = own * (power if index == len(powers) - 1 else 1)
        unit = Sym(f"unit:{name}")
        factors.append(unit if exponent == 1 else Call("pow", (unit, Num(Fraction(exponent)))))
    return factors


def _words_as_units(node: Node) -> Node:
    """Read the words of a fraction such as `\\frac{\\text{m}}{\\text{s}^2}` as units where they are known ones."""
    match node:
        case Sym(name=name) if name.startswith("text:"):
            powers = unit_powers(name[5:])
            if powers and not any(unit.startswith("words ") for unit in powers):
                return _product(_unit_factors(name[5:], 1))
            return node
        case Call(name="pow" | "mul" as name, args=args):
            return Call(name, tuple(_words_as_units(arg) for arg in args))
        case _:
            return node


def _percent(node: Node) -> Node:
    if isinstance(node, Num):
        return Num(node.value / 100, node.digits, node.scientific)
    return Call("div", (node, Num(Fraction(100))))


def _scaled(node: Node, factor: int) -> Node:
    if isinstance(node, Num):
        return Num(node.value * factor, node.digits, node.scientific)
    return _times(node, Num(Fraction(factor)))


def _primed(node: Node) -> Node:
    if not isinstance(node, Sym):
        raise Unreadable("a prime on something that is no letter")
    return Sym(node.name + "'")


def _strip_degrees(node: Node) -> Node:
    if isinstance(node, Call) and node.name == "mul" and node.args[-1] == Sym("unit:deg"):
        return _product(list(node.args[:-1]))
    return node


def _proper(node: Node) -> bool:
    return (
        isinstance(node, Call)
        and node.name == "div"
        and all(isinstance(a, Num) and a.digits is None and a.value.denominator == 1 for a in node.args)
        and 0 < node.args[0].value < node.args[1].value  # type: ignore[union-attr]
    )


def _quotient(node: Node) -> Fraction:
    assert isinstance(node, Call)
    top, bottom = node.args
    assert isinstance(top, Num) and isinstance(bottom, Num)
    return top.value / bottom.value


def _has_pi(node: Node) -> bool:
    return any(n == Const("pi") for n in walk(node)) and not symbols(node)


def _is_differential(node: Node) -> bool:
    if not (isinstance(node, Call) and node.name == "mul" and len(node.args) == 2):
        return False
    return node.args[0] in (Sym("d"), Sym("partial")) and isinstance(node.args[1], Sym)


def _letters(node: Node) -> str:
    assert isinstance(node, Call)
    return "".join(a.name for a in node.args if isinstance(a, Sym))
