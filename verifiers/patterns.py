"""Regular expressions on hostile text: simple ones at once, the others where they can be killed."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import re._constants as _constants  # type: ignore[import-not-found]
    import re._parser as _parser  # type: ignore[import-not-found]

_WALL_S = 2.0


@lru_cache(maxsize=1000)
def simple_pattern(pattern: str) -> bool:
    """Return whether a pattern takes time that grows at most with the square of the text.

    That is: at most two repeats without a bound, none inside another, no alternatives or back-references inside
    one. Raises `re.error` for a pattern that is not valid.
    """
    tree = _parser.parse(pattern)
    found = [0]
    return _simple(tree, False, found) and found[0] <= 2


def _simple(tree: Any, inside: bool, found: list[int]) -> bool:
    for op, argument in tree:
        if op in {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}:
            _, high, inner = argument
            unbounded = high is _constants.MAXREPEAT or high > 100
            if unbounded:
                found[0] += 1
            if unbounded and inside:
                return False
            if not _simple(inner, inside or unbounded, found):
                return False
        elif op is _constants.BRANCH:
            if inside or not all(_simple(branch, inside, found) for branch in argument[1]):
                return False
        elif op is _constants.SUBPATTERN:
            if not _simple(argument[3], inside, found):
                return False
        elif op in {_constants.ASSERT, _constants.ASSERT_NOT}:
            if not _simple(argument[1], inside, found):
                return False
        elif op in {_constants.GROUPREF, _constants.GROUPREF_EXISTS, _constants.ATOMIC_GROUP}:
            return False
    return True


def matches(pattern: str, text: str, whole: bool, ignore_case: bool) -> bool:
    """Return whether a pattern is found in a text, or is all of it."""
    compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None


def search_safely(pattern: str, text: str, *, whole: bool = False, ignore_case: bool = False) -> bool:
    """Match a pattern against hostile text in bounded time.

    Raises `GuardError` where a pattern that is not simple took too long: the reply is then ungraded, since it
    is the pattern's author who has to change something.
    """
    if simple_pattern(pattern) and len(text) <= 20_000:
        return matches(pattern, text, whole, ignore_case)
    from .guard import shared_guard

    return bool(shared_guard().call(matches, pattern, text, whole, ignore_case, wall_s=_WALL_S))
