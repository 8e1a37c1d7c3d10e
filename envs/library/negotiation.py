"""`quintain/Negotiation-v0`: buy from a scripted seller whose costs are hidden, and get the best deal that there is.

A deal is a price and a choice for each of a few terms. What the choices are worth to the buyer is told; what they cost
the seller is not, but a seller who refuses says how many euros are missing. So the costs can be worked out from a few
refused offers, and the best deal is exact: the choices whose worth exceeds their cost most, at a price that just
covers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...tools.chat import Message, Reply
from ...tools.errors import UserError
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..card import Card
from ..tasks import TaskSet
from .items import Split, check_split, in_split
from .moves import HOW, only_move

_GOODS = (
    "printing press",
    "delivery van",
    "coffee machine",
    "sailing boat",
    "server",
    "kiln",
    "loom",
    "tractor",
)
_TERMS = (
    ("delivery", "weeks sooner"),
    ("warranty", "extra years"),
    ("training", "days"),
    ("service", "visits a year"),
    ("spares", "sets"),
)
_CHOICES = 5  # of each term: 0 to 4
_MISSING = re.compile(r"^No\. (\d+) euros are missing\.", re.MULTILINE)
_PROMPT = (
    "You buy a {good} from me. A deal is a price in whole euros and, for each of these terms, a number from 0 to 4:\n"
    "{worths}\nThe {good} alone is worth {base} euros to you. My costs are my secret: an amount for the {good}, and "
    "for each term an amount of its own, the same for every unit. I accept a price that covers my costs, and that "
    "ends our talk; otherwise I say how many euros are missing. Your gain is the worth of the deal less its price. "
    "{aim} You have {turns} replies. Make an offer such as\n{example}\n{how}"
)
_AIMS = {
    False: "Only the deal with the greatest gain that is possible counts.",
    True: "You are paid for your share of the greatest gain that is possible.",
}


class Negotiation(TextEnv):
    """Buy from a seller with hidden costs; see the module.

    The reward is 1 if the deal has the greatest gain that is possible, else 0. With `partial` it is the gain as a
    share of the greatest. Without a deal it is 0.

    Args:
        terms: How many terms besides the price, 1 to 5. Each takes one more offer to find out about.
        partial: Pay for a part of the gain too.
        max_turns: Replies until the talk is over; None for three more than are needed.
        split: "train" or "test": different costs and worths.
        seed: Of the task set.
    """

    card = Card(
        what="Buy from a seller with hidden costs: find them out by offers, then make the best offer.",
        reward="1 for the deal with the greatest possible gain, else 0; with `partial` the share of that gain.",
        difficulty="`terms`: how many costs are hidden besides that of the thing itself; `max_turns`.",
        oracle="Finds the costs by one offer each and works the best deal out; it is not told them.",
        tags=("game", "multi-turn", "dialogue", "planning"),
    )

    def __init__(
        self,
        terms: int = 2,
        partial: bool = False,
        max_turns: int | None = None,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 1 <= terms <= len(_TERMS):
            raise UserError(f"Negotiation: terms must be 1 to {len(_TERMS)}, got {terms}")
        turns = terms + 5 if max_turns is None else max_turns
        if turns < terms + 2:
            raise UserError(f"Negotiation: {terms} terms need {terms + 2} replies, got max_turns={turns}")
        check_split("Negotiation", split)
        self.partial = partial

        def problem(rng: np.random.Generator, index: int) -> Task:
            while True:
                answer = _drawn(rng, terms)
                key = (answer["cost"], *answer["unit_costs"].values(), answer["gain"])
                if in_split(split, "negotiation", *key) and _is_sound(answer):
                    return Task("", _told(rng, answer, partial, turns), answer, {"tag": f"{terms} terms"})

        name = f"negotiation-{terms}"
        super().__init__(
            tasks=TaskSet.generated(problem, name=name, split=split, seed=seed),
            max_turns=turns,
            render_mode=render_mode,
        )
        self.oracle = _oracle

    def begin(self, task: Task) -> str:
        """Take the costs and worths of the task."""
        self.terms: dict[str, Any] = dict(task.answer)
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Accept the offer, or say what is missing."""
        names = list(self.terms["unit_costs"])
        move = only_move(reply, _pattern(names))
        if move is None:
            return f"Make one offer such as\n{_written(0, dict.fromkeys(names, 0))}\nwith your numbers. {HOW}"
        price, *numbers = map(int, move.groups())
        choice = dict(zip(names, numbers, strict=True))
        missing = _cost(self.terms, choice) - price
        if missing > 0:
            return f"No. {missing} euros are missing."
        gain = _worth(self.terms, choice) - price
        best: int = self.terms["gain"]
        share = max(0.0, gain / best) if self.partial else float(gain == best)
        score = Score(
            share, parts={"gain": gain, "best": best}, reason=f"a gain of {gain}, {best} was possible"
        )
        return Turn("Done: it is yours.", done=True, score=score)


