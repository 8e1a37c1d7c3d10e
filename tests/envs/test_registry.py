"""Environments by id: ours and those of strangers come through the same door; mistakes name the nearest."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import gymnasium
import pytest

from quintain.envs import SingleTurnEnv, TextEnv, list_envs, make, register, registry
from quintain.tools import UserError
from quintain.verifiers import FinalNumber, Task


class Sums(SingleTurnEnv):
    def __init__(self, largest: int, render_mode: str | None = None) -> None:
        super().__init__([Task("a", f"{largest}+1?", largest + 1)], FinalNumber(), render_mode=render_mode)


@pytest.fixture
def sums():
    register("test/Sums-v0", Sums)
    yield "test/Sums-v0"
    registry._known.pop("test/Sums-v0")
    gymnasium.registry.pop("test/Sums-v0")


def test_ours_are_there():
    assert {
        "quintain/Calculator-v0",
        "quintain/Countdown-v0",
        "quintain/GSM8K-v0",
        "quintain/GuessNumber-v0",
    } <= set(list_envs())


def test_a_registered_environment_can_be_made_in_both_ways(sums):
    assert sums in list_envs()
    assert make(sums, largest=3).reset()[0] == "3+1?"
    assert gymnasium.make(sums, largest=3).reset()[0] == "3+1?"


def test_making_gives_the_environment_without_wrappers():
    env = make("quintain/GuessNumber-v0")
    assert isinstance(env, TextEnv)
    assert env.spec is not None
    assert env.spec.id == "quintain/GuessNumber-v0"


def test_registering_again_is_fine_and_taking_an_id_is_not(sums):
    register(sums, Sums)
    with pytest.raises(UserError, match="the id 'test/Sums-v0' is taken"):
        register(sums, TextEnv)
    with pytest.raises(UserError, match="'no id!' is no environment id"):
        register("no id!", Sums)


@pytest.mark.parametrize(
    ("env_id", "options", "said"),
    [
        (
            "quintain/Calculater-v0",
            {},
            "no environment 'quintain/Calculater-v0'; did you mean 'quintain/Calculator-v0'",
        ),
        ("calculator", {}, "did you mean 'quintain/Calculator-v0'"),
        ("CartPole-v1", {}, "there is no environment 'CartPole-v1'"),
        ("quintain/GuessNumber-v0", {"hihg": 3}, "has no option 'hihg'; did you mean 'high'"),
        ("quintain/GuessNumber-v0", {"high": {1}}, "options must be plain JSON data"),
        ("test/Sums-v0", {}, "test/Sums-v0 needs the option 'largest'"),
    ],
)
def test_mistakes_are_named(sums, env_id, options, said):
    with pytest.raises(UserError, match=said):
        make(env_id, **options)


def test_a_stranger_that_is_no_text_environment_is_refused():
    register("test/Pole-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    try:
        with pytest.raises(UserError, match="test/Pole-v0 is no TextEnv but a CartPoleEnv"):
            make("test/Pole-v0")
    finally:
        registry._known.pop("test/Pole-v0")
        gymnasium.registry.pop("test/Pole-v0")


def test_other_packages_come_by_entry_points(monkeypatch):
    points = [
        metadata.EntryPoint(
            "acme/Guess-v0", "quintain.envs.library.guess_number:GuessNumber", "quintain.envs"
        ),
        metadata.EntryPoint("acme/Lost-v0", "acme.nowhere:Lost", "quintain.envs"),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    try:
        assert "acme/Guess-v0" in list_envs()
        assert make("acme/Guess-v0", high=5).reset()[1]["messages"]
        with pytest.raises(UserError, match=r"acme/Lost-v0 cannot be imported from 'acme\.nowhere:Lost'"):
            make("acme/Lost-v0")
    finally:
        for point in points:
            registry._known.pop(point.name, None)
            gymnasium.registry.pop(point.name, None)


def test_importing_is_light():
    code = (
        "import sys, quintain.envs, quintain.tools; "
        "print([m for m in ('torch', 'transformers', 'datasets', 'docker', 'pyarrow', 'sympy', 'rich', 'pandas') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
