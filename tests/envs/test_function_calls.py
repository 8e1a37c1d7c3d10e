"""Function calling: exactly the wanted calls, and for what no function serves none, but never none alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from quintain.envs import make
from quintain.tools import UserError

KINDS = ["simple", "multiple", "parallel", "irrelevance"]


def call(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def play(env, task, *replies: str) -> float:
    env.reset(options={"task": task})
    for reply in replies:
        _, reward, terminated, truncated, _ = env.step(reply)
    assert terminated
    assert not truncated
    return reward


def bfcl(row_files):
    return make("quintain/BFCL-v0", path=str(row_files["quintain/BFCL-v0"]))


# --- BFCL

AREA = call("geometry.area", width=3, height=4.5)
AREAS = call("geometry.area", width=5, height=6, unit="cm") + call(
    "geometry.area", width=1, height=2, unit="cm"
)


@pytest.mark.parametrize(
    "reply",
    [
        AREA,
        call("geometry.area", width=3, height=4.5, unit="metre"),
        call("geometry_area", height=4.5, width=3, unit="m"),
        f"<think>3 times 4.5</think>Let me see.\n{AREA}",
    ],
)
def test_published_alternatives_are_right(row_files, reply):
    assert play(bfcl(row_files), 0, reply) == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "13.5",
        call("geometry.area", width=3),
        call("geometry.area", width="3", height=4.5),
        call("geometry.area", width=3, height=4.5, unit="km"),
        call("geometry.area", width=3, height=4.5, depth=1),
        call("geometry.volume", width=3, height=4.5),
        AREA + AREA,
        AREA + call("geometry.area", width=1, height=1),
        AREA.replace("</tool_call>", ""),
        f"<think>{AREA}</think>",
        AREA.replace("geometry.area", "geometry.are\u0430"),
    ],
)
def test_other_calls_and_none_are_wrong(row_files, reply):
    assert play(bfcl(row_files), 0, reply) == 0.0


def test_parallel_calls_in_any_order_and_all_of_them(row_files):
    env = bfcl(row_files)
    assert play(env, 1, AREAS) == 1.0
    assert play(env, 1, AREAS.partition("\n</tool_call>")[0] + "\n</tool_call>") == 0.0


def test_irrelevance_counts_together_with_a_question_that_wants_a_call(row_files):
    env = bfcl(row_files)
    rng = np.random.default_rng(0)
    env.reset(options={"task": 2})
    first = env.oracle(env.task, env.messages, rng)
    observation, reward, terminated, *_ = env.step(first)
    assert (reward, terminated) == (0.0, False)
    assert observation.startswith("Functions:")
    second = env.oracle(env.task, env.messages, rng)
    assert ["tool_call" in reply for reply in (first, second)] == [False, True]
    assert env.step(second)[1] == 1.0

    for constant in ("None of the functions can do that.", first, second, "", AREA, AREAS):
        assert play(env, 2, constant, constant) == 0.0
    assert play(env, 2, "", second) == 0.0
    assert play(env, 2, AREA, second) == 0.0


def test_a_file_in_which_any_reply_would_be_right_is_refused(row_files, tmp_path):
    path = tmp_path / "irrelevance.jsonl"
    path.write_text(row_files["quintain/BFCL-v0"].read_text().splitlines()[2])
    with pytest.raises(UserError, match="BFCL: no row wants a call, so that any reply would be right"):
        make("quintain/BFCL-v0", path=str(path))


def test_a_row_that_cannot_be_judged_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"id": "x", "question": [[{"role": "user", "content": "?"}]], "function": [], "ground_truth": [1]}
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match="BFCL: task 'x': a call must be an object, got 1"):
        make("quintain/BFCL-v0", path=str(path))


def test_types_are_shown_as_json_schema_has_them(row_files):
    prompt = bfcl(row_files).tasks[0].prompt
    assert '"type": "object"' in prompt
    assert '"type": "number"' in prompt
    assert "dict" not in prompt
    assert "float" not in prompt


def test_an_episode_can_be_branched_between_two_questions(row_files):
    env = bfcl(row_files)
    env.reset(options={"task": 2})
    rng = np.random.default_rng(0)
    env.step(env.oracle(env.task, env.messages, rng))
    other = env.fresh()
    other.set_state(env.get_state())
    assert other.step("no")[1] == 0.0
    assert env.step(env.oracle(env.task, env.messages, rng))[1] == 1.0


def test_every_real_row_is_solved_by_its_ground_truth(data_dir):
    names = ("simple_python", "multiple", "parallel", "irrelevance")
    env = make("quintain/BFCL-v0", path=[str(data_dir / f"bfcl_{name}_a.jsonl") for name in names])
    rng = np.random.default_rng(0)
    assert env.tasks.size == 520
    for task in env.tasks:
        env.reset(options={"task": task})
        over = False
        while not over:
            _, reward, over, *_ = env.step(env.oracle(task, env.messages, rng))
        assert reward == 1.0
        turns = len(task.info["questions"])
        for cheat in (
            "",
            "I do not know.",
            "No function can do that.",
            task.prompt,
            env.oracle(env.tasks[7], [], rng),
        ):
            if task.id != env.tasks[7].id:
                assert play(env, task, *[cheat] * turns) == 0.0


FORMATS = ["hermes", "llama3", "mistral", "mistral-list", "pythonic", "qwen-xml", "react"]


@pytest.mark.parametrize("name", FORMATS)
def test_calls_are_written_and_read_in_every_format(row_files, name):
    path = str(row_files["quintain/BFCL-v0"])
    rng = np.random.default_rng(0)
    for env in (
        make("quintain/BFCL-v0", path=path, format=name),
        make("quintain/FunctionCalls-v0", kind="parallel", format=name),
        make("quintain/FunctionCalls-v0", kind="multiple", difficulty=3, format=name),
    ):
        assert ("<tool_call>" in env.system_prompt) == (name in ("hermes", "qwen-xml"))
        for index in range(min(env.tasks.size or 20, 20)):
            env.reset(options={"task": index})
            over = False
            while not over:
                _, reward, over, *_ = env.step(env.oracle(env.task, env.messages, rng))
            assert reward == 1.0


def test_an_unknown_format_is_named():
    with pytest.raises(UserError, match="there is no tool-call format 'hermess'; did you mean 'hermes'"):
        make("quintain/FunctionCalls-v0", format="hermess")


# --- FunctionCalls


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difficulty", [1, 3])
def test_the_wanted_calls_are_right_and_nothing_else_is(kind, difficulty):
    env = make("quintain/FunctionCalls-v0", kind=kind, difficulty=difficulty)
    rng = np.random.default_rng(0)
    constant = env.oracle(env.tasks[400], [], rng)
    for index in range(30):
        task = env.tasks[index]
        right = env.oracle(task, [], rng)
        assert play(env, task, right) == 1.0
        first = right[: right.index("</tool_call>") + len("</tool_call>")]
        everything = "\n".join(call(one["name"]) for one in task.info["functions"])
        for cheat in (
            "",
            "No function serves that.",
            task.prompt,
            constant,
            right + first,
            everything,
            "[" * 9999,
        ):
            assert play(env, task, cheat) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_wanted_function_is_offered_and_every_value_is_said(kind):
    env = make("quintain/FunctionCalls-v0", kind=kind)
    for index in range(100):
        task = env.tasks[index]
        offered = [one["name"] for one in task.info["functions"]]
        request = task.prompt.partition("Request:")[2]
        assert len(set(offered)) == len(offered)
        assert task.answer
        for one in task.answer:
            assert one["name"] in offered
            for value in one["arguments"].values():
                said = value if isinstance(value, list) else [value]
                assert all(str(part) in request or part is True for part in said)


def test_one_of_two_requests_has_no_function():
    env = make("quintain/FunctionCalls-v0", kind="irrelevance")
    assert all(len(env.tasks[index].answer) == 1 for index in range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_differ(kind):
    tasks = make("quintain/FunctionCalls-v0", kind=kind).tasks
    assert len({json.dumps(tasks[index].answer) for index in range(200)}) >= 190


def test_no_calls_of_the_test_split_are_wanted_in_training():
    def wanted(split: str, seed: int) -> set[str]:
        tasks = make("quintain/FunctionCalls-v0", kind="simple", split=split, seed=seed).tasks
        return {json.dumps(tasks[index].answer) for index in range(400)}

    assert not (wanted("train", 0) | wanted("train", 1)) & (wanted("test", 0) | wanted("test", 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"kind": "all"},
            "kind must be one of 'any', 'simple', 'multiple', 'parallel', 'irrelevance', got 'all'",
        ),
        ({"difficulty": 0}, "difficulty must be a whole number from 1 to 3, got 0"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/FunctionCalls-v0", **options)