def _worth(terms: Mapping[str, Any], choice: Mapping[str, int]) -> int:
    return int(terms["worth"]) + sum(int(terms["worths"][name][number]) for name, number in choice.items())


def _cost(terms: Mapping[str, Any], choice: Mapping[str, int]) -> int:
    return int(terms["cost"]) + sum(
        int(terms["unit_costs"][name]) * number for name, number in choice.items()
    )


def best_choice(terms: Mapping[str, Any]) -> dict[str, int]:
    """Return for each term the number whose worth exceeds its cost most, the least of several."""
    return {
        name: max(range(_CHOICES), key=lambda number: gain[number]) for name, gain in _gains(terms).items()
    }


def _gains(terms: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return for each term what each number gains."""
    return {
        name: [worth - number * terms["unit_costs"][name] for number, worth in enumerate(worths)]
        for name, worths in terms["worths"].items()
    }


def _drawn(rng: np.random.Generator, count: int) -> dict[str, Any]:
    names = [_TERMS[int(k)][0] for k in sorted(rng.choice(len(_TERMS), size=count, replace=False))]
    cost = int(rng.integers(200, 3000))
    unit_costs = {name: int(rng.integers(11, 90)) for name in names}
    worths = {}
    for name in names:
        steps = sorted((int(step) for step in rng.integers(2, 120, size=_CHOICES - 1)), reverse=True)
        worths[name] = [sum(steps[:number]) for number in range(_CHOICES)]
    drawn: dict[str, Any] = {"cost": cost, "unit_costs": unit_costs, "worths": worths}
    drawn["worth"] = cost + int(rng.integers(5, 400))
    best = best_choice(drawn)
    drawn["gain"] = _worth(drawn, best) - _cost(drawn, best)
    return drawn


def _is_sound(drawn: Mapping[str, Any]) -> bool:
    """Return whether there is one best deal, and every term has to be thought about: neither none nor all of it."""
    return all(
        gain.count(max(gain)) == 1 and max(gain) not in (gain[0], gain[-1]) for gain in _gains(drawn).values()
    )


def _told(rng: np.random.Generator, answer: Mapping[str, Any], partial: bool, turns: int) -> str:
    units = dict(_TERMS)
    worths = "\n".join(
        f"- {name} ({units[name]}): "
        + ", ".join(f"{number} is worth {worth}" for number, worth in enumerate(answer["worths"][name]))
        for name in answer["unit_costs"]
    )
    example = _written(0, dict.fromkeys(answer["unit_costs"], 0))
    return _PROMPT.format(
        good=_GOODS[int(rng.integers(len(_GOODS)))], worths=worths, base=answer["worth"], aim=_AIMS[partial],
        turns=turns, example=example, how=HOW,
    )  # fmt: skip


def _written(price: int, choice: Mapping[str, int]) -> str:
    return "; ".join([f"price {price}", *(f"{name} {number}" for name, number in choice.items())])


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    parts = [r"price:?\s*([0-9]{1,6})(?: euros?)?", *(rf"{name}:?\s*([0-4])" for name in names)]
    return re.compile(r"\s*[;,]\s*".join(parts), re.IGNORECASE)


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Offer nothing for no terms, then for one unit of each term in turn; then the best deal at its cost."""
    names = list(task.answer["unit_costs"])
    probes = [dict.fromkeys(names, 0), *({**dict.fromkeys(names, 0), name: 1} for name in names)]
    missing = [
        int(found[1])
        for message in messages
        if message["role"] == "user" and (found := _MISSING.match(message["content"]))
    ]
    if len(missing) < len(probes):
        return _written(0, probes[len(missing)])
    cost, *more = missing
    known = {
        **task.answer,
        "cost": cost,
        "unit_costs": {n: m - cost for n, m in zip(names, more, strict=False)},
    }
    choice = best_choice(known)
    return _written(_cost(known, choice), choice)
