"""Answer-sized LaTeX or plain text, cut into tokens. Nothing is interpreted here beyond one token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .final_answer import word_set
from .math_nodes import Unreadable
from .math_units import SINGLE, known_unit

MAX_CHARACTERS = 4000
"""A longer text is no answer: it gets its verdict unread."""
MAX_DIGITS = 3000
"""A longer digit string is not turned into a number."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is `num`, `name`, `func`, `text`, `cmd`, `begin`, `end` or `op`."""

    kind: str
    text: str
    spaced: bool = False
    """Whether space came before it."""
    value: Fraction | None = None
    """Of a `num`."""
    digits: int | None = None
    """Significant digits of a decimal `num`."""
    scientific: bool = False
    """Whether a `num` was written with an exponent (`1.5e3`)."""


GREEK = word_set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho "
    "sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega "
    "ell hbar Re Im aleph"
)
FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth "
    "sech csch arcsinh arccosh arctanh arsinh arcosh artanh ln log lg exp sgn sign erf"
)
WORKS = word_set(
    "int iint iiint oint sum prod lim limsup liminf det gcd lcm max min sup inf integral integrate"
)
_SAME_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn", "arsinh": "arcsinh",
                  "arcosh": "arccosh", "artanh": "arctanh"}  # fmt: skip
_OPS = {
    "times": "*", "cdot": "*", "ast": "*", "bullet": "*", "div": "/", "pm": "pm", "mp": "mp", "le": "<=", "leq": "<=",
    "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=", "lt": "<", "gt": ">",
    "ne": "!=", "neq": "!=", "approx": "approx", "simeq": "approx", "sim": "approx", "doteq": "approx",
    "equiv": "equiv", "in": "in", "notin": "notin", "cup": "cup", "bigcup": "cup", "cap": "cap", "setminus": "setminus",
    "backslash": "setminus", "smallsetminus": "setminus", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|",
    "Vert": "|", "lVert": "|", "rVert": "|", "langle": "<(", "rangle": ")>", "lbrace": "set{", "rbrace": "set}",
    "circ": "deg", "degree": "deg", "prime": "'", "ldots": "dots", "dots": "dots", "cdots": "dots", "dotsc": "dots",
    "to": "to", "rightarrow": "to", "lor": "or", "vee": "or", "land": "and", "wedge": "and", "colon": ":",
    "lfloor": "floor(", "rfloor": ")floor", "lceil": "ceil(", "rceil": ")ceil", "percent": "%", "lbrack": "[",
    "rbrack": "]", "choose": "choose", "implies": "implies", "Rightarrow": "implies", "iff": "implies",
    "Leftrightarrow": "implies", "pmod": "pmod", "bmod": "bmod", "mod": "pmod", "over": "over",
}  # fmt: skip
_SIMPLE = {"<=": "<=", ">=": ">=", "!=": "!=", "==": "=", "**": "^", "=<": "<=", "=>": "implies", "->": "to",
           "...": "dots", "<>": "!="}  # fmt: skip
_TEXTS = word_set(
    "text textbf textit textrm textsf texttt textnormal textup mathrm mbox hbox operatorname rm mathsf"
)
_STYLES = word_set(
    "mathbf mathit boldsymbol mathcal mathfrak bm mathnormal boxed fbox framebox emph underline ensuremath"
)
_SKIP = word_set(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits "
    "nolimits hline tfrac hspace hfill nonumber notag centering large Large bf it cal middle mathop mathrel "
    "mathbin protect scriptstyle dfrac@ relax null strut"
) - {"tfrac", "dfrac@"}
_SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}

