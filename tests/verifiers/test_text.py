"""Texts, choices, patterns, JSON and tags."""

from __future__ import annotations

import time
from typing import Any

import pytest

from quintain.verifiers import (
    Choice,
    ExactMatch,
    FuzzyMatch,
    JsonFields,
    JsonSchema,
    RegexMatch,
    Tags,
    Task,
    Verifier,
    WordOverlap,
)
from quintain.verifiers.json_strict import NotJson, read_json
from quintain.verifiers.patterns import simple_pattern


def value(judge: Verifier, reply: str, answer: Any) -> float:
    score = judge(reply, Task("t", "", answer))
    assert score.graded, score.reason
    return score.value


@pytest.mark.parametrize(
    "reply",
    [
        "Paris",
        "paris.",
        "The Paris",
        "\\boxed{Paris}",
        "I say <answer>Paris</answer>",
        "<think>Rome</think>Páris",
    ],
)
def test_an_exact_match_after_normalising(reply: str) -> None:
    assert value(ExactMatch(), reply, ["Paris", "City of Light"]) == 1


@pytest.mark.parametrize("reply", ["Rome", "", "Paris or Rome", "<think>Paris</think>Rome", "\\boxed{}"])
def test_no_exact_match(reply: str) -> None:
    assert value(ExactMatch(), reply, "Paris") == 0


def test_an_exact_match_of_every_character() -> None:
    assert value(ExactMatch(normalise=False), " a.B ", "a.B") == 1
    assert value(ExactMatch(normalise=False), "a.b", "a.B") == 0


def test_a_fuzzy_match() -> None:
    assert value(FuzzyMatch(), "Massachusets", "Massachusetts") == 1
    assert value(FuzzyMatch(), "Maine", "Massachusetts") == 0
    assert value(FuzzyMatch(threshold=0.5, graded=True), "abcd", "abcx") == 0.75


def test_overlap_of_words() -> None:
    assert value(WordOverlap(), "cat sat on mat", "the cat sat") == pytest.approx(2 * 2 / 6)
    assert value(WordOverlap(), "dog", "the cat sat") == 0
    assert value(WordOverlap("rouge_l"), "sat cat", "cat sat") == pytest.approx(0.5)
    assert value(WordOverlap("rouge_l"), "cat sat on mat", "cat on mat") == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    "reply",
    [
        "B",
        "(B)",
        "The answer is B.",
        "The answer is (B) because C is wrong",
        "Answer: **B**",
        "\\boxed{B}",
        "\\boxed{\\text{(B) 5}}",
        "<answer>B</answer>",
        "So A is out.\n\nB",
        "<think>A</think>B",
    ],
)
def test_a_choice(reply: str) -> None:
    assert value(Choice(), reply, "B") == 1
    assert value(Choice(), reply, 1) == 1
    assert value(Choice(), reply, "C") == 0


@pytest.mark.parametrize(
    "reply",
    [
        "A or B",
        "The answer is A or B",
        "\\boxed{A, B}",
        "<answer>A and B</answer>",
        "",
        "Bees",
        "A B C D",
        "I like Beethoven",
    ],
)
def test_hedging_is_no_choice(reply: str) -> None:
    assert value(Choice(), reply, "B") == 0


def test_a_pattern() -> None:
    assert value(RegexMatch(), "It is 42.", r"\b\d+\b") == 1
    assert value(RegexMatch(whole=True), "It is 42.", r"\d+") == 0
    assert value(RegexMatch(pattern="yes", ignore_case=True), "YES!", None) == 1


@pytest.mark.parametrize("pattern", [r"\d+", r"^a.*b$", r"(ab)?c", r"a{1,50}"])
def test_simple_patterns(pattern: str) -> None:
    assert simple_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(a*)*b", r".*.*.*x", r"(a)\1"])
def test_patterns_that_could_take_long(pattern: str) -> None:
    assert not simple_pattern(pattern)


