"""`quintain/Booking-v0`: book a holiday flat for a scripted customer, who says what is wanted only when asked.

The model sees the flats and talks to the customer. The customer answers at most two questions of a reply, recognised
by their words, and may correct an answer later on. The booking ends the talk and is compared field by field with what
is right: the flat that meets every wish and is the best in the respect that matters to the customer. Leaving out any
one wish leads to another flat, so nothing can be guessed.
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
from .moves import only_move

_FIRST = (
    "Ada",
    "Boris",
    "Carla",
    "Diego",
    "Elif",
    "Felix",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Lena",
    "Omar",
    "Ravi",
)
_LAST = (
    "Abel",
    "Bianchi",
    "Costa",
    "Dahl",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Haas",
    "Ito",
    "Jansen",
    "Kaya",
    "Lopez",
    "Moreau",
)
_MONTHS = ("May", "June", "July", "August", "September")
FEATURES = ("balcony", "parking", "pets allowed", "dishwasher", "sea view", "lift")
_AIMS = {
    "price": "as cheap as possible",
    "beach": "as near to the beach as possible",
    "rating": "rated as high as possible",
}

TOPICS = {
    "name": re.compile(r"\bnames?\b", re.IGNORECASE),
    "arrival": re.compile(r"\b(?:arriv\w*|when|dates?|check[- ]?in)\b", re.IGNORECASE),
    "nights": re.compile(r"\b(?:nights|how long)\b", re.IGNORECASE),  # "a night" is about the budget
    "guests": re.compile(r"\b(?:guests?|people|persons?|how many of you)\b", re.IGNORECASE),
    "budget": re.compile(r"\b(?:budget|spend|afford)\b", re.IGNORECASE),
    "features": re.compile(r"\b(?:features?|amenit\w+|must[- ]haves?|equipment)\b", re.IGNORECASE),
    "aim": re.compile(r"\b(?:prefer\w*|priorit\w+|matters?|important)\b", re.IGNORECASE),
}
"""What the customer can be asked about, and the words by which a question is recognised."""

_SAYINGS = {
    "name": ("My name is {name}.", "Book it for {name}, please.", "It is {name}."),
    "arrival": ("We arrive on {arrival}.", "From {arrival} on.", "On {arrival}."),
    "nights": ("We stay for {nights} nights.", "{nights} nights.", "For {nights} nights, please."),
    "guests": ("There are {guests} of us.", "We are {guests} people.", "{guests} of us will come."),
    "budget": (
        "At most {budget} euros a night.",
        "I can spend up to {budget} euros a night.",
        "No more than {budget} a night.",
    ),
    "features": (
        "It must have: {features}.",
        "We cannot do without: {features}.",
        "What we need: {features}.",
    ),
    "aim": (
        "Of those that fit, I want the one that is {aim}.",
        "Beyond that it should be {aim}.",
        "Make it {aim}.",
    ),
}
_GREETINGS = (
    "Hello, I would like to book a flat.", "Good morning, we are looking for a flat for our holidays.",
    "Hi, can you find us a flat?", "Hello, we need a place to stay.",
)  # fmt: skip
_CHANGE = "Oh, and I was wrong before: there will be {guests} of us."
_TOO_MUCH = "That is a lot at once. Please ask me for one or two things at a time."
_LOST = "I did not get that. What do you want to know about my booking? One or two things at a time, please."
_PROMPT = (
    "You book holiday flats. The flats, with the number of guests that they take, price a night, metres to the beach "
    "and rating:\n{flats}\n\nTalk to the customer below. Ask, one or two things in a reply, for the name, the date of "
    "arrival, the number of nights and of guests, the budget a night, the features that the flat must have, and what "
    "matters most beyond that. Then book the flat that fits and is best in what matters most. You have {turns} "
    "replies. To book, write in the last line: BOOK flat; name; arrival; nights; guests\n\nCustomer: {greeting}"
)
_BOOKING = re.compile(
    r"BOOK\s+([A-Z][0-9])\s*;\s*([A-Z][a-z]+ [A-Z][a-z]+)\s*;\s*([0-9]{1,2} [A-Z][a-z]+)\s*;"
    r"\s*([0-9]{1,2})(?: nights?)?\s*;\s*([0-9]{1,2})(?: guests?)?",
    re.IGNORECASE,
)
_HEARD = 2000  # characters of a reply that the customer listens to, the last ones
_SENTENCE_END = re.compile(r"(?<=[.?!\n])")
_MEANT = re.compile(r"^[^\w\n]*BOOK\b", re.MULTILINE)
_HOW = "To book, write in the last line, with your values: BOOK flat; name; arrival; nights; guests"


class Booking(TextEnv):
    """Book a flat for a scripted customer; see the module.

    The reward is 1 if flat, name, arrival, nights and guests of the booking are all right, else 0. The first booking
    counts.

    Args:
        flats: How many there are to choose from, 8 to 20.
        features: How many features the customer insists on, 1 to 3.
        changes: Whether the customer corrects the number of guests: with a later answer, or before the booking.
        max_turns: Replies until the episode is truncated, at least 6.
        split: "train" or "test": different customers.
        seed: Of the task set.
    """

    card = Card(
        what="Ask a scripted customer for the wishes, find the one flat that meets them best, and book it.",
        reward="1 if every field of the booking is right, else 0; the first booking counts.",
        difficulty="`flats` to choose from, `features` insisted on, `changes` of mind, `max_turns`.",
        oracle="Asks for everything, then books what is right; the demonstrator leaves out a question now and then.",
        tags=("multi-turn", "dialogue", "user simulator"),
    )

    def __init__(
        self,
        flats: int = 10,
        features: int = 2,
        changes: bool = False,
        max_turns: int = 10,
        split: Split = "train",
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 8 <= flats <= 20:
            raise UserError(f"Booking: flats must be 8 to 20, got {flats}")
        if not 1 <= features <= 3:
            raise UserError(f"Booking: features must be 1 to 3, got {features}")
        if max_turns < 6:
            raise UserError(f"Booking: seven questions and the booking need max_turns of 6, got {max_turns}")
        check_split("Booking", split)

        def problem(rng: np.random.Generator, index: int) -> Task:
            while True:
                drawn = _drawn(rng, flats, features, changes)
                wishes = drawn["wishes"]
                if in_split(
                    split, "booking", wishes["name"], wishes["arrival"], wishes["nights"], wishes["guests"]
                ):
                    break
            prompt = _PROMPT.format(
                flats="\n".join(map(_described, drawn["flats"])), turns=max_turns, greeting=drawn["greeting"]
            )
            return Task("", prompt, drawn, {"tag": f"{features} features"})

        super().__init__(
            tasks=TaskSet.generated(
                problem, name=f"booking-{flats}-{features}-{int(changes)}", split=split, seed=seed
            ),
            max_turns=max_turns,
            render_mode=render_mode,
        )
        self.oracle = Clerk(forget=0)
        self.demonstrator = Clerk()

    def begin(self, task: Task) -> str:
        """Meet the customer of the task."""
        self.customer: dict[str, Any] = dict(task.answer)
        self.told: list[str] = []
        self.corrected = False
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Book, or let the customer answer."""
        booking = only_move(reply, _BOOKING)
        must_correct = self.customer["first_guests"] and not self.corrected
        if booking is not None and must_correct:
            self.corrected = True
            return f"Wait, do not book yet. {_CHANGE.format(guests=self.customer['wishes']['guests'])}"
        if booking is not None:
            return self._booked([field.lower() for field in booking.groups()])
        if _MEANT.search(reply.content):
            return _HOW
        heard = reply.content[-_HEARD:]
        sentences = _SENTENCE_END.split(heard)
        questions = "".join(sentence for sentence in sentences if sentence.endswith("?")) or heard
        asked = [topic for topic, words in TOPICS.items() if words.search(questions)]
        if not asked:
            return _LOST
        if len(asked) > 2:
            return _TOO_MUCH
        said = [self._says(topic) for topic in asked]
        if must_correct and "guests" in self.told:
            self.corrected = True
            said.append(_CHANGE.format(guests=self.customer["wishes"]["guests"]))
        self.told += asked
        return " ".join(said)

    def _says(self, topic: str) -> str:
        wishes = dict(self.customer["wishes"])
        if topic == "guests" and self.customer["first_guests"] and not self.corrected:
            wishes["guests"] = self.customer["first_guests"]
        wishes["features"] = ", ".join(wishes["features"])
        wishes["aim"] = _AIMS[wishes["aim"]]
        return str(self.customer["sayings"][topic].format(**wishes))

    def _booked(self, fields: Sequence[str]) -> Turn:
        right = [field.lower() for field in right_booking(self.customer)]
        names = ("flat", "name", "arrival", "nights", "guests")
        wrong = [name for name, got, wanted in zip(names, fields, right, strict=True) if got != wanted]
        reason = f"wrong: {', '.join(wrong)}" if wrong else "every field is right"
        return Turn("Thank you, goodbye.", done=True, score=Score(float(not wrong), reason=reason))


