"""Vector environments: ours, with its waiting members and masks, and Gymnasium's two around the same ids."""

from __future__ import annotations

import asyncio
import time
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics, TransformReward

from quintain.envs import MixtureEnv, TextEnv, TextVectorEnv, ToolEnv, Turn, make
from quintain.tools import Toolkit, UserError, tool
from quintain.verifiers import FinalNumber, Task


class Echo(TextEnv):
    """Says the reply again; `end` ends the episode, and a number is added to the step's info."""

    def respond(self, reply):
        if reply == "end":
            return Turn("Bye.", reward=1.0, done=True)
        if reply == "break":
            raise ZeroDivisionError("a bug")
        return Turn(f"{self.task.id}: {reply}", info={"length": len(reply), "kind": {"long": len(reply) > 3}})


def echoes(count: int = 3, **options) -> TextVectorEnv:
    tasks = [Task(name, f"I am {name}.") for name in "abcdef"]
    return TextVectorEnv(Echo(tasks=tasks, **options), count)


def started(count: int = 3, **options) -> TextVectorEnv:
    envs = echoes(count, **options)
    envs.reset(seed=1, options={"task": list(range(count))})
    return envs


def test_it_is_what_make_vec_gives_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gymnasium.make_vec("quintain/GuessNumber-v0", num_envs=3, high=9)
    assert isinstance(envs, VectorEnv)
    assert isinstance(envs, TextVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert envs.num_envs == 3
    observations, _ = envs.reset(seed=1)
    assert "1 to 9" in observations[2]
    assert observations in envs.observation_space
    assert envs.action_space.sample() in envs.action_space


def test_its_spec_goes_through_json():
    spec = gymnasium.make_vec("quintain/GuessNumber-v0", num_envs=3, high=9).spec
    again = gymnasium.make_vec(EnvSpec.from_json(spec.to_json()))
    assert (again.num_envs, again.reset(seed=1)[0]) == (3, gymnasium.make_vec(spec).reset(seed=1)[0])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_same_seed_gives_the_same_episodes_as_gymnasiums(mode):
    def transcript(mode: str) -> list[object]:
        envs = gymnasium.make_vec("quintain/Calculator-v0", num_envs=3, vectorization_mode=mode)
        seen: list[object] = [envs.reset(seed=5)[0]]
        call = '<tool_call>{"name": "calculator", "arguments": {"expression": "6*7"}}</tool_call>'
        for _ in range(3):
            observations, rewards, terminations, truncations, infos = envs.step((call,) * 3)
            seen += [
                observations,
                list(rewards),
                list(terminations),
                list(truncations),
                list(infos["task_id"]),
            ]
        envs.close()
        return seen

    assert transcript("vector_entry_point") == transcript(mode)


def test_one_episode_ends_and_the_others_go_on():
    envs = started()
    observations, rewards, terminations, truncations, infos = envs.step(["x", "end", "hello"])

    assert observations == ("a: x", "Bye.", "c: hello")
    assert list(rewards) == [0.0, 1.0, 0.0]
    assert list(terminations) == [False, True, False]
    assert list(truncations) == [False, False, False]
    assert list(infos["length"]) == [1, 0, 5]
    assert list(infos["_length"]) == [True, False, True]
    assert list(infos["kind"]["long"]) == [False, False, True]
    assert infos["score"][1].value == 1.0
    assert list(envs.live) == [True, False, True]

    observations, rewards, terminations, _, infos = envs.step(["y", "ignored", "z"])
    assert observations == ("a: y", "", "c: z")
    assert list(terminations) == [False, True, False]
    assert list(infos["_task_id"]) == [True, False, True]


def test_a_member_waits_when_its_action_is_none():
    envs = started()
    observations, _, _, _, infos = envs.step([None, "x", None])
    assert observations == ("", "b: x", "")
    assert list(infos["_reply"]) == [False, True, False]
    assert [len(env.messages) for env in envs.envs] == [1, 3, 1]


def test_a_mask_resets_some_and_leaves_the_options_of_the_caller_alone():
    envs = started()
    envs.step(["end", "x", "end"])
    options = {"reset_mask": ~envs.live, "task": 5}
    observations, infos = envs.reset(options=options)

    assert observations == ("I am f.", "", "I am f.")
    assert list(infos["_task_id"]) == [True, False, True]
    assert list(envs.live) == [True, True, True]
    assert "reset_mask" in options
    assert envs.step(["x"] * 3)[0] == ("f: x", "b: x", "f: x")


def test_a_whole_batch_can_be_played_to_its_end():
    envs = gymnasium.make_vec("quintain/GuessNumber-v0", num_envs=5)
    envs.reset(seed=3)
    rng = np.random.default_rng(0)
    total = np.zeros(5)
    while envs.live.any():
        replies = [
            env.oracle(env.task, env.messages, rng) if live else None
            for env, live in zip(envs.envs, envs.live, strict=True)
        ]
        total += envs.step(replies)[1]
    assert list(total) == [1.0] * 5
    with pytest.raises(gymnasium.error.ResetNeeded, match="no episode is running"):
        envs.step(["1"] * 5)


def test_members_wait_at_the_same_time():
    class Slow(Echo):
        async def arespond(self, reply):
            await asyncio.sleep(0.2)
            return "done"

    envs = TextVectorEnv(Slow(tasks=[Task("a", "Go.")]), 32)
    envs.reset(seed=1)
    begin = time.perf_counter()
    envs.step(["x"] * 32)
    assert time.perf_counter() - begin < 1.0


async def test_inside_a_running_loop_there_is_astep_and_step_works_too():
    envs, other = started(), started()
    one, two = await envs.astep(["x", "y", "end"]), other.step(["x", "y", "end"])
    assert one[0] == two[0] == ("a: x", "b: y", "Bye.")
    envs.close(), other.close()


def test_what_belongs_to_a_loop_lives_from_step_to_step():
    class Locked(Echo):
        async def arespond(self, reply):
            loop = asyncio.get_running_loop()
            self.first = getattr(self, "first", loop)
            return str(self.first is loop)

    envs = TextVectorEnv(Locked(tasks=[Task("a", "Go.")]), 2)
    envs.reset(seed=1)
    envs.step(["x"] * 2)
    assert envs.step(["x"] * 2)[0] == ("True", "True")
    envs.close()


@pytest.mark.parametrize("mixed", [False, True])
def test_toolkits_are_opened_and_closed_on_one_loop(mixed):
    loops = []

    class Bound(Toolkit):
        async def open(self, setup):
            loops.append(asyncio.get_running_loop())

        @tool
        async def look(self) -> str:
            """Look."""
            loops.append(asyncio.get_running_loop())
            return "dark"

        async def close(self):
            loops.append(asyncio.get_running_loop())

    env = ToolEnv([Task("a", "Go.", "1")], [Bound()], FinalNumber())
    envs = TextVectorEnv(MixtureEnv([{"env": env}]) if mixed else env, 2)
    envs.reset(seed=1)
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    envs.step([call] * 2)
    envs.reset(seed=2)
    envs.step([call, None])
    envs.close()
    assert len(loops) == 9
    assert len(set(map(id, loops))) == 1


async def test_what_astep_opened_is_closed_by_aclose():
    class Bound(Toolkit):
        @tool
        async def look(self) -> str:
            """Look."""
            return "dark"

        async def close(self):
            closed.append(asyncio.get_running_loop())

    closed = []
    envs = TextVectorEnv(ToolEnv([Task("a", "Go.", "1")], [Bound()], FinalNumber()), 2)
    envs.reset(seed=1)
    await envs.astep(['<tool_call>{"name": "look", "arguments": {}}</tool_call>'] * 2)
    await envs.aclose()
    assert closed == [asyncio.get_running_loop()] * 2
    assert envs.closed


def test_a_bug_in_one_member_is_raised():
    with pytest.raises(ZeroDivisionError, match="a bug"):
        started().step(["x", "break", "x"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: echoes(0), "num_envs must be at least 1, got 0"),
        (lambda: TextVectorEnv(gymnasium.make("CartPole-v1")), "needs a TextEnv, got"),
        (lambda: started().step("abc"), "step needs 3 actions, one for each environment, got one text"),
        (lambda: started().step(["x"]), "step needs 3 actions, one for each environment, got 1"),
        (lambda: started().step(["x", 3, "x"]), r"action 1 must be text \(str\), or None to wait, got int"),
        (lambda: echoes().reset(seed=[1, 2]), "there are 3 environments and 2 seeds"),
        (lambda: echoes().reset(options={"reset_mask": [True]}), r"array of booleans of shape \(3,\)"),
        (lambda: echoes().reset(options={"reset_mask": np.zeros(3, bool)}), "at least one environment"),
        (lambda: echoes().reset(options={"task": [1]}), "the option 'task' has 1 values for 3 environments"),
        (lambda: echoes().reset(options={"taks": 1}), "has no option 'taks'"),
    ],
)
def test_wrong_use_is_told(wrong, said):
    with pytest.raises(UserError, match=said):
        wrong()


