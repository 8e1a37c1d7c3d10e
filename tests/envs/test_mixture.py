"""An environment of environments: shares, tasks, what an episode takes over from its environment, states."""

from __future__ import annotations

import json
from collections import Counter

import gymnasium
import numpy as np
import pytest

from quintain.envs import MixtureEnv, SingleTurnEnv, TextEnv, make
from quintain.tools import UserError
from quintain.verifiers import FinalNumber, Task

TWO = [
    {"id": "quintain/Calculator-v0", "weight": 3, "kwargs": {"max_steps": 1}},
    {"id": "quintain/GuessNumber-v0", "kwargs": {"high": 9}, "name": "guess"},
]


class Count(TextEnv):
    """A game without tasks."""

    def begin(self, task):
        self.next = int(self.np_random.integers(1000))
        return f"Count on from {self.next}."

    def respond(self, reply):
        self.next += 1
        return str(self.next)


def test_it_is_made_by_id_of_plain_data_and_by_gymnasium():
    env = make("quintain/Mixture-v0", envs=TWO)
    assert [(member.name, member.share) for member in env.members] == [
        ("quintain/Calculator-v0", 0.75),
        ("guess", 0.25),
    ]
    spec = gymnasium.make("quintain/Mixture-v0", envs=TWO).spec
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(spec.to_json()))
    assert again.reset(seed=3) == env.reset(seed=3)


def test_episodes_come_with_the_weights_and_tell_whose_they_are():
    env = make("quintain/Mixture-v0", envs=TWO)
    names = Counter()
    for seed in range(400):
        _, info = env.reset(seed=seed)
        names[info["env"]] += 1
        assert info["task_id"].startswith(info["env"] + ":")
    assert 260 < names["quintain/Calculator-v0"] < 340


