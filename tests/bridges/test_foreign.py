"""The rules that hold for every foreign environment, shown on one that is written here."""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quintain.envs import list_envs, make
from quintain.envs.bridges import foreign
from quintain.envs.bridges.foreign import ForeignEnv, Said, Verbatim, seeds_as_tasks
from quintain.envs.registry import families
from quintain.tools import UserError
from quintain.tools.errors import InfrastructureError

ROOT = Path(__file__).resolve().parents[2]


class Dice(ForeignEnv):
    """Draws from the generators of the process, as careless libraries do, and pays what the reply says."""

    library = "dice"

    def open(self, task: Any, seed: int) -> tuple[Any, str]:
        return [], f"{random.randint(1, 10**9)} {np.random.randint(10**9)}"

    def play(self, env: Any, action: str) -> Said:
        if action == "crash":
            raise KeyError("the library has a bug")
        env.append(action)
        if action == "silence":
            return Said("", 0.0)
        reward: Any = {"nan": float("nan"), "inf": float("inf"), "text": "much"}.get(action, action)
        return Said(str(random.random()), reward, len(env) == 2)


def played(env: ForeignEnv, *replies: str) -> Any:
    env.reset(seed=1)
    for reply in replies:
        answer = env.step(reply)
    return answer


def test_an_episode_is_paid_once_at_its_end_with_the_scaled_sum_of_rewards():
    env = Dice(scale=(-2, 2))
    env.reset(seed=1)
    _, reward, terminated, _, info = env.step("1.5")
    assert (reward, terminated, info["step_reward"]) == (0.0, False, 1.5)
    _, reward, terminated, _, info = env.step("-0.5")
    assert (reward, terminated, info["step_reward"]) == (0.75, True, -0.5)
    assert (info["score"].value, info["score"].parts) == (0.75, {"return": 1.0})


@pytest.mark.parametrize(
    ("rewards", "value"), [(("5", "5"), 1.0), (("-5", "1"), 0.0), (("0.25", "0.5"), 0.75)]
)
def test_a_return_outside_the_scale_is_cut(rewards, value):
    *_, info = played(Dice(), *rewards)
    assert info["score"].value == value


def test_our_turn_limit_pays_what_was_collected():
    _, reward, terminated, truncated, _ = played(Dice(max_turns=1), "0.5")
    assert (reward, terminated, truncated) == (0.5, False, True)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("crash", "dice: a step failed: KeyError: 'the library has a bug'"),
        ("nan", "the reward is nan"),
        ("inf", "the reward is inf"),
        ("text", "the reward is no number: 'much'"),
    ],
)
def test_a_failure_of_the_library_is_ungraded(reply, says):
    _, reward, terminated, truncated, info = played(Dice(), reply)
    assert (reward, terminated, truncated, info["score"].graded) == (0.0, False, True, False)
    assert says in info["score"].reason


def test_a_library_that_cannot_start_an_episode_raises_an_infrastructure_error():
    class Broken(Dice):
        def open(self, task: Any, seed: int) -> Any:
            raise OSError("no route to host")

    with pytest.raises(
        InfrastructureError, match="dice: an episode cannot be started: OSError: no route to host"
    ):
        Broken().reset(seed=1)


def test_a_library_that_says_nothing_does_not_end_the_episode():
    observation, _, terminated, truncated, _ = played(Dice(), "silence")
    assert (observation, terminated, truncated) == ("(The environment says nothing.)", False, False)


def test_the_generators_of_the_process_are_left_as_they_were():
    random.seed(4), np.random.seed(4)
    expected = random.random(), np.random.random()
    random.seed(4), np.random.seed(4)
    played(Dice(), "0.1")
    assert (random.random(), np.random.random()) == expected


def test_episodes_that_take_turns_draw_what_each_would_draw_alone():
    def observations(env: ForeignEnv) -> list[str]:
        return [env.step("0")[0], env.step("0")[0]]

    one, other = Dice(), Dice()
    one.reset(seed=1)
    alone = observations(one)
    one.reset(seed=1), other.reset(seed=2)
    first = one.step("0")[0]
    other.step("0")
    assert [first, one.step("0")[0]] == alone