def best_flat(flats: Sequence[Mapping[str, Any]], wishes: Mapping[str, Any]) -> str | None:
    """Return the code of the flat that meets the wishes and is best in their aim; None if none meets them."""
    fitting = [
        flat
        for flat in flats
        if flat["sleeps"] >= wishes["guests"]
        and flat["price"] <= wishes["budget"]
        and set(wishes["features"]) <= set(flat["features"])
    ]
    sign = -1 if wishes["aim"] == "rating" else 1
    best = min(fitting, key=lambda flat: sign * flat[wishes["aim"]], default=None)
    return None if best is None else str(best["code"])


def right_booking(customer: Mapping[str, Any]) -> list[str]:
    """Return the fields of the right booking: flat, name, arrival, nights, guests."""
    wishes = customer["wishes"]
    flat = best_flat(customer["flats"], wishes)
    return [str(flat), wishes["name"], wishes["arrival"], str(wishes["nights"]), str(wishes["guests"])]


def _drawn(rng: np.random.Generator, count: int, features: int, changes: bool) -> dict[str, Any]:
    """Draw a customer, and flats among which every wish of theirs decides."""

    def pick(choices: Sequence[str]) -> str:
        return choices[int(rng.integers(len(choices)))]

    guests = int(rng.integers(3, 8))
    wishes: dict[str, Any] = {
        "name": f"{pick(_FIRST)} {pick(_LAST)}",
        "arrival": f"{int(rng.integers(1, 29))} {pick(_MONTHS)}",
        "nights": int(rng.integers(2, 22)),
        "guests": guests,
        "features": [
            FEATURES[int(k)] for k in sorted(rng.choice(len(FEATURES), size=features, replace=False))
        ],
        "aim": pick(tuple(_AIMS)),
    }
    others = [number for number in range(2, 9) if number != guests]
    return {
        "flats": _flats(rng, count, wishes),  # sets the budget too
        "wishes": wishes,
        "first_guests": others[int(rng.integers(len(others)))] if changes else 0,
        "sayings": {topic: pick(phrases) for topic, phrases in _SAYINGS.items()},
        "greeting": pick(_GREETINGS),
    }


