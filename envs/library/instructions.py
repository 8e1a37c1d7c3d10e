"""`quintain/Instructions-v0`: write a short text that obeys several instructions at once; made as it is asked for.

The kinds are those of IFEval, put together so that they do not clash: a task is given out only after the oracle
has followed it. Every task names two words that must occur, so that no reply fits two tasks, and bounds the length from
both sides, so that neither the two words alone are a text nor many texts in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...verifiers.base import Task
from ..card import Card
from ..single_turn import SingleTurnEnv
from .ifeval import following, oracle
from .items import Split
from .obedient import obedient
from .sources import Drawn, check_range, made_tasks, pick, several, some

_TOPICS = (
    "a walk in the rain", "an old bicycle", "the first day at work", "a lost key", "a night train", "a small bakery",
    "a talking parrot", "the last page of a book", "a market on a Sunday", "a broken umbrella", "a letter from abroad",
    "a house by the sea", "learning to swim", "a chess game", "a winter garden", "the sound of bells", "a power cut",
    "a long queue", "a forgotten recipe", "a visit to the dentist", "a kite", "a noisy neighbour", "a mountain hut",
    "a school play", "a map without names", "a birthday far from home", "a stray dog", "moving house", "a slow lift",
    "a window seat",
)  # fmt: skip
_WORDS = several(
    "amber anchor apricot balloon barrel beacon biscuit blanket button cactus candle canvas carpet cedar chimney "
    "cobalt compass copper coral cricket crystal curtain daisy dolphin domino drawer ember falcon ferry flannel flute "
    "fossil fountain galaxy ginger glacier granite hammer hammock harvest hazel honey horizon ivory jasmine ladder "
    "lemon lentil lily magnet mango marble meteor mirror mosaic mustard nectar nutmeg orchard orchid oyster paddle "
    "paprika parcel pelican pepper piano pillow plum postcard pumpkin puzzle quartz raven ribbon saddle saffron "
    "salmon sapphire satin scarf shovel sparrow spiral sponge stamp sugar tailor tango teapot thimble thunder tiger "
    "torch trumpet tulip tunnel turnip vanilla velvet walnut whistle willow yoghurt"
)
_COMMON = several("good very really thing nice people always never because great important today")

Wanted = tuple[str, dict[str, Any], str]
"""A kind, its arguments, and the sentence that asks for it."""


def _frequency(rng: np.random.Generator) -> Wanted:
    word, count = pick(rng, _WORDS), int(rng.integers(2, 5))
    said = f'Use the word "{word}" at least {count} times.'
    return "keywords:frequency", {"keyword": word, "relation": "at least", "frequency": count}, said


def _forbidden(rng: np.random.Generator) -> Wanted:
    banned = some(rng, _COMMON, 2)
    said = f'Do not use the words "{banned[0]}" and "{banned[1]}".'
    return "keywords:forbidden_words", {"forbidden_words": banned}, said


def _letter(rng: np.random.Generator) -> Wanted:
    letter, count = pick(rng, "bgkvwz"), int(rng.integers(4, 11))
    said = f'The letter "{letter}" must appear at least {count} times.'
    return (
        "keywords:letter_frequency",
        {"letter": letter, "let_relation": "at least", "let_frequency": count},
        said,
    )


def _sentences(rng: np.random.Generator) -> Wanted:
    relation, count = pick(rng, ("at least", "less than")), int(rng.integers(7, 14))
    given = {"relation": relation, "num_sentences": count}
    return "length_constraints:number_sentences", given, f"Write {relation} {count} sentences."


def _paragraphs(rng: np.random.Generator) -> Wanted:
    count = int(rng.integers(2, 6))
    said = f"Write exactly {count} paragraphs, with the divider *** between them."
    return "length_constraints:number_paragraphs", {"num_paragraphs": count}, said


def _first_word(rng: np.random.Generator) -> Wanted:
    count, word = int(rng.integers(2, 5)), pick(rng, _WORDS)
    nth = int(rng.integers(1, count + 1))
    said = (
        f"Write exactly {count} paragraphs with an empty line between them; paragraph {nth} must start with the "
        f'word "{word}".'
    )
    given = {"num_paragraphs": count, "nth_paragraph": nth, "first_word": word}
    return "length_constraints:nth_paragraph_first_word", given, said


def _sections(rng: np.random.Generator) -> Wanted:
    count, name = int(rng.integers(2, 5)), pick(rng, ("SECTION", "PART", "Chapter", "Scene"))
    said = f'Divide it into at least {count} sections, each with a heading of its own line: "{name} 1" and so on.'
    return "detectable_format:multiple_sections", {"section_spliter": name, "num_sections": count}, said


def _two(rng: np.random.Generator) -> Wanted:
    return (
        "combination:two_responses",
        {},
        "Give two different versions and put ****** (six asterisks) between them.",
    )


def _bullets(rng: np.random.Generator) -> Wanted:
    count = int(rng.integers(2, 7))
    said = f"Include exactly {count} bullet points, each on a line that starts with an asterisk and a space."
    return "detectable_format:number_bullet_lists", {"num_bullets": count}, said


def _highlights(rng: np.random.Generator) -> Wanted:
    count = int(rng.integers(2, 5))
    said = f"Highlight at least {count} different phrases by putting each between single asterisks."
    return "detectable_format:number_highlighted_sections", {"num_highlights": count}, said


def _placeholders(rng: np.random.Generator) -> Wanted:
    count = int(rng.integers(2, 6))
    said = f"Include at least {count} different placeholders in square brackets."
    return "detectable_content:number_placeholders", {"num_placeholders": count}, said


def _title(rng: np.random.Generator) -> Wanted:
    return "detectable_format:title", {}, "Give it a title, wrapped in double angular brackets."


def _postscript(rng: np.random.Generator) -> Wanted:
    marker = pick(rng, ("P.S.", "P.P.S"))
    said = f"End with a postscript on a line of its own that starts with {marker}"
    return "detectable_content:postscript", {"postscript_marker": marker}, said


def _end(rng: np.random.Generator) -> Wanted:
    phrase = pick(
        rng,
        (
            "That is all there is to it.",
            "Nobody ever asked again.",
            "Let me know what you think.",
            "So it began.",
        ),
    )
    return "startend:end_checker", {"end_phrase": phrase}, f'The very last words must be "{phrase}"'


def _upper(rng: np.random.Generator) -> Wanted:
    return "change_case:english_capital", {}, "Write in English and in capital letters only."


def _lower(rng: np.random.Generator) -> Wanted:
    return "change_case:english_lowercase", {}, "Write in English and in small letters only."


def _capitals(rng: np.random.Generator) -> Wanted:
    count = int(rng.integers(2, 6))
    given = {"capital_relation": "at least", "capital_frequency": count}
    return "change_case:capital_word_frequency", given, f"Write at least {count} words in capital letters."


def _no_comma(rng: np.random.Generator) -> Wanted:
    return "punctuation:no_comma", {}, "Do not use any comma."


def _quotation(rng: np.random.Generator) -> Wanted:
    return "startend:quotation", {}, "Put the whole reply between double quotation marks."


_GROUPS: tuple[tuple[Callable[[np.random.Generator], Wanted], ...], ...] = (
    (_paragraphs, _first_word, _sections, _two),
    (_sentences,),
    (_upper, _lower, _capitals),
    (_postscript, _end),
    (_bullets,),
    (_highlights, _placeholders),
    (_frequency, _letter),
    (_forbidden,),
    (_no_comma,),
    (_title,),
    (_quotation,),
)
"""Kinds that get along; of each group one at most."""

MIN_INSTRUCTIONS, MAX_INSTRUCTIONS = 3, 8
_WINDOW = 30  # words between too few and too many: several replies one after the other are too many


def _draw(rng: np.random.Generator, count: int) -> Drawn:
    topic, required = pick(rng, _TOPICS), some(rng, _WORDS, 2)
    return " ".join([topic, *sorted(required)]), lambda: _compose(rng, count, topic, required)


def _compose(rng: np.random.Generator, count: int, topic: str, required: list[str]) -> Task | None:
    least = 5 * int(rng.integers(12, 21))
    most = least + _WINDOW
    length = "length_constraints:number_words"
    drawn: list[Wanted] = [
        ("keywords:existence", {"keywords": required}, f'Use the words "{required[0]}" and "{required[1]}".'),
        (length, {"relation": "at least", "num_words": least}, f"Write at least {least} words."),
        (length, {"relation": "less than", "num_words": most}, f"Write less than {most} words."),
    ]
    groups = rng.choice(len(_GROUPS), size=count - 3, replace=False)
    drawn += [pick(rng, _GROUPS[int(group)])(rng) for group in groups]
    drawn = [drawn[int(index)] for index in rng.permutation(len(drawn))]
    listed: list[tuple[str, Mapping[str, Any]]] = [(kind, given) for kind, given, _ in drawn]
    if obedient(listed, rng, attempts=8) is None:
        return None
    answer = {"instruction_id_list": [kind for kind, *_ in drawn], "kwargs": [given for _, given, _ in drawn]}
    prompt = " ".join([f"Write a short text about {topic}.", *(sentence for *_, sentence in drawn)])
    return Task("", prompt, answer, {"tag": f"{count} instructions"})


class ComposedInstructions(SingleTurnEnv):
    """Write a short text that obeys several instructions at once; see the module.

    Args:
        split: "train" or "test": disjoint by topic and required words.
        instructions: How many at once, 3 to 8, the three that every task has among them. More are harder.
        partial: Whether the reward is the share of instructions followed; else all of them or nothing.
        seed: Of the problem set.
    """

    card = Card(
        what="Write a short text about a topic that obeys several instructions that a program can check: words, "
        "counts, format, case, how it ends.",
        reward="1 if every instruction is followed (by option the share), in words that are not copied out of the "
        "prompt. What the text says is not judged.",
        difficulty="`instructions`, 3 to 8 at once, drawn so that they do not clash.",
        oracle="A writer that fills the asked-for shape with plain sentences, and checks itself by the same rules.",
        source="generated; the kinds of instruction are those of IFEval (Zhou et al., 2023)",
        tags=("instructions", "single-turn", "procedural"),
        accepted={
            "trivial/candidates": (
                1.0,
                "form is judged, not content: texts for other tasks may stand around it",
            ),
            "trivial/lookalike": (1.0, "form is judged, not content: most letters of the text may be any"),
        },
    )

    def __init__(
        self,
        split: Split = "train",
        instructions: int = 4,
        partial: bool = False,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("Instructions", "instructions", instructions, MIN_INSTRUCTIONS, MAX_INSTRUCTIONS)
        tasks = made_tasks(
            "Instructions",
            lambda rng: _draw(rng, instructions),
            split=split,
            seed=seed,
            variant=str(instructions),
        )
        super().__init__(tasks, following("hard", partial), render_mode=render_mode)
        self.oracle = oracle
