"""Text files as a model sees and changes them: numbered lines, and the one place of a replacement."""

from __future__ import annotations

from .errors import ToolError

LINES = 200
"""Lines that are shown unless the model asks for others."""
LINE_CHARS = 1_000
"""Characters of one line that are shown."""


def text_of(data: bytes, path: str) -> str:
    """Return the text of a file. Raises `ToolError` if it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{path} is no text file (not UTF-8).") from None


def numbered(text: str, first: int, last: int | None) -> str:
    """Return lines `first` to `last`, counted from 1 and numbered. Raises `ToolError` if there is no such line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        return "The file is empty."
    if first < 1 or first > len(lines) or (last is not None and last < first):
        raise ToolError(
            f"There are no lines {first} to {last or 'the end'}; the file has {len(lines)} lines."
        )
    end = min(first + LINES - 1 if last is None else last, len(lines))
    width = len(str(end))
    shown = [f"{number:>{width}}\t{_cut(lines[number - 1])}" for number in range(first, end + 1)]
    if end < len(lines) and last is None:
        shown.append(f"[lines {first} to {end} of {len(lines)}]")
    return "\n".join(shown)


def one_place(text: str, old: str, path: str) -> int:
    """Return where `old` begins in `text`. Raises `ToolError` unless it is there exactly once."""
    if not old:
        raise ToolError("old must be the text to replace, it is empty.")
    place = text.find(old)
    if place < 0:
        raise ToolError(f"old does not occur in {path}; give it exactly as it stands, with its white space.")
    again = text.find(old, place + 1)
    if again >= 0:
        lines = [text.count("\n", 0, found) + 1 for found in (place, again)]
        raise ToolError(
            f"old occurs more than once in {path}, in lines {lines[0]} and {lines[1]}; take in more of the text around."
        )
    return place


def _cut(line: str) -> str:
    return (
        line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]} [{len(line) - LINE_CHARS} characters more]"
    )
