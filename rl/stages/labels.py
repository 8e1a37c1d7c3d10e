"""Labels of people: a file that only grows, each label on the disk before anybody is told so; and what it says.

A line is one label. Of two by one person for one item the later counts, so a mind can be changed; nothing is removed.
A torn last line (a machine that lost power) is taken away by the next writer; it was not acknowledged.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any

from ...tools.errors import UserError
from ..seeds import derive, generator
from .agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from .preference import Preference, from_rating

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The names of annotators."""
SKIPPED = 0
"""The rating of an item that a person would not judge."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one person said about one comparison."""

    item: str
    """The key of the comparison (`item_key`)."""
    annotator: str
    """Who said it."""
    rating: int
    """1 (the row's first answer is far better) to 8 (the second is); 0: not judged. Not as it was shown."""
    swapped: bool
    """Whether the second answer was shown on the left."""
    seconds: float
    """From the moment it was shown."""
    time: float
    """When, in seconds since 1970."""

    def to_json(self) -> str:
        """Return the label as one line of JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})


def item_key(one: Preference) -> str:
    """Return what names a comparison: a hash of its texts, so that rows may be added and moved."""
    text = json.dumps([one.prompt, one.chosen, one.rejected], sort_keys=True)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


class LabelFile:
    """The labels of all annotators, in a file that one process writes; close it when done.

    Raises `UserError` if another process writes to it, or a whole line of it is no label.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise UserError(f"{path} is in use: another `quintain annotate` writes to it") from None
        try:
            data = path.read_bytes()
            os.ftruncate(self._file, data.rfind(b"\n") + 1)
            self.labels = read_labels(path)
            os.fsync(self._file)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            os.close(self._file)
            raise

    def add(self, label: Label) -> None:
        """Write a label; when this returns it is on the disk. Raises `OSError` as the system reports it."""
        data = (label.to_json() + "\n").encode()
        size = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # a part of a line would swallow the next label
            raise
        self.labels.append(label)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_labels(path: Path) -> list[Label]:
    """Return the labels of a file, in order; a torn last line is left out.

    Raises `UserError` for any other line that is no label: nothing that a person said is passed over.
    """
    found = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
            found.append(Label(**row))
            if not 0 <= row["rating"] <= 8 or not NAME.fullmatch(row["annotator"]):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{path}, line {number} is no label: {line[:80]!r}; correct it or name another file"
            ) from None
    return found


def latest(labels: Iterable[Label]) -> dict[tuple[str, str], Label]:
    """Return the label that counts for each (item, annotator): the last one."""
    return {(label.item, label.annotator): label for label in labels}


class Queue:
    """Which comparison a person sees next, and which answer on the left: drawn from the seed and the person's name.

    Everybody sees all comparisons, in an order and with sides of their own, so that neither place nor order tells
    anything, and two people are never biased alike.
    """

    def __init__(self, items: Sequence[Preference], annotator: str, seed: int) -> None:
        self._keys = list(dict.fromkeys(item_key(one) for one in items))
        order = generator(seed, "annotate", annotator).permutation(len(self._keys))
        self.order = [self._keys[at] for at in order]
        self._seed, self._annotator = seed, annotator

    def swapped(self, item: str) -> bool:
        """Say whether the second answer of `item` stands on the left for this person."""
        return derive(self._seed, "side", self._annotator, item) % 2 == 1

    def next(self, done: Iterable[str]) -> str | None:
        """Return the first item in this person's order that is not `done`; None if all are."""
        through = set(done)
        return next((key for key in self.order if key not in through), None)


def as_shown(rating: int, swapped: bool) -> int:
    """Turn a rating about (left, right) into one about (first, second), or back."""
    return rating if rating == SKIPPED or not swapped else 9 - rating


def make_label(item: str, annotator: str, shown_rating: int, swapped: bool, seconds: float) -> Label:
    """Return the label of a rating as it was given on the screen. Raises `ValueError` for one outside of 0 to 8."""
    if isinstance(shown_rating, bool) or not isinstance(shown_rating, int) or not 0 <= shown_rating <= 8:
        raise ValueError(f"a rating is a whole number from 0 (not judged) to 8, got {shown_rating!r}")
    return Label(
        item, annotator, as_shown(shown_rating, swapped), swapped, round(seconds, 1), round(time.time(), 1)
    )


def preferences_of(items: Sequence[Preference], labels: Iterable[Label]) -> list[Preference]:
    """Return a preference for each comparison that somebody judged, in the order of the items.

    The rating is the mean over the people, rounded; a mean between 3.5 and 5.5 is a tie.
    `info` has each person's rating, `source` who they were.
    """
    said: dict[str, dict[str, int]] = {}
    for (item, annotator), label in latest(labels).items():
        if label.rating != SKIPPED:
            said.setdefault(item, {})[annotator] = label.rating
    found = []
    for one in items:
        ratings = said.pop(item_key(one), None)
        if not ratings:
            continue
        mean = sum(ratings.values()) / len(ratings)
        rating = round(mean + 1e-9) if mean > 4.5 else round(mean - 1e-9) if mean < 4.5 else 5
        made = from_rating(
            one.prompt,
            one.chosen,
            one.rejected,
            rating,
            source="person:" + ",".join(sorted(ratings)),
            tools=one.tools,
            id=one.id,
            info={**one.info, "ratings": dict(sorted(ratings.items()))},
        )
        found.append(made)
    return found


def agreement(labels: Iterable[Label]) -> dict[str, Any]:
    """Return how far people agree: on the side (first, second, tie) and on the scale.

    `cohen` has kappa on the side for each two people; `fleiss` is over the items that all have judged; `alpha_side`
    and `alpha_scale` (ordinal) are Krippendorff's, over all. None where a number is not defined.
    """
    counted = [label for label in latest(labels).values() if label.rating != SKIPPED]
    people = sorted({label.annotator for label in counted})
    by_item: dict[str, dict[str, int]] = {}
    for label in counted:
        by_item.setdefault(label.item, {})[label.annotator] = label.rating
    pairs = {}
    for one, other in combinations(people, 2):
        shared = [said for said in by_item.values() if one in said and other in said]
        pairs[f"{one}, {other}"] = cohen_kappa(
            [_side(said[one]) for said in shared], [_side(said[other]) for said in shared]
        )
    whole = [said for said in by_item.values() if len(said) == len(people)]
    return {
        "annotators": len(people),
        "items": len(by_item),
        "labels": len(counted),
        "shown_left_preferred": _left(counted),
        "cohen": pairs,
        "fleiss": fleiss_kappa([[_side(r) for r in said.values()] for said in whole])
        if len(people) > 1
        else None,
        "alpha_side": krippendorff_alpha([[_side(r) for r in said.values()] for said in by_item.values()]),
        "alpha_scale": krippendorff_alpha([list(said.values()) for said in by_item.values()], "ordinal"),
    }


def _side(rating: int) -> int:
    return -1 if rating < 4 else 1 if rating > 5 else 0


def _left(labels: Sequence[Label]) -> float | None:
    """Return the share of decisions for the answer on the left: far from a half is a bias of place."""
    decided = [label for label in labels if _side(label.rating)]
    if not decided:
        return None
    return sum((_side(label.rating) < 0) != label.swapped for label in decided) / len(decided)
