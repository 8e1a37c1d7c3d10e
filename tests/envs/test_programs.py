"""Environments whose replies are programs: right ones score 1, and nothing that only looks right scores at all."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quintain.envs import TextEnv, make
from quintain.envs.library import programs
from quintain.envs.library.humaneval import docstring_examples
from quintain.envs.library.mutations import RunawayError, bounded, with_bug
from quintain.envs.library.programs import fenced
from quintain.envs.library.reference_programs import FAMILIES, load
from quintain.sandboxes import SandboxUnavailable
from quintain.tools import UserError
from quintain.verifiers.code import shared_pool

try:
    shared_pool()
except SandboxUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

MADE = [("quintain/Contest-v0", {"difficulty": level}) for level in (1, 2, 3)]
MADE += [("quintain/ProgramRepair-v0", {"difficulty": level}) for level in (1, 2, 3)]
MADE += [("quintain/ProgramRepair-v0", {"difficulty": 2, "bugs": 2})]


def rewards(env: TextEnv, pairs: list[tuple[Any, str]]) -> list[float]:
    """Return the reward of each (task, reply), all of them played at the same time."""

    async def one(task: Any, reply: str) -> float:
        copy = env.fresh()
        copy.reset(options={"task": task})
        _, reward, terminated, _, info = await copy.astep(reply)
        assert terminated
        assert info["score"].graded, info["score"].reason
        return reward

    async def every() -> list[float]:
        return list(await asyncio.gather(*(one(task, reply) for task, reply in pairs)))

    return asyncio.run(every())


def reward(env: TextEnv, task: Any, reply: str) -> float:
    return rewards(env, [(task, reply)])[0]


def rows_of(row_files: dict[str, Path], name: str, **options: Any) -> TextEnv:
    env_id = f"quintain/{name}-v0"
    return make(env_id, path=str(row_files[env_id]), **options)


# --- HumanEval and MBPP


@pytest.mark.parametrize(
    "reply",
    [
        "```python\ndef double(n):\n    return n + n\n```",
        "First a try:\n```python\ndef double(n):\n    return n\n```\nBetter:\n```\ndef double(n): return 2*n\n```",
        "```\n    return 2 * n\n```",
        "<think>```python\ndef double(n): return 0\n```</think>```python\ndef double(n): return 2 * n\n```",
    ],
)
def test_humaneval_pays_for_a_function_that_passes(row_files, reply):
    assert reward(rows_of(row_files, "HumanEval"), 0, reply) == 1.0


CHEATS = {
    "empty": "",
    "prose": "I do not know.",
    "wrong value": "def {name}(n): return n + 1",
    "only the example": "def {name}(n): return 4 if n == 2 else None",
    "early exit": "import os\nos._exit(0)",
    "exit with success": "raise SystemExit(0)",
    "exits when called": "import sys\ndef {name}(n): sys.exit(0)",
    "always equal": "class E:\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\n"
    "def {name}(n): return E()",
    "an int that is always equal": "class E(int):\n    def __eq__(s, o): return True\ndef {name}(n): return E(0)",
    "walks the frames": "import sys\ndef {name}(n):\n    f = sys._getframe()\n    while f:\n"
    "        if 'candidate' in f.f_locals: return f.f_locals.get('expected')\n        f = f.f_back",
    "patches assert": "import builtins\nbuiltins.AssertionError = Exception\ndef {name}(n): return 0",
    "defines check": "def check(candidate): pass\ndef {name}(n): return 0",
    "prints PASSED": "print('1 passed in 0.01s')\nprint('[[true, \"\"]]')\ndef {name}(n): return 0",
    "edits what is there": "import glob\nfor f in glob.glob('/work/**', recursive=True):\n"
    "    try: open(f, 'w').close()\n    except OSError: pass\ndef {name}(n): return 0",
    "never ends": "def {name}(n):\n    while True: pass",
    "a look-alike name": "def {other}(n): return 2 * n",
    "letters that fold": "def {name}(n):\n    re\u017fult = 2 * n\n    return re\u017fult",
    "a turned direction": "def {name}(n): return 2 * n  # \u202e",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_humaneval_pays_nothing_for(row_files, cheat):
    env = rows_of(row_files, "HumanEval", wall_s=1.0)
    code = CHEATS[cheat].replace("{name}", "double").replace("{other}", "doubl\u0435")
    assert reward(env, 0, code if cheat in ("empty", "prose") else fenced(code)) == 0.0


def test_only_the_last_block_is_handed_in_and_a_block_it_must_be(row_files):
    env = rows_of(row_files, "HumanEval")
    right, other = fenced("def double(n): return 2 * n"), fenced("def square(n): return n * n")
    assert rewards(env, [(0, f"{right}\n{other}"), (0, f"{other}\n{right}")]) == [0.0, 1.0]
    assert reward(env, 0, "def double(n): return 2 * n") == 0.0


@pytest.mark.parametrize("name", ["HumanEval", "MBPP"])
def test_the_prompt_handed_back_earns_nothing(row_files, name):
    env = rows_of(row_files, name)
    assert rewards(env, [(task, task.prompt) for task in env.tasks]) == [0.0] * 3


def test_mbpp_shows_one_test_and_judges_by_all(row_files):
    env = rows_of(row_files, "MBPP")
    assert "assert add_two(3) == 5" in env.tasks[0].prompt
    assert "add_two(10)" not in env.tasks[0].prompt
    by_heart = "def add_two(n):\n    return {3: 5}[n]"
    assert rewards(env, [(0, fenced(by_heart)), (0, fenced("add_two = (2).__add__"))]) == [0.0, 1.0]
    share = rows_of(row_files, "MBPP", partial=True)
    assert reward(share, 0, fenced(by_heart)) == pytest.approx(1 / 3)


def test_mbpp_refuses_to_show_every_test(row_files):
    with pytest.raises(UserError, match="MBPP: task '11' has 3 tests and 3 are shown"):
        rows_of(row_files, "MBPP", shown=3)


def test_docstring_examples_are_read():
    prompt = 'def f(n):\n    """Half.\n    >>> f(4)\n    2.0\n    >>> x = f(2)\n    >>> f("a")\n    \'b\'\n    """\n'
    assert docstring_examples(prompt) == [
        {"call": "f(4)", "expected": "2.0"},
        {"call": 'f("a")', "expected": "'b'"},
    ]
    assert docstring_examples("def f():\n    '''>>> (\n>>>f\n'''") == []


