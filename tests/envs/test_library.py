"""The rest of the library: what each environment pays for, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from quintain.envs import make
from quintain.tools import UserError
from quintain.verifiers import Task

# --- Countdown


def countdown(reply: str) -> float:
    env = make("quintain/Countdown-v0")
    env.reset(options={"task": Task("t", "Make 132.", {"numbers": [3, 7, 25, 50], "target": 132})})
    return env.step(reply)[1]


@pytest.mark.parametrize(
    "reply",
    [
        "<answer>50*3-(25-7)</answer>",
        "I try <answer>3*7</answer>. No: <answer> 50*3 - 25 + 7 </answer>",
        "<think>Is it <answer>1</answer>?</think><answer>(50*3)-(25-7)</answer> it is",
    ],
)
def test_countdown_pays_for_an_expression_that_makes_the_target(reply):
    assert countdown(reply) == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        "<answer>(25+7)*3</answer>",  # another value
        "<answer>50*3-18</answer>",  # a number that is not given
        "<answer>50+50+25+7</answer>",  # a number used twice
        "<answer>132</answer>",
        "132",
        "50*3-(25-7)",  # without the tag
        "<answer></answer>",
        "<answer>50*3-(25-7)=132</answer>",
        "<answer>7**3</answer>",
        "<answer>50//7</answer>",
        "<answer>1e3</answer>",
        "<answer>__import__('os').getcwd()</answer>",
        "<answer>" + "(" * 1000 + "</answer>",
        "<answer>25/0</answer>",
        "<think><answer>50*3-(25-7)</answer></think>",
    ],
)
def test_countdown_pays_nothing_for_anything_else(reply):
    assert countdown(reply) == 0.0


@pytest.mark.parametrize("numbers", [2, 6])
def test_countdown_problems_are_sound(numbers):
    tasks = make("quintain/Countdown-v0", numbers=numbers).tasks
    for index in range(100):
        task = tasks[index]
        assert len(task.answer["numbers"]) == numbers
        assert 10 <= task.answer["target"] <= 999
        assert task.answer["target"] not in task.answer["numbers"]


def test_countdown_needs_two_to_six_numbers():
    with pytest.raises(UserError, match="numbers must be 2 to 6, got 1"):
        make("quintain/Countdown-v0", numbers=1)


# --- GuessNumber


def test_guessing_is_answered_and_pays_when_found():
    env = make("quintain/GuessNumber-v0")
    env.reset(options={"task": Task("t", "Guess.", 40)})
    assert env.step("50")[0] == "50 is too high."
    assert env.step("Maybe 30?")[0] == "30 is too low."
    observation, reward, terminated, *_ = env.step("<think>between 30 and 50</think>40")
    assert (observation, reward, terminated) == ("Right.", 1.0, True)


@pytest.mark.parametrize(
    "reply", ["", "40 41 42", " ".join(map(str, range(1, 101))), "40.5", "forty", "4" * 5000]
)
def test_a_list_or_a_word_is_no_guess(reply):
    env = make("quintain/GuessNumber-v0")
    env.reset(options={"task": Task("t", "Guess.", 40)})
    assert env.step(reply)[:2] == ("Reply with one whole number.", 0.0)


def test_eight_guesses_are_all_there_are():
    env = make("quintain/GuessNumber-v0")
    env.reset(options={"task": Task("t", "Guess.", 100)})
    ends = [env.step("1")[3] for _ in range(8)]
    assert ends == [False] * 7 + [True]


# --- GSM8K


def test_gsm8k_reads_the_answer_after_the_hashes(gsm8k_file):
    env = make("quintain/GSM8K-v0", path=str(gsm8k_file), tool="none")
    assert [task.answer for task in env.tasks] == ["7", "1,300", "2.5"]
    env.reset(options={"task": 1})
    _, reward, terminated, *_ = env.step("So both cost $1300.00.")
    assert (reward, terminated) == (1.0, True)


def test_gsm8k_with_the_calculator(gsm8k_file):
    env = make("quintain/GSM8K-v0", path=str(gsm8k_file), limit=1)
    observation, _ = env.reset()
    assert observation.startswith("Solve the problem step by step. Use the calculator")
    assert [tool.name for tool in env.tools] == ["calculator"]
    call = '<tool_call>{"name": "calculator", "arguments": {"expression": "3+4"}}</tool_call>'
    assert env.step(call)[0] == "7"
    assert env.step("#### 7")[1] == 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tool": "abacus"}, "tool must be one of 'calculator', 'python', 'none', got 'abacus'"),
        ({"path": "nowhere.jsonl"}, "there is no file 'nowhere.jsonl'"),
        ({"question": "problem"}, "row 1 has no field 'problem' for the prompt; it has: question, answer"),
        ({"answer": "solution"}, "row 1 has no field 'solution'; it has: question, answer"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
    ],
)
def test_gsm8k_says_what_is_wrong(gsm8k_file, options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/GSM8K-v0", **{"path": str(gsm8k_file), **options})


def test_a_row_without_a_number_is_refused_before_training(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "How many?", "answer": "Nobody knows."}\n')
    with pytest.raises(UserError, match="task 'rows-1': the answer must be a finite number"):
        make("quintain/GSM8K-v0", path=str(path))


def test_every_real_row_is_solved_by_its_own_solution(data_dir):
    env = make("quintain/GSM8K-v0", path=str(data_dir / "gsm8k_test_a.jsonl"), tool="none")
    rng = np.random.default_rng(0)
    assert env.tasks.size == 660
    for index in range(660):
        env.reset(options={"task": index})
        assert env.step(env.oracle(env.task, env.messages, rng))[1] == 1.0
