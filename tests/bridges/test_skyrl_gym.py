"""The bridge to skyrl-gym, against the real package."""

from __future__ import annotations

import json
import warnings

import pytest
from gymnasium.utils.env_checker import check_env

from quintain.envs import list_envs, make
from quintain.tools import UserError

ROWS = [
    {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}],
        "env_class": "gsm8k",
        "reward_spec": {"method": "rule", "ground_truth": "4"},
        "extra_info": {"max_turns": 3},
    },
    {
        "prompt": "What is 3+4?",
        "reward_spec": {"method": "rule", "ground_truth": "7"},
        "extra_info": {"max_turns": 3},
    },
]


@pytest.fixture(autouse=True, scope="module")
def library(needs):
    needs("skyrl_gym")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def test_every_environment_has_an_id():
    assert set(list_envs("skyrl-gym")) >= {
        "skyrl-gym/gsm8k-v0",
        "skyrl-gym/gsm8k_multi_turn-v0",
        "skyrl-gym/aime-v0",
    }


def test_a_row_is_asked_with_its_roles_and_judged(path):
    env = make("skyrl-gym/gsm8k-v0", path=path)
    observation, info = env.reset(options={"task": 0})
    assert info["messages"] == ROWS[0]["prompt"]
    assert observation == "Be brief.\n\nWhat is 2+2?"
    assert env.step("It is 4.\n#### 4")[1:3] == (1.0, True)
    env.reset(options={"task": 1})
    assert env.step("#### 8")[1:3] == (0.0, True)


def test_many_turns_and_rewards_at_each(path):
    env = make("skyrl-gym/gsm8k_multi_turn-v0", path=path)
    env.reset(options={"task": 0})
    observation, reward, terminated, _, info = env.step("#### 5")
    assert observation.startswith("Please provide your step-by-step reasoning")
    assert (reward, terminated, info["step_reward"]) == (0.0, False, pytest.approx(0.2 / 3))
    _, reward, terminated, _, info = env.step("#### 4")
    assert (reward, terminated) == (1.0, True)
    assert info["score"].parts["return"] == pytest.approx(1 + 0.2 / 3)


def test_check_env_finds_nothing(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make("skyrl-gym/gsm8k_multi_turn-v0", path=path))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gsm8k", {}, r"needs rows: give path= \(a .jsonl or .parquet file\) or rows="),
        (
            "gsm8k",
            {"rows": [{"prompt": "2+2?"}]},
            "on row 1 of rows cannot be made: AssertionError: reward_spec field",
        ),
        ("gsm8k", {"rows": [{"question": "2+2?"}]}, "rows, row 1 has no field 'prompt'"),
        ("lcb", {"rows": ROWS}, "runs what the model wrote .* in no sandbox: say runs_code=True"),
        ("gsm8", {"rows": ROWS}, "did you mean 'skyrl-gym/gsm8k-v0'"),
    ],
)
def test_a_wrong_option_is_an_error_at_once(name, options, says):
    with pytest.raises(UserError, match=says):
        make(f"skyrl-gym/{name}-v0", **options)


def test_a_later_row_that_it_does_not_take_is_our_failure(path):
    from quintain.tools.errors import InfrastructureError

    env = make("skyrl-gym/gsm8k-v0", rows=[*ROWS, {"prompt": "x"}])
    with pytest.raises(InfrastructureError, match="reward_spec field is required"):
        env.reset(options={"task": 2})
