"""`TextEnv`: what a subclass writes, what comes out of `reset` and `step`, what is refused at the boundary."""

from __future__ import annotations

import inspect
import textwrap

import gymnasium
import numpy as np
import pytest

from quintain.envs import SingleTurnEnv, TextEnv, Turn
from quintain.tools import InfrastructureError, Reply, UserError
from quintain.verifiers import Score, Task, Verifier


class EndsWell(Verifier):
    def score(self, episode):
        return Score(float(episode.reply.endswith(".")))


class Fails(Verifier):
    def score(self, episode):
        raise OSError("the judge is away")


class Says(TextEnv):
    """Answers what it is told to answer."""

    answer: object = "Go on."

    def begin(self, task):
        return task.prompt or "Begin."

    def respond(self, reply):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


TASKS = [Task("a", "Say it."), Task("b", "Say more.")]


def says(answer: object, **options) -> Says:
    env = Says(**options)
    env.answer = answer
    env.reset(seed=0)
    return env


def test_the_example_of_the_docstring_is_an_environment():
    text = inspect.getdoc(TextEnv).split("`begin` and `respond`:\n\n")[1].split("\n\nRules")[0]
    source = textwrap.dedent(text)
    scope = {"TextEnv": TextEnv, "Turn": Turn}
    exec(source, scope)

    assert scope["info"]["messages"][0]["content"] in ("Too low.", "Too high.", "Right.")
    assert len([line for line in source.splitlines() if line.strip()]) <= 25


def test_reset_gives_the_prompt_and_the_messages():
    observation, info = Says(tasks=TASKS, system_prompt="Be brief.").reset(options={"task": 1})

    assert info == {
        "task_id": "b",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say more."}],
    }
    assert observation == "Be brief.\n\nSay more."


def test_a_step_gives_the_new_messages_and_the_reply_as_read():
    env = says("Go on.", tasks=TASKS)
    observation, reward, terminated, truncated, info = env.step("<think>hm</think>yes")

    assert (observation, reward, terminated, truncated) == ("Go on.", 0.0, False, False)
    assert info["messages"] == [{"role": "user", "content": "Go on."}]
    assert (info["reply"].content, info["reply"].reasoning) == ("yes", "hm")
    assert [message["role"] for message in env.messages] == ["user", "assistant", "user"]


def test_a_task_is_drawn_from_the_generator():
    env = Says(tasks=TASKS)
    ids = [env.reset(seed=3)[1]["task_id"]] + [env.reset()[1]["task_id"] for _ in range(20)]
    again = [env.reset(seed=3)[1]["task_id"]] + [env.reset()[1]["task_id"] for _ in range(20)]
    assert ids == again
    assert set(ids) == {"a", "b"}


def test_an_environment_without_tasks_names_its_episodes_by_seed():
    env = Says()
    assert env.reset(seed=3)[1]["task_id"] == "seed-3-1"
    assert env.reset()[1]["task_id"] == "seed-3-2"
    assert env.task == Task("seed-3-2", "Begin.")


# --- the end


def test_the_verifier_judges_at_the_end():
    env = says(Turn("Bye.", done=True), tasks=TASKS, verifier=EndsWell())
    _, reward, terminated, truncated, info = env.step("Well.")

    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["score"] == Score(1.0)


def test_the_turn_limit_truncates_and_the_episode_is_still_judged():
    env = says("Go on.", tasks=TASKS, verifier=EndsWell(), max_turns=2)
    assert "score" not in env.step("One.")[4]
    _, reward, terminated, truncated, info = env.step("Two.")

    assert (reward, terminated, truncated, info["score"].value) == (1.0, False, True, 1.0)


def test_without_a_verifier_the_score_is_the_sum_of_the_rewards_within_bounds():
    env = says(Turn("More.", reward=0.75), max_turns=2)
    env.step("x")
    info = env.step("x")[4]
    assert info["score"] == Score(1.0, parts={"return": 1.5}, reason="the sum of the rewards")


