"""The bridge to reasoning-gym, against the real package."""

from __future__ import annotations

import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from quintain.envs import list_envs, make
from quintain.envs.audit import audit
from quintain.envs.bridges.reasoning_gym import ReasoningGym
from quintain.envs.bridges.reasoning_gym_scorer import UnreadableError, checked
from quintain.envs.registry import load
from quintain.tools import UserError
from quintain.verifiers import Task

WITHOUT_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
SLOW_TO_MAKE = {"knight_swap", "zebra_puzzles", "arc_agi"}


@pytest.fixture(autouse=True, scope="module")
def library(needs):
    needs("reasoning_gym")


def answered(env, reply, index=0):
    env.reset(seed=1, options={"task": index})
    _, reward, terminated, _, info = env.step(reply)
    assert terminated
    return reward, info["score"]


def test_all_its_generators_are_there():
    from reasoning_gym.factory import DATASETS

    ids = list_envs("reasoning-gym")
    assert set(ids) == {f"reasoning-gym/{name}-v0" for name in DATASETS}
    assert len(ids) > 100


@pytest.mark.slow
def test_every_generator_pays_its_own_answer_in_full():
    for env_id in list_envs("reasoning-gym"):
        options = {"config": {"datasets": [{"name": "countdown"}, {"name": "leg_counting", "weight": 2}]}}
        env = make(env_id, **(options if "composite" in env_id else {}))
        name = env_id.removeprefix("reasoning-gym/").removesuffix("-v0")
        if name in WITHOUT_ANSWER:
            assert env.oracle is None
            continue
        reward, score = answered(env, env.oracle(env.tasks[0], [], None))
        assert (env_id, reward, score.graded) == (env_id, 1.0, True)


@pytest.mark.slow
def test_no_scorer_runs_what_the_model_wrote(tmp_path):
    """Some scorers of the library hand the answer to `eval`, or to SymPy, which is the same."""
    trace = tmp_path / "ran"
    path = "+".join(f"chr({ord(letter)})" for letter in str(trace))
    attacks = [
        f"__import__('pathlib').Path({str(trace)!r}).touch()",
        f"[open({str(trace)!r}, 'w')]",
        f"open({path}, chr(119))",
        f"exec(open({path}, chr(119)))",
    ]
    for env_id in list_envs("reasoning-gym"):
        if "composite" in env_id:
            continue
        env = make(env_id)
        for attack in attacks:
            reward, score = answered(env, f"<answer>{attack}</answer>")
            assert score.graded
            assert reward < 1 or "halting" in env_id  # whose scorer takes every text for "False"
            assert not trace.exists(), env_id


def test_same_index_same_task_and_splits_share_no_seed():
    train, test = (make("reasoning-gym/chain_sum-v0", split=split) for split in ("train", "test"))
    again = make("reasoning-gym/chain_sum-v0")
    assert [train.tasks[i] for i in range(20)] == [again.tasks[i] for i in range(20)]
    items = [{env.tasks[i].info["item"] for i in range(300)} for env in (train, test)]
    assert not items[0] & items[1]


def test_neighbouring_seeds_share_no_item():
    """The library makes item i of seed s from s + i, so that seeds 0 and 1 share all but one."""
    one, other = (make("reasoning-gym/chain_sum-v0", seed=seed) for seed in (0, 1))
    prompts = [{env.tasks[i].prompt for i in range(50)} for env in (one, other)]
    assert not prompts[0] & prompts[1]


def test_generators_that_draw_when_they_are_made_still_give_different_tasks():
    for name in ("gsm_symbolic", "list_functions"):
        tasks = make(f"reasoning-gym/{name}-v0").tasks
        assert len({tasks[i].prompt for i in range(8)}) > 1


@pytest.mark.parametrize("env_id", ["countdown", "pool_matrix", "word_ladder"])
def test_check_env_finds_nothing(env_id):
    list_envs("reasoning-gym")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"reasoning-gym/{env_id}-v0").unwrapped)


def test_the_spec_goes_through_json():
    made = gymnasium.make(list_envs("reasoning-gym")[0], split="test")
    assert made.spec is not None
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(made.spec.to_json()))
    assert again.reset(seed=3)[0] == made.reset(seed=3)[0]


@pytest.mark.parametrize("reply", ["", "42", "no tags", "<answer></answer", "<answer>"])
def test_a_reply_without_answer_tags_gets_nothing(reply):
    reward, score = answered(make("reasoning-gym/fraction_simplification-v0"), reply)
    assert (reward, score.reason) == (0.0, "there is no answer between <answer> and </answer>")


