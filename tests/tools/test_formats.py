"""The Hermes form: what is written is read back, and no text makes the reader fail."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintain.tools import Hermes, ToolCall

hermes = Hermes()
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")

texts = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
plain = texts.filter(lambda text: not any(tag in text for tag in TAGS))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = texts.filter(bool)
calls = st.lists(
    st.tuples(names, st.dictionaries(texts | st.sampled_from(TAGS), json_values, max_size=3)), max_size=3
)


@settings(deadline=None)
@given(plain, st.none() | plain, calls)
def test_what_is_rendered_is_read_back(content, reasoning, written):
    asked = [ToolCall(f"call_{i}", name, arguments) for i, (name, arguments) in enumerate(written)]

    reply = hermes.parse(hermes.render(content, reasoning, asked))

    assert reply.parse_error is None
    assert reply.content == content
    assert reply.reasoning == reasoning
    assert list(reply.tool_calls) == asked


pieces = st.sampled_from(
    [*TAGS, '{"name": "f", "arguments": {', "}", '"', "\\", "[", "\n", "NaN", "1e999", "\\ud800", "é"]
)


@settings(deadline=None)
@given(st.lists(pieces | st.text(max_size=5), max_size=30).map("".join))
def test_no_text_makes_it_raise(text):
    reply = hermes.parse(text)

    assert str(reply) == text
    assert not (reply.parse_error and reply.tool_calls)


def test_reasoning_text_and_calls_are_told_apart():
    reply = hermes.parse(
        "<think>12 boxes of 7</think>\nI compute.\n"
        '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12*7"}}\n</tool_call>\n'
        '<tool_call>{"name": "now", "arguments": {}}</tool_call>',
        first_call=3,
    )

    assert reply.reasoning == "12 boxes of 7"
    assert reply.content == "I compute."
    assert reply.tool_calls == (
        ToolCall("call_3", "calculator", {"expression": "12*7"}),
        ToolCall("call_4", "now", {}),
    )


def test_a_closing_think_tag_alone_closes_reasoning_that_began_in_the_prompt():
    reply = hermes.parse('so <tool_call>{"name": "f", "arguments": {}}</tool_call></think>42')

    assert (reply.content, reply.tool_calls) == ("42", ())
    assert reply.reasoning == 'so <tool_call>{"name": "f", "arguments": {}}</tool_call>'


def test_a_call_inside_reasoning_is_not_a_call():
    assert (
        hermes.parse('<think><tool_call>{"name": "f", "arguments": {}}</tool_call></think>no').tool_calls
        == ()
    )


def test_a_raw_tag_inside_a_json_string_belongs_to_the_string():
    (call,) = hermes.parse(
        '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>'
    ).tool_calls
    assert call.arguments == {"x": "</tool_call>"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<tool_call>{"name": "f", "arguments": {"x": 1}</tool_call>', "Expecting ',' delimiter"),
        ('<tool_call>{"name": "f", "arguments": {}}', "its closing tag is missing"),
        ('{"name": "f", "arguments": {}}</tool_call>', "its opening tag is missing"),
        ('<tool_call>{"name": "f", "arguments": {}} and so on</tool_call>', "there is text after the JSON"),
        ('<tool_call>{"arguments": {}}</tool_call>', '"name" must be the name of a tool'),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', '"name" must be the name of a tool'),
        ('<tool_call>{"name": "f"}</tool_call>', '"arguments" must be an object, it is missing'),
        (
            '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>',
            '"arguments" must be an object, it is a string',
        ),
        ("<tool_call>[1, 2]</tool_call>", "the JSON is not an object but a list"),
        ('<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>', "NaN is not a JSON value"),
        ('<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>', "is too large"),
        ('<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>', "surrogate"),
        ("<tool_call>" + "[" * 100_000, "nested too deeply"),
        ("<tool_call>" + "9" * 10_000 + "</tool_call>", "too many digits"),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 17, "too many tool calls"),
        ("<think>and so on", "the reasoning was not closed"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence_without_tags(text, said):
    reply = hermes.parse(text)

    assert reply.parse_error is not None
    assert said in reply.parse_error
    assert reply.tool_calls == ()
    assert len(reply.parse_error) < 200
    assert not any(tag in reply.parse_error for tag in TAGS)


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<tool_call>", '<tool_call>{"', '<tool_call>"\\', "<think></think>"]
)
def test_reading_takes_linear_time(piece):
    def seconds(times: int) -> float:
        text = piece * times
        begin = time.process_time()
        hermes.parse(text)
        return time.process_time() - begin

    seconds(1000)
    assert seconds(200_000) < 2.0  # a quadratic reader needs minutes
