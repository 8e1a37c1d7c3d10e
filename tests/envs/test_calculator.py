"""Calculator-v0: sound problems, held-out by construction, solvable, and worth nothing to cheats."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from quintain.envs import Policy, TextEnv, make
from quintain.envs.library.calculator import (
    MAX_RESULT,
    Calculator,
    PerfectDemonstrator,
    SloppyDemonstrator,
    apply,
    held_out,
    problems,
)
from quintain.tools import UserError

SAMPLE = 400


def play(env: TextEnv, policy: Policy, rng: np.random.Generator, index: int) -> tuple[float, bool]:
    env.reset(options={"task": index})
    for _ in range(20):
        assert env.task is not None
        _, reward, terminated, truncated, _ = env.step(policy(env.task, env.messages, rng))
        if terminated or truncated:
            return reward, truncated
    raise AssertionError("the episode does not end")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_steps_give_the_answer_and_every_result_is_in_range(split):
    for index in range(SAMPLE):
        task = problems(split).__getitem__(index)
        result = task.info["start"]
        for op, number in task.info["steps"]:
            result = apply(op, result, number)
            assert 1 <= result <= MAX_RESULT
        assert result == task.answer


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_answer_is_not_in_the_prompt_nor_a_result_on_the_way(split):
    for index in range(SAMPLE):
        task = problems(split).__getitem__(index)
        numbers = [int(digits) for digits in re.findall(r"\d+", task.prompt)]
        results = [task.info["start"]]
        for op, number in task.info["steps"]:
            results.append(apply(op, results[-1], number))

        assert numbers == [task.info["start"], *(number for _, number in task.info["steps"])]
        assert len(set(numbers)) == len(numbers)
        assert task.answer not in numbers
        assert task.answer not in results[:-1]


def test_opening_pairs_of_train_and_test_are_disjoint():
    def pairs(split: str, seed: int) -> set[frozenset[int]]:
        tasks = Calculator(split=split, seed=seed).tasks  # type: ignore[arg-type]
        assert tasks is not None
        return {
            frozenset((task.info["start"], task.info["steps"][0][1]))
            for task in (tasks[index] for index in range(1500))
        }

    assert not pairs("train", 0) & pairs("test", 0)
    assert not pairs("train", 1) & pairs("test", 2)


def test_the_order_of_a_pair_does_not_matter_and_a_fifth_is_held_out():
    assert all(held_out(a, b) == held_out(b, a) for a in range(2, 60) for b in range(2, 60))
    share = np.mean([held_out(a, b) for a in range(2, 200) for b in range(a, 200)])
    assert 0.18 < share < 0.22


def test_prompts_are_short_and_steps_stay_in_bounds():
    tasks = problems("train", min_steps=2, max_steps=2)
    assert all(len(tasks[index].info["steps"]) == 2 for index in range(100))
    assert max(len(problems()[index].prompt.split()) for index in range(SAMPLE)) <= 40


def test_the_oracle_solves_every_problem():
    env = make("quintain/Calculator-v0")
    rng = np.random.default_rng(0)
    assert all(play(env, PerfectDemonstrator(), rng, index) == (1.0, False) for index in range(SAMPLE))


def test_the_sloppy_demonstrator_solves_about_half():
    env = make("quintain/Calculator-v0")
    rng = np.random.default_rng(0)
    success = np.mean([play(env, SloppyDemonstrator(), rng, index)[0] for index in range(1500)])
    assert 0.45 <= success <= 0.55


@pytest.mark.parametrize(
    ("rate", "writes"),
    [
        ("guess", lambda env, text: text.startswith("The answer is")),
        ("broken", lambda env, text: env.parse(text).parse_error is not None),
        ("wrong", lambda env, text: f"{env.task.info['start']}{env.task.info['steps'][0][0]}" not in text),
    ],
)
def test_each_rate_of_the_demonstrator_is_a_kind_of_mistake(rate, writes: Callable[[TextEnv, str], bool]):
    write = SloppyDemonstrator(**{"skip": 0, "wrong": 0, "guess": 0, "broken": 0, rate: 1.0})
    env = make("quintain/Calculator-v0")
    env.reset(seed=3)
    assert env.task is not None

    assert writes(env, write(env.task, env.messages, np.random.default_rng(0)))


def test_a_skipped_step_leads_to_a_wrong_answer():
    env = make("quintain/Calculator-v0", min_steps=3, max_steps=3)
    write = SloppyDemonstrator(skip=1.0, wrong=0, guess=0, broken=0)
    assert play(env, write, np.random.default_rng(0), 5) == (0.0, False)


def test_a_broken_call_is_tried_again():
    env = make("quintain/Calculator-v0", min_steps=1, max_steps=1)
    env.reset(options={"task": 0})
    rng = np.random.default_rng(0)
    assert env.task is not None
    env.step(SloppyDemonstrator(0, 0, 0, 1.0)(env.task, env.messages, rng))
    *_, info = env.step(PerfectDemonstrator()(env.task, env.messages, rng))
    _, reward, *_ = env.step(PerfectDemonstrator()(env.task, env.messages, rng))

    assert info["tool_results"][0].content == str(env.task.answer)
    assert reward == 1.0


@pytest.mark.parametrize(
    "cheat", ["", "The answer is", "echo", "0", "every number", "1e999", "call at the end"]
)
def test_cheats_score_nothing(cheat):
    env = make("quintain/Calculator-v0", split="test")
    for index in range(50):
        observation, _ = env.reset(options={"task": index})
        assert env.task is not None
        answer = env.task.answer
        replies = {
            "echo": [observation],
            "every number": [" ".join(str(n) for n in range(1, MAX_RESULT + 2))],
            "call at the end": [
                f'<tool_call>{{"name": "calculator", "arguments": {{"expression": "{answer}"}}}}</tool_call>'
            ]
            * 5,
        }.get(cheat, [cheat])
        for reply in replies:
            _, reward, terminated, truncated, _ = env.step(reply)
        assert (reward, terminated or truncated) == (0.0, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "dev"}, "split must be 'train' or 'test', got 'dev'"),
        ({"min_steps": 3, "max_steps": 2}, "needs 1 <= min_steps <= max_steps <= 3, got 3 and 2"),
        ({"min_step": 2}, "has no option 'min_step'; did you mean 'min_steps'?"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Calculator-v0", **options)
