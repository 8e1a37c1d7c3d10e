"""A `ToolEnv` with a final-answer tool, and with formats by name."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from quintain.envs import ToolEnv, make
from quintain.tools import ToolCall, UserError, final_answer, format_named, tool
from quintain.verifiers import ExactMatch, FinalNumber, Task

TASKS = [Task("sum", "What is 17 + 25?", "42")]


@tool
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


def calling(*calls: tuple[str, dict[str, object]], text: str = "", name: str = "hermes") -> str:
    return format_named(name).render(
        text, None, [ToolCall("", called, arguments) for called, arguments in calls]
    )


def env(**options) -> ToolEnv:
    made = ToolEnv(TASKS, [add, final_answer()], FinalNumber(), **options)
    made.reset(seed=0)
    return made


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_the_argument_of_the_tool_is_judged_and_ends_the_episode(way):
    made = env()
    text = calling(("final_answer", {"answer": "It is 42."}), text="Not 43.")
    observation, reward, terminated, _, info = made.step(text) if way == "step" else await made.astep(text)

    assert (observation, reward, terminated) == ("Answer received.", 1.0, True)
    assert info["tool_results"][0].answer == "It is 42."


def test_a_reply_without_a_call_is_no_answer():
    made = env(max_turns=2)
    observation, reward, terminated, truncated, _ = made.step("42")
    assert (
        observation == "Error: there is no tool call. When you are done, call final_answer with the answer."
    )
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert made.step("42")[1:4] == (0.0, False, True)


def test_the_first_answer_counts_and_the_other_calls_run():
    made = env()
    text = calling(
        ("add", {"a": 1, "b": 2}), ("final_answer", {"answer": "41"}), ("final_answer", {"answer": "42"})
    )
    observation, reward, terminated, *_ = made.step(text)
    assert (observation, reward, terminated) == ("3\n\nAnswer received.\n\nAnswer received.", 0.0, True)


def test_an_answer_of_the_wrong_form_is_told_and_the_episode_goes_on():
    made = env()
    observation, _, terminated, *_ = made.step(calling(("final_answer", {"result": 42})))
    assert observation.startswith("Error: missing argument 'answer'")
    assert not terminated
    assert made.step(calling(("final_answer", {"answer": "42"})))[1] == 1.0


def test_the_answer_of_one_episode_does_not_reach_the_next():
    made = env(max_turns=1)
    assert made.step(calling(("final_answer", {"answer": "42"})))[1] == 1.0
    made.reset(seed=0)
    assert made.step(calling(("add", {"a": 1, "b": 2})))[1:4] == (0.0, False, True)


def test_an_answer_may_have_a_schema():
    tools = [final_answer("submit", schema={"type": "array", "items": {"type": "integer"}})]
    made = ToolEnv([Task("t", "Count to 3.", "[1, 2, 3]")], tools, ExactMatch())
    made.reset(seed=0)
    assert made.step(calling(("submit", {"answer": ["1"]})))[0].startswith(
        "Error: argument 'answer.0' must be integer"
    )
    assert made.step(calling(("submit", {"answer": [1, 2, 3]})))[1] == 1.0


# --- formats by name


@pytest.mark.parametrize(
    "name", ["hermes", "llama3", "mistral", "mistral-list", "pythonic", "qwen-xml", "react"]
)
def test_an_episode_in_every_format(name):
    made = ToolEnv(TASKS, [add], FinalNumber(), format=name)
    made.reset(seed=0)
    observation, *_ = made.step(calling(("add", {"a": 17, "b": 25}), ("add", {"a": 1, "b": 1}), name=name))
    assert observation in ("42\n\n2", "Observation: 42\nObservation: 2")
    assert made.step(format_named(name).render("42"))[1] == 1.0


def test_in_react_the_prompt_holds_the_tools_and_the_messages_are_text():
    made = ToolEnv(TASKS, [add], FinalNumber(), format="react", system_prompt="Be brief.")
    opening = made.reset(seed=0)[1]["messages"]
    assert opening[0]["content"].startswith('Be brief.\n\nYou may call these tools:\n{"name": "add"')
    assert made.schemas == []

    text = 'Thought: add\nAction: add\nAction Input: {"a": 17, "b": 25}'
    messages = made.step(text)[-1]["messages"]
    assert messages == [{"role": "user", "content": "Observation: 42"}]
    assert made.messages[-2] == {"role": "assistant", "content": text}


def test_elsewhere_the_chat_template_gets_the_schemas():
    made = ToolEnv(TASKS, [add], FinalNumber(), format="llama3")
    assert [message["role"] for message in made.reset(seed=0)[1]["messages"]] == ["user"]
    assert made.schemas == [add.schema]


def test_an_unknown_format_is_told_at_construction():
    with pytest.raises(UserError, match="there is no tool-call format 'lama3'; did you mean 'llama3'"):
        ToolEnv(TASKS, [add], FinalNumber(), format="lama3")


@pytest.mark.parametrize(
    "name", ["hermes", "llama3", "mistral", "mistral-list", "pythonic", "qwen-xml", "react"]
)
def test_an_environment_of_the_library_is_played_in_every_format_by_its_oracle(name):
    made = make("quintain/Calculator-v0", split="test", format=name)
    rng = np.random.default_rng(0)
    for index in range(5):
        made.reset(options={"task": index})
        calls, reward, ended = 0, 0.0, False
        while not ended:
            text = made.oracle(made.task, made.messages, rng)
            _, reward, terminated, truncated, info = made.step(text)
            calls += len(info["reply"].tool_calls)
            ended = terminated or truncated
        assert calls >= 1
        assert reward == 1.0


def test_the_same_text_is_no_call_in_another_format():
    made = make("quintain/Calculator-v0", format="llama3")
    made.reset(seed=0)
    assert made.parse('<tool_call>{"name": "calculator", "arguments": {}}</tool_call>').tool_calls == ()


async def test_sixty_four_episodes_wait_for_a_slow_tool_together():
    waiting, most = 0, 0

    @tool
    async def slow() -> str:
        """Wait until all episodes are here, or for 0.2 s."""
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0.2)
        waiting -= 1
        return "done"

    definition = ToolEnv(TASKS, [slow], FinalNumber(), max_turns=5)

    async def episode() -> float:
        made = definition.fresh()
        made.reset(seed=0)
        for _ in range(4):
            assert (await made.astep(calling(("slow", {}))))[0] == "done"
        return (await made.astep("42"))[1]

    assert await asyncio.gather(*(episode() for _ in range(64))) == [1.0] * 64
    assert most == 64
