"""Retrieval-v0: what is asked stands in the documents and nowhere else, and only the answer alone is paid."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from quintain.envs import make
from quintain.envs.library.retrieval import AnswerInTag
from quintain.envs.library.worlds import world
from quintain.envs.tasks import item_rng
from quintain.tools import UserError
from quintain.verifiers import Task


def call(query: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'search', 'arguments': {'query': query}})}\n</tool_call>"


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_every_answer_can_be_found_one_fact_after_the_other(hops):
    env = make("quintain/Retrieval-v0", hops=hops)
    rng = np.random.default_rng(0)
    for index in range(25):
        env.reset(options={"task": index})
        seen, over, searches = "", False, 0
        while not over:
            observation, reward, over, _, info = env.step(env.oracle(env.task, env.messages, rng))
            seen += observation
            searches += "tool_results" in info
        assert reward == 1.0
        assert searches == hops
        assert str(env.task.answer) in seen


def test_neither_question_nor_setup_hold_the_answer():
    env = make("quintain/Retrieval-v0", hops=2)
    for index in range(50):
        task = env.tasks[index]
        assert task.answer not in task.prompt
        assert task.answer not in json.dumps(env.setup(task))
        assert task.answer not in task.info["subjects"]


def test_one_search_is_not_enough_for_two_hops():
    env = make("quintain/Retrieval-v0", hops=2)
    found = 0
    for index in range(50):
        env.reset(options={"task": index})
        found += env.task.answer in env.step(call(env.task.prompt))[0]
    assert found <= 12


def test_worlds_are_sound():
    made = world(item_rng("a world"), 40)
    assert len(made.documents) == 120
    facts = Counter((fact.subject, fact.relation) for fact in made.facts)
    assert set(facts.values()) == {1}
    numbers = [fact.value for fact in made.facts if fact.value.isdecimal()]
    assert len(set(numbers)) == len(numbers)
    for fact in made.facts:
        title, text = made.documents[fact.document]
        assert title == f"About {fact.subject}"
        assert fact.value in text
        assert fact.subject in text


def test_worlds_differ_and_train_and_test_share_none():
    def used(split: str, seed: int) -> set[str]:
        tasks = make("quintain/Retrieval-v0", split=split, seed=seed, size=10).tasks
        return {tasks[index].info["world"] for index in range(200)}

    train = used("train", 0) | used("train", 1)
    assert len(train) > 350
    assert not train & (used("test", 0) | used("test", 1))


def test_documents_belong_to_the_episode():
    env = make("quintain/Retrieval-v0")
    env.reset(options={"task": 0})
    name = env.task.info["subjects"][0]
    assert name in env.step(call(name))[0]
    env.reset(options={"task": 1})
    assert env.task.info["world"] != env.tasks[0].info["world"]
    assert name not in env.step(call(name))[0]


CASES = [
    ("<answer>Nath Teafeth</answer>", 1.0),
    ("It is <answer> nath teafeth. </answer>", 1.0),
    ("<answer>Koror</answer> No: <answer>Nath Teafeth</answer>", 1.0),
    ("Nath Teafeth", 0.0),
    ("<answer>Nath Teafeth or Koror</answer>", 0.0),
    ("<answer>Nath Teafeth</answer><answer>Koror</answer>", 0.0),
    ("<answer>The answer is Nath Teafeth</answer>", 0.0),
    ("<answer>not Nath Teafeth</answer>", 0.0),
    ("<answer>Nath</answer>", 0.0),
    ("<answer>N\u0430th Teafeth</answer>", 0.0),
    ("<answer>\uff2e\uff41\uff54\uff48 Teafeth</answer>", 0.0),
    ("<answer>Nath\u200b Teafeth</answer>", 0.0),
    ("<think><answer>Nath Teafeth</answer></think>", 0.0),
    ("<answer></answer>", 0.0),
    ("<answer>" + "Nath Teafeth " * 5000, 0.0),
    ("", 0.0),
]


@pytest.mark.parametrize(("reply", "value"), CASES)
def test_the_answer_alone_is_paid(reply, value):
    assert AnswerInTag()(reply, Task("t", "Who?", "Nath Teafeth")).value == value


def test_a_number_may_have_a_comma():
    assert AnswerInTag()("<answer>4,508</answer>", Task("t", "How many?", "4508")).value == 1.0
    assert AnswerInTag()("<answer>\U0001d7d2508</answer>", Task("t", "How many?", "4508")).value == 0.0
    assert AnswerInTag()("<answer>4508.5</answer>", Task("t", "How many?", "4508")).value == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hops": 4}, "hops must be a whole number from 1 to 3, got 4"),
        ({"size": 9}, "size must be a whole number from 10 to 200, got 9"),
        ({"results": 0}, "results must be a whole number from 1 to 20, got 0"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Retrieval-v0", **options)
