"""Rows of every kind become tokens, and the mask marks exactly what the assistant wrote."""

from __future__ import annotations

import json

import pytest

from quintain.rl.chat import ChatCodec
from quintain.rl.stages.chat_rows import Rows
from quintain.rl.stages.demonstrations import choose_verified, demonstration_of, fit_length
from quintain.rl.stages.encode import encode_answer, tokenizer_mark
from quintain.rl.stages.splits import split
from quintain.tools.errors import UserError

TOOLS = [
    {"type": "function", "function": {"name": "calculator", "parameters": {"properties": {"expression": {}}}}}
]
TALK = [
    {"role": "user", "content": "3*4?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "calculator", "arguments": {"expression": "3*4"}},
            }
        ],
    },
    {"role": "tool", "content": "12", "tool_call_id": "c", "name": "calculator"},
    {"role": "assistant", "content": "It is 12."},
]
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "3*4"}}\n</tool_call><|im_end|>'


@pytest.fixture
def codec(tokenizer):
    return ChatCodec(tokenizer)


def learned(codec, one) -> list[str]:
    """What is learned, stretch by stretch."""
    parts, run = [], []
    for token, mine in zip([*one.ids, 0], [*one.mask, False], strict=True):
        if mine:
            run.append(token)
        elif run:
            parts.append(codec.tokenizer.decode(run))
            run = []
    return parts


def test_in_a_conversation_with_tools_the_replies_are_learned_and_the_results_are_not(codec):
    found = demonstration_of({"messages": TALK, "tools": TOOLS}, 1, codec)
    assert learned(codec, found) == [CALL, "It is 12.<|im_end|>"]
    assert "tool calculator(expression)" in codec.tokenizer.decode(found.ids)


def test_the_last_reply_alone_is_learned_where_that_was_asked_for(codec):
    found = demonstration_of({"messages": TALK, "tools": TOOLS}, 1, codec, learn="last")
    assert learned(codec, found) == ["It is 12.<|im_end|>"]


def test_replies_in_the_prompt_are_given(codec):
    row = {
        "prompt": TALK,
        "completion": [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes"}],
    }
    assert learned(codec, demonstration_of(row, 1, codec)) == ["Yes<|im_end|>"]


def test_texts_are_put_into_the_template_or_taken_as_they_stand(codec):
    row = {"prompt": "3+4?", "completion": "7"}
    chat, plain = demonstration_of(row, 1, codec), demonstration_of(row, 1, codec, form="plain")
    assert (
        codec.tokenizer.decode(chat.ids)
        == "<|im_start|>user\n3+4?<|im_end|>\n<|im_start|>assistant\n7<|im_end|>"
    )
    assert codec.tokenizer.decode(plain.ids) == "3+4?7<|im_end|>"
    assert learned(codec, chat) == learned(codec, plain) == ["7<|im_end|>"]


def test_of_a_bare_text_all_is_learned_that_something_predicts(codec):
    found = demonstration_of({"text": "3+4=7"}, 1, codec)
    assert found.mask == [False] + [True] * (len(found.ids) - 1)


def test_a_trajectory_is_taken_token_by_token(codec, trajectory):
    one = trajectory([40, 41, 50, 51], "..xx")
    found = demonstration_of(json.loads(one.to_json()), 1, codec)
    assert (found.id, found.ids, found.mask, found.score) == (one.id, one.ids, one.mask, one.score)
    with pytest.raises(ValueError, match="token ids beyond the 320 of this model's tokenizer"):
        demonstration_of(json.loads(trajectory([40, 999, 50], ".xx").to_json()), 1, codec)


def test_a_template_that_drops_thoughts_gives_samples_of_their_own(tokenizer):
    drops = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and not loop.last and '</think>' in m.content %}"
        "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    codec = ChatCodec(tokenizer, drops)
    talk = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>b</think>c", "reasoning_content": "b"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    found = demonstration_of({"messages": talk}, 1, codec)
    assert len(found.samples) == 2
    with pytest.raises(ValueError, match="rewrites earlier turns, so the answer is not one sequence"):
        encode_answer(codec, talk[:1], talk[1:])


def test_an_answer_as_tokens_is_what_the_engine_would_have_seen(codec):
    found = encode_answer(codec, TALK[:1], TALK[1:], TOOLS)
    assert codec.tokenizer.decode(found.ids) == (
        codec.tokenizer.decode(codec.prompt(TALK[:1], TOOLS))
        + CALL
        + codec.tokenizer.decode(codec.delta(TALK[2:3]))
        + "It is 12.<|im_end|>"
    )


def test_only_verified_distinct_trajectories_are_kept_and_the_others_are_counted(episode):
    rows = [
        episode("right", 1.0), episode("right", 1.0), episode("wrong", 0.0), episode("lost", None),
        episode("other", 1.0), episode("more", 1.0), episode("right", 1.0, 1),
    ]  # fmt: skip
    found = choose_verified(Rows(rows, list(range(1, 8))), min_score=1.0, per_task=2)
    assert found.numbers == [1, 5, 7]
    assert found.counts() == {"repeated": 1, "below the score": 1, "ungraded": 1, "beyond per_task": 1}


def test_long_rows_are_refused_left_out_or_cut(trajectory):
    rows = Rows([trajectory(range(40, 50), ".....xxxxx"), trajectory([40, 50], ".x")], [1, 2])
    with pytest.raises(
        UserError, match=r"1 rows are longer than 8 tokens \(rows 1\); set data.on_long = 'skip'"
    ):
        fit_length(rows, 8, "refuse", "rows.jsonl")
    assert fit_length(rows, 8, "skip", "rows.jsonl").numbers == [2]
    cut = fit_length(rows, 8, "cut", "rows.jsonl")
    assert [sum(one.mask) for one in cut.kept] == [3, 1]
    nothing = fit_length(rows, 5, "cut", "rows.jsonl")
    assert nothing.numbers == [2] and nothing.counts() == {"nothing to learn within 5 tokens": 1}


def test_a_split_keeps_groups_together_and_stays_when_rows_are_added():
    rows = [(f"g{n % 50}", n) for n in range(200)]
    learned, kept = split(rows, lambda row: row[0], 0.2, seed=1)
    assert {name for name, _ in learned}.isdisjoint({name for name, _ in kept})
    assert 4 <= len({name for name, _ in kept}) <= 18
    _, kept_more = split([*rows, ("new", 1)], lambda row: row[0], 0.2, seed=1)
    assert set(kept) <= set(kept_more)
    assert [len(part) for part in split([("a", 1), ("b", 2)], lambda row: row[0], 0.01, seed=1)] == [1, 1]


def test_tokenizers_are_told_apart_by_their_tokens(tokenizer):
    from quintain.rl.config import TinyModelConfig
    from quintain.rl.tiny import build_tokenizer

    other = build_tokenizer(["wholly other words are in this one"] * 9, TinyModelConfig(vocabulary=300))
    assert tokenizer_mark(tokenizer) == tokenizer_mark(tokenizer) != tokenizer_mark(other)
