"""Tool calls against wanted ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from quintain.tools.chat import Reply, ToolCall
from quintain.verifiers import Task, ToolCalls

WEATHER = {
    "name": "weather.get",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "metric": {"type": "boolean", "default": True},
            "at": {"type": "float"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
}


def task(answer: Any) -> Task:
    return Task("t", "", answer, {"functions": [WEATHER]})


def calls(*made: tuple[str, dict[str, Any]]) -> Reply:
    return Reply(
        "", tool_calls=[ToolCall(str(i), name, arguments) for i, (name, arguments) in enumerate(made)]
    )


ONE = task([{"name": "weather.get", "arguments": {"city": "Berlin", "days": 3}}])


@pytest.mark.parametrize(
    "arguments",
    [
        {"city": "Berlin", "days": 3},
        {"days": 3, "city": "berlin"},
        {"city": "Berlin", "days": 3, "metric": True},
    ],
    ids=["as wanted", "other order and case", "a default written out"],
)
def test_a_right_call(arguments: dict[str, Any]) -> None:
    assert ToolCalls()(calls(("weather.get", arguments)), ONE).value == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"city": "Paris", "days": 3}, "the argument 'city' is 'Paris', wanted 'Berlin'"),
        ({"city": "Berlin"}, "the argument 'days' is missing"),
        ({"city": "Berlin", "days": 4}, "the argument 'days' is 4, wanted 3"),
        ({"city": "Berlin", "days": "3"}, "the argument 'days' must be of type integer, got str"),
        ({"city": "Berlin", "days": 3.0}, "the argument 'days' must be of type integer, got float"),
        ({"city": "Berlin", "days": True}, "the argument 'days' must be of type integer, got boolean"),
        ({"city": "Berlin", "days": 3, "metric": False}, "the argument 'metric' was not wanted"),
        ({"city": "Berlin", "days": 3, "wind": 1}, "the argument 'wind' was not wanted"),
        ({"city": ["Berlin"], "days": 3}, "the argument 'city' must be of type string, got list"),
    ],
)
def test_the_reason_names_the_argument_that_differs(arguments: dict[str, Any], reason: str) -> None:
    score = ToolCalls()(calls(("weather.get", arguments)), ONE)
    assert score.value == 0
    assert score.reason == f"weather.get: {reason}"


def test_defaults_are_filled_on_the_wanted_side_too() -> None:
    wanted = task([{"name": "weather.get", "arguments": {"city": "Berlin", "days": 1}}])
    assert ToolCalls()(calls(("weather.get", {"city": "Berlin"})), wanted).value == 1


def test_an_integer_does_for_a_float() -> None:
    wanted = task([{"name": "weather.get", "arguments": {"city": "Berlin", "at": 5.0}}])
    assert ToolCalls()(calls(("weather.get", {"city": "Berlin", "at": 5})), wanted).value == 1


def test_alternatives_and_optional_arguments() -> None:
    wanted = task([{"weather.get": {"city": ["Berlin", "Berlin, Germany"], "days": [3, ""]}}])
    assert ToolCalls()(calls(("weather.get", {"city": "Berlin, Germany"})), wanted).value == 1
    assert ToolCalls()(calls(("weather_get", {"city": "Berlin"})), wanted).value == 1
    assert ToolCalls()(calls(("weather.get", {"city": "Berlin", "days": 4})), wanted).value == 0


PARALLEL = task([{"weather.get": {"city": [city]}} for city in ("Berlin", "Paris", "Berlin")])


def test_parallel_calls_match_as_a_multiset() -> None:
    berlin, paris = ("weather.get", {"city": "Berlin"}), ("weather.get", {"city": "Paris"})
    assert ToolCalls()(calls(paris, berlin, berlin), PARALLEL).value == 1
    assert ToolCalls()(calls(paris, paris, berlin), PARALLEL).value == 0
    assert ToolCalls()(calls(paris, berlin), PARALLEL).value == 0
    assert ToolCalls()(calls(paris, berlin, berlin, berlin), PARALLEL).value == 0
    assert ToolCalls(ordered=True)(calls(paris, berlin, berlin), PARALLEL).value == 0
    assert ToolCalls(partial=True)(calls(paris, berlin), PARALLEL).value == pytest.approx(2 / 3)


def test_a_greedy_choice_does_not_spoil_the_matching() -> None:
    wanted = task([{"weather.get": {"city": ["Berlin", "Paris"]}}, {"weather.get": {"city": ["Berlin"]}}])
    made = calls(("weather.get", {"city": "Berlin"}), ("weather.get", {"city": "Paris"}))
    assert ToolCalls()(made, wanted).value == 1


@pytest.mark.parametrize("answer", [None, []])
def test_no_call_is_wanted(answer: Any) -> None:
    assert ToolCalls()(Reply("I cannot tell."), task(answer)).value == 1
    assert ToolCalls()(calls(("weather.get", {"city": "Berlin"})), task(answer)).value == 0


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "weather.get", "arguments": {"city": "Berlin", "days": 3}}</tool_call>',
        '<think>weather.get()</think>{"name": "weather.get", "arguments": {"city": "Berlin", "days": 3}}',
        '[{"weather.get": {"city": "Berlin", "days": 3}}]',
        '[weather.get(city="Berlin", days=3)]',
        "weather.get(city='Berlin', days=3)",
        '```python\nweather.get(city="Berlin", days=3)\n```',
    ],
)
def test_calls_written_as_text_are_read(text: str) -> None:
    assert ToolCalls()(text, ONE).value == 1


@pytest.mark.parametrize(
    "text",
    [
        "weather.get(city=__import__('os').system('touch pwned'), days=3)",
        "weather.get(city='Ber' + 'lin', days=3)",
        "weather.get(city='Berlin', days=1+2)",
        "weather.get('Berlin', 3)",
        "weather.get(**{'city': 'Berlin', 'days': 3})",
        "(" * 5000,
        "weather.get(city=" + "[" * 1000,
        "I would call weather.get(city='Berlin', days=3)",
        "",
    ],
)
def test_nothing_is_evaluated(text: str) -> None:
    score = ToolCalls()(text, ONE)
    assert score.graded
    assert score.value == 0


@pytest.mark.parametrize("answer", ["f()", [1], [{"f": {"a": 1}}], [{"a": {}, "b": {}}]])
def test_a_task_whose_calls_cannot_be_read_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="task 't'"):
        ToolCalls().check(task(answer))


def gold_calls(row: dict[str, Any], last: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return a row's wanted calls with the first (or last) alternative of every argument."""

    def pick(value: Any) -> Any:
        if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
            return {k: pick(v[-1 if last else 0]) for k, v in value.items() if v[-1 if last else 0] != ""}
        return [pick(v) for v in value] if isinstance(value, list) else value

    made = []
    for wanted in row["ground_truth"]:
        ((name, arguments),) = wanted.items()
        chosen = {k: pick(v[-1 if last else 0]) for k, v in arguments.items() if v[-1 if last else 0] != ""}
        made.append((name, chosen))
    return made