def test_episodes_in_threads_draw_what_each_would_draw_alone():
    async def play(seed: int) -> tuple[str, str]:
        def episode() -> tuple[str, str]:
            env = Dice()
            return env.reset(seed=seed)[0], env.step("0")[0]

        return await asyncio.to_thread(episode)

    async def all_at_once() -> list[tuple[str, str]]:
        return await asyncio.gather(*(play(seed % 4) for seed in range(40)))

    results = asyncio.run(all_at_once())
    assert len(set(results)) == 4


@pytest.mark.parametrize("scale", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1), (0,), "ab", 3])
def test_a_scale_without_room_is_refused(scale):
    with pytest.raises(UserError, match="scale must be two"):
        Dice(scale=scale)


def test_the_seeds_of_two_splits_are_different_numbers():
    drawn = {
        split: {seeds_as_tasks("x", split, 0)[i].info["seed"] for i in range(500)} for split in foreign.SPLITS
    }
    assert not (drawn["train"] & drawn["test"] or drawn["train"] & drawn["validation"])
    assert {seed % 3 for seed in drawn["test"]} == {2}
    assert len(drawn["train"]) == 500
    with pytest.raises(UserError, match="there is no split 'tst'; the choices are: train, validation, test"):
        seeds_as_tasks("x", "tst", 0)


def test_a_task_that_is_but_a_seed_gets_what_was_asked_as_its_prompt():
    env = Dice(tasks=seeds_as_tasks("dice", "train", 0))
    observation, info = env.reset(options={"task": 3})
    assert env.task.prompt == observation
    assert info["task_id"] == "dice-train-0-3"
    assert env.fresh().reset(options={"task": 3}) == (observation, info)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (" [4] ", "[4]"),
        ("<think>[1]</think>[4]", "[4]"),
        ("it began in the prompt [1]</think> [4]", "[4]"),
        ("[4] <think>[1]", "[4]"),
        ('<tool_call>{"name": "f"}</tool_call>', '<tool_call>{"name": "f"}</tool_call>'),
    ],
)
def test_a_reply_goes_to_the_library_without_its_reasoning(text, content):
    assert Verbatim().parse(text).content == content


# --- finding the libraries


@pytest.mark.parametrize(
    ("module", "use", "says"),
    [
        ("reasoning_gym", lambda: make("reasoning-gym/countdown-v0"), r"reasoning-gym>=0.1.19,<0.2"),
        ("textarena", lambda: list_envs("textarena"), r"textarena>=0.7.3,<0.8"),
        ("gem", lambda: list_envs("gem"), r"gem-llm>=0.1,<0.2"),
        ("skyrl_gym", lambda: list_envs("skyrl-gym"), r"skyrl-gym>=0.3,<0.5"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(monkeypatch, module, use, says):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("quintain.envs.registry._known", {})
    with pytest.raises(UserError) as caught:
        use()
    assert f'pip install "{says}", or pip install "quintain[bridges]"' in str(caught.value)


def test_the_extra_holds_what_the_bridges_were_tested_against():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(extras["bridges"]) == sorted(v for k, v in foreign.REQUIREMENTS.items() if k != "trl")


def test_foreign_families_are_no_part_of_the_list_of_ours():
    assert families() == ("gem", "reasoning-gym", "skyrl-gym", "textarena")
    assert not any(re.match("|".join(families()), env_id) for env_id in list_envs())
    with pytest.raises(
        UserError, match="there is no family of environments 'textarenas'; did you mean 'textarena'"
    ):
        list_envs("textarenas")


def test_listing_ours_imports_no_library():
    import subprocess

    code = (
        "import sys; from quintain.envs import list_envs; list_envs(); "
        "print({'reasoning_gym', 'textarena', 'gem', 'skyrl_gym', 'openenv', 'inspect_ai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