def test_nothing_is_stepped_if_one_action_is_wrong():
    envs = started()
    with pytest.raises(UserError):
        envs.step(["x", "y", b"z"])
    assert [len(env.messages) for env in envs.envs] == [1, 1, 1]


def test_before_the_first_reset_nothing_is_live():
    with pytest.raises(gymnasium.error.ResetNeeded):
        echoes().step(["x"] * 3)


def test_gymnasiums_vector_wrappers_go_round_it():
    envs = DictInfoToList(TransformReward(RecordEpisodeStatistics(started()), lambda rewards: 2 * rewards))
    envs.reset(seed=1)
    envs.step(["x", "x", "x"])
    _, rewards, _, _, infos = envs.step(["x", "end", "x"])
    assert list(rewards) == [0.0, 2.0, 0.0]
    assert (infos[1]["episode"]["r"], infos[1]["episode"]["l"]) == (1.0, 2)
    assert infos[0]["length"] == 1
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    _, _, _, _, infos = envs.step(["x", "end", "x"])
    assert (infos[1]["episode"]["r"], infos[1]["episode"]["l"]) == (1.0, 1)


def test_attributes_and_methods_of_the_members():
    envs = started(render_mode="ansi")
    assert envs.call("render")[0] == envs.render()[0] == "[user]\nI am a."
    assert [task.id for task in envs.get_attr("task")] == ["a", "b", "c"]
    envs.set_attr("mark", [1, 2, 3])
    assert envs.get_attr("mark") == (1, 2, 3)