def test_a_score_of_the_turn_counts_before_the_verifier():
    env = says(Turn(done=True, score=Score(0.5)), tasks=TASKS, verifier=EndsWell())
    _, reward, *_, info = env.step("Well.")
    assert (reward, info["score"].value) == (0.5, 0.5)


def test_a_verifier_that_fails_leaves_the_episode_ungraded():
    env = says(Turn(done=True), tasks=TASKS, verifier=Fails())
    _, reward, terminated, _, info = env.step("Well.")
    assert (reward, terminated, info["score"].graded) == (0.0, True, False)
    assert "the judge is away" in info["score"].reason


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_a_failure_of_ours_ends_the_episode_ungraded(way):
    env = says(InfrastructureError("server", "connection refused"), tasks=TASKS, verifier=EndsWell())
    answer = env.step("x") if way == "step" else await env.astep("x")
    observation, reward, terminated, truncated, info = answer

    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert info["score"] == Score.ungraded("infrastructure: server: connection refused")
    assert info["messages"] == []


def test_an_error_of_the_subclass_is_a_bug_and_is_raised():
    with pytest.raises(ZeroDivisionError):
        says(ZeroDivisionError()).step("x")


@pytest.mark.parametrize("when", ["before reset", "after the end"])
def test_a_step_outside_an_episode_is_refused(when):
    env = Says() if when == "before reset" else says(Turn(done=True))
    if when == "after the end":
        env.step("x")
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(\) before step\(\)"):
        env.step("x")


# --- what is refused


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "Says.respond must return a text or a Turn, got NoneType; write, for example, `return Turn"),
        (("x", 1.0), "must return a text or a Turn, got tuple"),
        (Turn("x", reward=float("nan")), "the reward must be a finite number, got nan"),
        (Turn("x", reward="1"), "the reward must be a finite number, got '1'"),
        (Turn("x", score=1.0), r"score must be a Score, got float; write `Score\(1.0\)`"),
        (Turn("x", done="yes"), "done must be True or False, got 'yes'"),
        (Turn("x", info=3), 'info must be a mapping such as {"moves": 3}, got int'),
        (Turn("x", reward=np.array([1.0])), "the reward must be a finite number, got array"),
        (Turn("x", reward=1j), "the reward must be a finite number, got 1j"),
        (Turn(None), "must return a text or a list of messages, got NoneType"),
        (Turn(3), "must return a text or a list of messages, got int"),
        (Turn([{"role": "user"}]), "a message needs a role and a text as content"),
        ("", "must answer something or end the episode"),
    ],
)
def test_what_a_subclass_may_not_return(answer, said):
    with pytest.raises(UserError, match=said):
        says(answer).step("x")


def test_an_asynchronous_respond_is_named():
    class Late(TextEnv):
        async def respond(self, reply):
            return "x"

    env = Late(tasks=TASKS)
    env.reset()
    with pytest.raises(UserError, match="name it `arespond`"):
        env.step("x")


def test_numpy_values_become_plain_ones():
    answer = says(Turn("x", reward=np.float32(0.5), done=np.bool_(True))).step("x")
    assert [type(part) for part in answer] == [str, float, bool, bool, dict]


def test_a_subclass_without_respond_is_told_what_to_write():
    env = TextEnv(tasks=TASKS)
    env.reset()
    with pytest.raises(UserError, match=r"TextEnv must define `respond\(self, reply\)`"):
        env.step("x")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Says(max_turns=0), "max_turns must be at least 1 or None, got 0"),
        (lambda: Says(max_turns="8"), "max_turns must be at least 1 or None, got '8'"),
        (lambda: Says(tasks="rows.jsonl"), r"got str; for a file write `TaskSet.from_file\(path\)`"),
        (lambda: Says(tasks=7), "a task set is made of tasks, or of a function of the index, got int"),
        (
            lambda: Says(tasks={"a": 1}),
            "a task set is made of tasks, or of a function of the index, got dict",
        ),
        (lambda: Says(render_mode="human"), "render_mode must be None or 'ansi', got 'human'"),
        (
            lambda: Says(verifier=lambda reply, task: 1.0),
            "verifier must be a Verifier, got function; make one",
        ),
        (lambda: Says(tasks=[]), "holds no tasks"),
        (lambda: SingleTurnEnv(TASKS, None), "SingleTurnEnv needs tasks and a verifier"),
        (
            lambda: Says(tasks=TASKS).reset(options={"task": 2}),
            "there is no task 2 in tasks: the indices are 0 to 1",
        ),
        (lambda: Says(tasks=TASKS).reset(options={"task": "a"}), "must be an index or a Task, got 'a'"),
        (
            lambda: Says(tasks=TASKS).reset(options={"index": 1}),
            "has no option 'index'; there are 'task' and 'difficulty'",
        ),
        (lambda: Says().reset(options={"task": 1}), "has no tasks to choose from"),
        (lambda: says("x").step(b"bytes"), r"an action must be text \(str\), got bytes"),
    ],
)
def test_wrong_use_is_told(make, said):
    with pytest.raises(UserError, match=said):
        make()