_SPACE = re.compile(
    r"(?:[\s~\u00a0\u2000-\u200a\u202f\u3000]|\\[,;:>! ]|\\\n|\\qquad|\\quad|\\thinspace|\\enspace)+"
)
_PLAIN = r"\d+(?:\.\d+)?|\.\d+"
_GROUPED = re.compile(
    r"\d{1,3}(?P<sep>\{,\}|,\\!\s?|\\,|\\ |[ ~\u00a0\u2009\u202f']|\{\\,\}|\\;|\\:|\{,\\!\}|,)\d{3}"
    r"(?:(?P=sep)\d{3})*(?!\d)(?:\.\d+)?"
)
_REPEATING = re.compile(r"(?P<head>\d*\.\d*)\\(?:overline|bar|dot)\s*(?:\{(?P<loop>\d{1,30})\}|(?P<one>\d))")
_NUMBER = re.compile(rf"(?P<mantissa>{_PLAIN})(?:[eE](?P<exponent>[-+]?\d{{1,4}})(?![\w.]))?")
_SEPARATORS = re.compile(r"\{,\}|,\\!\s?|\\[,; :]|[ ~\u00a0\u2009\u202f']|\{\\,\}|\{,\\!\}|,")
_GOES_ON = re.compile(r"\s*(?:\\[lcd]?dots\b|\.{3})(?!\s*[,\d])")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_LETTERS = re.compile(r"[A-Za-z]+")
_VOWEL = re.compile(r"[aeiou]")
_SHORT_WORDS = word_set(
    "no yes odd one two six ten red all none not both only even true false blue zero four five nine noon sun "
    "mon tue wed thu fri sat jan feb mar apr jun jul aug sep oct nov dec tie win the for any can"
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def tokens(text: str, *, thousands: bool = True) -> list[Token]:
    """Cut a tidied text into tokens. `thousands` reads `1,234` as one number (never inside brackets).

    Raises `Unreadable` for what no token begins with, and for a text beyond the size limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"{len(text)} characters are too many for an answer (at most {MAX_CHARACTERS})")
    return _Lexer(text, thousands).run()


class _Lexer:
    def __init__(self, text: str, thousands: bool, level: int = 0) -> None:
        if level > 10:
            raise Unreadable("nested too deep for an answer")
        self.level = level
        self.text = text
        self.thousands = thousands
        self.position = 0
        self.depth = 0
        self.found: list[Token] = []
        self.spaced = False

    def run(self) -> list[Token]:
        text = self.text
        while self.position < len(text):
            if match := _SPACE.match(text, self.position):
                self.position = match.end()
                self.spaced = True
                continue
            self._next(text[self.position])
            self.spaced = False
        return self.found

    def _add(self, kind: str, text: str, length: int) -> None:
        self.found.append(Token(kind, text, self.spaced))
        self.position += length

    def _next(self, character: str) -> None:
        text, position = self.text, self.position
        if character.isdigit() or (character == "." and _NUMBER.match(text, position)):
            self._number()
        elif character == "\\":
            self._command()
        elif character.isascii() and character.isalpha():
            self._word()
        elif (three := text[position : position + 3]) == "...":
            self._add("op", "dots", 3)
        elif (two := three[:2]) in _SIMPLE:
            self._add("op", _SIMPLE[two], 2)
        elif character in "([":
            self.depth += 1
            self._add("op", character, 1)
        elif character in ")]":
            self.depth = max(self.depth - 1, 0)
            self._add("op", character, 1)
        elif character in "+-*/^_{}|,;:!%=<>'&":
            self._add("op", character, 1)
        elif character in '?."`':
            self.position += 1
        elif character.isalpha():
            end = position
            while end < len(text) and (text[end].isalpha() or text[end] == " "):
                end += 1
            self._add("text", text[position:end].strip(), end - position)
        else:
            raise Unreadable(f"the character {character!r} is not part of an answer")

    def _number(self) -> None:
        text, position = self.text, self.position
        if match := _REPEATING.match(text, position):
            self._repeating(match)
            return
        if grouped := self._grouped(position):
            self._push_number(_SEPARATORS.sub("", grouped.group()), None, grouped.end())
            return
        match = _NUMBER.match(text, position)
        if match is None:
            raise Unreadable(f"the number at {text[position : position + 20]!r} cannot be read")
        goes_on = _GOES_ON.match(text, match.end()) if "." in match["mantissa"] else None
        if goes_on and match["exponent"] is None:
            self._unending(match["mantissa"], goes_on.end())
            return
        self._push_number(match["mantissa"], match["exponent"], match.end())

    def _unending(self, mantissa: str, end: int) -> None:
        """Read `0.333...` as a repeating decimal, and `3.14159...` as the digits that are there."""
        whole, _, decimals = mantissa.partition(".")
        for length in range(1, 7):
            loop = decimals[-length:]
            if len(decimals) >= 3 * length and decimals.endswith(loop * 3):
                head = decimals.removesuffix(loop * 3)
                value = Fraction(f"{whole or '0'}.{head}0") + Fraction(
                    int(loop), (10**length - 1) * 10 ** len(head)
                )
                self.found.append(Token("num", mantissa, self.spaced, value=value))
                self.position = end
                return
        self._push_number(mantissa, None, end)

    def _grouped(self, position: int) -> re.Match[str] | None:
        match = _GROUPED.match(self.text, position)
        if match is None:
            return None
        separator = match["sep"]
        if separator == "," and (not self.thousands or self.depth or match.group().startswith("0")):
            return None
        if separator == " " and self.found and self.found[-1].kind == "num":
            return None
        return match

    def _push_number(self, mantissa: str, exponent: str | None, end: int) -> None:
        if len(mantissa) > MAX_DIGITS:
            raise Unreadable(f"a number of {len(mantissa)} digits is too long for an answer")
        value = Fraction(mantissa)
        digits: int | None = None
        if "." in mantissa or exponent is not None:
            digits = len(mantissa.replace(".", "").lstrip("0"))
        if exponent is not None:
            value *= Fraction(10) ** int(exponent)
        self.found.append(
            Token("num", mantissa, self.spaced, value=value, digits=digits, scientific=exponent is not None)
        )
        self.position = end

    def _repeating(self, match: re.Match[str]) -> None:
        head, loop = match["head"], match["loop"] or match["one"]
        decimals = len(head.partition(".")[2])
        if len(head) > 30:
            raise Unreadable("a repeating decimal of more than 30 digits is too long for an answer")
        value = Fraction(head + "0" if head.endswith(".") else head) if head != "." else Fraction(0)
        value += Fraction(int(loop), (10 ** len(loop) - 1) * 10**decimals)
        self.found.append(Token("num", match.group(), self.spaced, value=value))
        self.position = match.end()

    def _command(self) -> None:
        text, position = self.text, self.position
        match = _COMMAND.match(text, position)
        if match is None:
            self._escaped(text[position + 1 : position + 2])
            return
        name = match[1]
        end = match.end()
        if name in _SKIP:
            self.position = end
        elif name == "cr":
            self._add("op", "\\\\", end - position)
        elif name in _TEXTS:
            self._text_command(name, end)
        elif name in _STYLES:
            self.position = end
        elif name in _OPS:
            op = _OPS[name]
            self.depth = max(self.depth + {"set{": 1, "set}": -1, "<(": 1, ")>": -1}.get(op, 0), 0)
            self._add("op", op, end - position)
        elif name in {"begin", "end"}:
            environment = re.compile(r"\s*\{([A-Za-z]+)\*?\}(?:\{[clr|@ ]*\}|\[[tbc]\])?").match(text, end)
            if environment is None:
                raise Unreadable(f"\\{name} without an environment")
            self.depth = max(self.depth + (1 if name == "begin" else -1), 0)
            self.found.append(Token(name, environment[1], self.spaced))
            self.position = environment.end()
        elif name == "mathbb":
            letter = re.compile(r"\s*\{?\s*([A-Z])\s*\}?").match(text, end)
            if letter is None or letter[1] not in _SETS:
                raise Unreadable("\\mathbb without the name of a set")
            self.found.append(Token("name", _SETS[letter[1]], self.spaced))
            self.position = letter.end()
        else:
            self._named_command(name, end)

    def _named_command(self, name: str, end: int) -> None:
        length = end - self.position
        if name in {"dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"}:
            name = "frac"
        elif name in {"dbinom", "tbinom"}:
            name = "binom"
        if name in FUNCTIONS:
            self._add("func", _SAME_FUNCTION.get(name, name), length)
        elif name in WORKS or name in {"frac", "sqrt", "binom", "angle", "triangle", "overline", "bar", "vec", "hat",
                                       "tilde", "overrightarrow", "widehat", "partial", "not", "log"}:  # fmt: skip
            self._add("cmd", name, length)
        elif name in GREEK or name in {"pi", "infty", "emptyset", "varnothing"}:
            self._add("name", name, length)
        elif name in {"dollar"}:
            self._add("text", "dollar", length)
        elif (
            name.startswith(("leq", "geq", "cdot", "times", "pi")) and len(name) > 2
        ):  # \leq5 is \leq 5; \cdotx too
            for known in ("leq", "geq", "cdot", "times", "pi"):
                if name.startswith(known):
                    self._add("name" if known == "pi" else "op", _OPS.get(known, known), len(known) + 1)
                    return
        else:
            raise Unreadable(f"the command \\{name} is not known")

    def _escaped(self, character: str) -> None:
        if not character:
            self.position += 1
        elif character in "{}":
            self.depth = max(self.depth + (1 if character == "{" else -1), 0)
            self._add("op", "set" + character, 2)
        elif character == "%":
            self._add("op", "%", 2)
        elif character == "$":
            self._add("text", "dollar", 2)
        elif character == "\\":
            self._add("op", "\\\\", 2)
        elif character == "|":
            self._add("op", "|", 2)
        elif character in "&#_":
            self.position += 2
        else:
            raise Unreadable(f"the command \\{character} is not known")

    def _text_command(self, name: str, end: int) -> None:
        text = self.text
        while end < len(text) and text[end].isspace():
            end += 1
        if end >= len(text) or text[end] != "{":
            self.position = end
            return
        closed = _closing(text, end)
        content = text[end + 1 : closed].replace("$", " ")
        stripped = _SPACE.sub(" ", content).strip()
        self.position = closed + 1
        if not stripped:
            self.spaced = True
            return
        lower = stripped.lower().strip(",. ")
        if lower in {"or", "and"}:
            self.found.append(Token("op", lower, True))
        elif self.found and (joined := re.match(r"(or|and)\b,?\s*(.+)", stripped, re.IGNORECASE)):
            self.found.append(Token("op", joined[1].lower(), True))
            self.found.append(Token("text", joined[2], True))
        elif stripped in FUNCTIONS or stripped in WORKS:
            kind = "func" if stripped in FUNCTIONS else "cmd"
            self.found.append(Token(kind, _SAME_FUNCTION.get(stripped, stripped), self.spaced))
        elif _only_units(stripped):
            self.found.append(Token("text", stripped, self.spaced))
        elif re.search(r"[\d=<>^|\\]", stripped) or re.fullmatch(r"[^\w]*", stripped):
            inner = _Lexer(content, self.thousands, self.level + 1)
            inner.depth = self.depth
            self.found.extend(inner.run())
        elif len(stripped) == 1 and (
            name in {"mathrm", "rm", "operatorname", "mathsf"} and stripped in "eidxyz"
        ):
            self.found.append(Token("name", stripped, self.spaced))
        else:
            self.found.append(Token("text", stripped, self.spaced))

    def _word(self) -> None:
        match = _LETTERS.match(self.text, self.position)
        assert match is not None
        word, end = match.group(), match.end()
        length = len(word)
        lower = word.lower()
        if lower in {"or", "and"}:
            self._add("op", lower, length)
        elif word in FUNCTIONS:
            self._add("func", _SAME_FUNCTION.get(word, word), length)
        elif word in {"pi", "inf", "infinity", "infty", "Infinity", "oo"} or (length > 2 and word in GREEK):
            self._add("name", "pi" if word == "pi" else word if word in GREEK else "infty", length)
        elif word == "sqrt" or word in {"gcd", "lcm", "binom"}:
            self._add("cmd", word, length)
        elif self._after_value() and self._is_unit(word, end):
            self._add("text", word, length)
        elif length > 1 and word.isupper():
            self._add("name", word, length)
        elif is_word(word):
            self._add("text", word, length)
        elif prefix := next((f for f in _BY_LENGTH if word.startswith(f)), None):
            self._add("func", _SAME_FUNCTION.get(prefix, prefix), len(prefix))
        else:
            for letter in word:
                self._add("name", letter, 1)
                self.spaced = False

    def _after_value(self) -> bool:
        if not self.found:
            return False
        last = self.found[-1]
        return last.kind in {"num", "text"} or last.text in {"}", ")", "deg", "/", "%"}

    def _is_unit(self, word: str, end: int) -> bool:
        if known_unit(word):
            return True
        last = self.found[-1]
        if word in SINGLE and ((last.kind == "num" and self.spaced) or last.kind == "text"):
            return re.compile(r"\s*(?:$|[\^/.,;)\\²³])").match(self.text, end) is not None
        return (
            last.text == "/" and len(self.found) > 1 and self.found[-2].kind == "text" and word in SINGLE
        ) or (last.text == "deg" and word in {"C", "F"})


def _only_units(text: str) -> bool:
    """Whether a text such as `cm^{2}` or `km h^{-1}` is nothing but units, one of them of two letters or more."""
    if re.fullmatch(r"[A-Za-z][A-Za-z\d^{} /.*-]*", text) is None:
        return False
    words = re.findall(r"[A-Za-z]+", text)
    return all(known_unit(word) or word in SINGLE for word in words) and any(map(known_unit, words))


_BY_LENGTH = sorted(FUNCTIONS - {"lg", "sgn", "sign", "erf"}, key=len, reverse=True)


def is_word(word: str) -> bool:
    """Return whether a run of letters is a word of English rather than a product of variables."""
    lower = word.lower()
    if lower in _SHORT_WORDS:
        return True
    if len(word) < 3 or lower in _ALPHABET:
        return False
    if word[0].isupper() and word[1:].islower():
        return _VOWEL.search(lower) is not None
    return len(word) > 3 and _VOWEL.search(lower, 1) is not None


def _closing(text: str, opened: int) -> int:
    depth = 0
    position = opened
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return len(text)
