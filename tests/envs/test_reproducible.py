"""Every registered environment: the same seed is the same episode in any process, and in any branch of a state."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import os
import pickle
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from quintain.envs import StateError, TextEnv, list_envs, make
from quintain.envs.registry import load

REPLIES = ["1", "<answer>2</answer>", "", "<tool_call>", "[up]", "a b c d", "42."]


def transcript(env: TextEnv, seed: int, steps: int = 12) -> list[Any]:
    """Play senseless replies, some by the oracle, and return what a model would have seen."""
    rng = np.random.default_rng(seed)
    seen: list[Any] = [env.reset(seed=seed)[0], env.task.id]
    for i in range(steps):
        reply = (
            env.oracle(env.task, env.messages, rng)
            if env.oracle and i % 2
            else REPLIES[rng.integers(len(REPLIES))]
        )
        observation, reward, terminated, truncated, info = env.step(reply)
        seen += [observation, reward, terminated, truncated, info["messages"]]
        if terminated or truncated:
            seen += [info["score"].value, env.reset()[0]]
    return seen


def fingerprint(cases: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    found = {}
    for env_id, options in cases:
        env = make(env_id, **options)
        found[env_id] = hashlib.sha256(json.dumps(transcript(env, 5)).encode()).hexdigest()
        env.close()
    return found


@pytest.fixture
def env(env_case):
    env_id, options = env_case
    made = make(env_id, **options)
    yield made
    made.close()


@pytest.mark.slow  # makes every environment twice
def test_another_process_with_another_hash_seed_plays_the_same_episodes(row_files):
    cases = [
        (env_id, {"path": str(row_files[env_id])} if env_id in row_files else {})
        for env_id in list_envs()
        if env_id.startswith("quintain/")  # another test may have registered its own in this process
    ]
    code = (
        "import json, sys, importlib.util as u; s = u.spec_from_file_location('t', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); print(json.dumps(m.fingerprint(json.loads(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, __file__, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert json.loads(done.stdout) == fingerprint(cases)


def test_the_global_generators_are_neither_used_nor_seeded(env):
    random.seed(1), np.random.seed(1)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    first = transcript(env, 3)
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before
    random.seed(2), np.random.seed(2)
    assert transcript(env, 3) == first


def test_the_space_of_one_environment_does_not_move_the_episode_of_another(env):
    first = transcript(env, 3)
    env.action_space.seed(9)
    env.action_space.sample()
    env.fresh().reset(seed=77)
    assert transcript(env, 3) == first


def test_neighbouring_seeds_are_different_episodes(env):
    if env.tasks is not None and env.tasks.size is not None and env.tasks.size < 100:
        pytest.skip("a handful of tasks")
    episodes = {json.dumps(transcript(env, seed, 2)) for seed in range(12)}
    assert len(episodes) == 12


def test_training_and_held_out_tasks_have_no_prompt_in_common(env_case):
    env_id, options = env_case
    if "split" not in inspect.signature(load(env_id)).parameters or "path" in options:
        pytest.skip("no splits of its own")
    prompts = {}
    for split in ("train", "test"):
        env = make(env_id, **options, split=split)
        prompts[split] = {
            (task.prompt, json.dumps(task.info, default=str), str(task.answer))
            for task in env.tasks.take(100)
        }
        env.close()
    assert not prompts["train"] & prompts["test"]


def test_a_branch_goes_on_identically(env):
    env.reset(seed=11)
    rng = np.random.default_rng(0)
    replies = ["nonsense", None, None]
    for reply in replies:
        try:
            state = pickle.loads(pickle.dumps(env.get_state()))
        except StateError as error:
            pytest.skip(str(error))
        branch, copied = env.fresh(), copy.deepcopy(env)
        branch.set_state(state)
        if reply is None:
            reply = env.oracle(env.task, env.messages, rng) if env.oracle else "1"
        here = env.step(reply)
        assert branch.step(reply) == copied.step(reply) == here
        branch.close(), copied.close()
        if here[2] or here[3]:
            env.reset()
