"""Invented worlds: a few hundred facts about people, firms and towns that nobody can know, written as short documents.

Every name is made up of syllables, so that no model has seen it. A fact stands in one document only, in one of several
wordings; documents about others of the same kind stand around it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .sources import pick, several

_ONSETS = several("b br d dr f fl g gr h j k kl l m n p pr r s sk st t tr v z")
_VOWELS = several("a e i o u ai ea ou")
_CODAS = several("l n r s m th nd rk x lt")
_BESIDE = {  # what nobody asks about
    "person": (
        "{} worked as a {}.",
        several("glassblower cartographer beekeeper clockmaker botanist locksmith mason"),
    ),
    "firm": (
        "{} is known for its {}.",
        several("kites harps lanterns compasses saddles violins telescopes barrels"),
    ),
    "town": ("{} lies on a {}.", several("river lake canal strait")),
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: of a subject, the value of a relation."""

    subject: str
    """The name of the subject."""
    relation: str
    """The relation, one of `RELATIONS`."""
    value: str
    """The value, a name or a number."""
    document: str
    """The id of the document that says it."""


@dataclass(frozen=True, slots=True)
class World:
    """Documents and the facts in them."""

    documents: Mapping[str, tuple[str, str]]
    """Title and text by id."""
    facts: tuple[Fact, ...]
    """All facts."""


RELATIONS: Mapping[str, tuple[str, str]] = {
    # relation: how it is asked of a subject, and how the subject is spoken of inside a longer question
    "birthplace": ("In which town was {} born?", "the town where {} was born"),
    "teacher": ("Who taught {}?", "the person who taught {}"),
    "birthyear": ("In which year was {} born?", ""),
    "founder": ("Who founded {}?", "the person who founded {}"),
    "seat": ("In which town does {} have its seat?", "the town in which {} has its seat"),
    "workers": ("How many people work for {}?", ""),
    "mayor": ("Who is the mayor of {}?", "the mayor of {}"),
    "inhabitants": ("How many people live in {}?", ""),
    "twin": ("What is the twin town of {}?", "the twin town of {}"),
}
"""What can be asked; those with a second text lead on to another subject."""

_OF = {"person": ("birthplace", "teacher", "birthyear"), "firm": ("founder", "seat", "workers"),
       "town": ("mayor", "inhabitants", "twin")}  # fmt: skip
_POINTS_TO = {"birthplace": "town", "teacher": "person", "founder": "person", "seat": "town", "mayor": "person",
              "twin": "town"}  # fmt: skip
_SAID: Mapping[str, tuple[str, ...]] = {
    "birthplace": ("{} was born in {}.", "{} comes from {}.", "The birthplace of {} is {}."),
    "teacher": ("{} learned the trade from {}.", "{} was a pupil of {}.", "The teacher of {} was {}."),
    "birthyear": ("{} was born in the year {}.", "The year of birth of {} is given as {}."),
    "founder": ("{} was founded by {}.", "{} goes back to {}, who founded it.", "The founder of {} is {}."),
    "seat": ("{} has its seat in {}.", "The house of {} stands in {}.", "{} is at home in {}."),
    "workers": ("{} employs {} people.", "At {} there is work for {} people."),
    "mayor": ("The mayor of {} is {}.", "{} elected {} as its mayor.", "The town hall of {} is led by {}."),
    "inhabitants": ("{} has {} inhabitants.", "The last count found that {} is home to {} people."),
    "twin": (
        "{} is twinned with {}.",
        "The twin town of {} is {}.",
        "{} has had a partnership with {} for years.",
    ),
}


def _name(draw: random.Random, syllables: int) -> str:
    made = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(syllables)) + draw.choice(
        _CODAS
    )
    return made.capitalize()


def _different(count: int, taken: set[str], make: Callable[[], str]) -> list[str]:
    names: list[str] = []
    while len(names) < count:
        name = make()
        if not taken & set(name.split()):  # no part of a name comes twice
            taken.update(name.split())
            names.append(name)
    return names


def world(rng: np.random.Generator, size: int) -> World:
    """Return a world of `size` people, as many firms and as many towns, with a document for each of them."""
    draw = random.Random(int(rng.integers(2**63)))  # thousands of small draws, at which NumPy is slow
    taken: set[str] = set()
    subjects = {
        "person": _different(size, taken, lambda: f"{_name(draw, 1)} {_name(draw, 2)}"),
        "firm": _different(size, taken, lambda: _name(draw, 2)),
        "town": _different(size, taken, lambda: _name(draw, 2)),
    }
    numbers = iter(draw.sample(range(2_000, 10_000), 2 * size))
    years = iter(draw.sample(range(1_000, 2_000), size))
    ids = iter(draw.sample(range(100, 1_000), 3 * size))
    documents: dict[str, tuple[str, str]] = {}
    facts: list[Fact] = []
    for kind, names in subjects.items():
        for name in names:
            document = f"doc-{next(ids)}"
            sentences = [_BESIDE[kind][0].format(name, draw.choice(_BESIDE[kind][1]))]
            for relation in _OF[kind]:
                if relation in _POINTS_TO:
                    value = name
                    while value == name:
                        value = draw.choice(subjects[_POINTS_TO[relation]])
                else:
                    value = str(next(years if relation == "birthyear" else numbers))
                facts.append(Fact(name, relation, value, document))
                sentences.append(draw.choice(_SAID[relation]).format(name, value))
            draw.shuffle(sentences)
            documents[document] = (f"About {name}", " ".join(sentences))
    return World(dict(sorted(documents.items())), tuple(facts))


def question(made: World, rng: np.random.Generator, hops: int) -> tuple[str, str, tuple[Fact, ...]]:
    """Return a question over `hops` facts, its answer, and the facts, the one to be looked up first in front."""
    by_subject: dict[str, list[Fact]] = {}
    for fact in made.facts:
        by_subject.setdefault(fact.subject, []).append(fact)
    while True:
        chain = [pick(rng, made.facts)]
        while len(chain) < hops and chain[-1].relation in _POINTS_TO:
            chain.append(pick(rng, by_subject[chain[-1].value]))
        subjects = {fact.subject for fact in chain}
        if len(chain) == hops and len(subjects) == hops and chain[-1].value not in subjects:
            break
    spoken = chain[0].subject
    for fact in chain[:-1]:
        spoken = RELATIONS[fact.relation][1].format(spoken)
    return RELATIONS[chain[-1].relation][0].format(spoken), chain[-1].value, tuple(chain)
