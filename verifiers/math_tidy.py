"""One spelling for what may be written in many: Unicode folded to ASCII, decoration dropped, brackets turned."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction


def tidy(text: str) -> str:
    """Return `text` in ASCII where Unicode only spells the same thing another way; without math delimiters."""
    if not text.isascii():
        text = _fold_unicode(text)
    if "$" in text:
        text = re.sub(r"(?<!\\)\$", " ", text.replace("\\\\$", "\\\\ "))
    if "\\" in text:
        text = _COLOUR.sub("", _DELIMITERS.sub(" ", _ROW_SPACE.sub(r"\\\\ ", text)))
    text = _BARE_COMMAND.sub(r"\\\1", _LETTER_DEGREE.sub(r"^\\circ ", text))
    if "[" in text or "]" in text:
        text = _TURNED.sub(_as_parentheses, text)
    return _TAIL.sub("", text).strip()


def _as_parentheses(match: re.Match[str]) -> str:
    """Write `]1,2]` and `[1,2[` with round brackets at their open ends."""
    left = "(" if match["open"] == "]" else "["
    return f"{left}{match['body']}{')' if match['close'] == '[' else ']'}"


_ROW_SPACE = re.compile(r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|in)\s*\]")  # \\[4pt] ends a row
_BARE_COMMAND = re.compile(r"(?<![\\A-Za-z])(d?frac|sqrt)(?=\s*\{)")
_LETTER_DEGREE = re.compile(r"(?<=\d)\s*\^\s*(?:o(?![A-Za-z])|\{\s*o\s*\})")  # 90^o
_TURNED = re.compile(
    r"(?<![^\s=(nup])(?:\\left\s*)?(?P<open>[\[\]])(?P<body>[^\[\]]{1,80}?[,;][^\[\]]{1,80}?)(?:\\right\s*)?"
    r"(?P<close>[\[\]])"
)
_COLOUR = re.compile(
    r"\\[hv]?phantom\s*\{[^{}]*\}|\\(?:text)?color\s*\{[^{}]*\}|\\(?:checkmark|blacksquare|square|qed|Box)(?![A-Za-z])"
)
_TAIL = re.compile(r"(?:\\[,;:! ]|(?<!\\)[.,;:\s])+$")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]|\\(?:left|right)\s*\.")
_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_SPELLED = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "×": "\\times ", "✕": "\\times ",
    "÷": "\\div ", "·": "\\cdot ", "∙": "\\cdot ", "⋅": "\\cdot ", "•": "\\cdot ", "∗": "*", "π": "\\pi ", "𝜋": "\\pi ",
    "∞": "\\infty ", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ",
    "≡": "\\equiv ", "∈": "\\in ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "√": "\\sqrt ", "∛": "\\sqrt[3] ",
    "°": "^\\circ ", "º": "^\\circ ", "′": "'", "’": "'", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}",
    "⟨": "\\langle ", "⟩": "\\rangle ", "∣": "|", "±": "\\pm ", "∓": "\\mp ", "…": "\\ldots ", "∫": "\\int ",
    "∑": "\\sum ", "∏": "\\prod ", "→": "\\to ", "⇒": "\\implies ", "∖": "\\setminus ", "⁄": "/", "∕": "/",
    "∨": "\\lor ", "∧": "\\land ", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ",
    "∠": "\\angle ", "△": "\\triangle ", "µ": "\\mu ", "ℓ": "\\ell ", "‚": ",", "、": ",", "。": ".", "ⅈ": "i", "ⅇ": "e",  # noqa: E501
    "€": "\\text{euro}", "£": "\\text{gbp}", "¥": "\\text{yen}", "¢": "\\text{cent}", "₹": "\\text{rupee}",
    "₂": "_{2}", "″": "''", "℃": "^\\circ C", "℉": "^\\circ F", "Ω": "\\Omega ",
}  # fmt: skip
_IGNORED = frozenset(
    "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2061\u2062\u2063\u2064\u00ad"
)


def _fold_unicode(text: str) -> str:
    folded: list[str] = []
    script = ""
    for character in text:
        if script and not (
            (script == "^" and character in _SUPERSCRIPT) or (script == "_" and character in _SUBSCRIPT)
        ):
            folded.append("}")
            script = ""
        code = ord(character)
        if code < 128:
            folded.append(character)
        elif character in _IGNORED:
            continue
        elif character in _SUPERSCRIPT:
            folded.append(_SUPERSCRIPT[character] if script else "^{" + _SUPERSCRIPT[character])
            script = "^"
        elif character in _SUBSCRIPT:
            folded.append(_SUBSCRIPT[character] if script else "_{" + _SUBSCRIPT[character])
            script = "_"
        elif character in _SPELLED:
            folded.append(_SPELLED[character])
        elif 0xFF01 <= code <= 0xFF5E:
            folded.append(chr(code - 0xFEE0))
        elif 0x1D400 <= code <= 0x1D7FF:
            folded.append(unicodedata.normalize("NFKC", character))
        elif 0x391 <= code <= 0x3C9:
            name = unicodedata.name(character, "").split()
            folded.append(_greek(name))
        elif unicodedata.category(character) == "Nd":
            folded.append(str(unicodedata.digit(character)))
        elif unicodedata.category(character) == "No" and "FRACTION" in unicodedata.name(character, ""):
            value = Fraction(unicodedata.numeric(character)).limit_denominator(10)
            folded.append(f"\\frac{{{value.numerator}}}{{{value.denominator}}}")
        elif character.isspace():
            folded.append(" ")
        else:
            folded.append(character)
    if script:
        folded.append("}")
    return "".join(folded)


def _greek(name: list[str]) -> str:
    if len(name) < 4:
        return "?"
    letter = name[3].lower()
    letter = {"lamda": "lambda", "final": "sigma"}.get(letter, letter)
    return f"\\{letter.capitalize() if name[1] == 'CAPITAL' else letter} "
