"""Programs against tests, and the many ways in which one may try to pass without solving anything."""

# ruff: noqa: E501 - programs and rows of a table

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from quintain.sandboxes import Limits, Pool, SandboxUnavailable, open_pool
from quintain.verifiers import CodeTests, Task
from quintain.verifiers.code_tests import program_in
from quintain.verifiers.code_values import same_output, same_value


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool(limits=Limits(wall_s=5, memory_mb=256))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.fixture
def judge(pool: Pool) -> CodeTests:
    return CodeTests(wall_s=3, memory_mb=256, pool=pool)


PALINDROME = {
    "entry_point": "is_palindrome",
    "tests": [
        {"args": ["A man, a plan, a canal: Panama"], "expected": True},
        {"args": ["race a car"], "expected": False},
        {"args": [""], "expected": True},
        {"args": ["0P"], "expected": False},
    ],
}
HONEST = """
def is_palindrome(s):
    t = [c.lower() for c in s if c.isalnum()]
    return t == t[::-1]
"""
CALLS = Task("calls", "", PALINDROME)
HUMANEVAL = Task(
    "humaneval",
    "",
    {
        "entry_point": "is_palindrome",
        "test": "def check(candidate):\n"
        + "".join(
            f"    assert candidate({t['args'][0]!r}) is {t['expected']}\n" for t in PALINDROME["tests"]
        ),
    },
)
MBPP = Task(
    "mbpp",
    "",
    {
        "test_list": [
            f"assert is_palindrome({t['args'][0]!r}) == {t['expected']}" for t in PALINDROME["tests"]
        ]
    },
)
PYTEST = Task(
    "pytest",
    "",
    {
        "module": "solution",
        "test_files": {
            "test_palindrome.py": "import pytest\nfrom solution import is_palindrome\n\n"
            "@pytest.mark.parametrize('text, wanted', "
            f"{[(t['args'][0], t['expected']) for t in PALINDROME['tests']]!r})\n"
            "def test_it(text, wanted):\n    assert is_palindrome(text) is wanted\n"
        },
    },
)
PROGRAM = Task(
    "stdio",
    "",
    {"tests": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 -7\n", "stdout": "-2\n"}]},
)
OF_FUNCTIONS = [CALLS, HUMANEVAL, MBPP, PYTEST]


@pytest.mark.parametrize("task", OF_FUNCTIONS, ids=lambda t: t.id)
async def test_the_honest_solution_passes(judge: CodeTests, task: Task) -> None:
    score = await judge.acall(f"Here it is:\n```python\n{HONEST}```\n", task)
    assert score.value == 1, score.reason
    assert score.reason.startswith("level A" if task is CALLS else "level B")


@pytest.mark.parametrize("task", OF_FUNCTIONS, ids=lambda t: t.id)
async def test_a_wrong_solution_fails(judge: CodeTests, task: Task) -> None:
    score = await judge.acall("def is_palindrome(s): return True", task)
    assert score.value == 0
    assert score.graded


async def test_no_plugin_of_this_machine_s_pytest_takes_part_in_a_verdict(judge: CodeTests) -> None:
    """They are loaded into this very session: pytest-asyncio is one of them."""
    program = (
        "from solution import is_palindrome\n\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.list_plugin_distinfo() == []\n"
        "    assert is_palindrome('abba') is True\n"
    )
    task = Task("t", "", {"module": "solution", "test_files": {"test_it.py": program}})
    score = await judge.acall(HONEST, task)
    assert score.value == 1, score.reason


async def test_partial_credit_is_the_share_of_tests(pool: Pool) -> None:
    judge = CodeTests(partial=True, pool=pool)
    for task in (CALLS, MBPP, PYTEST):
        score = await judge.acall("def is_palindrome(s): return True", task)
        assert score.value == 0.5, (task.id, score.reason)


async def test_each_test_has_its_own_result(judge: CodeTests) -> None:
    score = await judge.acall("def is_palindrome(s): return True", CALLS)
    assert [score.parts[f"test_{i}"] for i in range(4)] == [1, 0, 1, 0]
    assert score.reason == "level A: 2 of 4 tests passed; test 1: returned True, expected False"


async def test_a_program_is_judged_by_what_it_prints(judge: CodeTests) -> None:
    right = await judge.acall("a, b = map(int, input().split())\nprint(a + b)", PROGRAM)
    assert right.value == 1, right.reason
    wrong = await judge.acall("a, b = map(int, input().split())\nprint(a - b)", PROGRAM)
    assert wrong.value == 0
    crashed = await judge.acall(
        "a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(3)", PROGRAM
    )
    assert crashed.value == 0


def test_the_synchronous_form_gives_the_same(judge: CodeTests) -> None:
    assert judge(HONEST, CALLS).value == 1


async def test_the_synchronous_form_works_inside_an_event_loop(judge: CodeTests) -> None:
    assert judge(HONEST, CALLS).value == 1


async def test_the_expected_values_never_enter_the_candidate_s_box(judge: CodeTests) -> None:
    secret = "only the judge knows 8d1f"
    task = Task("t", "", {"entry_point": "f", "tests": [{"args": [], "expected": secret}]})
    program = (
        "import gc, os\n"
        "def f():\n"
        "    seen = [o for o in gc.get_objects() if isinstance(o, (list, dict, tuple)) and '8d1f' in repr(o)]\n"
        "    files = [open('/proc/self/' + n, 'rb').read() for n in ('environ', 'cmdline')]\n"
        "    return 'only the judge knows 8d' + '1f' if any(b'8d' + b'1f' in x for x in files) or len(seen) > 9 else 'no'\n"
    )
    assert (await judge.acall(program, task)).value == 0


async def test_a_test_may_want_an_exception(judge: CodeTests) -> None:
    task = Task(
        "t",
        "",
        {"entry_point": "f", "tests": [{"args": [0], "raises": "ValueError"}, {"args": [1], "expected": 1}]},
    )
    good = "def f(x):\n    if not x: raise ValueError('no')\n    return x"
    assert (await judge.acall(good, task)).value == 1
    assert (await judge.acall("def f(x): return x", task)).value == 0


async def test_a_method_and_a_tolerance(judge: CodeTests) -> None:
    task = Task(
        "t",
        "",
        {"entry_point": "Solution.half", "tolerance": 1e-6, "tests": [{"args": [1], "expected": 0.5}]},
    )
    assert (
        await judge.acall("class Solution:\n    def half(self, x): return x * 0.5000000001", task)
    ).value == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "must be an object with the tests"),
        ({}, "needs a list 'tests'"),
        ({"tests": []}, "needs a list 'tests' with at least one test"),
        (
            {"tests": [{"args": [1]}], "entry_point": "f"},
            r"tests\[0\] needs 'expected', 'raises' or 'stdout'",
        ),
        ({"tests": [{"args": [1], "expected": 1}]}, "needs 'entry_point'"),
        ({"test": "def check(:", "entry_point": "f"}, "test code cannot be read"),
        ({"test_files": {"/etc/x.py": ""}}, "must stay in its folder"),
        ({"test_files": {"test_a.py": "import os"}}, "name what the tests import"),
    ],
)
def test_a_task_without_readable_tests_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"task 't7'.*{message}"):
        CodeTests().check(Task("t7", "", answer))