def edited(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if value is None:
        return "x"
    if isinstance(value, list):
        return [*value, "x"]
    return {**value, "x": 1}


@pytest.mark.parametrize("name", ["simple_python", "multiple", "parallel"])
def test_gold_calls_of_the_leaderboard_score_one_and_edited_ones_zero(data_dir: Path, name: str) -> None:
    judge = ToolCalls()
    edits = 0
    with (data_dir / f"bfcl_{name}_a.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        wanted = Task(row["id"], "", row["ground_truth"], {"functions": row["function"]})
        judge.check(wanted)
        gold = gold_calls(row)
        for made in (gold, gold_calls(row, last=True), gold[::-1]):
            score = judge(calls(*made), wanted)
            assert score.value == 1, (row["id"], score.reason)
        assert judge(calls(*gold[1:]), wanted).value == 0, row["id"]
        assert judge(calls(*gold, gold[0]), wanted).value == 0, row["id"]
        for index, (function, arguments) in enumerate(gold):
            others = [gold[:index], gold[index + 1 :]]
            assert judge(calls(*others[0], (function + "x", arguments), *others[1]), wanted).value == 0
            for key in arguments:
                if edited(arguments[key]) in row["ground_truth"][index][function][key]:
                    continue  # another alternative
                changed = {**copy.deepcopy(arguments), key: edited(arguments[key])}
                score = judge(calls(*others[0], (function, changed), *others[1]), wanted)
                edits += 1
                assert score.value == 0, (row["id"], key, changed)
    assert edits > 100


def test_any_call_is_wrong_where_none_is_relevant(data_dir: Path) -> None:
    with (data_dir / "bfcl_irrelevance_a.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        wanted = Task(row["id"], "", row["ground_truth"], {"functions": row["function"]})
        assert ToolCalls()("None of these functions fits.", wanted).value == 1
        assert ToolCalls()(calls((row["function"][0]["name"], {})), wanted).value == 0
