"""Toolkits in a `ToolEnv`: a state per episode, opened when needed, shown to the verifier, closed whatever happens."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from quintain.envs import ToolEnv
from quintain.sandboxes.base import WorkerDied
from quintain.tools import Hermes, InfrastructureError, ToolCall, Toolkit, UserError, tool
from quintain.verifiers import Score, Task, Verifier

TASKS = [Task("a", "Write down 'x'.", info={"notes": ["old"]}), Task("b", "Write down 'y'.")]


class Notes(Toolkit):
    """Lines of one episode; `log` is shared and tells what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def open(self, setup):
        await asyncio.sleep(0)
        self.log.append("open")
        self.lines = list(setup.get("notes", []))
        self.loop = asyncio.get_running_loop()
        self.table = sqlite3.connect(":memory:")  # refuses any other thread

    @tool
    def note(self, text: str) -> str:
        """Write a line down."""
        self.table.execute("select 1")
        self.lines.append(text)
        return f"{len(self.lines)} lines"

    @tool
    async def look(self, after_s: float = 0.0) -> str:
        """Read the lines."""
        await asyncio.sleep(after_s)
        assert asyncio.get_running_loop() is self.loop
        return " ".join(self.lines)

    async def evidence(self):
        return {"notes": self.lines}

    async def close(self):
        await asyncio.sleep(0)
        self.log.append("close")
        self.table.close()

    def shutdown(self):
        self.log.append("shutdown")


class Wrote(Verifier):
    """Full marks if the last line of the evidence is what the task names."""

    def score(self, episode):
        return Score(float(episode.evidence["notes"][-1:] == [episode.task.prompt[-3]]))


def calling(*calls: tuple[str, dict[str, object]]) -> str:
    return Hermes().render("", None, [ToolCall("", name, arguments) for name, arguments in calls])


NOTE_X = calling(("note", {"text": "x"}))
LOOK = calling(("look", {}))


def env(kit: Toolkit | None = None, **options) -> ToolEnv:
    return ToolEnv(TASKS, [kit or Notes()], Wrote(), **options)


async def play(made: ToolEnv, way: str, *replies: str) -> list[tuple]:
    return [made.step(text) if way == "step" else await made.astep(text) for text in replies]


WAYS = pytest.mark.parametrize("way", ["step", "astep"])


@WAYS
async def test_the_calls_of_an_episode_share_its_state_and_the_verifier_sees_it(way):
    kit = Notes()
    made = env(kit)
    made.reset(options={"task": 0})
    answers = await play(made, way, NOTE_X, LOOK, "Done.")

    assert [answer[0] for answer in answers] == ["2 lines", "old x", ""]
    assert answers[-1][1] == 1.0
    assert kit.log == ["open", "close"]


def test_outside_an_event_loop_too():
    made = env()
    made.reset(options={"task": 0})
    assert [made.step(text)[0] for text in (NOTE_X, LOOK, LOOK)] == ["2 lines", "old x", "old x"]
    assert made.step("Done.")[1] == 1.0


@WAYS
async def test_without_a_call_the_toolkit_is_opened_for_the_evidence(way):
    kit = Notes()
    made = env(kit)
    made.reset(options={"task": 0})
    assert kit.log == []
    ((_, reward, *_),) = await play(made, way, "Done.")
    assert (reward, kit.log) == (0.0, ["open", "close"])


@WAYS
async def test_each_episode_has_a_state_of_its_own(way):
    made = env()
    for _ in range(2):
        made.reset(options={"task": 0})
        assert (await play(made, way, NOTE_X))[0][0] == "2 lines"
    made.close()


async def test_episodes_at_the_same_time_do_not_meet():
    made = env()
    episodes = [made.fresh() for _ in range(8)]
    for number, episode in enumerate(episodes):
        episode.reset(options={"task": Task(str(number), "p", info={"notes": [str(number)]})})
    seen = await asyncio.gather(
        *(
            episode.astep(calling(("look", {"after_s": 0.01 * (8 - number)})))
            for number, episode in enumerate(episodes)
        )
    )
    assert [answer[0] for answer in seen] == [str(number) for number in range(8)]
    await asyncio.gather(*(episode.aclose() for episode in episodes))


@WAYS
async def test_an_unfinished_episode_is_closed_with_the_environment(way):
    kit = Notes()
    made = env(kit)
    copy = made.fresh()
    copy.reset(options={"task": 0})
    await play(copy, way, NOTE_X)
    await copy.aclose()
    assert kit.log == ["open", "close"]
    await made.aclose()
    assert kit.log == ["open", "close", "shutdown"]


async def test_a_plain_close_on_the_running_loop_closes_a_moment_later():
    kit = Notes()
    made = env(kit).fresh()
    made.reset(options={"task": 0})
    await made.astep(NOTE_X)
    made.close()
    await asyncio.sleep(0.01)
    assert kit.log == ["open", "close"]


