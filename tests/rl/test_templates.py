"""Over the templates of six families of models: an episode's ids are what the engine saw and wrote, and nothing else.

The templates beside this file are written in the form that each family documents. Replies are cut into tokens at
random places, as a sampler may do, so tokenising their text again would give other ids.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintain.envs.base import TextEnv, Turn
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig
from quintain.rl.engines.base import Completion, FinishReason
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.rollout import Start, rollout
from quintain.rl.trajectory import StopReason, Trajectory
from quintain.tools.errors import UserError

FOLDER = Path(__file__).with_name("templates")
THINK = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
CHATML = ["<|im_start|>", "<|im_end|>", *THINK]


@dataclass(frozen=True)
class Family:
    """A family of models: its special tokens and how it calls tools."""

    special: list[str]
    eos: str
    format: str
    bos: str | None = None
    native: bool = True
    """Whether the template can write tool results."""


FAMILIES = {
    "chatml": Family(CHATML, "<|im_end|>", "hermes"),
    "llama3": Family(
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"],
        "<|eot_id|>",
        "llama3",
        bos="<|begin_of_text|>",
    ),
    "qwen2_5": Family(CHATML, "<|im_end|>", "hermes"),
    "qwen3": Family(CHATML, "<|im_end|>", "hermes"),
    "mistral": Family(
        [
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ],
        "</s>",
        "mistral",
        bos="<s>",
    ),
    "gemma": Family(
        ["<bos>", "<start_of_turn>", "<end_of_turn>"], "<end_of_turn>", "react", bos="<bos>", native=False
    ),
}
EVERY = pytest.mark.parametrize("name", FAMILIES)


@functools.cache
def tokenizer_of(name: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=family.special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(
        ["system user assistant model tool\n\nThe answer is 17. calculator expression"] * 9, trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=family.eos,
        bos_token=family.bos,
        additional_special_tokens=[t for t in family.special if t not in (family.eos, family.bos)],
        chat_template=(FOLDER / f"{name}.jinja").read_text(),
        clean_up_tokenization_spaces=False,
    )


@functools.cache
def codec_of(name: str) -> ChatCodec:
    return ChatCodec(tokenizer_of(name))


def calculator(expression: str) -> str:
    """Calculate.

    Args:
        expression: What to calculate.
    """
    return expression


class Mixed(TextEnv):
    """Answers calls with results and anything else with another question, until the turns are used up."""

    def begin(self, task):
        return "What is 3*4 ?"

    def respond(self, reply):
        if reply.tool_calls and self.format.native:
            results = [
                {"role": "tool", "name": call.name, "tool_call_id": call.id, "content": f"12 \n{call.id}"}
                for call in reply.tool_calls
            ]
            return Turn(results, reward=0.125)
        return Turn("Go on: 5 more.", reward=0.125)


def words(family: Family, kind: str) -> str:
    """Return a reply as a model of the family writes it, with white space that no template would write."""
    calls = {
        "hermes": '<tool_call>\n{"name":  "calculator", "arguments": {"expression" : "3*4"}}\n</tool_call>',
        "llama3": '{"name":  "calculator", "parameters": {"expression" : "3*4"}}',
        "mistral": '[TOOL_CALLS] [{"name":  "calculator", "arguments": {"expression" : "3*4"}}]',
        "react": "Action: calculator\nAction Input: 3*4",
    }
    call = calls[family.format]
    return {
        "answer": " The answer  is 17.",
        "thought": "<think>\n3*4  = 12\n</think>\n\nThe answer is 17. ",
        "call": call,
        "thought call": f"<think>\n3*4\n</think>\n\n{call}" if family.format == "hermes" else call,
    }[kind]


@dataclass
class Sampler:
    """Replies of given kinds, their text cut into tokens at random places; writes down what it saw and wrote."""

    name: str
    kinds: list[str]
    cuts: Any
    seen: list[list[int]] = field(default_factory=list)
    wrote: list[list[int]] = field(default_factory=list)

    def __call__(self, ids, sampling) -> Completion:
        codec = codec_of(self.name)
        text = words(FAMILIES[self.name], self.kinds[len(self.seen)])
        self.seen.append(list(ids))
        specials = tokenizer_of(self.name).all_special_ids
        whole, reply = codec.encode(text), []
        for token in whole:  # as single bytes or as it is: the text is the same
            plain = token not in specials and self.cuts.random() < 0.5
            letters = tokenizer_of(self.name).convert_ids_to_tokens(token)
            reply += tokenizer_of(self.name).convert_tokens_to_ids(list(letters)) if plain else [token]
        reply.append(codec.end_id)
        self.wrote.append(reply)
        return Completion(reply, [-0.5] * len(reply), FinishReason.STOP, version=3)


def play(name: str, kinds: list[str], cuts: Any, system: str | None = None) -> tuple[Trajectory, Sampler]:
    family, sampler = FAMILIES[name], Sampler(name, kinds, cuts)
    env = Mixed(
        tools=[calculator] if family.native else (),
        format=family.format,
        max_turns=len(kinds),
        system_prompt=system,
    )
    limits = RolloutConfig(turn_tokens=4000, episode_tokens=40_000)
    (found,) = asyncio.run(rollout(env, ScriptedEngine(sampler), codec_of(name), [Start("e", 0, 1)], limits))
    assert found.stop is StopReason.TRUNCATED, found.score.reason
    return found, sampler


KINDS = st.lists(st.sampled_from(["answer", "thought", "call", "thought call"]), min_size=1, max_size=6)


@EVERY
@settings(max_examples=25, deadline=None)
@given(kinds=KINDS, cuts=st.randoms(use_true_random=False), system=st.sampled_from([None, "Be short."]))
def test_an_episode_is_what_the_engine_saw_and_wrote(name, kinds, cuts, system):
    """Each request is the sample so far, each reply follows it as it came, and the mask marks the replies alone."""
    found, sampler = play(name, kinds, cuts, None if name == "gemma" else system)
    assert len(found.turns) == len(sampler.seen) == len(kinds)
    sampled: set[int] = set()
    for turn, seen, wrote in zip(found.turns, sampler.seen, sampler.wrote, strict=True):
        begin = max(start for start in found.samples if start <= turn.start)
        assert list(found.ids[begin : turn.start]) == seen
        assert list(found.ids[turn.start : turn.end]) == wrote
        sampled |= set(range(turn.start, turn.end))
    assert [at for at, mine in enumerate(found.mask) if mine] == sorted(sampled)
    assert {found.logprobs[at] for at in sampled} == {-0.5}
    assert {found.versions[at] for at in sampled} == {3}
    assert found.turns[-1].end == len(found.ids)  # and nothing after it


@EVERY
@settings(max_examples=25, deadline=None)
@given(kinds=KINDS, cuts=st.randoms(use_true_random=False), system=st.sampled_from([None, "Be short."]))
def test_a_sample_begins_exactly_where_the_template_rewrites_history(name, kinds, cuts, system):
    """Qwen 3 drops thoughts when a new question comes; Mistral moves its tools to it, and says the system prompt only
    in a question that is the last message."""
    system = None if name == "gemma" else system
    found, _ = play(name, kinds, cuts, system)
    expected, thought, asked = 1, False, True
    for kind in kinds[:-1]:
        thought = thought or "thought" in kind
        if kind in ("answer", "thought"):  # a new question follows
            expected += (name == "qwen3" and thought) or name == "mistral"
            thought, asked = False, True
        else:  # a tool result
            expected += name == "mistral" and system is not None and asked
            asked = False
    assert len(found.samples) == expected
    assert all(True in found.mask[start:end] for start, end in found.spans)


@EVERY
@settings(max_examples=15, deadline=None)
@given(kinds=KINDS, cuts=st.randoms(use_true_random=False))
def test_every_sample_begins_with_the_whole_rendering(name, kinds, cuts):
    found, _ = play(name, kinds, cuts)
    env = Mixed(tools=[calculator] if FAMILIES[name].native else (), format=FAMILIES[name].format)
    replies = [at for at, message in enumerate(found.messages) if message["role"] == "assistant"]
    for start in found.samples:
        turn = next(n for n, turn in enumerate(found.turns) if turn.start > start)
        prompt = codec_of(name).prompt(list(found.messages[: replies[turn]]), env.schemas)
        assert list(found.ids[start : found.turns[turn].start]) == prompt


@EVERY
@settings(max_examples=15, deadline=None)
@given(kinds=st.lists(st.sampled_from(["answer", "call"]), min_size=2, max_size=5))
def test_what_was_appended_is_what_the_template_writes(name, kinds):
    """With replies written as the template writes them, a sample is the rendering of the whole conversation."""
    codec, family = codec_of(name), FAMILIES[name]
    env = Mixed(tools=[calculator] if family.native else (), format=family.format)
    _, info = env.reset(seed=1)
    messages, ids = list(info["messages"]), codec.prompt(info["messages"], env.schemas)
    for number, kind in enumerate(kinds):
        reply = {"role": "assistant", "content": "17"}
        new = [{"role": "user", "content": f"Sure? {number}"}]
        if kind == "call" and codec._writes_calls:
            function = {"name": "calculator", "arguments": {"expression": "3*4"}}
            call = {"id": "call00000", "type": "function", "function": function}
            reply = {"role": "assistant", "content": "", "tool_calls": [call]}
            new = [{"role": "tool", "name": "calculator", "tool_call_id": "call00000", "content": "12"}]
        # Qwen 3 writes an empty thought into the last reply of all, and takes it away when more follows.
        written = codec.encode_reply(codec.reply_text(reply).replace("<think>\n\n</think>\n\n", ""))
        grows = codec.grows([*messages, reply], new, env.schemas)
        assert grows == (name != "mistral" or kind == "call")
        messages += [reply, *new]
        whole = codec.prompt(messages, env.schemas)
        ids = ids + written + codec.delta(new) if grows else whole
        assert ids == whole


@EVERY
def test_the_reply_ends_with_the_familys_own_token(name):
    family = FAMILIES[name]
    assert tokenizer_of(name).convert_ids_to_tokens(codec_of(name).end_id) == family.eos
    assert codec_of(name).delta([{"role": "user", "content": "More"}])[0] != codec_of(name).end_id


def test_two_results_follow_a_template_that_refuses_two_calls():
    two = [{"role": "tool", "name": "f", "tool_call_id": f"call_{n}", "content": str(n)} for n in range(2)]
    text = tokenizer_of("llama3").decode(codec_of("llama3").delta(two))
    assert (
        text
        == "".join(f'<|start_header_id|>ipython<|end_header_id|>\n\n"{n}"<|eot_id|>' for n in range(2))
        + "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_a_role_that_the_template_refuses_is_named():
    with pytest.raises(
        UserError, match=r"cannot write \['user', 'assistant', 'tool'\] messages: Conversation roles"
    ):
        codec_of("gemma").delta([{"role": "tool", "name": "f", "tool_call_id": "call_0", "content": "12"}])


def test_a_template_without_generation_prompt_is_refused():
    template = (FOLDER / "chatml.jinja").read_text().replace("add_generation_prompt", "false")
    with pytest.raises(
        UserError, match=r"adds no generation prompt .*give another with model\.chat_template"
    ):
        ChatCodec(tokenizer_of("chatml"), template)


def test_a_stop_token_that_the_tokenizer_does_not_know_is_named():
    template = (FOLDER / "gemma.jinja").read_text()
    with pytest.raises(
        UserError, match=r"ends a reply with '<end_of_turn>', which the tokenizer does not know"
    ):
        ChatCodec(tokenizer_of("chatml"), template.replace("{{- bos_token }}", ""))


def test_samples_lie_end_to_end():
    found, _ = play("qwen3", ["thought", "answer", "thought", "answer"], _Never())
    assert [b - a for a, b in pairwise([*found.samples, len(found.ids)])] == [b - a for a, b in found.spans]
    assert len(found.samples) == 3
    assert Trajectory.from_json(found.to_json()) == found


class _Never:
    def random(self) -> float:
        return 1.0