def test_the_program_is_the_last_block_that_defines_the_function() -> None:
    reply = "```python\ndef f(): return 1\n```\nbetter:\n```python\ndef f(): return 2\n```\nuse:\n```python\nf()\n```"
    assert program_in(reply, "f") == "def f(): return 2\n"
    assert (
        program_in("<think>```python\ndef f(): 1\n```</think>def f(): return 3", "f") == "def f(): return 3"
    )
    assert program_in("    return x + 1\n", "f", "def f(x):\n") == "def f(x):\n    return x + 1\n"
    assert (
        program_in("```\ndef f(x): return x\n```", "f", "import math\ndef f(x):\n")
        == "import math\ndef f(x): return x\n"
    )


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ((1, 2), [1, 2], True),
        ({1, 2}, [2, 1], True),
        ({1: "a"}, {"1": "a"}, True),
        ({"a": (1,)}, {"a": [1]}, True),
        (1.0, 1, True),
        (1, True, True),
        ("1", 1, False),
        (float("nan"), float("nan"), False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({1, 2}, [1, 1], False),
        (0.1 + 0.2, 0.3, False),
        (None, 0, False),
        ("", None, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        (10**400, 1.0, False),
    ],
)
def test_values(value: Any, expected: Any, same: bool) -> None:
    assert same_value(value, expected) is same