def test_a_plain_close_after_the_loop_has_ended_closes_too():
    kit = Notes()
    made = env(kit).fresh()
    made.reset(options={"task": 0})
    asyncio.run(made.astep(NOTE_X))
    made.close()
    assert kit.log == ["open", "close"]


async def test_a_cancelled_step_closes_the_toolkits_and_the_episode_is_lost():
    kit = Notes()
    made = env(kit)
    made.reset(options={"task": 0})
    step = asyncio.create_task(made.astep(calling(("look", {"after_s": 30}))))
    await asyncio.sleep(0.01)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert kit.log == ["open", "close"]

    *_, truncated, info = await made.astep(LOOK)
    assert truncated
    assert (
        info["score"].reason
        == "infrastructure: tool: the tools of this episode are closed: a step was cancelled"
    )


class Broken(Notes):
    def __init__(self, where: str, error: Exception) -> None:
        super().__init__()
        self.where, self.error = where, error

    async def open(self, setup):
        await super().open(setup)
        if self.where == "open":
            raise self.error

    async def evidence(self):
        if self.where == "evidence":
            raise self.error
        return await super().evidence()

    async def close(self):
        await super().close()
        if self.where == "close":
            raise self.error


@WAYS
@pytest.mark.parametrize("where", ["open", "evidence"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkerDied("gone"), "sandbox"),
        (InfrastructureError("server", "gone"), "server"),
        (OSError("gone"), "tool"),
    ],
)
async def test_a_state_that_cannot_be_made_or_read_is_ungraded_and_closed(where, error, kind, way):
    kit = Broken(where, error)
    made = env(kit)
    made.reset(options={"task": 0})
    *_, truncated, info = (await play(made, way, *([LOOK] if where == "open" else [LOOK, "Done."])))[-1]

    assert truncated
    assert not info["score"].graded
    assert info["score"].reason.startswith(f"infrastructure: {kind}: ")
    assert "gone" in info["score"].reason
    assert kit.log == ["open", "close"]


async def test_opening_that_hangs_is_given_up():
    class Hanging(Notes):
        open_s = 0.05

        async def open(self, setup):
            await asyncio.sleep(30)

        async def close(self):
            """Nothing was made."""

    made = env(Hanging())
    made.reset(options={"task": 0})
    info = (await made.astep(LOOK))[-1]
    assert info["score"].reason == "infrastructure: tool: Hanging: opening it took more than 0.05 s"


async def test_closing_that_fails_does_not_change_the_verdict(caplog):
    made = env(Broken("close", OSError("gone")))
    made.reset(options={"task": 0})
    assert [answer[1] for answer in await play(made, "astep", NOTE_X, "Done.")] == [0.0, 1.0]
    assert "closing the toolkit Broken failed" in caplog.text


async def test_setup_is_a_hook():
    class Own(ToolEnv):
        def setup(self, task):
            return {"notes": [task.id]}

    made = Own(TASKS, [Notes()], Wrote())
    made.reset(options={"task": 1})
    assert (await made.astep(LOOK))[0] == "b"
    await made.aclose()


def test_tools_functions_and_toolkits_are_mixed_in_order():
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    def double(x: int) -> int:
        """Double."""
        return 2 * x

    made = ToolEnv(TASKS, [add, Notes(), double], Wrote())
    assert [one.name for one in made.tools] == ["add", "note", "look", "double"]
    assert made.tools[1].schema["function"]["parameters"]["properties"] == {"text": {"type": "string"}}
    assert [one.schema for one in made.fresh().tools] == [one.schema for one in made.tools]


class Bare(Toolkit):
    pass


class More(Notes):
    @tool
    def extra(self) -> str:
        """More."""
        return "more"


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([Notes], r"Notes is the class of a toolkit: write Notes\(\)"),
        ([Bare()], "the toolkit Bare has no tools: decorate its methods with @tool"),
        ([Notes(), Notes()], "two tools are named 'note'"),
        ([Notes.note], "the tool 'note' is a method without its object"),
        ([3], "a tool is a function, a Tool or a Toolkit, got int"),
        (Notes(), "tools must be a list of functions, Tools and Toolkits"),
        ("calculator", "tools must be a list of functions, Tools and Toolkits, got 'calculator'"),
    ],
)
def test_what_is_no_tool_is_told_at_construction(tools, said):
    with pytest.raises(UserError, match=said):
        ToolEnv(TASKS, tools, Wrote())


async def test_two_toolkits_must_not_give_the_same_evidence():
    class Other(Toolkit):
        @tool
        def other(self) -> str:
            """Nothing."""
            return ""

        async def evidence(self):
            return {"notes": []}

    made = ToolEnv(TASKS, [Notes(), Other()], Wrote())
    made.reset(options={"task": 0})
    with pytest.raises(UserError, match="two toolkits give the evidence 'notes'"):
        await made.astep("Done.")
    await made.aclose()


def test_a_derived_toolkit_has_the_tools_of_its_base_first():
    assert [one.name for one in More().tools] == ["note", "look", "extra"]