def test_an_episode_has_the_tools_and_limits_of_its_environment():
    env = make("quintain/Mixture-v0", envs=TWO)
    env.reset(options={"env": "guess"})
    assert (env.tools, env.max_turns) == ((), 8)
    env.reset(options={"env": "quintain/Calculator-v0"})
    assert ([tool.name for tool in env.tools], env.max_turns) == (["calculator"], 5)
    observation, _, _, _, info = env.step(
        '<tool_call>{"name": "calculator", "arguments": {"expression": "6*7"}}</tool_call>'
    )
    assert (observation, info["env"]) == ("42", "quintain/Calculator-v0")
    assert [message["role"] for message in env.messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_the_oracles_of_the_members_solve_it(way):
    env = make("quintain/Mixture-v0")
    rng = np.random.default_rng(0)
    seen = set()
    for index in range(30):
        _, info = env.reset(options={"task": index})
        seen.add(info["env"])
        over, total = False, 0.0
        while not over:
            reply = env.oracle(env.task, env.messages, rng)
            _, reward, terminated, truncated, info = (
                env.step(reply) if way == "step" else await env.astep(reply)
            )
            total += reward
            over = terminated or truncated
        assert (total, info["score"].value) == (1.0, 1.0)
    assert len(seen) == 3


def test_a_task_and_a_seed_give_the_same_episode_everywhere():
    one, other = make("quintain/Mixture-v0", envs=TWO), make("quintain/Mixture-v0", envs=TWO).fresh()
    for index in (0, 1, 2, 2**31 - 1):
        options = {"task": index}
        assert one.reset(seed=7, options=options) == other.reset(seed=7, options=options)
        assert one.reset(seed=7, options={"task": one.task}) == other.reset(seed=7, options=options)


def test_environments_that_are_there_already_and_games_without_tasks_can_take_part():
    sums = SingleTurnEnv([Task("a", "1+1?", "2")], FinalNumber())
    env = MixtureEnv([{"env": sums, "name": "sums"}, {"env": Count(), "name": "count"}])
    by_name = {}
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        by_name.setdefault(info["env"], set()).add(observation)
        assert env.task.prompt == observation
    assert by_name["sums"] == {"1+1?"}
    assert len(by_name["count"]) > 3
    assert env.oracle is None


def test_two_of_the_same_kind_get_two_names():
    env = MixtureEnv([{"id": "quintain/GuessNumber-v0", "kwargs": {"high": high}} for high in (5, 50, 500)])
    names = [member.name for member in env.members]
    assert names == ["quintain/GuessNumber-v0", "quintain/GuessNumber-v0#2", "quintain/GuessNumber-v0#3"]
    assert "1 to 50." in env.reset(options={"env": names[1]})[0]


def test_a_copy_plays_an_episode_of_its_own():
    env = make("quintain/Mixture-v0", envs=TWO, render_mode="ansi")
    env.reset(seed=1)
    before = env.render()
    other = env.fresh()
    assert (other.task, other.messages, other.render()) == (None, [], None)
    with pytest.raises(gymnasium.error.ResetNeeded):
        other.step("x")
    other.reset(seed=2)
    other.step("x")
    other.close()
    assert env.render() == before
    assert before.startswith("[user]\n")


def test_its_state_is_that_of_the_episode_and_of_what_comes_next():
    env = MixtureEnv([{"env": Count(max_turns=3), "name": "count"}, *TWO])
    for seed in range(6):
        env.reset(seed=seed)
        env.step("<tool_call>")  # no reply, for any of them
        other = env.fresh()
        other.set_state(json.loads(json.dumps(env.get_state())))
        assert (other.task, other.messages, other.max_turns) == (env.task, env.messages, env.max_turns)
        assert other.step("<tool_call>") == env.step("<tool_call>")
        assert other.reset() == env.reset()


def test_closing_the_definition_closes_the_members_and_a_copy_does_not():
    class Resource:
        closed = 0

        def close(self):
            self.closed += 1

    inner, resource = Count(), Resource()
    inner._opened.append(resource)
    env = MixtureEnv([{"env": inner}])
    copied = env.fresh()
    copied.reset()
    copied.close()
    assert resource.closed == 0
    env.close()
    assert resource.closed == 1


def test_vector_environments_mix_too():
    envs = gymnasium.make_vec("quintain/Mixture-v0", num_envs=12)
    _, infos = envs.reset(seed=1)
    assert len(set(infos["env"])) == 3
    envs.step(["x"] * 12)
    envs.close()


@pytest.mark.parametrize(
    ("envs", "said"),
    [
        ([], "a mixture needs environments"),
        ("quintain/Calculator-v0", "a mixture needs environments"),
        (
            [{"id": "quintain/Calculater-v0"}],
            r"envs\[0\]: there is no environment 'quintain/Calculater-v0'; did you",
        ),
        ([{"id": "quintain/GuessNumber-v0", "kwargs": {"hihg": 3}}], r"envs\[0\]: .*has no option 'hihg'"),
        (
            [{"id": "quintain/GuessNumber-v0", "wieght": 3}],
            r"envs\[0\] has no key 'wieght'; did you mean 'weight'",
        ),
        (
            [{"id": "quintain/GuessNumber-v0", "weight": 0}],
            r"envs\[0\]: the weight must be a positive number, got 0",
        ),
        ([{"id": "quintain/GuessNumber-v0", "weight": float("nan")}], "positive number, got nan"),
        ([{"weight": 1}], r"envs\[0\] needs an id, or an env that is there already"),
        (
            [{"id": "quintain/GuessNumber-v0", "name": "a"}, {"id": "quintain/Countdown-v0", "name": "a"}],
            "'a' comes twice",
        ),
        ([3], r"envs\[0\] must be a mapping"),
        ([{"env": 3}], "env must be a TextEnv, without kwargs, got int"),
        ([{"id": "quintain/Mixture-v0"}], "a mixture in a mixture"),
        (
            [{"id": "quintain/GuessNumber-v0", "kwargs": 3}],
            "kwargs must be the options of quintain/GuessNumber-v0",
        ),
    ],
)
def test_a_wrong_mixture_is_told(envs, said):
    with pytest.raises(UserError, match=said):
        MixtureEnv(envs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"env": "chess"},
            r"the option env must name an environment of the mixture \('quintain/Calculator-v0', ",
        ),
        ({"task": Task("a", "?")}, "the info 'mixture' of the task 'a' must name an environment"),
        ({"tsak": 1}, "MixtureEnv.reset has no option 'tsak'"),
    ],
)
def test_a_wrong_episode_is_told(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Mixture-v0").reset(options=options)