def test_the_last_answer_counts_and_reasoning_does_not():
    env = make("reasoning-gym/chain_sum-v0")
    gold = env.tasks[0].answer
    assert answered(env, f"<answer>0</answer> no: <answer> {gold} </answer>")[0] == 1.0
    assert answered(env, f"<think><answer>{gold}</answer></think>")[0] == 0.0


def test_an_answer_that_the_scorer_chokes_on_is_wrong_not_ungraded():
    """`prime_factorization` raises ValueError for a text that is no number."""
    reward, score = answered(make("reasoning-gym/prime_factorization-v0"), "<answer>garbage</answer>")
    assert (reward, score.graded) == (0.0, True)
    assert "could not read the answer: ValueError" in score.reason


@pytest.mark.slow
def test_an_answer_that_never_ends_is_stopped_and_wrong():
    reward, score = answered(make("reasoning-gym/countdown-v0"), "<answer>9**9**9**9</answer>")
    assert (reward < 1, score.graded) == (True, True)


def test_a_scorer_that_fails_on_the_right_answer_too_is_ungraded():
    env = make("reasoning-gym/chain_sum-v0")
    env.items.config = '{"no_such_field": 1}'
    reward, score = answered(env, "<answer>1</answer>")
    assert (reward, score.graded) == (0.0, False)
    assert "fails on the right answer too" in score.reason


async def test_astep_judges_as_step_does():
    env = make("reasoning-gym/countdown-v0")
    for reply in (env.oracle(env.tasks[0], [], None), "<answer>1</answer>", "x"):
        env.reset(options={"task": 0})
        sync = env.step(reply)
        env.reset(options={"task": 0})
        assert await env.astep(reply) == sync


def test_full_marks_pays_for_nothing_less():
    """Many scorers pay a hundredth for any answer at all."""
    generous, strict = (make("reasoning-gym/countdown-v0", full_marks=full) for full in (False, True))
    assert answered(generous, "<answer>nonsense</answer>")[0] == 0.01
    assert answered(strict, "<answer>nonsense</answer>")[0] == 0.0
    assert answered(strict, strict.oracle(strict.tasks[0], [], None))[0] == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"config": {"min_number": 3}}, "has no configuration 'min_number'; did you mean 'min_numbers'"),
        ({"config": {"min_numbers": -3}}, "countdown cannot be made: AssertionError: min_numbers must be"),
        ({"config": {"seed": 3}}, "has no configuration 'seed'"),
        ({"split": "dev"}, "there is no split 'dev'; the choices are: train, validation, test"),
        ({"sed": 3}, "has no option 'sed'; did you mean 'seed'"),
    ],
)
def test_a_wrong_option_is_an_error_at_once(options, says):
    with pytest.raises(UserError, match=says):
        make("reasoning-gym/countdown-v0", **options)


def test_a_wrong_name_gets_the_nearest_of_the_family():
    with pytest.raises(UserError, match="did you mean 'reasoning-gym/countdown-v0'"):
        make("reasoning-gym/countdow-v0")


def test_what_is_behind_an_id_makes_its_environment_and_describes_itself():
    factory = load("reasoning-gym/chain_sum-v0")
    assert factory(split="test").items.name == "chain_sum"
    assert factory.__doc__ == ReasoningGym.__doc__


@pytest.mark.slow
def test_the_audit_takes_it_like_any_other():
    """It finds what the library's scorer lets through, such as digits of other scripts."""
    report = audit("reasoning-gym/chain_sum-v0")
    names = {f"{finding.probe}/{finding.code}" for finding in report.findings}
    assert "deterministic/processes" not in names
    assert not any(name.startswith("solvable") for name in names)


def test_nothing_of_the_answer_is_shown():
    env = make("reasoning-gym/chain_sum-v0")
    observation, info = env.reset(options={"task": Task("t", "What?", "secret", {"item": 3})})
    assert "secret" not in str((observation, info))


@pytest.mark.parametrize("text", ["2 + 3*(4 - 1)", "x**2/2 + sin(x) + C", "sqrt(2)*pi", "1.5", "6!"])
def test_arithmetic_is_read(text):
    assert checked(lambda written: written)(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "open(1)",
        "exec(chr(65))",
        "x.__class__",
        "(1).real",
        "[1]",
        "lambda: 1",
        "1" * 3000,
        "eval(x)",
    ],
)
def test_what_is_no_arithmetic_is_refused(text):
    with pytest.raises(UnreadableError):
        checked(lambda written: written)(text)