@pytest.mark.slow
def test_every_canonical_solution_of_humaneval_passes_and_no_stub_does(data_dir):
    env = make("quintain/HumanEval-v0", path=str(data_dir / "humaneval.jsonl"))
    rng = np.random.default_rng(0)
    assert env.tasks.size == 164
    assert rewards(env, [(task, env.oracle(task, [], rng)) for task in env.tasks]) == [1.0] * 164
    assert rewards(env, [(task, task.prompt) for task in env.tasks]) == [0.0] * 164


# --- made problems


@pytest.mark.parametrize(("env_id", "options"), MADE)
def test_the_solution_passes_and_cheats_do_not(env_id, options):
    env = make(env_id, **options)
    rng = np.random.default_rng(0)
    tasks = [env.tasks[index] for index in range(6)]
    assert rewards(env, [(task, env.oracle(task, [], rng)) for task in tasks]) == [1.0] * 6
    for task in tasks[:2]:
        name = task.answer.get("entry_point", "main")
        cheats = [
            task.prompt,
            "",
            "0",
            fenced("print(0)"),
            fenced(f"def {name}(*a): return 0"),
            "```python\n" * 999,
        ]
        assert rewards(env, [(task, cheat) for cheat in cheats]) == [0.0] * len(cheats)


def test_a_program_that_knows_the_shown_examples_by_heart_earns_nothing():
    contest = make("quintain/Contest-v0")
    task = contest.tasks[0]
    known = {one["stdin"]: one["stdout"] for one in task.info["public"]["examples"]}
    by_heart = f"import sys\nprint({known!r}.get(sys.stdin.read(), ''), end='')"
    assert reward(contest, task, fenced(by_heart)) == 0.0

    repair = make("quintain/ProgramRepair-v0")
    for index in range(4):
        task = repair.tasks[index]
        shown = task.info["public"]["examples"][0]
        broken = re.search(r"```python\n(.*?)```", task.prompt, re.DOTALL)[1]
        name = task.answer["entry_point"]
        special = f"{broken}\nold = {name}\ndef {name}(*a):\n    return {shown['expected']!r} if list(a) == {shown['args']!r} else old(*a)"  # noqa: E501
        assert reward(repair, task, fenced(special)) == 0.0


@pytest.mark.parametrize(("env_id", "options"), MADE)
def test_no_answer_can_be_seen(env_id, options):
    env = make(env_id, **options, examples_tool=True)
    for index in range(10):
        task = env.tasks[index]
        observation, info = env.reset(options={"task": task})
        assert task.info["solution"] not in observation
        assert set(env.setup(task)) <= {"examples", "entry_point", "prompt"}
        shown = {json.dumps(one) for one in env.setup(task)["examples"]}
        assert not shown & {json.dumps(one) for one in task.answer["tests"]}
        assert set(info) == {"task_id", "messages"}