def test_closing_closes_the_definition_once():
    class Resource:
        closed = 0

        def close(self):
            self.closed += 1

    envs, resource = echoes(), Resource()
    envs.env._opened.append(resource)
    envs.close()
    envs.close()
    assert resource.closed == 1


def test_infos_of_different_kinds_are_objects():
    class Odd(Echo):
        def respond(self, reply):
            return Turn("x", info={"n": 2**70 if reply == "big" else "text" if reply == "text" else 1})

    envs = TextVectorEnv(Odd(tasks=[Task("a", "Go.")]), 3)
    envs.reset(seed=1)
    assert list(envs.step(["big", "text", "x"])[4]["n"]) == [2**70, "text", 1]
    assert list(envs.step(["big", None, "big"])[4]["n"]) == [2**70, None, 2**70]


# --- processes


@pytest.mark.parametrize("shared", [True, False])
def test_processes_give_texts_of_any_kind(shared):
    envs = gymnasium.vector.AsyncVectorEnv(
        [lambda: Echo(tasks=[Task("ü", "I am 文.")])] * 2, shared_memory=shared
    )
    try:
        first, _ = envs.reset(seed=1)
        later = envs.step(("🙂" * 1000, "y" * 100_000))[0]
        assert first == ("I am 文.", "I am 文.")
        assert later == ("ü: " + "🙂" * 1000, "ü: " + "y" * 100_000)
        assert isinstance(first, tuple)
    finally:
        envs.close()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Gymnasium tells it three times
def test_a_text_that_shared_memory_cannot_hold_is_told():
    envs = gymnasium.vector.AsyncVectorEnv([lambda: Echo(tasks=[Task("a", "Go.")])])
    try:
        envs.reset(seed=1)
        with pytest.raises(ValueError, match='"shared_memory": False'):
            envs.step(("x" * 300_000,))
    finally:
        envs.close(terminate=True)


def test_spawned_processes_work_too():
    envs = gymnasium.make_vec(
        "quintain/GuessNumber-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"}
    )
    try:
        assert (
            envs.reset(seed=1)[1]["task_id"][0] == make("quintain/GuessNumber-v0").reset(seed=1)[1]["task_id"]
        )
    finally:
        envs.close()
