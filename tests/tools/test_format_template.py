"""The format that a tokenizer describes itself: its chat template writes, transformers' response template reads."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintain.envs import ToolEnv
from quintain.tools import ToolCall, UserError, format_named, tool
from quintain.verifiers import FinalNumber, Task

transformers = pytest.importorskip("transformers", minversion="5.0")

from quintain.tools.formats.template import ResponseTemplate  # noqa: E402

CHAT = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% if m.reasoning_content is defined %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}
<tool_call>
{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}
</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
QWEN = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*(?:<\|im_end\|>|<\|endoftext\|>)", "content": "text"},
    },
}
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "<|endoftext|>", "<|im_start|>")


def tokenizer(template: object = None) -> object:
    from tokenizers import Tokenizer, models

    inner = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    made.chat_template = CHAT
    made.response_template = template
    return made


@pytest.fixture(scope="module")
def qwen() -> ResponseTemplate:
    return ResponseTemplate(tokenizer(QWEN))


plain = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    .map(str.strip)
    .filter(lambda text: not any(mark in text for mark in MARKS))
)
arguments = st.dictionaries(
    plain, st.none() | st.booleans() | st.integers() | plain | st.lists(plain, max_size=2), max_size=3
)
calls = st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), arguments), max_size=3)


@settings(deadline=None, max_examples=60)
@given(plain.filter(bool), st.none() | plain.filter(bool), calls)
def test_what_is_written_is_read_back(qwen, content, reasoning, written):
    asked = [ToolCall(f"call_{i}", name, args) for i, (name, args) in enumerate(written)]
    reply = qwen.parse(qwen.render(content, reasoning, asked))

    assert reply.parse_error is None
    assert (reply.content, reply.reasoning, list(reply.tool_calls)) == (content, reasoning, asked)


pieces = st.sampled_from(
    [*MARKS, "\n", "{", "}", '"', '{"name": "f", "arguments": {', "NaN", "\\ud800", "[" * 3000]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(pieces | st.text(max_size=5), max_size=20).map("".join))
def test_no_text_makes_it_raise(qwen, text):
    reply = qwen.parse(text)
    assert str(reply) == text
    assert not (reply.parse_error and reply.tool_calls)


@pytest.mark.parametrize(
    "text", ["<tool_call>{", "<tool_call>3</tool_call>", '<tool_call>{"name": "f"}</tool_call>']
)
def test_what_is_broken_is_told_without_tags(qwen, text):
    reply = qwen.parse(text)
    assert reply.parse_error is not None
    assert reply.parse_error.startswith("Error: the tool call could not be read: ")
    assert "<" not in reply.parse_error


def test_a_giant_reply_is_bounded(qwen):
    begin = time.process_time()
    qwen.parse("<tool_call>" * 9_000)
    assert "has more than" in qwen.parse("x" * 100_001).parse_error
    assert time.process_time() - begin < 5


def test_an_episode_in_the_format_of_a_tokenizer(qwen):
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    env = ToolEnv([Task("t", "What is 17 + 25?", "42")], [add], FinalNumber(), format=qwen)
    env.reset(seed=0)
    assert env.step(qwen.render("", None, [ToolCall("", "add", {"a": 17, "b": 25})]))[0] == "42"
    assert env.step(qwen.render("It is 42."))[1] == 1.0


@pytest.mark.slow  # it loads all of transformers' tokenizer classes
def test_by_the_folder_of_a_model(tmp_path):
    tokenizer(QWEN).save_pretrained(tmp_path)
    assert (
        format_named(f"template:{tmp_path}")
        .parse('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
        .tool_calls
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResponseTemplate(tokenizer()), "has no response template; give one with template="),
        (lambda: ResponseTemplate(object()), "needs a tokenizer of transformers 5"),
    ],
)
def test_a_tokenizer_without_one_is_told(make, said):
    with pytest.raises(UserError, match=said):
        make()
