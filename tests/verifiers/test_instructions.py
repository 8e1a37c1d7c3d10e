"""Checkable instructions: the official readings, and the cheats that the hard one sees through."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quintain.verifiers import Instructions, Task
from quintain.verifiers.instruction_rules import RULES
from quintain.verifiers.instructions import follows
from quintain.verifiers.languages import identify
from quintain.verifiers.texts import count_sentences, treebank_tokens

FOLLOWED: list[tuple[str, dict[str, Any], str]] = [
    ("keywords:existence", {"keywords": ["art", "music"]}, "Art and music make the town what it is."),
    ("keywords:frequency", {"keyword": "war", "relation": "at least", "frequency": 2}, "War begets war."),
    ("keywords:forbidden_words", {"forbidden_words": ["sleep"]}, "They rested well."),
    (
        "keywords:letter_frequency",
        {"letter": "o", "let_relation": "at least", "let_frequency": 3},
        "Good to go",
    ),
    (
        "language:response_language",
        {"language": "fr"},
        "Le chat est dans la maison et il dort avec les enfants.",
    ),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        "It rains. We stay.",
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        "One is short here.\n***\nTwo is short too.",
    ),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 5}, "one two three four five"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        "We work all week.\n\nWeekend, then, is for rest.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], come to [address]."),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        "See you.\nP.S. Bring the good umbrella.",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* milk\n* eggs"),
    ("detectable_format:constrained_response", {}, "My answer is maybe."),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*one thing* and **another thing**",
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\nSome words here.\nSection 2\nMore words here.",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```'),
    ("detectable_format:title", {}, "<<Joy>>\nIt is a good thing."),
    ("combination:two_responses", {}, "I would go by train.\n******\nI would go by boat."),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a pitch."},
        "Write a pitch. Here it is: buy it.",
    ),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, "It works like this. Any questions?"),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "We SAY NO.",
    ),
    ("change_case:english_capital", {}, "THIS IS THE WAY OF THE WORLD AND WE ALL KNOW IT."),
    ("change_case:english_lowercase", {}, "this is the way of the world and we all know it."),
    ("punctuation:no_comma", {}, "No comma is in this one."),
    ("startend:quotation", {}, '"It is all in quotes."'),
]

NOT_FOLLOWED: list[tuple[str, dict[str, Any], str]] = [
    ("keywords:existence", {"keywords": ["art", "music"]}, "Only music."),
    ("keywords:frequency", {"keyword": "war", "relation": "less than", "frequency": 2}, "War begets war."),
    ("keywords:forbidden_words", {"forbidden_words": ["sleep"]}, "They sleep well."),
    (
        "keywords:letter_frequency",
        {"letter": "o", "let_relation": "at least", "let_frequency": 9},
        "Good to go",
    ),
    (
        "language:response_language",
        {"language": "fr"},
        "The cat is in the house and it sleeps with the children.",
    ),
    (
        "length_constraints:number_sentences",
        {"relation": "at least", "num_sentences": 3},
        "It rains. We stay.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, "One.\n***\nTwo."),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 5}, "one two three four five"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "weekend"},
        "We work.\n\nWeekend is for rest.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 3}, "Dear [name], come to [address]."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "See you.\nP.S. Bring an umbrella."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}, "* milk\n* eggs"),
    ("detectable_format:constrained_response", {}, "I say yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 3}, "*one* and *two*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 3},
        "Section 1\na\nSection 2\nb",
    ),
    ("detectable_format:json_format", {}, "{'a': 1}"),
    ("detectable_format:title", {}, "<< >>"),
    ("combination:two_responses", {}, "Same.\n******\nSame."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write a pitch."}, "Here it is: buy it."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, "Any questions? No."),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "less than", "capital_frequency": 2},
        "We SAY NO.",
    ),
    ("change_case:english_capital", {}, "This is the way of the world."),
    ("change_case:english_lowercase", {}, "This is the way of the world."),
    ("punctuation:no_comma", {}, "One, two."),
    ("startend:quotation", {}, '"It is" not'),
]

CHEATS: list[tuple[str, str, dict[str, Any], str]] = [
    ("a word inside another", "keywords:existence", {"keywords": ["art"]}, "We went to the party."),
    ("a word inside others", "keywords:frequency", {"keyword": "art", "relation": "at least", "frequency": 2}, "part party"),
    ("three hundred times word", "length_constraints:number_words", {"relation": "at least", "num_words": 300}, "word " * 300),
    ("no language at all", "language:response_language", {"language": "kn"}, "123 456 !!!"),
    ("bare bullets", "detectable_format:number_bullet_lists", {"num_bullets": 3}, "* .\n* .\n* ."),
    ("empty placeholders", "detectable_content:number_placeholders", {"num_placeholders": 3}, "[][][]"),
    ("one placeholder again", "detectable_content:number_placeholders", {"num_placeholders": 3}, "[x] [x] [x]"),
    ("one highlight again", "detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *a*"),
    ("empty sections", "detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, "Section 1 Section 2"),
    ("dots for sentences", "length_constraints:number_sentences", {"relation": "at least", "num_sentences": 5}, "a. b! c? d! e! f! g!"),
    ("a run of one letter", "keywords:letter_frequency", {"letter": "z", "let_relation": "at least", "let_frequency": 20}, "z" * 40),
    ("all options at once", "detectable_format:constrained_response", {}, "My answer is yes. My answer is no. My answer is maybe."),
    ("a number for JSON", "detectable_format:json_format", {}, "1"),
    ("a title of signs", "detectable_format:title", {}, "<<*>>"),
    ("one answer with other stops", "combination:two_responses", {}, "Go by train.\n******\nGo by train!"),
    ("only the prompt again", "combination:repeat_prompt", {"prompt_to_repeat": "Write a pitch."}, "Write a pitch."),
    ("a bare marker", "detectable_content:postscript", {"postscript_marker": "P.S."}, "See you. P.S."),
    ("single capitals", "change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 5}, "B C D E F G"),
    ("capitals of no language", "change_case:english_capital", {}, "XQ ZV KJ QX VZ JK XQ"),
    ("another comma", "punctuation:no_comma", {}, "one， two"),
    ("quotes around nothing", "startend:quotation", {}, '"-"'),
    ("bare paragraphs", "length_constraints:number_paragraphs", {"num_paragraphs": 3}, "a\n***\nb\n***\nc"),
    ("a split word", "keywords:forbidden_words", {"forbidden_words": ["sleep"]}, "They sl\u200beep well."),
]  # fmt: skip


def test_all_25_kinds_are_there() -> None:
    assert len(RULES) == 25
    assert {kind for kind, _, _ in FOLLOWED} == {kind for kind, _, _ in NOT_FOLLOWED} == set(RULES)


@pytest.mark.parametrize(("kind", "given", "reply"), FOLLOWED, ids=[row[0] for row in FOLLOWED])
@pytest.mark.parametrize("mode", ["strict", "loose", "hard"])
def test_a_followed_instruction_passes_in_every_reading(
    kind: str, given: dict[str, Any], reply: str, mode: str
) -> None:
    assert follows(reply, kind, given, mode)


@pytest.mark.parametrize(("kind", "given", "reply"), NOT_FOLLOWED, ids=[row[0] for row in NOT_FOLLOWED])
@pytest.mark.parametrize("mode", ["strict", "hard"])
def test_an_instruction_that_is_not_followed_fails(
    kind: str, given: dict[str, Any], reply: str, mode: str
) -> None:
    assert not follows(reply, kind, given, mode)


@pytest.mark.parametrize(
    ("kind", "given", "reply"), [row[1:] for row in CHEATS], ids=[row[0] for row in CHEATS]
)
def test_a_cheat_passes_the_official_reading_and_not_the_hard_one(
    kind: str, given: dict[str, Any], reply: str
) -> None:
    assert follows(reply, kind, given, "strict")
    assert not follows(reply, kind, given, "hard")


@pytest.mark.parametrize("mode", ["strict", "loose", "hard"])
@pytest.mark.parametrize("kind", sorted(RULES))
def test_an_empty_reply_follows_nothing(kind: str, mode: str) -> None:
    given = next(given for name, given, _ in FOLLOWED if name == kind)
    assert not follows("  \n", kind, given, mode)


def test_loose_forgives_a_first_line() -> None:
    reply = 'Sure, here it is:\n"It is all in quotes."'
    assert not follows(reply, "startend:quotation", {}, "strict")
    assert follows(reply, "startend:quotation", {}, "loose")


TASK = Task(
    "t",
    "",
    {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]},
)


def test_all_instructions_must_be_followed_unless_partial_credit_is_asked_for() -> None:
    score = Instructions()("no comma here", TASK)
    assert score.value == 0
    assert score.parts == {"punctuation:no_comma": 1.0, "startend:quotation": 0.0}
    assert score.reason == "not followed: startend:quotation"
    assert Instructions(partial=True)("no comma here", TASK).value == 0.5


def test_thinking_is_not_part_of_the_reply() -> None:
    assert Instructions()('<think>one, two</think>"no comma here"', TASK).value == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "must be an object with 'instruction_id_list'"),
        (
            {"instruction_id_list": ["no:such"], "kwargs": [{}]},
            "there is no instruction 'no:such'; the kinds are: change",
        ),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [{}]}, "needs end_phrase"),
        ({"instruction_id_list": [], "kwargs": []}, "0 instructions"),
    ],
)
def test_a_task_that_cannot_be_judged_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Instructions().check(Task("t7", "", answer))


def test_the_official_verdicts_are_met(data_dir: Path) -> None:
    """At least 99 % per instruction; what differs is one-word replies that its language detector misjudges."""
    with (data_dir / "ifeval_a.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    total = 0
    different = []
    for row in rows:
        for index, (kind, given) in enumerate(zip(row["instruction_id_list"], row["kwargs"], strict=True)):
            for mode in ("strict", "loose"):
                total += 1
                if follows(row["response"], kind, given, mode) != row[mode][index]:
                    different.append((row["key"], kind, mode, row["response"][:40]))
    assert len(different) <= 0.01 * total, different
    assert {kind.split(":")[0] for _, kind, _, _ in different} <= {"change_case"}, different


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It rains. We stay.", 2),
        ("Dr. Who met Mr. Smith at 5 p.m. in the U.S. embassy.", 1),
        ("Really? Yes! Good.", 3),
        ("e.g. this one", 1),
        ("no stop at all", 1),
        ("", 0),
        ('He said "go." Then he went.', 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_tokens_stand_apart_from_their_punctuation() -> None:
    assert treebank_tokens("I DON'T know (NASA).") == ["I", "DO", "N'T", "know", "(", "NASA", ")", "."]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The cat is in the house with all of the children."),
        ("de", "Die Katze ist mit den Kindern in dem Haus und schläft."),
        ("es", "El gato está en la casa con los niños y duerme."),
        ("pt", "O gato está em casa com as crianças e não dorme."),
        ("it", "Il gatto è nella casa con i bambini e non dorme."),
        ("fr", "Le chat est dans la maison avec les enfants."),
        ("pl", "Kot jest w domu z dziećmi i nie śpi."),
        ("vi", "Con mèo ở trong nhà với các em nhỏ và không ngủ."),
        ("fi", "Kissa on talossa lasten kanssa ja se ei nuku."),
        ("sw", "Paka yuko katika nyumba ya watu na watoto wa jirani."),
        ("ru", "Кошка спит в доме, и она не хочет играть с детьми."),
        ("uk", "Кішка спить у домі, і вона не хоче гратися з дітьми."),
        ("bg", "Котката спи в къщата и не иска да играе с децата."),
        ("hi", "बिल्ली घर में है और बच्चों के साथ सो रही है।"),
        ("mr", "मांजर घरात आहे आणि ती मुलांसोबत झोपते."),
        ("ne", "बिरालो घरमा छ र केटाकेटीहरूसँग सुतिरहेको छ।"),
        ("ar", "القطة في البيت مع الأطفال وهي لا تريد أن تلعب."),
        ("fa", "گربه در خانه است و با بچه‌ها بازی می کند."),
        ("ur", "بلی گھر میں ہے اور بچوں کے ساتھ سو رہی ہے۔"),
        ("ja", "猫は家の中で子供たちと一緒に寝ています。"),
        ("ko", "고양이는 집에서 아이들과 함께 자고 있습니다."),
        ("th", "แมวอยู่ในบ้านกับเด็กๆ"),
        ("ta", "பூனை வீட்டில் இருக்கிறது"),
        ("kn", "ಬೆಕ್ಕು ಮನೆಯಲ್ಲಿದೆ"),
    ],
)
def test_a_language_is_told(language: str, text: str) -> None:
    assert identify(text) == language


@pytest.mark.parametrize("text", ["", "42", "!!!", "ok", "xqz vkj"])
def test_what_is_too_short_to_tell_is_left_open(text: str) -> None:
    assert identify(text) is None
