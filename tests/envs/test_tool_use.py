"""`ToolEnv`: calls become tool messages in call order, at the same time; what goes wrong is an observation."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from quintain.envs import ToolEnv
from quintain.tools import InfrastructureError, ToolCall, UserError, tool
from quintain.tools.formats import Hermes
from quintain.verifiers import FinalNumber, Task

TASKS = [Task("sum", "What is 17 + 25?", "42")]


@tool
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@tool
async def wait(seconds: float, word: str) -> str:
    """Wait, then say a word."""
    await asyncio.sleep(seconds)
    return word


@tool(timeout_s=0.05)
async def hang() -> None:
    """Hang."""
    await asyncio.sleep(30)


@tool
def crash() -> None:
    """Raise."""
    raise KeyError("missing")


@tool
async def lose() -> None:
    """Fail for a reason of ours."""
    raise InfrastructureError("server", "gone")


def env(**options) -> ToolEnv:
    made = ToolEnv(TASKS, [add, wait, hang, crash, lose], FinalNumber(), **{"max_turns": 4, **options})
    made.reset(seed=0)
    return made


def calling(*calls: tuple[str, dict[str, object]]) -> str:
    return Hermes().render("", None, [ToolCall("", name, arguments) for name, arguments in calls])


def test_a_call_is_answered_by_a_tool_message():
    made = env()
    observation, reward, terminated, truncated, info = made.step(calling(("add", {"a": 17, "b": 25})))

    assert (observation, reward, terminated, truncated) == ("42", 0.0, False, False)
    assert info["messages"] == [{"role": "tool", "content": "42", "tool_call_id": "call_0", "name": "add"}]
    assert made.step("The answer is 42.")[1:4] == (1.0, True, False)


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_results_come_in_call_order_whatever_finishes_first(way):
    text = calling(
        ("wait", {"seconds": 0.1, "word": "slow"}),
        ("wait", {"seconds": 0, "word": "fast"}),
        ("add", {"a": 1, "b": 1}),
    )
    made = env()
    observation, *_, info = made.step(text) if way == "step" else await made.astep(text)

    assert observation == "slow\n\nfast\n\n2"
    assert [message["tool_call_id"] for message in info["messages"]] == ["call_0", "call_1", "call_2"]


def test_an_asynchronous_tool_works_from_a_plain_step():
    assert env().step(calling(("wait", {"seconds": 0, "word": "hello"})))[0] == "hello"


async def test_many_episodes_wait_at_the_same_time():
    made = env()
    episodes = [made.fresh() for _ in range(64)]
    for episode in episodes:
        episode.reset()
    begin = time.monotonic()
    for _ in range(3):
        text = calling(("wait", {"seconds": 0.1, "word": "x"}))
        await asyncio.gather(*(episode.astep(text) for episode in episodes))
    assert time.monotonic() - begin < 9  # one after the other it is 19 s


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("ad", {}, "unknown_tool", "Error: there is no tool 'ad'; did you mean 'add'?"),
        ("add", {"a": 1}, "arguments", "Error: missing argument 'b'. add takes: a (integer), b (integer)."),
        ("crash", {}, "raised", "Error: crash raised KeyError: 'missing'"),
        ("hang", {}, "timeout", "Error: hang did not finish within 0.05 s and was stopped."),
    ],
)
async def test_a_failing_call_is_an_observation_and_the_episode_goes_on(name, arguments, error, said):
    observation, _, terminated, truncated, info = await env().astep(calling((name, arguments)))

    assert observation == said
    assert info["tool_results"][0].error == error
    assert not terminated
    assert not truncated


async def test_the_traceback_is_for_people():
    *_, info = await env().astep(calling(("crash", {})))
    assert "KeyError" in info["tool_results"][0].detail
    assert "Traceback" not in json.dumps(info["messages"])


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_a_failure_of_ours_ends_the_episode_ungraded(way):
    made = env()
    text = calling(("add", {"a": 1, "b": 1}), ("lose", {}))
    *_, terminated, truncated, info = made.step(text) if way == "step" else await made.astep(text)

    assert (terminated, truncated, info["score"].graded) == (False, True, False)
    assert info["score"].reason == "infrastructure: server: gone"


def test_a_call_that_cannot_be_read_is_told_and_nothing_runs():
    made = env()
    observation, _, terminated, _, info = made.step(calling(("add", {"a": 1, "b": 1})) + "<tool_call>{")

    assert observation.startswith("Error: the tool call could not be read: ")
    assert [message["role"] for message in info["messages"]] == ["user"]
    assert "tool_results" not in info
    assert not terminated


@pytest.mark.parametrize(
    "last",
    [calling(("add", {"a": 42, "b": 0})), '<tool_call>{"name": "add", "arguments": {"a": 42', "<think>42"],
)
def test_a_number_in_a_call_is_not_an_answer(last):
    _, reward, terminated, truncated, info = env(max_turns=1).step(last)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["score"].graded


def test_at_the_turn_limit_the_text_beside_the_calls_is_judged():
    assert env(max_turns=1).step("It is 42." + calling(("add", {"a": 1, "b": 2})))[1] == 1.0


def test_without_tools_every_reply_ends_the_episode():
    made = ToolEnv(TASKS, [], FinalNumber())
    made.reset()
    assert made.step(calling(("add", {"a": 1, "b": 2})))[2]


def test_functions_become_tools_and_names_are_unique():
    def double(x: int) -> int:
        """Return twice x."""
        return 2 * x

    assert [made.name for made in ToolEnv(TASKS, [double], FinalNumber()).tools] == ["double"]
    with pytest.raises(UserError, match="two tools are named 'add'"):
        ToolEnv(TASKS, [add, add], FinalNumber())


async def test_a_plain_step_with_asynchronous_tools_works_inside_a_running_loop():
    assert env().step(calling(("wait", {"seconds": 0, "word": "x"})))[0] == "x"
