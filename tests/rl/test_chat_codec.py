"""A conversation that grows by appending has the ids of the conversation rendered whole."""

from __future__ import annotations

import pytest

from quintain.rl.chat import ChatCodec
from quintain.rl.models import CHATML_TOOLS
from quintain.rl.tiny import CHAT_TEMPLATE
from quintain.tools.errors import UserError

TEMPLATES = pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML_TOOLS], ids=["tiny", "chatml_tools"])

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Calculate.",
            "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
        },
    }
]
QUESTION = {"role": "user", "content": "What is 3*4, and 5 more?"}
SYSTEM = {"role": "system", "content": "Be short."}


def call(number: int, expression: str) -> dict:
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "calculator", "arguments": {"expression": expression}},
    }


def result(number: int, content: str) -> dict:
    return {"role": "tool", "name": "calculator", "tool_call_id": f"call_{number}", "content": content}


CALLS = {"role": "assistant", "content": "", "tool_calls": [call(0, "3*4")]}
TWO_CALLS = {"role": "assistant", "content": "Both.", "tool_calls": [call(0, "3*4"), call(1, "12+5")]}
THOUGHT = {"role": "assistant", "content": "12?", "reasoning_content": "3*4"}

FOLLOWED = {
    "a tool result": (CALLS, [result(0, "12")]),
    "two tool results": (TWO_CALLS, [result(0, "12"), result(1, "17")]),
    "a user message": (THOUGHT, [{"role": "user", "content": "Not yet: 5 more."}]),
    "a result and a remark": (CALLS, [result(0, "12"), {"role": "user", "content": "Go on."}]),
}


@TEMPLATES
@pytest.mark.parametrize("opening", [[QUESTION], [SYSTEM, QUESTION]], ids=["user", "system"])
@pytest.mark.parametrize("case", FOLLOWED)
def test_prompt_reply_and_delta_are_the_whole_rendering(tokenizer, template, opening, case):
    reply, following = FOLLOWED[case]
    codec = ChatCodec(tokenizer, template)
    grown = (
        codec.prompt(opening, TOOLS) + codec.encode_reply(codec.reply_text(reply)) + codec.delta(following)
    )
    text = tokenizer.apply_chat_template(
        [*opening, reply, *following],
        tools=TOOLS,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert grown == tokenizer.encode(text, add_special_tokens=False)


@TEMPLATES
def test_three_turns_are_the_whole_rendering(tokenizer, template):
    codec = ChatCodec(tokenizer, template)
    messages, ids = [QUESTION], codec.prompt([QUESTION], TOOLS)
    for reply, following in [
        (CALLS, [result(0, "12")]),
        ({"role": "assistant", "content": "", "tool_calls": [call(0, "12+5")]}, [result(0, "17")]),
        ({"role": "assistant", "content": "The answer is 17."}, [{"role": "user", "content": "Sure?"}]),
    ]:
        ids = ids + codec.encode_reply(codec.reply_text(reply)) + codec.delta(following)
        messages += [reply, *following]
    assert ids == codec.prompt(messages, TOOLS)


def test_a_reply_as_text_is_what_the_model_is_to_write(tokenizer):
    codec = ChatCodec(tokenizer)
    assert codec.reply_text(CALLS) == (
        '<tool_call>\n{"name": "calculator", "arguments": {"expression": "3*4"}}\n</tool_call>'
    )


@pytest.mark.parametrize(
    "text", ["The answer is 17.", "<think>3*4</think>\n<tool_call>\n{}", "", " \n\t", "Ünï 🙂 <|im_start|>"]
)
def test_a_reply_survives_tokens_and_back(tokenizer, text: str):
    codec = ChatCodec(tokenizer)
    ids = codec.encode_reply(text)
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "<|im_end|>"
    assert codec.decode_reply(ids) == text


def test_a_reply_without_its_stop_token_is_read_whole(tokenizer):
    codec = ChatCodec(tokenizer)
    assert codec.decode_reply(codec.encode("cut of")) == "cut of"
    assert codec.decode_reply([]) == ""


def test_the_stop_id_is_the_token_that_ends_a_reply(tokenizer):
    codec = ChatCodec(tokenizer)
    assert [tokenizer.convert_ids_to_tokens(i) for i in codec.stop_ids] == ["<|im_end|>"]


def test_a_tokenizer_without_template_is_refused(tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(UserError, match="has no chat template; give one with"):
        ChatCodec(bare)


def test_a_template_without_generation_prompt_is_refused(tokenizer):
    template = CHAT_TEMPLATE.replace("{%- if add_generation_prompt %}", "{%- if false %}")
    with pytest.raises(UserError, match="adds no generation prompt"):
        ChatCodec(tokenizer, template)


def test_a_template_whose_replies_do_not_end_is_refused(tokenizer):
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    with pytest.raises(UserError, match="does not end a reply with a special token"):
        ChatCodec(tokenizer, template)


def test_a_template_that_writes_earlier_replies_anew_is_not_appended_to(tokenizer):
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last or m.role != 'assistant' else '(earlier)' }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    codec = ChatCodec(tokenizer, template)
    said = [QUESTION, {"role": "assistant", "content": "12"}]
    assert not codec.grows(said, [{"role": "user", "content": "Go on."}])
    with pytest.raises(UserError, match=r"writes no end of a reply before \['user'\] messages"):
        codec.delta([{"role": "user", "content": "Go on."}])
