"""What holds for every registered environment: Gymnasium's contract, determinism, an oracle, no crash."""

from __future__ import annotations

import json
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from quintain.envs import TextEnv, make
from quintain.tools import Hermes, Reply

EPISODES = 20


def rounds(env: TextEnv, count: int) -> int:
    """Return how often something is done here: seldom where a reply starts a program, or a task is a whole world.

    Programs have their thousand replies in `test_programs`, marked slow; the thorough audit sends the others theirs.
    """
    tags = () if env.card is None else env.card.tags
    if "sandbox" in tags:
        return max(count // 20, 5)
    return max(count // 10, 5) if {"sql", "retrieval"} & set(tags) else count


def play_oracle(env: TextEnv, **reset: object) -> tuple[float, dict[str, object]]:
    env.reset(**reset)
    rng = np.random.default_rng(0)
    total = 0.0
    for _ in range(50):
        _, reward, terminated, truncated, info = env.step(env.oracle(env.task, env.messages, rng))
        total += reward
        if terminated or truncated:
            return total, info
    raise AssertionError("the episode does not end")


def junk(rng: np.random.Generator) -> str:
    pieces = [
        "", " ", "\n", "0", "-1", "42", "1e999", "NaN", "<think>", "</think>", "<tool_call>", "</tool_call>",
        "<answer>", "</answer>", "\\boxed{", "####", '{"name": "calculator", "arguments": {"expression": ', '"1/0"',
        "}}", "[" * 3000, "9" * 5000, "é", "\x00", "\ud800", "🙂", "ａ", "{who}", "%s", "null", "**", "((((",
        '<tool_call>{"name": "calculator", "arguments": {"expression": "2+2"}}</tool_call>',
        '<tool_call>{"name": "nope", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "calculator", "arguments": {"x": [1]}}</tool_call>',
    ]  # fmt: skip
    return "".join(pieces[i] for i in rng.integers(len(pieces), size=int(rng.integers(0, 6))))


def test_check_env_finds_nothing(env_case):
    env_id, options = env_case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, **options).unwrapped)


def test_the_spec_goes_through_json(env_case):
    env_id, options = env_case
    spec = gymnasium.make(env_id, **options).spec
    assert spec is not None
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(spec.to_json()))
    assert again.reset(seed=1)[0] == gymnasium.make(env_id, **options).reset(seed=1)[0]


def test_same_seed_same_episode(env_case):
    env_id, options = env_case

    def transcript(env: TextEnv, seed: int) -> list[object]:
        steps: list[object] = [env.reset(seed=seed)]
        rng = np.random.default_rng(seed)
        for _ in range(rounds(env, EPISODES)):
            answer = env.step(junk(rng))
            steps.append(answer)
            if answer[2] or answer[3]:
                steps.append(env.reset())
        return steps

    one, other = make(env_id, **options), make(env_id, **options).fresh()
    assert transcript(one, 5) == transcript(other, 5)
    assert transcript(one, 5) == transcript(one, 5)


def test_the_oracle_scores_one_on_every_task(env_case):
    env_id, options = env_case
    env = make(env_id, **options)
    tasks = env.tasks
    for index in range(min(tasks.size or 100, rounds(env, 100))):
        total, info = play_oracle(env, options={"task": index})
        assert (total, info["score"].value, info["score"].graded) == (1.0, 1.0, True)


def test_1000_senseless_replies_never_raise_and_earn_nothing(env_case):
    env_id, options = env_case
    env = make(env_id, **options)
    rng = np.random.default_rng(7)
    env.reset(seed=7)
    env.action_space.seed(7)
    for i in range(rounds(env, 1000)):
        reply = junk(rng) if i % 4 else env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(reply)
        assert type(reward) is float
        assert reward in (0.0, 1.0)
        assert type(terminated) is bool
        assert type(truncated) is bool
        assert observation in env.observation_space
        json.dumps(info["messages"], ensure_ascii=False).encode()
        if terminated or truncated:
            assert info["score"].graded
            env.reset()
        else:
            assert info["messages"]


@pytest.mark.parametrize("cheat", ["", "I do not know.", "0", "echo", "\\boxed{}", "<answer>1</answer>" * 99])
def test_constant_answers_and_echoes_score_nothing(env_case, cheat):
    env_id, options = env_case
    env = make(env_id, **options)
    for index in range(min(env.tasks.size or 30, rounds(env, 30))):
        observation, _ = env.reset(options={"task": index})
        if env.task.answer in (0, 1):
            continue
        terminated = truncated = False
        while not (terminated or truncated):
            _, reward, terminated, truncated, _ = env.step(observation if cheat == "echo" else cheat)
            assert reward == 0.0


