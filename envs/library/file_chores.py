"""What may be asked to be done to a folder of small files: in words, as shell commands, and as what becomes of it.

A folder is a mapping from path to text. Every chore is drawn for the folder that it will meet, does something to it,
and never leaves two files of one path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .sources import pick, several, some

Folder = dict[str, str]
"""Text by path; every text ends with a line end."""

_NAMES = several(
    "amber anchor barrel beacon button canvas cedar copper crystal daisy ember falcon ferry flute fossil ginger "
    "harbour hazel ivory jasmine ladder lemon lily magnet maple marble meteor mosaic nutmeg orchard otter pepper "
    "pillow plum quartz raven ribbon saddle salmon scarf sparrow spiral stamp tailor tulip velvet walnut willow"
)
_WORDS = several("alpha bravo delta echo kilo lima metro nova oscar papa sierra tango")
_MARKS = several("DRAFT SECRET OBSOLETE URGENT")
_FOLDERS = several("inbox logs data notes src")


@dataclass(frozen=True, slots=True)
class Chore:
    """One thing to do."""

    text: str
    """What is asked."""
    command: str
    """Bash that does it."""
    result: Folder
    """What becomes of the folder."""


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _under(folder: Folder, name: str) -> list[str]:
    return sorted(path for path in folder if path.startswith(f"{name}/"))


def draw_folder(rng: np.random.Generator, size: int) -> Folder:
    """Return a folder of about `size` files in five folders, no two of one name."""
    made: Folder = {}
    for name in some(rng, _NAMES, size):
        place = pick(rng, _FOLDERS)
        ending = {"data": "csv", "logs": "log", "src": "py"}.get(place) or pick(rng, ("txt", "md", "log"))
        path = f"{place}/{pick(rng, ('', 'old/'))}{name}-{int(rng.integers(2019, 2025))}.{ending}"
        made[path] = _content(rng, ending)
    return dict(sorted(made.items()))


def _content(rng: np.random.Generator, ending: str) -> str:
    if ending == "csv":
        return "".join(
            f"{pick(rng, _WORDS)},{int(rng.integers(1, 500))}\n" for _ in range(int(rng.integers(2, 6)))
        )
    lines = []
    for _ in range(int(rng.integers(2, 6))):
        said = [pick(rng, _WORDS) for _ in range(int(rng.integers(2, 6)))]
        if rng.random() < 0.25:
            said.insert(0, pick(rng, _MARKS))
        lines.append(" ".join(said) + "\n")
    return "".join(lines)


# --- the chores: None where there would be nothing to do


def _gather(rng: np.random.Generator, folder: Folder) -> Chore | None:
    ending, target = pick(rng, ("log", "md", "txt", "csv", "py")), pick(rng, ("archive", "store", "bundle"))
    moved = [path for path in folder if path.endswith(f".{ending}") and not path.startswith(f"{target}/")]
    if not moved:
        return None
    result = {f"{target}/{_base(path)}" if path in moved else path: text for path, text in folder.items()}
    text = f"Move every file whose name ends in .{ending}, wherever it lies, into the folder {target}; keep its name."
    command = f"mkdir -p {target} && find . -name '*.{ending}' -not -path './{target}/*' -exec mv {{}} {target}/ \\;"
    return Chore(text, command, result)


def _discard(rng: np.random.Generator, folder: Folder) -> Chore | None:
    mark = pick(rng, _MARKS)
    kept = {path: text for path, text in folder.items() if mark not in text}
    text = f"Delete every file that holds the word {mark}."
    return Chore(text, f"grep -rlw {mark} . | xargs -r rm", kept)


def _prefix(rng: np.random.Generator, folder: Folder) -> Chore | None:
    place, before = pick(rng, _FOLDERS), pick(rng, ("old", "kept", "copy", "done"))
    chosen = set(_under(folder, place))
    result = {
        f"{path.removesuffix(_base(path))}{before}-{_base(path)}" if path in chosen else path: text
        for path, text in folder.items()
    }
    text = f"Put {before}- in front of the name of every file in the folder {place} and the folders below it."
    command = (
        f"find {place} -type f | while read -r f; do "
        f'mv "$f" "$(dirname "$f")/{before}-$(basename "$f")"; done'
    )
    return Chore(text, command, result)


def _count(rng: np.random.Generator, folder: Folder) -> Chore | None:
    year = int(rng.integers(2019, 2025))
    number = sum(f"-{year}." in _base(path) for path in folder)
    text = f"Write the number of files whose names hold -{year}. into the file count-{year}.txt."
    command = f"n=$(find . -type f -name '*-{year}.*' | wc -l) && echo $n > count-{year}.txt"
    return Chore(text, command, {**folder, f"count-{year}.txt": f"{number}\n"})


def _extract(rng: np.random.Generator, folder: Folder) -> Chore | None:
    word, target = pick(rng, _WORDS), pick(rng, ("found", "lines", "picked"))
    lines = sorted(
        {
            line
            for text in folder.values()
            for line in text.splitlines()
            if word in line.replace(",", " ").split()
        }
    )
    if not lines:
        return None
    text = (
        f"Collect all lines of all files that hold the word {word}, sort them by bytes (as LC_ALL=C does), leave out "
        f"doubles, and write them into {target}.txt."
    )
    command = f"grep -rhw {word} . | LC_ALL=C sort -u > /tmp/{target} && mv /tmp/{target} {target}.txt"
    return Chore(text, command, {**folder, f"{target}.txt": "\n".join(lines) + "\n"})


def _replace(rng: np.random.Generator, folder: Folder) -> Chore | None:
    place = pick(rng, _FOLDERS)
    word, other = some(rng, _WORDS, 2)
    chosen = _under(folder, place)
    result = {path: text.replace(word, other) if path in chosen else text for path, text in folder.items()}
    text = f"In every file in the folder {place} and the folders below it, replace {word} by {other}."
    return Chore(text, f"find {place} -type f -exec sed -i 's/{word}/{other}/g' {{}} +", result)


def _totals(rng: np.random.Generator, folder: Folder) -> Chore | None:
    tables = sorted((path for path in folder if path.endswith(".csv")), key=_base)
    if len(tables) < 2:
        return None
    low = int(rng.integers(0, 200))
    sums = [
        sum(number for line in folder[path].splitlines() if (number := int(line.partition(",")[2])) > low)
        for path in tables
    ]
    text = (
        "The lines of .csv files are a word, a comma and a number. For each such file add up its numbers above "
        f"{low}, and write a line with the name of the file (without folders), a space and the sum into "
        f"totals-{low}.txt, sorted by the name."
    )
    command = (
        "find . -name '*.csv' | while read -r f; do "
        f'echo "$(basename "$f") $(awk -F, \'$2 > {low} {{ s += $2 }} END {{ print s + 0 }}\' "$f")"; done '
        f"| LC_ALL=C sort > /tmp/totals && mv /tmp/totals totals-{low}.txt"
    )
    lines = [f"{_base(path)} {total}\n" for path, total in zip(tables, sums, strict=True)]
    return Chore(text, command, {**folder, f"totals-{low}.txt": "".join(lines)})


def _by_year(rng: np.random.Generator, folder: Folder) -> Chore | None:
    place = pick(rng, _FOLDERS)
    chosen = {path: path.rpartition("-")[2][:4] for path in _under(folder, place)}
    if len(chosen) < 2 or not all(year.isdecimal() for year in chosen.values()):
        return None
    result = {
        f"{chosen[path]}/{_base(path)}" if path in chosen else path: text for path, text in folder.items()
    }
    text = (
        f"The names of the files in the folder {place} and the folders below it hold a year behind their last hyphen. "
        "Move each into a folder named after its year (at the top), under its own name."
    )
    its_year = 'y="${f##*-}"; y="${y%%.*}"'
    move = 'mkdir -p "$y" && mv "$f" "$y/"'
    command = f"find {place} -type f | while read -r f; do {its_year}; {move}; done"
    return Chore(text, command, result)


def _sign(rng: np.random.Generator, folder: Folder) -> Chore | None:
    ending, word = pick(rng, ("md", "txt", "log", "py")), pick(rng, ("checked", "seen", "approved"))
    chosen = [path for path in folder if path.endswith(f".{ending}")]
    result = {path: f"{text}{word}\n" if path in chosen else text for path, text in folder.items()}
    text = f"Add a last line with the word {word} to every file whose name ends in .{ending}."
    command = f"find . -name '*.{ending}' | while read -r f; do echo {word} >> \"$f\"; done"
    return Chore(text, command, result)


def _heads(rng: np.random.Generator, folder: Folder) -> Chore | None:
    place = pick(rng, _FOLDERS)
    chosen = _under(folder, place)
    if len(chosen) < 2:
        return None
    result = {
        **folder,
        f"heads-{place}.txt": "".join(folder[path].partition("\n")[0] + "\n" for path in chosen),
    }
    text = (
        f"Take the files in the folder {place} and the folders below it in the order of their paths (sorted by "
        f"bytes), and write the first line of each into heads-{place}.txt."
    )
    command = (
        f'find {place} -type f | LC_ALL=C sort | while read -r f; do head -n 1 "$f"; done > heads-{place}.txt'
    )
    return Chore(text, command, result)


CHORES: tuple[Callable[[np.random.Generator, Folder], Chore | None], ...] = (
    _gather, _discard, _prefix, _count, _extract, _replace, _totals, _by_year, _sign, _heads,
)  # fmt: skip
"""The kinds of chore, each a function of a generator and the folder that it meets."""


def draw_chores(rng: np.random.Generator, folder: Folder, count: int) -> list[Chore] | None:
    """Return `count` chores of different kinds, each for what the one before it leaves; None if one has no effect."""
    chores: list[Chore] = []
    for make in some(rng, CHORES, count):
        chore = make(rng, folder)
        if chore is None or chore.result == folder or len(chore.result) < 3:
            return None
        if len(chore.result) < len(folder) and make is not _discard:
            return None  # two files met under one name
        chores.append(chore)
        folder = chore.result
    return chores