def test_a_pattern_that_never_ends_leaves_the_reply_ungraded_in_bounded_time() -> None:
    started = time.monotonic()
    score = RegexMatch(pattern=r"(a+)+$")("a" * 5000 + "b", Task("t", ""))
    assert not score.graded
    assert "stopped after 2 s" in score.reason
    assert time.monotonic() - started < 15


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "uniqueItems": True, "maxItems": 2},
        "next": {"$ref": "#"},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "reply",
    [
        '{"name": "a"}',
        '```json\n{"name": "a", "age": 3}\n```',
        '{"name": "a", "tags": ["x", "y"]}',
        '{"name": "a", "next": {"name": "b"}}',
        '{"name": "a", "age": 3.0}',
    ],
)
def test_json_that_fits_its_schema(reply: str) -> None:
    assert value(JsonSchema(), reply, SCHEMA) == 1
    assert value(JsonSchema(SCHEMA), reply, None) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("{}", "$.name is missing"),
        ('{"name": ""}', "$.name does not fit minLength 1: ''"),
        ('{"name": "A"}', "$.name does not match '^[a-z]+$': 'A'"),
        ('{"name": "a", "age": "3"}', "$.age must be integer, got '3'"),
        ('{"name": "a", "age": true}', "$.age must be integer, got True"),
        ('{"name": "a", "age": -1}', "$.age does not fit minimum 0: -1"),
        ('{"name": "a", "tags": ["z"]}', "$.tags[0] must be one of ['x', 'y'], got 'z'"),
        ('{"name": "a", "tags": ["x", "x"]}', "$.tags has equal entries"),
        ('{"name": "a", "extra": 1}', "$.extra may not be there"),
        ('{"name": "a", "next": {"name": 1}}', "$.next.name must be string, got 1"),
        ("[1]", "$ must be object, got [1]"),
        ('{"name": "a", "name": "b"}', "not JSON: the key 'name' stands twice"),
        ('{"name": NaN}', "not JSON: NaN is not JSON"),
        (
            "{'name': 'a'}",
            "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
    ],
)
def test_the_reason_has_the_path_of_what_is_wrong(reply: str, reason: str) -> None:
    score = JsonSchema()(reply, Task("t", "", SCHEMA))
    assert (score.value, score.reason) == (0, reason)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "there is no type 'strin'"),
        ({"patternProperties": {}}, "the keyword 'patternProperties' is not supported"),
        ({"$ref": "https://example.org/s"}, "only references inside the schema"),
        ({"pattern": "("}, "is no valid pattern"),
        ("text", "must be an object or a boolean"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_at_load(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonSchema().check(Task("t", "", schema))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", "1"),
        ({"oneOf": [{"minimum": 3}, {"maximum": 5}]}, "6", "4"),
        ({"allOf": [{"minimum": 3}, {"maximum": 5}]}, "4", "6"),
        ({"not": {"type": "string"}}, "1", '"a"'),
        ({"const": 1}, "1", "true"),
        ({"exclusiveMaximum": 3}, "2.9", "3"),
        ({"minProperties": 1}, '{"a": 1}', "{}"),
        ({"type": ["string", "null"]}, "null", "0"),
    ],
)
def test_keywords(schema: Any, good: str, bad: str) -> None:
    assert value(JsonSchema(), good, schema) == 1
    assert value(JsonSchema(), bad, schema) == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200 + "]" * 200,
        "1" * 5000,
        "1e999",
        "Infinity",
        '{"a": 1, "a": 1}',
        "",
        "{",
        "[1,]",
        " " * 2_000_000,
    ],
)
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(NotJson):
        read_json(text)


def test_json_fields() -> None:
    answer = {"name": "Ann", "age": 3}
    assert value(JsonFields(), '{"age": 3, "name": "Ann"}', answer) == 1
    assert value(JsonFields(), '{"age": 4, "name": "Ann"}', answer) == 0.5
    assert value(JsonFields(), '{"age": 3, "name": "Ann", "x": 1, "y": 2}', answer) == 0.5
    assert value(JsonFields(extra=True), '{"age": 3, "name": "Ann", "x": 1}', answer) == 1
    assert value(JsonFields(partial=False), '{"age": 4, "name": "Ann"}', answer) == 0
    score = JsonFields()('{"age": 4}', Task("t", "", answer))
    assert score.parts == {"name": 0.0, "age": 0.0}
    assert score.reason == "name is 'missing', wanted 'Ann'; age is 4, wanted 3"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("<think>a</think><answer>b</answer>", "all tags are there"),
        ("<think>a</think>\n<answer>b</answer>\n", "all tags are there"),
        ("<answer>b</answer><think>a</think>", "text stands before <think>"),
        ("<think>a</think>", "<answer> must be opened and closed once"),
        ("<think>a</think><answer>b</answer><answer>c</answer>", "<answer> must be opened and closed once"),
        ("<think> </think><answer>b</answer>", "<think> is empty"),
        ("Hi <think>a</think><answer>b</answer>", "text stands before <think>"),
        ("<think>a</think><answer>b</answer> ok", "text stands after the last tag"),
        ("</think>a<think><answer>b</answer>", "<think> stands in the wrong place"),
    ],
)
def test_tags(reply: str, reason: str) -> None:
    score = Tags()(reply, Task("t", ""))
    assert score.reason == reason
    assert score.value == float(reason == "all tags are there")


def test_text_outside_the_tags_may_be_allowed() -> None:
    assert value(Tags(("answer",), outside=True), "Well: <answer>b</answer>.", None) == 1
