"""Verifiers as JSON specs, and the scoring of files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from quintain.tools.chat import Message
from quintain.verifiers import (
    CodeTests,
    Endpoint,
    FinalNumber,
    FirstGraded,
    Gate,
    Instructions,
    Judge,
    MathAnswer,
    Minimum,
    Score,
    Tags,
    Task,
    Verifier,
    WeightedSum,
    verifier,
)
from quintain.verifiers.base import Episode
from quintain.verifiers.registry import SpecError, from_spec, known_ids, register, to_spec
from quintain.verifiers.schedule import ScheduledSum
from quintain.verifiers.verify import read_rows, summary, verify_rows
from quintain.verify_cli import verify

SPECS: list[tuple[Verifier, dict[str, Any]]] = [
    (MathAnswer(), {"id": "math"}),
    (MathAnswer(digits=4, units=False), {"id": "math", "digits": 4, "units": False}),
    (Tags(("answer",)), {"id": "tags", "names": ["answer"]}),
    (CodeTests(partial=True), {"id": "code", "partial": True}),
    (
        WeightedSum({"right": (0.8, MathAnswer()), "form": (0.2, Tags())}),
        {
            "id": "weighted_sum",
            "terms": {
                "right": {"weight": 0.8, "verifier": {"id": "math"}},
                "form": {"weight": 0.2, "verifier": {"id": "tags"}},
            },
        },
    ),
    (
        Gate(MathAnswer(), Judge(Endpoint("http://x/v1", "m"))),
        {
            "id": "gate",
            "condition": {"id": "math"},
            "reward": {"id": "judge", "completer": {"id": "endpoint", "url": "http://x/v1", "model": "m"}},
        },
    ),
    (
        Minimum([FinalNumber(), Instructions("loose")]),
        {"id": "minimum", "verifiers": [{"id": "final_number"}, {"id": "instructions", "mode": "loose"}]},
    ),
    (
        ScheduledSum({"right": {"weight": [[0, 1.0], [50, 0.5]], "verifier": FinalNumber()}}),
        {
            "id": "scheduled_sum",
            "terms": {"right": {"weight": [[0, 1.0], [50, 0.5]], "verifier": {"id": "final_number"}}},
        },
    ),
    (FirstGraded([FinalNumber()]), {"id": "first_graded", "verifiers": [{"id": "final_number"}]}),
]


@pytest.mark.parametrize(("made", "spec"), SPECS, ids=[spec["id"] for _, spec in SPECS])
def test_a_verifier_is_its_spec(made: Verifier, spec: dict[str, Any]) -> None:
    assert to_spec(made) == spec
    assert from_spec(json.loads(json.dumps(spec))) == made


def test_a_bare_id_is_a_spec() -> None:
    assert from_spec("math") == MathAnswer()


def test_every_id_can_be_loaded() -> None:
    from quintain.verifiers import registry

    for name in known_ids():
        if name != "function":
            assert registry._class(name)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("maths", "there is no verifier 'maths'. Did you mean 'math'?"),
        ({"id": "math", "digit": 3}, "math has no option 'digit'. Did you mean 'digits'?"),
        ({}, "a spec is an object with an 'id'"),
        ({"id": "gate"}, "gate: .*missing 2 required positional arguments: 'condition' and 'reward'"),
        (
            {"id": "instructions", "mode": "mild"},
            "instructions: mode must be 'strict', 'loose' or 'hard', got 'mild'",
        ),
        ({"id": "weighted_sum", "terms": {"a": {"weight": 2, "verifier": "math"}}}, "weighted_sum: "),
        ({"id": "function", "path": "os.path"}, "such as 'my.rules:brief'"),
        ({"id": "function", "path": "no.such:thing"}, "cannot be imported"),
        ({"id": "endpoint", "url": "x", "model": "m"}, "describes no verifier"),
    ],
)
def test_a_spec_that_is_wrong_says_where(spec: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        from_spec(spec)


def test_a_function_is_named_by_its_path() -> None:
    assert from_spec({"id": "function", "path": "operator:eq"})("a", Task("t", "")).value == 0


def test_what_cannot_be_written_as_json_says_so() -> None:
    @verifier
    def local(reply: str, task: Task) -> bool:
        return True

    with pytest.raises(SpecError, match="cannot be imported elsewhere"):
        to_spec(local)

    class Scripted:
        async def complete(self, messages: Sequence[Message]) -> str:
            return ""

    with pytest.raises(SpecError, match=r"judge\.completer cannot be written as JSON"):
        to_spec(Judge(Scripted()))


@dataclass(frozen=True)
class Shout(Verifier):
    least: int = 1

    def score(self, episode: Episode) -> Score:
        return Score(float(episode.reply.count("!") >= self.least))


def test_another_verifier_can_be_given_an_id() -> None:
    register("shout", Shout)
    assert to_spec(Shout(2)) == {"id": "shout", "least": 2}
    assert from_spec({"id": "shout", "least": 2}) == Shout(2)
    with pytest.raises(SpecError, match="is taken"):
        register("math", Shout)


ROWS = [
    {"id": "a", "gold": "1/2", "response": "\\boxed{0.5}", "label": True},
    {"id": "b", "gold": "1/2", "response": "\\boxed{0.4}", "label": True},
    {"id": "c", "gold": "1/2", "response": "\\boxed{0.4}", "label": False},
    {"task": {"id": "d", "prompt": "?", "answer": "3"}, "reply": "3 or 4", "label": 1},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


async def test_rows_are_judged_in_order_and_compared_with_labels(path: Path) -> None:
    seen: list[int] = []
    results = await verify_rows(list(read_rows(path)), MathAnswer(), at_once=2, done=seen.append)
    assert [r.row.task.id for r in results] == ["a", "b", "c", "d"]
    assert [r.score.value for r in results] == [1, 0, 0, 0]
    assert [r.differs for r in results] == [False, True, False, True]
    assert seen == [1, 2, 3, 4]
    figures = summary(results)
    assert (figures.agreed, figures.compared, figures.false_positives, figures.false_negatives) == (
        2,
        4,
        0,
        2,
    )
    assert figures.statuses == {"equal": 1, "different": 2, "hedged": 1}


async def test_two_verifiers_are_compared(path: Path) -> None:
    results = await verify_rows(list(read_rows(path)), MathAnswer(), FinalNumber())
    assert [r.row.task.id for r in results if r.differs] == []


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"gold": "1", "response": "1"}\n{"gold": "1"}\n')
    with pytest.raises(
        ValueError, match=r"x\.jsonl:2: a reply \(one of the columns .*\) is missing; the columns are gold"
    ):
        list(read_rows(path))


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("verify")(verify)
    return app


def test_the_command_shows_the_figures_and_the_disagreements(
    app: typer.Typer, path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.jsonl"
    result = CliRunner().invoke(app, [str(path), "--out", str(out)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "50.00 % of 4" in result.output
    assert "fails what the other passes" in result.output
    scores = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(s["id"], s["value"], s["label"]) for s in scores] == [
        ("a", 1, 1),
        ("b", 0, 1),
        ("c", 0, 0),
        ("d", 0, 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--verifier", "maths"], "Did you mean 'math'?"),
        (["--verifier", '{"id": '], "the spec is not JSON"),
        (["--label", "verdict"], "the column 'verdict' is missing"),
        (["--verifier", "tool_calls"], "the answer must be a list of calls"),
    ],
)
def test_the_command_says_what_is_wrong(
    app: typer.Typer, path: Path, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, [str(path), *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"answer": "1", "reply": "1", "label": "yes"}',
            "rows.jsonl:1: a label must be true, false or a number",
        ),
        ('{"answer": "1"}', "rows.jsonl:1: a reply \\(one of the columns"),
        ("[1]", "rows.jsonl:1: a line must be an object"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        list(read_rows(path))


def test_bytes_that_are_no_text_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"answer": "1", "reply": "1"}\n\xff\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not JSON: 'utf-8'"):
        list(read_rows(path))


def test_a_file_of_scores_that_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"answer": "1", "reply": "1"}\n')
    app = typer.Typer()
    app.command("verify")(verify)
    missing = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "no" / "scores.jsonl")])
    assert missing.exit_code == 2
    assert "mean value" not in missing.output
    path.write_text("")
    empty = CliRunner().invoke(app, [str(path)])
    assert empty.exit_code == 2
    assert "holds no rows" in empty.output


def test_a_function_that_cannot_be_called_with_reply_and_task_is_refused_at_once() -> None:
    with pytest.raises(
        TypeError, match=r"called with \(reply, task\), got seven\(episode\); .*subclass of Verifier"
    ):

        @verifier
        def seven(episode):  # type: ignore[no-untyped-def]
            return episode.evidence["n"] == 7

    assert verifier(max).name == "max"  # a built-in does not say what it takes
