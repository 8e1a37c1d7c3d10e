"""Suites: every model is asked the same, finished episodes are kept, and the numbers are those of the episodes."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from quintain.cli import main
from quintain.eval_cli import show, suite_of
from quintain.rl.engines.base import Sampling
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.evals import run as run_module
from quintain.rl.evals.run import claim, evaluate_suite
from quintain.rl.evals.suite import EvalModel, Suite, load_suite
from quintain.rl.text_codec import TextCodec, pack, unpack
from quintain.tools.errors import UserError
from quintain.verifiers import verifier

asked: list[str] = []


def knows(share: int):
    """A model that solves every `share`-th countdown of its own number, and says 0 to the others."""

    def write(ids: Any, sampling: Sampling) -> list[int]:
        text = unpack(ids)
        asked.append(text)
        number = sum(map(ord, text))
        return [*pack("<answer>1</answer>" if number % share else "<answer>2</answer>"), TextCodec().end_id]

    return write


@pytest.fixture
def suite() -> Suite:
    return Suite.model_validate(
        {
            "name": "small",
            "problems": 6,
            "samples": 2,
            "temperature": 1.0,
            "model": [
                {"name": "base", "path": "base", "price_in": 1.0, "price_out": 2.0},
                {"name": "new", "path": "new"},
            ],
            "env": [{"id": "quintain/GuessNumber-v0", "kwargs": {"max_turns": 2}}],
        }
    )


@pytest.fixture
def players(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()

    def open_player(model: EvalModel, *, seed: int) -> Any:
        return ScriptedEngine(knows(2 if model.name == "base" else 3)), TextCodec()

    monkeypatch.setattr(run_module, "open_player", open_player)


def evaluated(suite: Suite, out: Path, **options: Any) -> Any:
    return asyncio.run(evaluate_suite(suite, out, **options))


def test_every_model_is_asked_the_same_problems(suite: Suite, players: None, tmp_path: Path) -> None:
    evaluated(suite, tmp_path / "out")
    rows = {}
    for name in ("base", "new"):
        lines = (tmp_path / "out" / "episodes" / f"{name}--GuessNumber-v0.jsonl").read_text().splitlines()
        rows[name] = sorted((row["id"], row["task_id"], row["seed"]) for row in map(json.loads, lines))
    assert rows["base"] == rows["new"]
    assert len(rows["base"]) == 12


def test_results_are_written_as_json_and_rows(suite: Suite, players: None, tmp_path: Path) -> None:
    results = evaluated(suite, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(cell["model"], cell["episodes"], cell["ungraded"]) for cell in table["cells"]] == [
        ("base", 12, 0),
        ("new", 12, 0),
    ]
    assert table["versions"]["quintain"]
    assert table["cells"][0]["cost"] == pytest.approx(
        (table["cells"][0]["tokens_read"] + 2 * table["cells"][0]["tokens_written"]) / 1e6
    )
    assert set(table["cells"][0]["metrics"]) >= {
        "success",
        "score",
        "pass@2",
        "pass^2",
        "best@2",
        "majority@2",
    }
    [comparison] = table["comparisons"]
    assert (comparison["first"], comparison["second"], comparison["problems"]) == ("base", "new", 6)
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(lines) == sum(len(cell.metrics) for cell in results.cells)


def test_finished_episodes_are_not_played_again(suite: Suite, players: None, tmp_path: Path) -> None:
    first = evaluated(suite, tmp_path / "out")
    path = tmp_path / "out" / "episodes" / "new--GuessNumber-v0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # one is missing
    asked.clear()
    again = evaluated(suite, tmp_path / "out")
    assert 1 <= len(asked) <= 2  # the turns of one episode
    assert again.cells == first.cells


def test_models_can_be_added_to_a_folder_and_nothing_else_changed(
    suite: Suite, players: None, tmp_path: Path
) -> None:
    evaluated(suite, tmp_path / "out")
    wider = suite.model_copy(update={"model": [*suite.model, EvalModel(name="third", path="third")]})
    assert len(evaluated(wider, tmp_path / "out").cells) == 3
    other = suite.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match=r"holds another evaluation.*\n.*seed: 0 there, 1 now"):
        evaluated(other, tmp_path / "out")


def test_a_folder_in_which_nothing_was_played_is_free_for_another_evaluation(
    suite: Suite, players: None, tmp_path: Path
) -> None:
    claim(suite.model_copy(update={"seed": 1}), tmp_path / "out")  # and then the model was not there, say
    assert len(evaluated(suite, tmp_path / "out").cells) == 2


def test_episodes_are_judged_again_without_sampling(suite: Suite, players: None, tmp_path: Path) -> None:
    evaluated(suite, tmp_path / "out")
    asked.clear()

    @verifier
    def generous(reply: Any, task: Any) -> float:
        return 1.0

    results = evaluated(suite, tmp_path / "out", verifier=generous)
    assert asked == []
    assert results.cells[0].metrics["success"].value == 1.0
    assert (tmp_path / "out" / "rescored" / "results.json").is_file()


def test_too_much_that_could_not_be_graded_makes_results_doubtful(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(ids: Any, sampling: Sampling) -> list[int]:
        raise OSError("no model there")

    monkeypatch.setattr(
        run_module, "open_player", lambda model, *, seed: (ScriptedEngine(broken), TextCodec())
    )
    results = evaluated(suite, tmp_path / "out")
    assert results.doubtful[0] == "base on GuessNumber-v0: 12 of 12 episodes could not be graded"
    assert results.cells[0].metrics == {}
    assert results.comparisons == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"samples": 2}, "several samples of a problem are all the same at temperature 0"),
        ({"model": [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]}, "two models are called a"),
        ({"turn_tokens": 9, "episode_tokens": 8}, "turn_tokens must not exceed episode_tokens, got 9 and 8"),
        ({"modle": []}, "modle"),
        (
            {"env": [{"id": "quintain/GSM8K-v0", "kwargs": {"path": "$NOT_SET/x.jsonl"}}]},
            "NOT_SET is not set",
        ),
    ],
)
def test_a_suite_that_cannot_work_is_refused(table: dict[str, Any], message: str) -> None:
    whole = {"model": [{"name": "m", "path": "m"}], "env": [{"id": "quintain/GuessNumber-v0"}], **table}
    with pytest.raises(UserError, match=message.replace("$", r"\$")):
        load_suite(None, (), whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval"], "what is evaluated? name a suite"),
        (["eval", "none.toml"], "there is no config file none.toml"),
        (
            ["eval", "--env", "quintain/Nothing-v0", "--model", "smollm2"],
            "no environment 'quintain/Nothing-v0'",
        ),
        (
            ["eval", "--env", "quintain/Wordle-v0", "--model", "m", "--engine", "magic"],
            "got the text 'magic'",
        ),
        (["eval", "--env", "quintain/Wordle-v0", "--model", "./no-such-model"], "no-such-model"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_message(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_an_environment_of_the_command_line_may_have_options() -> None:
    suite = suite_of(
        None, ["quintain/Wordle-v0", "quintain/Countdown-v0 split=test numbers=3"], ["m"], (), {}
    )
    assert [env.kwargs for env in suite.env] == [{}, {"split": "test", "numbers": 3}]
    with pytest.raises(
        UserError, match="expected an option of the environment such as split=test, got 'test'"
    ):
        suite_of(None, ["quintain/Countdown-v0 test"], ["m"], (), {})


def test_the_command_prints_a_table(
    suite: Suite,
    players: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    (tmp_path / "small.toml").write_text(suite.to_toml())
    assert main(["eval", "small.toml", "--out", "out"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("base on GuessNumber-v0: 0/12 episodes base on GuessNumber-v0: 12/12 episodes")
    assert "0.0 (0 to 46)" in printed and "new - base" in printed and "out/results.json" in printed


def test_in_a_narrow_terminal_each_environment_has_a_table_of_its_own(
    suite: Suite, players: None, tmp_path: Path
) -> None:
    results = evaluated(suite, tmp_path / "out")
    console = Console(file=io.StringIO(), width=60)
    show(suite, results, console)
    printed = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert printed[0] == "GuessNumber-v0" and max(map(len, printed)) <= 60
    assert printed[1].split() == ["base", "new"]
    assert ["ungraded", "0/12", "0/12"] in [line.split() for line in printed]
    assert any(line.startswith("less the first") for line in printed)


@pytest.mark.parametrize("name", ["reasoning_suite.toml", "tool_agent_suite.toml"])
def test_the_suites_of_the_examples_are_understood(name: str) -> None:
    from quintain.envs.registry import make

    path = Path(__file__).resolve().parents[2] / "examples" / name
    suite = load_suite(path, (), {"model": [{"name": "m", "path": "m"}]})
    for env in suite.env:
        make(env.id, **env.kwargs).close()
