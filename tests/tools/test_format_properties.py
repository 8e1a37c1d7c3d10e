"""What holds for every format: what is written is read back, no text makes it raise, and reading is linear."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quintain.tools import Tool, ToolCall, UserError, format_named
from quintain.tools.formats import FORMATS, ToolFormat

MARKS = (
    "<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "<|python_tag|>", "<|eom_id|>",
    "<|eot_id|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "</s>", "<|python_start|>", "<|python_end|>", "<|eot|>",
    "<|eom|>", "<function=", "</function>", "<parameter=", "</parameter>", "Thought:", "Action:", "Action Input:",
    "Observation:", "Final Answer:",
)  # fmt: skip
LABELS = re.compile(r"^[ \t]*(Thought|Action Input|Action|Observation|Final Answer)[ \t]*:", re.MULTILINE)
SPECIAL = [mark for mark in MARKS if not mark.endswith(":")]

texts = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(MARKS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,20}", fullmatch=True)
written_calls = st.lists(
    st.tuples(names, st.dictionaries(texts | st.sampled_from(MARKS), values, max_size=3)), max_size=3
)

every = pytest.mark.parametrize("name", list(FORMATS))
in_json = pytest.mark.parametrize("name", [name for name in FORMATS if name != "qwen-xml"])


def plain(text: str) -> bool:
    """Return whether a text beside the calls could not be taken for a part of one in any format."""
    if any(mark in text for mark in SPECIAL) or LABELS.search(text):
        return False
    return not re.search(r"^[ \t]*[\[{]", text, re.MULTILINE)


contents = texts.filter(plain)


@in_json
@settings(deadline=None, max_examples=60)
@given(contents, st.none() | contents, written_calls)
@example("", "", [("f", {"</parameter>": "</tool_call>", "'\"\\": "[ARGS]\n\x85\u2028Action: x"})])
def test_what_is_written_is_read_back(name, content, reasoning, written):
    made = format_named(name)
    asked = [ToolCall(f"call_{i}", called, arguments) for i, (called, arguments) in enumerate(written)]

    reply = made.parse(made.render(content, reasoning, asked))

    assert reply.parse_error is None
    assert (reply.content, reply.reasoning, list(reply.tool_calls)) == (content, reasoning, asked)


# --- the XML form writes bare text: the schema says what it is

ANY = {
    "string": texts.filter(lambda text: not any(mark in text for mark in SPECIAL)),
    "integer": st.integers(-(10**18), 10**18),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(values, max_size=3),
    "object": st.dictionaries(texts, values, max_size=3),
}


@st.composite
def typed_calls(draw) -> tuple[list[Tool], list[ToolCall]]:
    tools, calls = [], []
    for number in range(draw(st.integers(0, 3))):
        types = draw(
            st.dictionaries(
                st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.sampled_from(list(ANY)), max_size=3
            )
        )
        schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in types.items()}}
        tools.append(Tool(dict, name=f"f{number}", description="Do.", parameters=schema))
        arguments = {key: draw(ANY[kind]) for key, kind in types.items()}
        calls.append(ToolCall(f"call_{number}", f"f{number}", arguments))
    return tools, calls


@settings(deadline=None, max_examples=60)
@given(contents, st.none() | contents, typed_calls())
def test_what_is_written_as_xml_is_read_back_with_the_types_of_the_schema(content, reasoning, given_calls):
    tools, asked = given_calls
    made = format_named("qwen-xml")
    reply = made.parse(made.render(content, reasoning, asked), tools=tools)

    assert reply.parse_error is None
    assert (reply.content, reply.reasoning, list(reply.tool_calls)) == (content, reasoning, asked)
    assert [repr(call.arguments) for call in reply.tool_calls] == [repr(call.arguments) for call in asked]


pieces = st.sampled_from(
    [*MARKS, "\n", "f(", "a=", ")", "[f(", "=", "**{", "'''", "-", "1_0", ">", "x", "f>", "}", '"', "\\", "[", "NaN",
     '{"name": "f", "arguments": {', '{"name": "f", "parameters": {', "1e999", "\\ud800", "é", ";", "\x00", "9" * 5000]
)  # fmt: skip
SHOWN_BY_NONE = ("<think>", "<tool_call>", "<|", "[TOOL_CALLS]", "[ARGS]")
TOOLS = (
    Tool(dict, name="f", description="Do.", parameters={"properties": {"x": {"type": "integer"}}}),
    Tool(dict, name="x", description="Do.", parameters={"properties": {"x": 3, "y": {"$ref": "#/a"}}}),
)


@every
@settings(deadline=None, max_examples=60)
@given(st.lists(pieces | st.text(max_size=5), max_size=30).map("".join))
def test_no_text_makes_it_raise(name, text):
    for tools in ((), TOOLS):
        reply = format_named(name).parse(text, 3, tools)
        assert str(reply) == text
        assert not (reply.parse_error and reply.tool_calls)
        assert [call.id for call in reply.tool_calls] == [
            f"call_{3 + i}" for i in range(len(reply.tool_calls))
        ]
        if reply.parse_error:
            assert len(reply.parse_error) < 600
            assert not any(mark in reply.parse_error for mark in SHOWN_BY_NONE)


OPENINGS = {
    "hermes": ["<tool_call>", '<tool_call>{"', "<tool_call>" + "[" * 50],
    "llama3": ["<|python_tag|>", '{"name": "', "{" * 9, '{"name": "f", "parameters": {}};', "<function=f>"],
    "mistral": ["[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]{", "[TOOL_CALLS]f[ARGS]{}", "[TOOL_CALLS] ", "[THINK]"],
    "mistral-list": ["[TOOL_CALLS][", '[TOOL_CALLS][{"name":'],
    "pythonic": ["[f(", "[f(a='", "[f(a=[", '[f(a="""', "[f(a=-", "[f(a=1), ", "[f(a={", "\n[f(", "[f(a='\\"],
    "qwen-xml": ["<function=f>", "<function=f><parameter=x>", "<parameter=x></parameter>", "<tool_call>\n"],
    "react": ["Action: f\n", "Action Input: {\n", "Action: f\nAction Input: {}\n", "Thought: x\n", "```\n"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "piece"), [(name, piece) for name in OPENINGS for piece in OPENINGS[name]])
