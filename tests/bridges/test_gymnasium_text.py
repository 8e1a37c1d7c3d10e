"""Gymnasium environments of others as ours."""

from __future__ import annotations

import string
import warnings
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from quintain.envs.bridges.gymnasium_text import GymnasiumText
from quintain.tools import UserError


class Parrot(gymnasium.Env[str, str]):
    """Speaks text: pays for the word it said at the start."""

    observation_space = spaces.Text(100, charset=string.printable)
    action_space = spaces.Text(8, charset=string.ascii_lowercase)

    def __init__(self, pay: float = 1.0) -> None:
        self.pay = pay

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.word = "".join(self.np_random.choice(list("abc"), 5))
        return self.word, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "crash":
            raise ZeroDivisionError("oh")
        return (
            "yes" if action == self.word else "no",
            self.pay * (action == self.word),
            action == self.word,
            False,
            {},
        )


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("test-bridges/Parrot-v0", Parrot, max_episode_steps=3)
    yield
    del gymnasium.registry["test-bridges/Parrot-v0"]


def test_one_that_speaks_text_needs_nothing():
    env = GymnasiumText("test-bridges/Parrot-v0", prompt="Say what I say.")
    observation, _ = env.reset(options={"task": 0})
    assert observation.startswith("Say what I say.\n\n")
    assert env.step("abc")[:3] == ("no", 0.0, False)
    assert env.step(observation.split()[-1])[:3] == ("yes", 1.0, True)


def test_a_reply_outside_its_space_is_answered_and_not_passed_on():
    env = GymnasiumText("test-bridges/Parrot-v0")
    env.reset(options={"task": 0})
    observation, _, terminated, *_ = env.step("Far too long, and with capitals")
    assert not terminated
    assert observation.startswith(
        "Error: that is no action of this environment; the actions are texts of 1 to 8 ch"
    )


def test_its_time_limit_ends_the_episode():
    env = GymnasiumText("test-bridges/Parrot-v0")
    env.reset(options={"task": 0})
    ends = [env.step("zzz")[2] for _ in range(3)]
    assert ends == [False, False, True]


def test_rewards_are_scaled():
    env = GymnasiumText("test-bridges/Parrot-v0", config={"pay": 50}, scale=(0, 100))
    observation, _ = env.reset(options={"task": 0})
    assert env.step(observation)[1] == 0.5


def test_a_failure_is_ungraded():
    env = GymnasiumText("test-bridges/Parrot-v0")
    env.reset(options={"task": 0})
    *_, info = env.step("crash")
    assert (info["score"].graded, "ZeroDivisionError: oh" in info["score"].reason) == (False, True)


def frozen_lake(**options: Any) -> GymnasiumText:
    def act(text: str) -> int:
        if text not in ("left", "down", "right", "up"):
            raise ValueError("write left, down, right or up")
        return ("left", "down", "right", "up").index(text)

    return GymnasiumText(
        "FrozenLake-v1", observe=lambda cell: f"You are on cell {cell}.", act=act,
        config={"is_slippery": False, "map_name": "4x4"}, **options
    )  # fmt: skip


def test_any_other_with_two_functions():
    env = frozen_lake()
    assert env.reset(seed=1)[0] == "You are on cell 0."
    assert env.step("fly")[0] == "Error: write left, down, right or up"
    for move in ("down", "down", "right", "right", "down"):
        assert env.step(move)[1:3] == (0.0, False)
    assert env.step("right")[:3] == ("You are on cell 15.", 1.0, True)


def test_check_env_finds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(GymnasiumText("test-bridges/Parrot-v0"), skip_render_check=True)
        check_env(frozen_lake(), skip_render_check=True)


@pytest.mark.parametrize(
    ("env_id", "options", "says"),
    [
        (
            "FrozenLake-v1",
            {},
            r"the observations of FrozenLake-v1 are no text but Discrete\(16\): give observe=",
        ),
        (
            "FrozenLake-v1",
            {"observe": str},
            r"the actions of FrozenLake-v1 are no text but Discrete\(4\): give act=",
        ),
        ("NoSuch-v0", {}, "NoSuch-v0 cannot be made: NameNotFound"),
        ("quintain/Calculator-v0", {}, "is a TextEnv already: `quintain.make"),
    ],
)
def test_one_that_does_not_speak_text_says_what_to_give(env_id, options, says):
    with pytest.raises(UserError, match=says):
        GymnasiumText(env_id, **options)
