"""The state of an episode: what is captured, what it may be carried through, and what cannot be captured."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest

from quintain.envs import StateError, TextEnv, ToolEnv, Turn
from quintain.tools import Toolkit, UserError, tool
from quintain.verifiers import FinalNumber, Task


class Dice(TextEnv):
    """Throws dice, with no line about states."""

    sides = 6

    def begin(self, task):
        self.thrown = []
        self.best = 0
        return "Say how many."

    def respond(self, reply):
        self.thrown.append([int(n) for n in self.np_random.integers(1, self.sides + 1, size=3)])
        self.best = max(self.best, *self.thrown[-1])
        return Turn(f"{self.thrown[-1]}, best {self.best}, {len(self.thrown)} throws", reward=0.125)


def play(env: TextEnv, count: int) -> list[object]:
    return [env.step("throw") for _ in range(count)]


def begun(env: TextEnv, count: int = 2) -> TextEnv:
    env.reset(seed=4)
    play(env, count)
    return env


@pytest.mark.parametrize("way", ["as it is", "json", "pickle"])
def test_a_fresh_copy_goes_on_identically(way):
    env = begun(Dice(max_turns=5))
    state = env.get_state()
    state = {
        "as it is": state,
        "json": json.loads(json.dumps(state)),
        "pickle": pickle.loads(pickle.dumps(state)),
    }[way]
    other = env.fresh()
    other.set_state(state)

    assert (other.messages, other.task, other.np_random_seed) == (env.messages, env.task, 4)
    assert play(other, 3) == play(env, 3)
    assert other.reset() == env.reset()


def test_many_branches_start_from_one_state():
    env = begun(Dice())
    state = env.get_state()
    futures = []
    for _ in range(3):
        env.set_state(state)
        futures.append(play(env, 4))
    assert futures[0] == futures[1] == futures[2]
    assert state["attributes"] == {
        "thrown": state["attributes"]["thrown"],
        "best": state["attributes"]["best"],
    }
    assert len(state["attributes"]["thrown"]) == 2


def test_a_state_survives_what_the_environment_does_later_and_other_way_round():
    env = begun(Dice())
    state = env.get_state()
    before = copy.deepcopy(state)
    play(env, 1)
    env.reset(seed=9)
    assert state == before

    env.set_state(state)
    env.thrown.clear()
    env.messages[0]["content"] = "changed"
    assert state == before


def test_an_attribute_that_the_new_episode_did_not_set_is_gone():
    class Remembers(Dice):
        def respond(self, reply):
            if reply == "mark":
                self.mark = True
            return "marked" if hasattr(self, "mark") else "clean"

    env = Remembers()
    env.reset(seed=1)
    state = env.get_state()
    env.step("mark")
    env.set_state(state)
    assert env.step("?")[0] == "clean"


def test_an_attribute_with_a_value_from_the_constructor_goes_back_to_it():
    class Counts(TextEnv):
        def __init__(self):
            super().__init__()
            self.count = 0

        def begin(self, task):
            self.count = 0
            return "Go."

        def respond(self, reply):
            self.count += 1
            return str(self.count)

    env = Counts()
    env.reset()
    state = env.get_state()
    env.step("x")
    other = env.fresh()
    for branch in (env, other):
        branch.set_state(state)
        assert branch.step("x")[0] == "1"


def test_objects_that_hold_the_generator_the_environment_or_the_definition_mean_those_of_the_new_one():
    @dataclass
    class Game:
        rng: np.random.Generator
        env: TextEnv
        tasks: object
        shout: object

    class Holds(TextEnv):
        def begin(self, task):
            self.game = Game(self.np_random, self, self.tasks, self.say)
            return task.prompt

        def say(self):
            return int(self.game.rng.integers(1000))

        def respond(self, reply):
            return f"{self.game.shout()} {self.np_random.integers(1000)}"

    env = Holds(tasks=[Task("a", "Go.")])
    env.reset(seed=1)
    other = env.fresh()
    other.set_state(env.get_state())

    assert other.game.rng is other.np_random
    assert other.game.env is other
    assert other.game.tasks is env.tasks
    assert play(other, 3) == play(env, 3)


def test_a_deep_copy_is_a_branch():
    env = begun(Dice())
    branch = copy.deepcopy(env)
    assert play(branch, 2) == play(env, 2)
    assert branch.thrown is not env.thrown
    assert copy.deepcopy(Dice()).task is None


def test_an_environment_inside_an_environment_is_captured_with_it():
    class Outer(TextEnv):
        def begin(self, task):
            self.inner = Dice()
            return self.inner.reset(seed=int(self.np_random.integers(1000)))[0]

        def respond(self, reply):
            return self.inner.step(reply)[0]

    env = begun(Outer())
    other = env.fresh()
    other.set_state(env.get_state())
    assert play(other, 3) == play(env, 3)


def test_tools_are_shared_and_calls_keep_their_numbers():
    @tool
    def double(x: int) -> int:
        """Return twice x."""
        return 2 * x

    call = '<tool_call>{"name": "double", "arguments": {"x": 4}}</tool_call>'
    env = ToolEnv([Task("a", "Go.", "8")], [double], FinalNumber())
    env.reset(seed=1)
    env.step(call)
    other = env.fresh()
    other.set_state(json.loads(json.dumps(env.get_state())))
    assert other.step(call)[4]["reply"].tool_calls[0].id == "call_1"
    assert other.step("8")[1] == 1.0


def test_an_episode_that_is_over_stays_over():
    env = begun(Dice(max_turns=2))
    other = env.fresh()
    other.set_state(env.get_state())
    with pytest.raises(gymnasium.error.ResetNeeded):
        other.step("x")


# --- what is refused


class Session:
    def close(self):
        pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            Session(),
            r"the attribute 'held' \(Session\) cannot be captured: it is something open that has to be closed",
        ),
        (threading.Lock(), r"the attribute 'held' \(lock\) cannot be captured: TypeError: cannot pickle"),
        ([threading.Lock()], r"the attribute 'held' \(list\) cannot be captured: TypeError: cannot pickle"),
    ],
)
def test_what_cannot_be_copied_is_named(value, said):
    env = begun(Dice())
    env.held = value
    with pytest.raises(StateError, match=f"Dice: {said}.*Write `get_state` and `set_state`"):
        env.get_state()


def test_a_resource_of_the_definition_is_no_obstacle():
    env = Dice()
    env.shared = Session()
    state = begun(env).get_state()
    assert "shared" not in state["attributes"]


def test_a_state_of_another_class_and_what_is_no_state_are_refused():
    class Other(Dice):
        pass

    state = begun(Dice()).get_state()
    with pytest.raises(UserError, match=r"this is the state of .*Dice, and the environment is .*Other"):
        Other().set_state(state)
    with pytest.raises(UserError, match=r"Dice\.set_state takes what get_state returned, got 3"):
        Dice().set_state(3)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        Dice().get_state()


# --- toolkits


class Notes(Toolkit):
    def __init__(self, shared=()):
        self.shared = shared

    async def open(self, setup):
        self.lines = ["opened"]

    @tool
    def note(self, text: str) -> str:
        """Write a line down."""
        self.lines.append(text)
        return " ".join(self.lines)


def noting(kit: Toolkit) -> ToolEnv:
    env = ToolEnv([Task("a", "Go.", "8")], [kit], FinalNumber())
    env.reset(seed=1)
    return env


def note(text: str) -> str:
    call = {"name": "note", "arguments": {"text": text}}
    return f"<tool_call>{json.dumps(call)}</tool_call>"


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_what_toolkits_hold_is_part_of_the_state(way):
    env = noting(Notes([object()]))
    env.step(note("one"))
    state = json.loads(json.dumps(env.get_state()))
    env.step(note("two"))
    for branch in (env, env.fresh()):
        branch.set_state(state)
        answer = branch.step(note("three")) if way == "step" else await branch.astep(note("three"))
        assert answer[0] == "opened one three"
        branch.close()


def test_a_toolkit_that_is_not_open_yet_is_no_obstacle():
    env = noting(Notes())
    other = env.fresh()
    other.set_state(env.get_state())
    assert other.step(note("one"))[0] == "opened one"
    other.close()


def test_a_toolkit_with_an_open_session_is_named():
    class Held(Notes):
        async def open(self, setup):
            self.lines = []
            self.session = Session()

    env = noting(Held())
    env.step(note("one"))
    with pytest.raises(StateError, match=r"Held: the attribute 'session' \(Session\) cannot be captured"):
        env.get_state()
    env.close()