def _flats(rng: np.random.Generator, count: int, wishes: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw the flats, and the budget into `wishes`.

    One is right. For each wish there is one that fails this wish only and is better in the aim; for each other aim one
    that meets all wishes and is better in that. The rest fails in two ways.
    """
    aim, wanted = wishes["aim"], wishes["features"]
    tempting = ["guests", *wanted, *(["budget"] if aim != "price" else [])]
    rivals = [other for other in _AIMS if other != aim]
    roles = [*(tempting[int(k)] for k in rng.permutation(len(tempting))), "right", *rivals]
    values = {
        "price": _distinct(rng, 45, 200, len(roles)),
        "beach": [10 * far for far in _distinct(rng, 5, 150, len(roles))],
        "rating": _distinct(rng, 60, 100, len(roles)),
    }
    values[aim].sort(reverse=aim == "rating")  # the tempting ones are the best, then comes the right one
    right = roles.index("right")
    for rival in rivals:
        column, place = values[rival], roles.index(rival)
        if (column[place] < column[right]) == (rival == "rating"):
            column[place], column[right] = column[right], column[place]
    wishes["budget"] = max(values["price"]) + int(rng.integers(1, 20))
    flats = []
    for i, role in enumerate(roles):
        has = {feature for feature in FEATURES if rng.random() < 0.4} | set(wanted)
        sleeps = wishes["guests"] + int(rng.integers(0, 3))
        flat = {"sleeps": sleeps, **{name: column[i] for name, column in values.items()}}
        if role == "guests":
            flat["sleeps"] = wishes["guests"] - int(rng.integers(1, 3))
        elif role == "budget":
            flat["price"] = wishes["budget"] + int(rng.integers(1, 40))
        flats.append({**flat, "features": [feature for feature in FEATURES if feature in has - {role}]})
    for _ in range(count - len(roles)):
        has = {feature for feature in FEATURES if rng.random() < 0.5} - {wanted[0]}
        flats.append(
            {
                "sleeps": int(rng.integers(1, wishes["guests"])),
                "price": int(rng.integers(45, 260)),
                "beach": 10 * int(rng.integers(5, 150)),
                "rating": int(rng.integers(60, 100)),
                "features": [feature for feature in FEATURES if feature in has],
            }
        )
    codes = [f"{'ABCDEFGHJ'[code // 10]}{code % 10}" for code in _distinct(rng, 0, 90, count)]
    return [{"code": code, **flats[int(k)]} for code, k in zip(codes, rng.permutation(count), strict=True)]


def _distinct(rng: np.random.Generator, low: int, high: int, count: int) -> list[int]:
    return [low + int(k) for k in rng.choice(high - low, size=count, replace=False)]


def _described(flat: Mapping[str, Any]) -> str:
    features = ", ".join(flat["features"]) or "nothing special"
    return (
        f"{flat['code']}: {flat['sleeps']} guests, {flat['price']} euros, {flat['beach']} m, "
        f"rated {flat['rating'] / 10}; {features}"
    )


class Clerk:
    """Asks the customer for everything, two things at a time, and books.

    Args:
        forget: Chance that a question is not asked; the clerk then assumes something.
    """

    def __init__(self, forget: float = 0.12) -> None:
        self.forget = forget

    def __call__(self, task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        """Return the next reply."""
        questions = (
            "May I have your name, and the date when you arrive?",
            "How many nights do you stay, and how many guests are you?",
            "What is your budget, and which features do you need?",
            "What matters most to you?",
        )
        asked = sum(
            message["role"] == "assistant" for message in messages
        )  # a refused booking is written again
        if asked < len(questions):
            return questions[asked]
        customer = dict(task.answer)
        wishes = dict(customer["wishes"])
        assumed = {"guests": 2, "budget": 150, "features": [], "aim": "price"}
        wishes |= {topic: value for topic, value in assumed.items() if rng.random() < self.forget}
        return "BOOK " + "; ".join(right_booking({**customer, "wishes": wishes}))