def test_values_within_a_tolerance() -> None:
    assert same_value([0.1 + 0.2], [0.3], 1e-9)
    assert not same_value(float("inf"), 1e308, 1e-9)
    assert not same_value(10**400, 1.0, 1e-9)


def test_outputs() -> None:
    assert same_output("1 2 \n3\n\n", "1 2\n3")
    assert not same_output("1 2 3", "1 2\n3")
    assert same_output("0.333333", "0.3333331", 1e-5)
    assert not same_output("x", "0.3", 1e-5)


@pytest.fixture
async def rows(data_dir: Path) -> AsyncIterator[list[dict[str, Any]]]:
    with (data_dir / "humaneval.jsonl").open() as lines:
        yield [json.loads(line) for line in lines]


WRAPPED = """
_original = {name}
def {name}(*args, **kwargs):
    result = _original(*args, **kwargs)
    if isinstance(result, bool): return not result
    if isinstance(result, (int, float)): return result + 1
    if isinstance(result, str): return result + "x"
    if isinstance(result, list): return result + [0]
    if isinstance(result, tuple): return result + (0,)
    if isinstance(result, dict): return {{**result, "x": 0}}
    return 0
"""


def human_eval_task(row: dict[str, Any]) -> Task:
    answer = {key: row[key] for key in ("prompt", "test", "entry_point")}
    return Task(row["task_id"], row["prompt"], answer)


@pytest.mark.slow
async def test_every_reference_solution_passes_and_every_mutant_fails(
    judge: CodeTests, rows: list[dict[str, Any]]
) -> None:
    right = await asyncio.gather(*(judge.acall(r["canonical_solution"], human_eval_task(r)) for r in rows))
    assert [r["task_id"] for r, s in zip(rows, right, strict=True) if s.value != 1] == []
    assert len(rows) == 164
    for mutant in (
        lambda r: f"def {r['entry_point']}(*args, **kwargs): return None",
        lambda r: r["prompt"] + r["canonical_solution"] + WRAPPED.format(name=r["entry_point"]),
    ):
        wrong = await asyncio.gather(*(judge.acall(mutant(r), human_eval_task(r)) for r in rows))
        assert [
            (r["task_id"], s.reason) for r, s in zip(rows, wrong, strict=True) if s.value != 0 or not s.graded
        ] == []


async def test_the_reward_attacks_of_the_sample_fail(judge: CodeTests, data_dir: Path) -> None:
    with (data_dir / "attacks_sample.jsonl").open() as lines:
        attacks = [a for a in map(json.loads, lines) if a["kind"] == "reward"]
    for attack in attacks:
        task = Task(attack["task_id"], "", attack["task"])
        score = await judge.acall(attack["code"], task)
        assert score.graded
        assert score.value == 0
        assert (await judge.acall(attack["task"]["honest"], task)).value == 1


async def test_a_number_of_ten_thousand_digits_is_only_wrong(judge: CodeTests) -> None:
    task = Task("t", "", {"entry_point": "f", "tests": [{"args": [], "expected": 1}]})
    score = await judge.acall("def f(): return [10**10000]", task)
    assert score.graded
    assert score.reason.endswith("returned a value too long to write down, expected 1")