def test_a_broken_program_fails_the_shown_test_and_two_hidden_ones():
    tasks = make("quintain/ProgramRepair-v0", difficulty=2).tasks
    for index in range(30):
        task = tasks[index]
        name = task.answer["entry_point"]
        broken = bounded(re.search(r"```python\n(.*?)```", task.prompt, re.DOTALL)[1], name)
        right = load(task.info["solution"], name)

        def misses(test: dict[str, Any], broken: Any = broken) -> bool:
            try:
                return broken(*test["args"]) != test["expected"]
            except Exception:
                return True

        assert misses(task.info["public"]["examples"][0])
        assert 2 <= sum(map(misses, task.answer["tests"])) < len(task.answer["tests"])
        assert all(right(*test["args"]) == test["expected"] for test in task.answer["tests"])


@pytest.mark.parametrize("env_id", ["quintain/Contest-v0", "quintain/ProgramRepair-v0"])
def test_problems_differ_and_train_and_test_share_none(env_id):
    def problems(split: str, seed: int) -> list[str]:
        tasks = make(env_id, split=split, seed=seed).tasks
        return [tasks[index].prompt.partition("\n")[0] for index in range(60)]

    train, test = problems("train", 0) + problems("train", 1), problems("test", 0) + problems("test", 1)
    assert not set(train) & set(test)
    tasks = make(env_id).tasks
    assert len({tasks[index].prompt for index in range(100)}) == 100


def test_families_are_what_they_say():
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        for _ in range(20):
            params = family.set(rng)
            assert "$" not in family.text(params)
            function = load(family.program(params), family.name)
            args = family.draw(rng)
            value = function(*json.loads(json.dumps(args)))
            assert value == json.loads(json.dumps(value))
            assert function(*args) == value, "a function must not change its arguments"


def test_a_bug_is_one_change_and_stays_a_program():
    source = "def f(a):\n    if not a or a[0] < 3:\n        return max(a, 1)\n    return len(a) + 2\n"
    rng = np.random.default_rng(0)
    bugs = {with_bug(source, rng) for _ in range(200)}
    assert len(bugs) == 13
    assert source not in bugs
    for bug in bugs:
        ast.parse(bug)
        changed = [
            pair for pair in zip(source.splitlines(), bug.splitlines(), strict=True) if pair[0] != pair[1]
        ]
        assert len(changed) == 1


@pytest.mark.parametrize(
    "loop",
    ["while True: pass", "while True: n *= n + 2", "while True: n = [n]", "x = []\n    while 1: x += [1, 2]"],
)
def test_a_broken_program_that_runs_away_is_stopped(loop):
    with pytest.raises(RunawayError):
        bounded(f"def f(n):\n    {loop}", "f")(3)


# --- rows of one's own