async def test_astep_does_what_step_does(env_case):
    env_id, options = env_case
    one, other = make(env_id, **options), make(env_id, **options)
    rng = np.random.default_rng(3)
    assert one.reset(seed=3) == other.reset(seed=3)
    for _ in range(rounds(one, EPISODES)):
        reply = junk(rng)
        answer = one.step(reply)
        assert answer == await other.astep(reply)
        if answer[2] or answer[3]:
            one.reset(), other.reset()


def test_fresh_environments_are_independent_and_share_what_is_constant(env_case):
    env_id, options = env_case
    env = make(env_id, **options)
    env.reset(seed=1)
    before = env.messages
    other = env.fresh()

    assert other.task is None
    with pytest.raises(gymnasium.error.ResetNeeded):
        other.step("x")
    other.reset(seed=2)
    other.step("x")
    other.close()

    assert env.messages == before
    assert other.tasks is env.tasks
    assert other.tools is env.tools


def test_a_task_can_be_chosen_by_index_or_given(env_case):
    env_id, options = env_case
    env = make(env_id, **options)
    task = env.tasks[2]
    by_index = env.reset(seed=1, options={"task": 2})
    given = env.fresh().reset(seed=1, options={"task": task})

    assert by_index == given
    assert by_index[1]["task_id"] == task.id
    assert env.task == task


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_vector_environments(env_case, mode):
    env_id, options = env_case
    envs = gymnasium.make_vec(env_id, num_envs=2, vectorization_mode=mode, **options)
    try:
        observations, _ = envs.reset(seed=1)
        assert observations[0] == make(env_id, **options).reset(seed=1)[0]
        assert observations in envs.observation_space
        envs.action_space.seed(1)
        for _ in range(4):
            observations, rewards, terminations, truncations, _ = envs.step(envs.action_space.sample())
            assert len(observations) == 2
            assert rewards.shape == terminations.shape == truncations.shape == (2,)
            assert all(isinstance(text, str) for text in observations)
            over = terminations | truncations
            if mode == "vector_entry_point" and over.any():
                envs.reset(options={"reset_mask": over})
    finally:
        envs.close()


def test_gymnasium_wrappers_go_round_it(env_case):
    env_id, options = env_case
    env = gymnasium.make(env_id, **options)
    env = gymnasium.wrappers.TransformObservation(env, str.upper, env.observation_space)
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.wrappers.TimeLimit(env, 3))
    observation, _ = env.reset(seed=1)
    assert observation == observation.upper()
    for _ in range(3):
        *_, terminated, truncated, info = env.step("nothing")
        if terminated or truncated:
            break
    assert info["episode"]["r"] == 0.0


def test_it_can_be_shown(env_case):
    env_id, options = env_case
    env = gymnasium.make(env_id, render_mode="ansi", **options)
    observation, info = env.reset(seed=1)
    env.step("<tool_call>")
    shown = env.render()
    assert shown.startswith(f"[{info['messages'][0]['role']}]\n")
    assert observation[:200] in shown or len(info["messages"]) > 1
    assert make(env_id, **options).render() is None


def test_gymnasiums_own_wrappers_watch_over_it(env_case):
    env_id, options = env_case
    env = gymnasium.make(env_id, **options)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("x")
    env.reset(seed=1)
    scaled = gymnasium.wrappers.TransformReward(env, lambda reward: 2 * reward + 1)
    assert scaled.step("nothing")[1] == 1.0


def test_nothing_the_model_sees_holds_the_answer_of_another_kind(env_case):
    env_id, options = env_case
    env = make(env_id, **options)
    _, info = env.reset(seed=1)
    assert set(info) - {"env"} == {"task_id", "messages"}  # a mixture tells which environment plays
    assert not any("answer" in key for message in info["messages"] for key in message)


def test_replies_survive_pickling():
    reply = Hermes().parse('<think>x</think><tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>')
    again = pickle.loads(pickle.dumps(reply))
    assert isinstance(again, Reply)
    assert (again, again.tool_calls, again.reasoning) == (reply, reply.tool_calls, "x")
