"""Level C: what a submission may bring, how the controls are made, and what the score says."""

# ruff: noqa: E501 - programs and rows of a table

from __future__ import annotations

import ast
import random
from collections.abc import Iterator

import pytest

from quintain.sandboxes import Limits, Pool, SandboxUnavailable, open_pool
from quintain.tools.chat import Reply
from quintain.verifiers import CodeTests, Episode, Task
from quintain.verifiers.code_controls import break_test, controlled
from quintain.verifiers.code_repository import RepositoryTests, submission

TESTS = """
import stack

def test_push():
    s = stack.Stack()
    s.push(3)
    assert s.pop() == 3

class TestEmpty:
    def test_pop(self):
        import pytest
        with pytest.raises(IndexError):
            stack.Stack().pop()
"""
STACK = """
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item)
    def pop(self): return self.items.pop()
"""
TASK = Task(
    "stack",
    "Write the module stack.",
    {"level": "C", "module": "stack", "test_files": {"test_stack.py": TESTS}},
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool(limits=Limits(wall_s=5, memory_mb=256))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with opened:
        yield opened


async def test_tests_that_need_objects_of_the_submission_run_beside_it(pool: Pool) -> None:
    score = await CodeTests(pool=pool).acall(STACK, TASK)
    assert score.reason == "level C: 2 of 2 tests passed"
    assert score.value == 1
    assert 1 < score.parts["memory_mb"] < 512


async def test_a_wrong_module_fails_and_is_not_accused(pool: Pool) -> None:
    score = await CodeTests(pool=pool).acall(STACK.replace("pop()", "pop(0) + 1"), TASK)
    assert score.value == 0
    assert score.reason.startswith("level C: 1 of 2 tests passed; test_push: ")
    assert "tampering" not in score.parts


async def test_there_is_no_partial_credit(pool: Pool) -> None:
    score = await CodeTests(partial=True, pool=pool).acall(STACK.replace("pop()", "pop(0) + 1"), TASK)
    assert score.value == 0


async def test_making_every_test_pass_is_flagged_as_tampering(pool: Pool) -> None:
    program = "import _pytest.python as p\np.Function.runtest = lambda self: None\n"
    score = await CodeTests(pool=pool).acall(program, TASK)
    assert score.value == 0
    assert score.parts["tampering"] == 1
    assert "that must fail did not" in score.reason


async def test_the_files_that_the_environment_read_are_the_submission(pool: Pool) -> None:
    answer = {
        "level": "C",
        "test_files": {"tests/test_app.py": "from app.core import twice\nfrom app.given import THREE\n\ndef test_twice():\n    assert twice(THREE) == 6\n"},
        "files": {"app/__init__.py": "", "app/given.py": "THREE = 3\n"},
        "allowed": ["app/core.py"],
    }  # fmt: skip
    task = Task("app", "", answer)
    brought = {"app/core.py": "def twice(x): return 2 * x\n", "app/given.py": "THREE = 0\n"}
    score = await CodeTests(pool=pool).acall(Episode(task, Reply("done"), evidence={"files": brought}))
    assert score.value == 1, score.reason
    nothing = await CodeTests(pool=pool).acall(Episode(task, Reply("done"), evidence={"files": {"x.py": ""}}))
    assert nothing.reason == "level C: the submission brings none of the allowed files"


def test_only_allowed_paths_of_a_submission_count() -> None:
    tests = RepositoryTests({"tests/test_a.py": ""}, {}, "app", ("app/*", "tests/*", "*.cfg"))
    brought = {
        "app/a.py": "1", "./app/b.py": "2", "app/../../etc/passwd": "", "/app/c.py": "", "tests/test_a.py": "", "app/conftest.py": "",
        "setup.cfg": "", "app/x.pth": "", "other.py": "", "app/SiteCustomize.py": "", "tests/../app/d.py": "3", "app/n\0.py": "", "app/e.py": b"",
    }  # fmt: skip
    episode = Episode(Task("t", ""), Reply(""), evidence={"files": brought})
    assert submission(episode, tests, "") == {"app/a.py": "1", "app/b.py": "2", "app/d.py": "3"}


@pytest.mark.parametrize(
    "body",
    [
        "assert f(2) == 4",
        "assert f(2) == wanted",
        "assert 4 == f(2)",
        "assert f(2) is not None",
        "assert f(2) > 3",
        "assert f(2) in (3, 4)",
        "assert f(2) not in (1,)",
        "assert not f(0)",
        "assert f(2)",
        "assert f(2) == [4][0], 'why'",
        "assert 3 < f(2) < 5",
        "assert str(f(2)) == '4'",
        "assert (f(2) == 4) is True",
        "check(f(2), 4)",
        "for i in range(3):\n        assert f(i) == i * i",
        "return None",
    ],
)
def test_a_broken_copy_fails_where_its_test_passes(body: str) -> None:
    source = f"def test(wanted=4):\n    {body}\n"

    def run(tree: ast.Module) -> None:
        scope = {"f": lambda n: n * n, "check": lambda a, b: None}
        exec(compile(tree, "test", "exec"), scope)
        scope["test"]()  # type: ignore[operator]

    run(ast.parse(source))
    for seed in range(5):
        tree = ast.parse(source)
        assert isinstance(tree.body[0], ast.FunctionDef)
        break_test(tree.body[0], random.Random(seed))
        with pytest.raises(AssertionError):
            run(ast.fix_missing_locations(tree))


def test_every_test_is_there_once_and_its_control_is_in_the_other_file() -> None:
    made = controlled({"test_stack.py": TESTS}, 6, random.Random(1))
    assert {key.partition("::")[2] for key in made.true} == {"test_push", "TestEmpty::test_pop"}
    assert {made.true[true] for true in made.controls.values()} == {1}
    for control, true in made.controls.items():
        assert control.partition("::")[0] != true.partition("::")[0]
        assert control.partition("::")[2] == true.partition("::")[2]
    assert all(path.startswith("test_") and path != "test_stack.py" for path in made.files)


def test_cases_that_a_decorator_lists_are_counted() -> None:
    text = "@pytest.mark.parametrize('a', [1, 2, 3])\n@pytest.mark.parametrize('b', (1, 2))\ndef test_it(a, b): pass\n"
    assert list(controlled({"test_a.py": text}, 0, random.Random(1)).true.values()) == [6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "D"}, "the level of 'test_files' is 'B' or 'C', got 'D'"),
        ({"test_files": {"test_a.py": "x = 1"}}, "'test_files' hold no test"),
        ({"files": {"../a.py": ""}}, "must stay in its folder"),
        ({"files": ["a.py"]}, "'files' must map paths to texts"),
        ({"allowed": "*.py"}, "'allowed' must be a list of path patterns"),
        ({"test_files": {"test_a.py": "def test(:"}}, "its test code cannot be read"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"task 'stack': .*{message}"):
        CodeTests().check(Task("stack", "", {**TASK.answer, **changes}))
