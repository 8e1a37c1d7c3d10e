"""What the tests of a programming task are, and where in a reply its program stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .base import Task
from .code_controls import tests_in
from .code_repository import RepositoryTests
from .final_answer import without_thinking


@dataclass(frozen=True, slots=True)
class FunctionTests:
    """Calls of one function with the values that are expected."""

    entry_point: str
    """The function's name, or `Class.method`."""
    tests: tuple[Mapping[str, Any], ...]
    """Each with `args`, `kwargs` and `expected`, or `raises` with the name of an exception; JSON values."""


@dataclass(frozen=True, slots=True)
class OutputTests:
    """Runs of the whole program with input and the output that is expected."""

    tests: tuple[Mapping[str, Any], ...]
    """Each with `stdin`, `stdout` and perhaps `args`."""


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Test code that asserts: HumanEval's `check(candidate)`, MBPP's list of asserts, pytest files."""

    names: tuple[str, ...]
    """What the test code calls of the candidate."""
    snippets: tuple[str, ...]
    """Each a test of its own."""
    setup: str = ""
    """Run before each snippet."""
    files: Mapping[str, str] | None = None
    """pytest files by path; then `snippets` is empty."""
    module: str = "solution"
    """The module from which pytest files import the candidate."""


Tests = FunctionTests | OutputTests | AssertTests | RepositoryTests


def tests_of(task: Task) -> Tests:
    """Return the tests of a task.

    Raises `ValueError` naming the task and the field that is missing or wrong.
    """
    answer = task.answer
    if not isinstance(answer, Mapping):
        raise ValueError(
            f"task {task.id!r}: the answer must be an object with the tests, got {answer!r:.100}"
        )
    if "test_files" in answer:
        return _pytest_files(task, answer)
    if "test_list" in answer:  # MBPP
        asserts = tuple(_list(task, answer, "test_list")) + tuple(answer.get("challenge_test_list") or ())
        names = tuple(sorted(_called_names(task, asserts)))
        return AssertTests(names, asserts, answer.get("test_setup_code") or "")
    if isinstance(answer.get("test"), str):  # HumanEval
        name = _text(task, answer, "entry_point")
        _parsed(task, answer["test"])
        above = _above(
            str(answer.get("prompt") or ""), _definition(name)
        )  # helpers that the tests may use too
        return AssertTests((name,), (f"{answer['test']}\n\ncheck({name})\n",), above)
    listed = _list(task, answer, "tests")
    for index, test in enumerate(listed):
        if not isinstance(test, Mapping):
            raise ValueError(f"task {task.id!r}: tests[{index}] must be an object, got {test!r:.100}")
    tests = tuple(listed)
    if all("stdout" in test or "output" in test for test in tests):
        return OutputTests(
            tuple(
                {"stdin": t.get("stdin", t.get("input", "")), "stdout": t.get("stdout", t.get("output"))}
                for t in tests
            )
        )
    for index, test in enumerate(tests):
        if "expected" not in test and "raises" not in test:
            raise ValueError(f"task {task.id!r}: tests[{index}] needs 'expected', 'raises' or 'stdout'")
        if not isinstance(test.get("args", []), list) or not isinstance(test.get("kwargs", {}), Mapping):
            raise ValueError(
                f"task {task.id!r}: tests[{index}] needs a list of 'args' and an object of 'kwargs'"
            )
    return FunctionTests(_text(task, answer, "entry_point"), tests)


def _list(task: Task, answer: Mapping[str, Any], name: str) -> list[Any]:
    value = answer.get(name)
    if not isinstance(value, list) or not value:
        raise ValueError(
            f"task {task.id!r}: the answer needs a list {name!r} with at least one test, got {value!r:.60}"
        )
    return value


def _text(task: Task, answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"task {task.id!r}: the answer needs {name!r}, got {value!r:.60}")
    return value


def _parsed(task: Task, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"task {task.id!r}: its test code cannot be read: {error}") from None


def _called_names(task: Task, snippets: tuple[str, ...]) -> set[str]:
    """Return the names that asserts use without defining or being built in: those of the candidate."""
    import builtins

    used: set[str] = set()
    for snippet in snippets:
        for node in ast.walk(_parsed(task, snippet)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used.add(node.func.id)
    return {name for name in used if not hasattr(builtins, name)}


def _files(task: Task, answer: Mapping[str, Any], field: str) -> dict[str, str]:
    files = answer.get(field) or {}
    if not isinstance(files, Mapping) or not all(isinstance(v, str) for v in files.values()):
        raise ValueError(f"task {task.id!r}: {field!r} must map paths to texts")
    for path in files:
        if re.search(r"(^/|\.\.)", path):
            raise ValueError(f"task {task.id!r}: the path {path!r} must stay in its folder")
    return dict(files)


def _repository(task: Task, answer: Mapping[str, Any]) -> RepositoryTests:
    tests, files = _files(task, answer, "test_files"), _files(task, answer, "files")
    module = str(answer.get("module") or "solution")
    default = module.replace(".", "/")
    allowed = answer.get("allowed") or [f"{default}.py", f"{default}/*"]
    if not isinstance(allowed, list) or not all(isinstance(pattern, str) for pattern in allowed):
        raise ValueError(f"task {task.id!r}: 'allowed' must be a list of path patterns, got {allowed!r:.60}")
    if not any(
        True for path, text in tests.items() if path.endswith(".py") for _ in tests_in(_parsed(task, text))
    ):
        raise ValueError(f"task {task.id!r}: 'test_files' hold no test")
    return RepositoryTests(tests, files, module, tuple(allowed))


def _pytest_files(task: Task, answer: Mapping[str, Any]) -> AssertTests | RepositoryTests:
    level = answer.get("level", "B")
    if level not in {"B", "C"}:
        raise ValueError(f"task {task.id!r}: the level of 'test_files' is 'B' or 'C', got {level!r}")
    files = _files(task, answer, "test_files")
    if not files:
        raise ValueError(f"task {task.id!r}: 'test_files' must map paths to texts")
    if level == "C":
        return _repository(task, answer)
    module = str(answer.get("module") or "solution")
    names: set[str] = set()
    for path, text in files.items():
        for node in ast.walk(_parsed(task, text)) if path.endswith(".py") else ():
            if isinstance(node, ast.ImportFrom) and node.module == module:
                names.update(alias.name for alias in node.names)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == module
            ):
                names.add(node.attr)
    names.update(answer.get("names") or ())
    if not names or "*" in names:
        raise ValueError(f"task {task.id!r}: name what the tests import from {module!r} in 'names'")
    return AssertTests(tuple(sorted(names)), (), "", dict(files), module)


def _definition(name: str) -> re.Pattern[str]:
    escaped = re.escape(name)
    return re.compile(rf"^[ \t]*(?:async\s+def|def|class)\s+{escaped}\b|^{escaped}\s*=", re.MULTILINE)


def _above(prompt: str, defined: re.Pattern[str]) -> str:
    """Return what stands above a definition in a prompt: imports and helpers."""
    found = defined.search(prompt)
    return prompt[: found.start()] if found else ""


_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)


def fenced_blocks(text: str, marks: Collection[str] = ("", "python", "py", "python3")) -> list[str]:
    """Return the fenced blocks of a text whose language is one of `marks`; the last may be unfinished."""
    return [m[3] for m in _FENCE.finditer(text) if m[2].lower() in marks]


def program_in(reply: str, entry_point: str | None = None, prompt: str = "") -> str:
    """Return the program of a reply: its last fenced block (the last that defines `entry_point`), else all of it.

    A reply that only goes on where `prompt` (HumanEval's signature and docstring) stopped is put behind it.
    """
    text = without_thinking(reply)
    blocks = fenced_blocks(text)
    first = entry_point.split(".")[0] if entry_point else None
    defined = _definition(first) if first else None
    if blocks:
        defining = [block for block in blocks if defined and defined.search(block)]
        code = (defining or blocks)[-1]
    else:
        code = text
    if prompt and defined and not defined.search(code):
        return prompt + code
    if prompt and defined:  # the imports and helpers above the signature
        return _above(prompt, defined) + code
    return code