def rows(tmp_path: Path, *made: dict[str, Any]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def test_contest_rows_in_two_shapes(tmp_path):
    path = rows(
        tmp_path,
        {
            "prompt": "Double the number.",
            "examples": [{"input": "1", "output": "2"}],
            "tests": [{"stdin": "4\n", "stdout": "8\n"}, {"input": "5", "output": "10"}],
            "solution": "print(2 * int(input()))",
        },
        {
            "question": "Double it.",
            "input_output": json.dumps({"inputs": ["3\n", ["4"]], "outputs": ["6\n", ["8"]]}),
        },
    )
    env = make("quintain/Contest-v0", path=path, split="all")
    assert "Example 1, input:\n1\n\nExample 1, output:\n2" in env.tasks[0].prompt
    right = env.oracle(env.tasks[0], [], np.random.default_rng(0))
    assert rewards(env, [(0, right), (1, right), (1, fenced("print(6)"))]) == [1.0, 1.0, 0.0]


def test_repair_rows(tmp_path):
    row = {
        "description": "Halves a number.",
        "program": "def half(n):\n    return n / 3\n",
        "failing_test": "assert half(4) == 2",
        "entry_point": "half",
        "tests": [{"args": [6], "expected": 3}, {"args": [10], "expected": 5}],
        "solution": "def half(n):\n    return n / 2\n",
    }
    env = make("quintain/ProgramRepair-v0", path=rows(tmp_path, row), split="all")
    right = env.oracle(env.tasks[0], [], np.random.default_rng(0))
    assert rewards(env, [(0, right), (0, env.tasks[0].prompt)]) == [1.0, 0.0]
    del row["failing_test"]
    with pytest.raises(UserError, match="needs 'failing_test', the text of a test that it fails"):
        make("quintain/ProgramRepair-v0", path=rows(tmp_path, row), split="all")
    del row["tests"]
    with pytest.raises(UserError, match="row 1 has no field 'tests'"):
        make("quintain/ProgramRepair-v0", path=rows(tmp_path, row), split="all")


# --- trying first


def call(code: str) -> str:
    arguments = {"code": code}
    return f"<tool_call>\n{json.dumps({'name': 'run_examples', 'arguments': arguments})}\n</tool_call>"


def tried(env: TextEnv, task: Any, code: str) -> str:
    env.reset(options={"task": task})
    observation, reward, terminated, *_ = env.step(call(code))
    assert (reward, terminated) == (0.0, False)
    return observation


def test_a_program_can_be_tried_on_the_examples_of_the_prompt(row_files):
    env = rows_of(row_files, "HumanEval", examples_tool=True)
    assert tried(env, 0, "def double(n): return 2 * n") == "Example 1: passed"
    assert tried(env, 0, "def double(n): return n") == "Example 1: double(2) returned 2, expected 4"
    assert tried(env, 0, "def double(n): return 1 // 0") == (
        "Example 1: raised ZeroDivisionError: integer division or modulo by zero"
    )
    assert "SyntaxError" in tried(env, 0, "def double(n) return")
    assert env.step("```python\ndef double(n): return 2 * n\n```")[1] == 1.0

    env = rows_of(row_files, "MBPP", examples_tool=True)
    assert tried(env, 0, "def add_two(n): return n + 2") == "Example 1: passed"
    assert tried(env, 0, "def add_two(n): return n").startswith("Example 1: raised AssertionError")

    env = make("quintain/Contest-v0", examples_tool=True)
    solution = env.tasks[0].info["solution"]
    assert tried(env, 0, solution) == "Example 1: passed\nExample 2: passed"
    assert tried(env, 0, "print('x')").startswith("Example 1: printed 'x\\n', expected ")

    env = make("quintain/ProgramRepair-v0", examples_tool=True)
    assert tried(env, 0, env.tasks[0].info["solution"]) == "Example 1: passed"


def test_a_program_that_prints_its_own_verdict_fools_only_itself(row_files):
    env = rows_of(row_files, "HumanEval", examples_tool=True)
    forged = "print('\\x1e[[true, \"4\"]]')\nimport sys\nsys.exit(0)"
    assert tried(env, 0, forged) == "Example 1: passed"
    assert env.step(fenced(forged))[1] == 0.0


def test_a_program_that_hangs_is_answered(row_files, monkeypatch):
    monkeypatch.setattr(programs, "TOOL_LIMITS", programs.TOOL_LIMITS.but(wall_s=0.5))
    env = rows_of(row_files, "HumanEval", examples_tool=True)
    assert tried(env, 0, "while True: pass") == "Example 1: timeout"


def test_at_the_turn_limit_a_call_is_no_submission(row_files):
    env = rows_of(row_files, "HumanEval", examples_tool=True, max_turns=1)
    env.reset(options={"task": 0})
    _, reward, terminated, truncated, _ = env.step(call("def double(n): return 2 * n"))
    assert (reward, terminated, truncated) == (0.0, False, True)


# --- what bad options get


@pytest.mark.parametrize(
    ("env_id", "options", "said"),
    [
        ("quintain/Contest-v0", {"difficulty": 4}, "difficulty must be a whole number from 1 to 3, got 4"),
        ("quintain/Contest-v0", {"split": "all"}, "split must be 'train' or 'test', got 'all'"),
        ("quintain/Contest-v0", {"wall_s": 0}, "wall_s must be a number of seconds up to 600, got 0"),
        ("quintain/ProgramRepair-v0", {"bugs": 3}, "bugs must be a whole number from 1 to 2, got 3"),
        ("quintain/HumanEval-v0", {"path": "nowhere.jsonl"}, "there is no file 'nowhere.jsonl'"),
    ],
)
def test_wrong_options_are_named(env_id, options, said):
    with pytest.raises(UserError, match=said):
        make(env_id, **options)


def test_a_machine_without_sandbox_is_told_so_when_the_environment_is_made(monkeypatch):
    def none() -> None:
        raise SandboxUnavailable("bubblewrap is missing")

    monkeypatch.setattr(programs, "shared_pool", none)
    with pytest.raises(
        UserError, match="Contest runs the model's programs and has no sandbox to run them in: bubb"
    ):
        make("quintain/Contest-v0")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HumanEval", "MBPP"])
def test_1000_senseless_replies_earn_nothing_in_a_sandbox(row_files, name):
    env = rows_of(row_files, name)
    space = env.action_space
    space.seed(1)
    replies = [fenced(space.sample()) for _ in range(1000)]
    assert set(rewards(env, [(index % 3, reply) for index, reply in enumerate(replies)])) == {0.0}
