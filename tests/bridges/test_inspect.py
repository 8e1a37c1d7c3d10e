"""Our environments as tasks of inspect_ai, with the real package and its mock model."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from quintain.envs import TextEnv, ToolEnv, Turn, make
from quintain.tools import UserError, tool
from quintain.tools.errors import InfrastructureError
from quintain.verifiers import FinalNumber, Task


@pytest.fixture(autouse=True, scope="module")
def library(needs):
    needs("inspect_ai")


@tool
def add(a: int, b: int) -> int:
    """Return the sum.

    Args:
        a: One number.
        b: Another.
    """
    return a + b


TASKS = [Task("first", "What is 17 + 25?", "42"), Task("second", "What is 1 + 1?", "2")]


def run(env: TextEnv, answer: Any, tmp_path: Any, **options: Any) -> Any:
    from inspect_ai import eval as evaluate
    from inspect_ai.model import get_model

    from quintain.envs.bridges.inspect_task import inspect_task

    task = inspect_task(env, **options)
    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = evaluate(task, model=model, log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    return log


def counted(output: Any) -> Any:
    """Give an output its usage: the mock model would ask the internet for a tokenizer to count it."""
    from inspect_ai.model import ModelUsage

    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def call(name: str, arguments: dict[str, Any]) -> Any:
    from inspect_ai.model import ModelOutput

    return counted(ModelOutput.for_tool_call("mockllm/model", name, arguments))


def says(text: str, stop: Any = "stop") -> Any:
    from inspect_ai.model import ModelOutput

    return counted(ModelOutput.from_content("mockllm/model", text, stop_reason=stop))


def test_a_tool_environment_is_played_and_scored(tmp_path):
    seen = []

    def answer(messages: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
        seen.append(([message.role for message in messages], [info.name for info in tools]))
        if messages[-1].role == "tool":
            return says(f"It is {messages[-1].text}.")
        return call("add", {"a": 17, "b": 25})

    log = run(ToolEnv(TASKS, [add], FinalNumber(), max_turns=4), answer, tmp_path)
    assert log.results.scores[0].metrics["mean"].value == 0.5  # it always adds 17 and 25
    by_id = {sample.id: sample.scores["quintain_score"] for sample in log.samples}
    assert (by_id["first"].value, by_id["second"].value) == (1.0, 0.0)
    assert by_id["first"].answer == "It is 42."
    assert seen[0][1] == ["add"]
    assert (["user", "assistant", "tool"], ["add"]) in seen
    first = next(sample for sample in log.samples if sample.id == "first")
    assert first.messages[2].tool_call_id == first.messages[1].tool_calls[0].id


def test_the_answer_is_nowhere_in_the_sample(tmp_path):
    log = run(ToolEnv([Task("t", "?", "secret 1742")], [add], FinalNumber()), lambda *a: says("no"), tmp_path)
    sample = log.samples[0]
    assert "1742" not in str((sample.input, sample.target, sample.metadata, sample.messages))


def test_a_game_of_many_turns_with_a_limit(tmp_path):
    def halve(messages: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
        low, high = 1, 100
        for message in messages[1:]:
            if message.role == "user":
                guess = int(message.text.split()[0])
                low, high = (guess + 1, high) if "low" in message.text else (low, guess - 1)
        return says(str((low + high) // 2))

    log = run(make("quintain/GuessNumber-v0"), halve, tmp_path, limit=3, name="guess")
    assert (log.eval.task, len(log.samples)) == ("guess", 3)
    assert log.results.scores[0].metrics["mean"].value == 1.0


def test_what_could_not_be_graded_is_left_out_of_the_mean(tmp_path):
    class Half(TextEnv):
        def respond(self, reply: Any) -> Turn:
            if self.task.id == "first":
                raise InfrastructureError("sandbox", "gone")
            return Turn("", reward=1.0, done=True)

    log = run(Half(tasks=TASKS), lambda *a: says("x"), tmp_path)
    assert log.results.scores[0].metrics["mean"].value == 1.0
    lost = next(s for s in log.samples if s.id == "first").scores["quintain_score"]
    assert lost.value != lost.value
    assert "sandbox: gone" in lost.explanation


def test_a_reply_that_was_cut_is_no_answer(tmp_path):
    log = run(ToolEnv(TASKS[:1], [add], FinalNumber()), lambda *a: says("It is 42", "max_tokens"), tmp_path)
    assert log.samples[0].scores["quintain_score"].value == 0.0


def test_endless_tasks_need_a_limit():
    from quintain.envs.bridges.inspect_task import inspect_task

    with pytest.raises(UserError, match="endlessly many tasks: say how many samples with limit="):
        inspect_task(make("quintain/Calculator-v0"))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    from quintain.envs.bridges.inspect_task import inspect_task

    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(
        UserError, match=r'pip install "inspect-ai>=0.3.270,<0.4", or pip install "quintain\[bridges\]"'
    ):
        inspect_task(make("quintain/Calculator-v0"), limit=1)
