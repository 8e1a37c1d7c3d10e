"""`quintain envs`: the list, and all about one environment."""

from __future__ import annotations

import json

import gymnasium
import pytest

from quintain.cli import main
from quintain.envs import Card, TextEnv, list_envs, register, registry
from quintain.envs_cli import described, options_of


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["envs", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_tells_id_what_and_tags(capsys):
    out = shown(capsys)
    assert all(env_id in out for env_id in list_envs())
    (line,) = [line for line in out.splitlines() if "quintain/GuessNumber-v0" in line]
    assert "Find a hidden whole number" in line
    assert line.rstrip().endswith("game, multi-turn, search")


def test_a_narrow_terminal_has_the_list_without_tags(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = shown(capsys)
    assert all(env_id in out for env_id in list_envs())
    assert "procedural" not in out and max(map(len, out.splitlines())) <= 80


def test_the_list_may_be_narrowed_to_a_tag(capsys):
    out = shown(capsys, "--tag", "game")
    assert "quintain/Wordle-v0" in out
    assert "quintain/GSM8K-v0" not in out


def test_the_list_as_json_holds_the_cards(capsys):
    found = {entry["id"]: entry for entry in json.loads(shown(capsys, "--json"))}
    assert set(found) == set(list_envs())
    assert (
        found["quintain/Wordle-v0"]["card"]["reward"] == "1 if the word is guessed within the turns, else 0."
    )


def test_one_is_described_with_card_options_tools_and_an_example(capsys):
    out = shown(capsys, "quintain/Calculator-v0", "split=test")
    for part in (
        "min_steps",
        "Steps of a problem, 1 to 3.",
        '"train"',
        "calculator(expression)",
        "example: user",
        "oracle",
    ):
        assert part in out


def test_one_as_json_is_complete():
    about = described("quintain/Calculator-v0", {"max_steps": 1})
    assert about["options"][0] == {
        "name": "split",
        "help": '"train" or "test": disjoint by their opening pairs of numbers.',
        "default": "train",
    }
    assert about["options"][2]["help"] == about["options"][1]["help"] == "Steps of a problem, 1 to 3."
    assert (about["tasks"], about["max_turns"], about["oracle"], about["demonstrator"]) == (
        None,
        5,
        True,
        True,
    )
    assert about["tools"][0]["function"]["name"] == "calculator"
    assert about["example"][0]["role"] == "user"
    json.dumps(about)


@pytest.mark.parametrize("env_id", list_envs())
def test_every_environment_of_ours_can_be_described(env_id, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    about = described(env_id, {})
    assert "example" in about or "missing" in about
    assert all(option["help"] for option in about["options"]), [
        option["name"] for option in about["options"] if not option["help"]
    ]


def test_what_an_example_lacks_is_told(capsys):
    assert "No example: test/Needs-v0 needs the option 'path'" in with_env(Needs, capsys)


class Needs(TextEnv):
    """Needs a file.

    Args:
        path: The file,
            in any format.
    """

    card = Card(what="Needs.", reward="None.", difficulty="None.", oracle="None.")

    def __init__(self, path: str, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)


def with_env(factory: object, capsys: pytest.CaptureFixture[str]) -> str:
    register("test/Needs-v0", factory)
    try:
        return shown(capsys, "test/Needs-v0")
    finally:
        registry._known.pop("test/Needs-v0")
        gymnasium.registry.pop("test/Needs-v0")


def test_the_help_of_an_option_may_go_over_lines():
    (path, _) = options_of(Needs)
    assert path == {"name": "path", "help": "The file, in any format."}


def test_an_environment_that_cannot_be_imported_does_not_hide_the_others(capsys):
    register("test/Lost-v0", "nowhere.at.all:Lost")
    try:
        out = shown(capsys)
    finally:
        registry._known.pop("test/Lost-v0")
        gymnasium.registry.pop("test/Lost-v0")
    assert "cannot be imported from 'nowhere.at.all:Lost'" in out
    assert "quintain/Wordle-v0" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quintain/Wordel-v0"], "did you mean 'quintain/Wordle-v0'"),
        (["quintain/Wordle-v0", "hrad=true"], "has no option 'hrad'; did you mean 'hard'"),
        (["--tag", "gmae"], "no environment has the tag 'gmae'; did you mean 'game'"),
        (["quintain/Wordle-v0", "--tag", "game"], "--tag game is for the list"),
    ],
)
def test_mistakes_are_told(arguments, said, capsys):
    assert main(["envs", *arguments]) == 2
    assert said in capsys.readouterr().err