def test_reading_takes_linear_time(name, piece):
    made = format_named(name)
    for text in (piece * 20_000, "[f(a=(" + piece * 10_000, "<function=f><parameter=x>" + piece * 10_000):
        begin = time.process_time()
        made.parse(text, 0, TOOLS)
        assert time.process_time() - begin < 2.0  # a quadratic reader needs minutes


@every
def test_more_calls_than_allowed_are_refused(name):
    made = format_named(name)
    many = [ToolCall("", "f", {"a": 1}) for _ in range(17)]
    assert "there are too many tool calls in one reply" in (
        made.parse(made.render("", None, many)).parse_error or ""
    )
    assert len(made.parse(made.render("", None, many[:16])).tool_calls) == 16


@every
def test_reasoning_that_is_not_closed_is_told(name):
    made = format_named(name)
    assert "the reasoning was not closed" in (made.parse(f"{made.think[0]}and so on").parse_error or "")


@every
def test_a_reply_without_calls_is_content(name):
    assert format_named(name).parse(" 42 \n").content == "42"
    assert format_named(name).parse("").content == ""


# --- by name


def test_formats_come_by_name():
    assert isinstance(format_named("llama3"), ToolFormat)
    assert repr(format_named(None)) == "Hermes(max_calls=16)"
    made = format_named("react")
    assert format_named(made) is made


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lama3", "there is no tool-call format 'lama3'; did you mean 'llama3'?"),
        (
            "xyz",
            "the choices are: hermes, llama3, mistral, mistral-list, pythonic, qwen-xml, react, template:",
        ),
        (3, "format must be a name or a ToolFormat, got int"),
    ],
)
def test_a_name_that_is_none_is_told(name, said):
    with pytest.raises(UserError, match=re.escape(said)):
        format_named(name)
