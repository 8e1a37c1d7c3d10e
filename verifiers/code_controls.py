"""Tests that must fail: copies of a task's tests whose expectations are broken, to be run among the true ones.

Whoever makes every test pass, whatever the work is worth, makes these pass too. Each test file becomes two
files under random names, and chance decides which of the two holds the true form of a test and which the
broken one, so that neither name nor place tells them apart.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.IsNot: ast.Is,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True, slots=True)
class Controlled:
    """Test files with controls among the tests."""

    files: dict[str, str]
    """By path: what to run in place of the test files."""
    true: dict[str, int]
    """Tests that must pass, as `path::name`, and how many cases each has at least."""
    controls: dict[str, str]
    """Tests that must fail, and the true test that each is the broken copy of."""


@dataclass
class _Half:
    tree: ast.Module
    path: str
    drop: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


def controlled(files: dict[str, str], count: int, chance: random.Random) -> Controlled:
    """Return test files with up to `count` controls.

    Raises `SyntaxError` for a test file that is no Python.
    """
    result = Controlled({}, {}, {})
    names = {path: [name for name, _ in tests_in(ast.parse(text))] for path, text in files.items()}
    everything = [(path, name) for path, listed in names.items() for name in listed]
    chosen = set(chance.sample(everything, min(count, len(everything))))
    for path, text in files.items():
        tree = ast.parse(text)
        cases = {name: _cases(node) for name, node in tests_in(tree)}
        if not names[path]:
            result.files[path] = text  # helpers that tests import
            continue
        halves = [_Half(copy.deepcopy(tree), _random_name(path, chance)) for _ in range(2)]
        for name in names[path]:
            first, second = chance.sample(halves, 2)
            key = f"{first.path}::{name}"
            result.true[key] = cases[name]
            if (path, name) in chosen:
                second.broken.add(name)
                result.controls[f"{second.path}::{name}"] = key
            else:
                second.drop.add(name)
        for half in halves:
            if half.drop >= set(names[path]):
                continue
            _edit(half.tree, half.drop, half.broken, chance)
            result.files[half.path] = ast.unparse(half.tree) + "\n"
    return result


def tests_in(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the tests of a file as pytest finds them: functions, and methods of classes, by `Class::name`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or _is_unittest(node)):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith(
                    "test"
                ):
                    yield f"{node.name}::{inner.name}", inner


def _is_unittest(node: ast.ClassDef) -> bool:
    return any("TestCase" in ast.unparse(base) for base in node.bases)


def _random_name(path: str, chance: random.Random) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}test_{chance.getrandbits(64):016x}.py"


def _cases(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many cases a test has at least: the product of the lists that stand in `parametrize`."""
    count = 1
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("mark.parametrize"):
            values = decorator.args[1] if len(decorator.args) > 1 else None
            if isinstance(values, ast.List | ast.Tuple) and not any(
                isinstance(e, ast.Starred) for e in values.elts
            ):
                count *= len(values.elts)
    return count


def _edit(tree: ast.Module, drop: set[str], broken: set[str], chance: random.Random) -> None:
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes.extend(n for n in tree.body if isinstance(n, ast.ClassDef))
    for node in scopes:
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        kept: list[ast.stmt] = []
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                name = prefix + statement.name
                if name in drop:
                    continue
                if name in broken:
                    break_test(statement, chance)
            kept.append(statement)
        node.body = kept or ([ast.Pass()] if isinstance(node, ast.ClassDef) else [])
    ast.fix_missing_locations(tree)


def break_test(node: ast.FunctionDef | ast.AsyncFunctionDef, chance: random.Random) -> None:
    """Make a test fail wherever its true form passes: by another expectation, or by one more at its end.

    What is expected becomes something else, rather than `==` becoming `!=`: an object that is equal to everything
    would agree with both, and so would a value that was read from the frame of the test.
    """
    found = [s for s in node.body if isinstance(s, ast.Assert)]
    calls = [s.value for s in node.body if isinstance(s, ast.Expr) and _is_assert_equal(s.value)]
    if found:
        chosen = chance.choice(found)
        chosen.test = _broken(chosen.test, node, chance)
    elif calls:
        call = chance.choice(calls)
        assert isinstance(call, ast.Call)
        call.args[0], call.args[1] = _unequal(call.args[0], call.args[1], node, chance)
    else:
        if isinstance(node.body[-1], ast.Return):
            node.body.pop()
        node.body.append(ast.Assert(ast.Constant(False)))


def _is_assert_equal(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr
        in {"assertEqual", "assertIs", "assertListEqual", "assertDictEqual", "assertAlmostEqual"}
        and len(node.args) >= 2
    )


def _broken(test: ast.expr, node: ast.FunctionDef | ast.AsyncFunctionDef, chance: random.Random) -> ast.expr:
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        op, left, right = test.ops[0], test.left, test.comparators[0]
        if isinstance(op, ast.Eq | ast.Is):
            left, right = _unequal(left, right, node, chance)
            return ast.Compare(left, [op], [right])
        if isinstance(op, ast.In):
            return ast.Compare(_wrapped(left), [op], [right])
        return ast.Compare(left, [_FLIPPED[type(op)]()], [right])
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _unequal(
    left: ast.expr, right: ast.expr, node: ast.FunctionDef | ast.AsyncFunctionDef, chance: random.Random
) -> tuple[ast.expr, ast.expr]:
    """Return two sides such that equal ones have become unequal."""
    for one, is_left in ((right, False), (left, True)):
        if isinstance(one, ast.Constant) and (other := _other(one.value, chance)) is not None:
            return (ast.Constant(other), right) if is_left else (left, ast.Constant(other))
    if isinstance(right, ast.Name) and right.id in {a.arg for a in node.args.args}:
        # the argument itself becomes another value, also for whoever reads it from the frame
        node.body.insert(
            0, ast.Assign([ast.Name(right.id, ast.Store())], _wrapped(ast.Name(right.id, ast.Load())))
        )
        return left, right
    return left, _wrapped(right)


def _wrapped(node: ast.expr) -> ast.expr:
    return ast.Tuple([node], ast.Load())


def _other(value: object, chance: random.Random) -> bool | int | str | None:
    """Return a value of the same kind that is another one; None where there is none."""
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice((-2, -1, 1, 2, 3))
        case str():
            return value + chance.choice("aeinst")
        case _:
            return None
