"""What a docstring says of a function and of its parameters, in the Google, NumPy or Sphinx style."""

from __future__ import annotations

import re

_SECTIONS = (
    "Args|Arguments|Parameters|Other Parameters|Keyword Args|Keyword Arguments|Returns?|Raises|Yields?|Examples?|"
    "Notes?|Warnings?|Warns|See Also|References|Attributes|Todo"
)
_GOOGLE = re.compile(rf"({_SECTIONS}):\s*")
_NUMPY = re.compile(rf"({_SECTIONS})\s*")
_UNDERLINE = re.compile(r"\s*-{3,}\s*")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")  # Google: `name (type): text`
_NAMES = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")  # NumPy: `name, name : type`
_FIELD = re.compile(r":(\w+)(?:\s+([^:]*))?:\s*(.*)")  # Sphinx: `:param type name: text`
_OF_PARAMETERS = {"Args", "Arguments", "Parameters", "Other Parameters", "Keyword Args", "Keyword Arguments"}


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the text before the first section, on one line, and what is said of each parameter."""
    reader = _Reader(text.splitlines())
    reader.read()
    described = {name: " ".join(words.split()) for name, words in reader.described.items()}
    return " ".join(" ".join(reader.summary).split()), described


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.summary: list[str] = []
        self.described: dict[str, str] = {}
        self._section = ""
        self._numpy = False
        self._indent = 0  # of the entries of the section
        self._open: list[str] = []  # the parameters that a continued line belongs to

    def read(self) -> None:
        skip = False
        for number, line in enumerate(self.lines):
            if skip:  # the line under a NumPy heading
                skip = False
                continue
            following = self.lines[number + 1] if number + 1 < len(self.lines) else ""
            if (heading := _NUMPY.fullmatch(line)) and _UNDERLINE.fullmatch(following):
                self._begin(heading[1], numpy=True)
                skip = True
            elif heading := _GOOGLE.fullmatch(line):
                self._begin(heading[1], numpy=False)
            elif field := _FIELD.match(line):
                self._begin("sphinx", numpy=False)
                if field[1] in ("param", "parameter", "arg", "argument", "key", "keyword") and field[2]:
                    self._describe([field[2].split()[-1]], field[3])
            elif not self._section:
                self.summary.append(line)
            elif line.strip():
                self._line(line)

    def _begin(self, section: str, *, numpy: bool) -> None:
        self._section, self._numpy, self._indent, self._open = section, numpy, -1, []

    def _line(self, line: str) -> None:
        depth, words = len(line) - len(line.lstrip()), line.strip()
        if self._section in _OF_PARAMETERS:
            self._indent = depth if self._indent < 0 else self._indent
            if depth == self._indent:
                if self._numpy and (names := _NAMES.fullmatch(words)):
                    self._describe(re.split(r"\s*,\s*", names[1]), "")
                    return
                if not self._numpy and (entry := _ENTRY.match(words)):
                    self._describe([entry[1]], entry[2])
                    return
        for name in self._open:
            self.described[name] += f" {words}"

    def _describe(self, names: list[str], words: str) -> None:
        self._open = [name.lstrip("*") for name in names]
        self.described.update(dict.fromkeys(self._open, words))
