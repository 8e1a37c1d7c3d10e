"""The tightest level of the reader: values, functions, commands, environments, brackets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction

from .math_build import (
    has_pi,
    is_differential,
    letters,
    over,
    product,
    signed,
    times,
    unit_factors,
    words_as_units,
)
from .math_lexer import WORKS, Token
from .math_nodes import (
    Call,
    Const,
    Group,
    Matrix,
    Node,
    Num,
    Relation,
    Several,
    Sym,
    Text,
    Unreadable,
    Work,
)
from .math_stream import TokenStream

_CONSTANTS = {"pi": "pi", "infty": "inf", "e": "e", "i": "i", "emptyset": "empty", "varnothing": "empty"}
_NAMED_SETS = frozenset({"reals", "integers", "naturals", "rationals", "complexes"})
_APPLIED = frozenset(
    {"f", "g", "h", "F", "G", "H", "P", "phi", "varphi", "Phi", "psi", "Gamma", "zeta", "sigma"}
)
_ACCENTS = frozenset(
    {"overline", "bar", "vec", "hat", "tilde", "overrightarrow", "widehat", "angle", "triangle"}
)
ZERO = Num(Fraction(0))
_PLUS, _MINUS = Const("inf"), Call("neg", (Const("inf"),))
_HALF_LINES: dict[str, Node] = {
    ">0": Group("(", ")", (ZERO, _PLUS)),
    ">=0": Group("[", ")", (ZERO, _PLUS)),
    "<0": Group("(", ")", (_MINUS, ZERO)),
    "<=0": Group("(", "]", (_MINUS, ZERO)),
}


class AtomReader(TokenStream, ABC):
    """Reads one value: a number, a name, a function with its argument, a command, something in brackets.

    What stands inside brackets is read by the looser levels, which the subclass brings.
    """

    _bar_open = 0

    @abstractmethod
    def answers(self, stop: frozenset[str]) -> Node:
        """Read answers side by side."""

    @abstractmethod
    def items(self, stop: frozenset[str]) -> tuple[list[Node], str]:
        """Read a list up to one of `stop`, and the last joiner."""

    @abstractmethod
    def item(self) -> Node:
        """Read one answer."""

    @abstractmethod
    def sum(self) -> Node:
        """Read a sum."""

    @abstractmethod
    def product(self) -> Node:
        """Read a product."""

    @abstractmethod
    def power(self) -> Node:
        """Read a value and what follows it."""

    @abstractmethod
    def exponent(self) -> Node:
        """Read the argument of `^`."""

    @abstractmethod
    def signed_factor(self) -> Node:
        """Read a factor with its sign."""

    def atom(self) -> Node:
        """Read one value."""
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
                return times(self.signed_factor(), product(unit_factors(lower, 1)))
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
                return Sym(f"{name}^{self.raw_group()}")
            if self.peek() == "_":  # R_{>0}
                self.at += 1
                index = self.raw_group().replace(" ", "")
                return (
                    _HALF_LINES.get(index, Sym(f"{name}_{index}"))
                    if name == "reals"
                    else Sym(f"{name}_{index}")
                )
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
            name = f"{name}^{self.raw_group()}"
        index = ""
        if name in _APPLIED and self.peek() == "_":
            self.at += 1
            index = "_" + self.raw_group()
        full = name + index + "'" * primes
        if self.peek() == "(" and (name.split("^")[0] in _APPLIED or self._defines()):
            self.at += 1
            arguments, _ = self.items(frozenset({")", "]", "|"}))
            if self.accept("|"):
                given, _ = self.items(frozenset({")"}))
                arguments = [*arguments, Text("given"), *given]
            self.expect(")")
            return Call(f"apply:{full}", tuple(arguments))
        return Sym(full)

    def _defines(self) -> bool:
        """Whether this is the `p(x) =` that begins a definition, whatever the letter."""
        following = self.tokens[self.at : self.at + 4]
        return (
            self.at == 1
            and len(following) == 4
            and following[1].kind == "name"
            and [following[2].text, following[3].text] == [")", "="]
        )

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
                argument = times(argument, self._argument())
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
                node = times(node, self.power())
            elif (
                token.text == "/"
                and self.at + 1 < len(self.tokens)
                and self.tokens[self.at + 1].kind == "num"
            ):
                if isinstance(node, Const) or (isinstance(node, Call) and has_pi(node)):  # sin pi/6
                    self.at += 1
                    node = over(node, self.power())
                else:
                    break
            else:
                break
        return signed(sign, node)

    def _command(self, name: str) -> Node:
        if name == "frac":
            return self._fraction()
        if name == "sqrt":
            return self._root()
        if name == "binom":
            return Call("binom", self._pair())
        if name in _ACCENTS:
            return Sym(f"{name} {self.raw_group() if self.peek() == '{' else self._point_names()}")
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
        if is_differential(top) and is_differential(bottom):
            return Sym(f"derivative {letters(top)}/{letters(bottom)}")
        return over(words_as_units(top), words_as_units(bottom))

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
            return signed("-", self._group_or_digit())
        return self.atom()

    def _work(self, name: str) -> Node:
        lower: Node = ZERO
        upper: Node = ZERO
        for _ in range(2):
            if self.accept("_"):
                lower = Sym("from " + self.raw_group())
            elif self.accept("^"):
                upper = Sym("to " + self.raw_group())
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
                return signed(op, self.power())
            case "pm" | "mp":
                return signed(op, self.product())
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
            items = [Call("binom", (items[0], other)) if name == "choose" else over(items[0], other)]
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
            elif len(items) == 1 and not isinstance(items[0], Sym) and conditions:  # {2k : k in Z}
                return Group("{|", "}", (items[0], *conditions))
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
