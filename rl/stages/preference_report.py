"""What a file of preferences is like: repeated and contradicting rows, label noise, a liking for length."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from ...tools.chat import Message
from ..evaluate import wilson
from .preference import Preference


def distinct(preferences: Sequence[Preference]) -> list[Preference]:
    """Return the preferences without repeated ones (same prompt, same sides, same direction), the first of each."""
    return list({_key(one.prompt, one.chosen, one.rejected): one for one in reversed(preferences)}.values())[
        ::-1
    ]


def describe(preferences: Sequence[Preference]) -> dict[str, Any]:
    """Return figures on preferences, in plain JSON data.

    - `pairs`, `prompts`, `ties`, `repeated` (rows that say what another says), `by_source`, `by_strength`;
    - `contradicted`: pairs of answers that were decided both ways, of `decided_again` that were decided more than
      once; `label_noise`: the error rate of a label that would make two labels differ so often, if errors are
      independent: d = 2 p (1 - p); None where no pair was decided twice;
    - `cycles`: triples of answers to one prompt, all compared, in which a is above b, b above c and c above a, of
      `triples`;
    - `longer_chosen`: the share of decided pairs of different length in which the longer answer was chosen, with its
      95 % interval (Wilson): far from a half is a liking for length, or for what comes with it; `length_of_*`: mean
      characters.
    """
    decided = [one for one in preferences if not one.tie]
    lengths = [(_length(one.chosen), _length(one.rejected)) for one in decided]
    uneven = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    low, high = wilson(sum(uneven), len(uneven))
    again, contradicted, differing, compared = _contradictions(decided)
    triples, cycles = _cycles(decided)
    noise = None
    if compared:
        noise = (1 - math.sqrt(max(0.0, 1 - 2 * min(differing / compared, 0.5)))) / 2
    return {
        "pairs": len(preferences),
        "prompts": len({_text(one.prompt) for one in preferences}),
        "ties": len(preferences) - len(decided),
        "repeated": len(preferences) - len(distinct(preferences)),
        "by_source": dict(Counter(one.source or "unknown" for one in preferences).most_common()),
        "by_strength": {
            str(k): v for k, v in sorted(Counter(o.strength for o in preferences if o.strength).items())
        },
        "decided_again": again,
        "contradicted": contradicted,
        "label_noise": noise,
        "triples": triples,
        "cycles": cycles,
        "longer_chosen": sum(uneven) / len(uneven) if uneven else None,
        "longer_chosen_interval": [low, high] if uneven else None,
        "length_of_chosen": sum(a for a, _ in lengths) / len(lengths) if lengths else None,
        "length_of_rejected": sum(b for _, b in lengths) / len(lengths) if lengths else None,
    }


def _contradictions(decided: Sequence[Preference]) -> tuple[int, int, int, int]:
    """Return pairs decided again, pairs decided both ways, and of all two labels on one pair: differing, compared."""
    said: dict[tuple[str, frozenset[str]], Counter[str]] = {}
    for one in decided:
        sides = frozenset((_text(one.chosen), _text(one.rejected)))
        said.setdefault((_text(one.prompt), sides), Counter())[_text(one.chosen)] += 1
    again = [counts for counts in said.values() if sum(counts.values()) > 1]
    differing = sum(math.prod(counts.values()) for counts in again if len(counts) == 2)
    compared = sum(math.comb(sum(counts.values()), 2) for counts in again)
    return len(again), sum(len(counts) == 2 for counts in again), differing, compared


def _cycles(decided: Sequence[Preference]) -> tuple[int, int]:
    above: dict[str, dict[tuple[str, str], int]] = {}
    for one in decided:
        pairs = above.setdefault(_text(one.prompt), {})
        better, worse = _text(one.chosen), _text(one.rejected)
        pairs[better, worse] = pairs.get((better, worse), 0) + 1
    triples = cycles = 0
    for pairs in above.values():
        wins = {(a, b) for (a, b), n in pairs.items() if n > pairs.get((b, a), 0)}
        answers = sorted({side for pair in wins for side in pair})
        if len(answers) > 60:  # cubic in the answers to one prompt
            continue
        for a, b, c in combinations(answers, 3):
            if all((x, y) in wins or (y, x) in wins for x, y in ((a, b), (b, c), (a, c))):
                triples += 1
                cycles += {(a, b), (b, c), (c, a)} <= wins or {(b, a), (c, b), (a, c)} <= wins
    return triples, cycles


def _text(messages: Sequence[Message]) -> str:
    return json.dumps(list(messages), sort_keys=True)


def _key(*parts: Sequence[Message]) -> str:
    return "\n".join(map(_text, parts))


def _length(side: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in side if message["role"] == "assistant")