# --- replies, rendering, closing


def test_replies_are_read_with_ids_that_are_unique_in_the_episode():
    env = says("Go on.")
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    read = env.format.parse(text)

    ids = [env.step(reply)[4]["reply"].tool_calls[0].id for reply in (text, read, text)]

    assert ids == ["call_0", "call_1", "call_2"]


def test_text_that_cannot_be_encoded_is_replaced():
    assert says("Go on.").step("a\ud800b")[4]["reply"] == Reply("a?b")


def test_rendering_shows_the_conversation():
    env = Says(render_mode="ansi")
    assert env.render() is None
    env.reset()
    env.step('<think>hm</think><tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>')
    assert env.render() == (
        "[user]\nBegin.\n\n[assistant]\n(thinks) hm\n(calls f) {'x': 1}\n\n[user]\nGo on."
    )


def test_closing_frees_what_was_opened_once_and_not_by_a_copy():
    class Resource:
        closed = 0

        def close(self):
            self.closed += 1

    env, resource = Says(), Resource()
    env._opened.append(resource)
    env.fresh().close()
    assert resource.closed == 0
    env.close()
    env.close()
    assert resource.closed == 1


async def test_a_subclass_that_overrides_step_has_its_own_astep():
    class Own(TextEnv):
        def step(self, action):
            return "own", 0.0, True, False, {}

    assert (await Own().astep("x"))[0] == "own"


def test_the_verifier_sees_the_evidence_that_the_environment_read():
    class Room(TextEnv):
        def begin(self, task):
            self.door = "shut"
            return "Open the door."

        def respond(self, reply):
            self.door = "open" if reply == "open" else "shut"
            return Turn(done=True)

        def evidence(self):
            return {"door": self.door}

    class DoorIsOpen(Verifier):
        def score(self, episode):
            return Score(float(episode.evidence["door"] == "open"))

    env = Room(verifier=DoorIsOpen())
    env.reset(seed=0)
    assert env.step("open")[1] == 1.0
    env.reset(seed=0)
    assert env.step("I have opened it.")[1] == 0.0


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        (None, "Opens.begin must return a text or a list of messages, got NoneType"),
        ("", "Opens.begin must return what the model is asked, got an empty text"),
        ([{"role": "user", "content": 3}], "a message needs a role and a text as content"),
    ],
)
def test_what_begin_may_not_return(opening, said):
    class Opens(Says):
        def begin(self, task):
            return opening

    with pytest.raises(UserError, match=said):
        Opens(tasks=TASKS).reset()


def test_an_asynchronous_begin_is_named():
    class Late(Says):
        async def begin(self, task):
            return "x"

    with pytest.raises(UserError, match=r"Late\.begin is asynchronous: only `arespond`"):
        Late(tasks=TASKS).reset()


def test_evidence_that_is_no_mapping_is_refused():
    class Sees(Says):
        def evidence(self):
            return ["door"]

    env = Sees(tasks=TASKS, verifier=EndsWell(), max_turns=1)
    env.reset()
    with pytest.raises(UserError, match=r"Sees\.evidence must return a mapping, got list"):
        env.step("x")
