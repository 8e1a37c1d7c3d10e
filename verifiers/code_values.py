"""Whether the value that a candidate returned is the expected one; both are plain data, compared on our side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 60


def same_value(value: Any, expected: Any, tolerance: float = 0.0, depth: int = 0) -> bool:
    """Return whether a plain value is the expected JSON value.

    Tuples count as lists, a set as a list in any order, a dictionary's keys as their text where JSON had to
    write them so. NaN equals nothing; numbers must be equal unless a relative `tolerance` is given.
    """
    if depth > _MAX_DEPTH:
        return False
    if isinstance(expected, bool) or isinstance(value, bool):
        return (
            isinstance(value, bool | int | float)
            and isinstance(expected, bool | int | float)
            and value == expected
        )
    if isinstance(expected, int | float):
        return isinstance(value, int | float) and _same_number(value, expected, tolerance)
    if isinstance(value, set | frozenset):
        return isinstance(expected, list | tuple | set | frozenset) and _same_set(
            value, expected, tolerance, depth
        )
    if isinstance(expected, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(expected)
            and all(same_value(a, b, tolerance, depth + 1) for a, b in zip(value, expected, strict=True))
        )
    if isinstance(expected, Mapping):
        return isinstance(value, Mapping) and _same_mapping(value, expected, tolerance, depth)
    return type(value) is type(expected) and bool(value == expected)


def _same_number(value: float, expected: float, tolerance: float) -> bool:
    if value == expected:
        return True
    if not tolerance or (isinstance(value, float) and not math.isfinite(value)):
        return False
    try:
        return math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    except OverflowError:
        return False


def _same_set(value: Any, expected: Any, tolerance: float, depth: int) -> bool:
    left = list(expected)
    if len(value) != len(left) or len(left) > 10_000:
        return False
    if not tolerance:
        try:
            return set(value) == {_frozen(item) for item in left}
        except TypeError:
            pass
    for item in value:
        index = next(
            (i for i, other in enumerate(left) if same_value(item, other, tolerance, depth + 1)), None
        )
        if index is None:
            return False
        del left[index]
    return True


def _frozen(item: Any) -> Any:
    return tuple(_frozen(part) for part in item) if isinstance(item, list) else item


def _same_mapping(
    value: Mapping[Any, Any], expected: Mapping[Any, Any], tolerance: float, depth: int
) -> bool:
    if len(value) != len(expected):
        return False
    for key, wanted in expected.items():
        if key in value:
            found = value[key]
        else:  # JSON writes every key as text
            keys = [k for k in value if isinstance(k, int | float | bool | None) and _json_key(k) == key]
            if len(keys) != 1:
                return False
            found = value[keys[0]]
        if not same_value(found, wanted, tolerance, depth + 1):
            return False
    return True


def _json_key(key: Any) -> str:
    return {True: "true", False: "false", None: "null"}[key] if isinstance(key, bool | None) else str(key)


def same_output(written: str, expected: str, tolerance: float = 0.0) -> bool:
    """Return whether a program's output is the expected one: line ends and trailing space do not matter."""
    ours = [line.rstrip() for line in expected.strip().splitlines()]
    theirs = [line.rstrip() for line in written.strip().splitlines()]
    if ours == theirs:
        return True
    if not tolerance or len(ours) != len(theirs):
        return False
    return all(_same_line(a.split(), b.split(), tolerance) for a, b in zip(theirs, ours, strict=True))


def _same_line(written: list[str], expected: list[str], tolerance: float) -> bool:
    if len(written) != len(expected):
        return False
    for a, b in zip(written, expected, strict=True):
        if a == b:
            continue
        try:
            if not _same_number(float(a), float(b), tolerance):
                return False
        except ValueError:
            return False
    return True
