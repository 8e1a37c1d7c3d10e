"""Workspaces in real boxes: sessions that stay, one folder for all tools, and what the verifier sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from quintain.envs import ToolEnv
from quintain.sandboxes import Limits, Pool, SandboxUnavailable, open_pool
from quintain.tools import Hermes, PythonSession, Shell, Tool, ToolCall, UserError, Workspace
from quintain.verifiers import Score, Task, Verifier

LIMITS = Limits(wall_s=2, memory_mb=256, disk_mb=16, output_bytes=1 << 16)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool(limits=LIMITS)
    except SandboxUnavailable as missing:
        pytest.skip(f"no local sandbox on this machine: {missing}")
    with opened:
        yield opened


@pytest.fixture
async def space(pool: Pool) -> AsyncIterator[Workspace]:
    made = Workspace(pool=pool, limits=LIMITS, files={"a/one.txt": "alpha\nbeta\n"}).fresh()
    await made.open({"files": {"main.py": "x = 1\n"}, "prepare": "mkdir empty"})
    yield made
    await made.close()


async def use(kit: Workspace, name: str, **arguments: object) -> str:
    tool: Tool = next(one for one in kit.tools if one.name == name)
    return (await tool.call(ToolCall("call_0", name, arguments))).content


async def test_python_keeps_what_it_defined(space):
    assert await use(space, "python", code="x = 20\ndef f(): return x + 1") == (
        "The program printed nothing; print what you want to see."
    )
    assert await use(space, "python", code="f()") == "21"
    assert (await use(space, "python", code="1/0")).endswith("ZeroDivisionError: division by zero")
    assert await use(space, "python", code="while True: pass") == "Error: the program was stopped after 2 s."
    assert await use(space, "python", code="print(x)") == "20"


async def test_a_session_that_is_lost_says_so_and_another_starts(space):
    await use(space, "python", code="x = 1")
    assert await use(space, "python", code="import os; os.abort()") == (
        "Error: the program crashed.\nThe session was lost with its variables; the next call starts anew."
    )
    assert "NameError" in await use(space, "python", code="x")


async def test_the_shell_keeps_its_folder_and_shows_both_outputs_and_the_status(space):
    assert await use(space, "shell", command="cd a; export Q=7; ls") == "one.txt"
    assert await use(space, "shell", command="echo $Q; echo bad >&2; false") == "7\nbad\n[exit status 1]"
    assert await use(space, "shell", command="true") == "[no output]"
    assert await use(space, "shell", command="sleep 9") == "Error: the command was stopped after 2 s."
    assert await use(space, "shell", command="cat") == "[no output]"  # there is no input to wait for
    assert "The shell has ended" in await use(space, "shell", command="exit 3")
    assert await use(space, "shell", command="pwd") == "/work"


async def test_all_tools_work_in_one_folder(space):
    assert await use(space, "view") == "a/\na/one.txt (11 bytes)\nempty/\nmain.py (6 bytes)"
    assert (
        await use(space, "create", path="b/two.py", text="def g():\n    return 5\n")
        == "Wrote b/two.py: 2 lines."
    )
    assert await use(space, "python", code="from b.two import g; print(g())") == "5"
    assert await use(space, "replace", path="/work/b/two.py", old="return 5", new="return 6\n    # six") == (
        "Replaced in b/two.py.\n1\tdef g():\n2\t    return 6\n3\t    # six"
    )
    assert await use(space, "shell", command="python3 -c 'from b.two import g; print(g())'") == "6"
    assert await use(space, "view", path="./a/one.txt", first_line=2) == "2\tbeta"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("view", {"path": "nope"}, "Error: Could not read the file: No such file or directory: 'nope'."),
        ("view", {"path": "../etc"}, "Error: '../etc' is outside the working folder."),
        ("view", {"path": "/etc/passwd"}, "Error: '/etc/passwd' is outside the working folder."),
        ("view", {"path": "a/one.txt", "first_line": 3}, "Error: There are no lines 3 to the end; the file has"),
        ("view", {"path": "empty"}, "The folder is empty."),
        ("create", {"path": "a", "text": ""}, "Error: "),
        ("create", {"path": "big", "text": "x" * (17 << 20)}, "Error: "),
        ("replace", {"path": "a/one.txt", "old": "gamma", "new": ""}, "Error: old does not occur in a/one.txt"),
        ("replace", {"path": "a/one.txt", "old": "", "new": ""}, "Error: old must be the text to replace"),
        ("replace", {"path": "a/one.txt", "old": "a\n", "new": ""}, "Error: old occurs more than once"),
        ("replace", {"path": "none", "old": "a", "new": ""}, "Error: Could not read the file"),
    ],
)  # fmt: skip
async def test_what_an_editor_cannot_do_is_told_to_the_model(space, name, arguments, said):
    assert (await use(space, name, **arguments)).startswith(said)


async def test_a_file_that_is_no_text_and_a_link_out_of_the_box_are_not_shown(space):
    await use(space, "shell", command="printf '\\xff\\xfe' > bin; ln -s /etc/passwd link")
    assert await use(space, "view", path="bin") == "Error: bin is no text file (not UTF-8)."
    assert (await use(space, "view", path="link")).startswith("Error: ")
    evidence = await space.evidence()
    assert evidence["other_files"] == ["bin", "link"]


async def test_a_long_file_is_shown_in_pieces(space):
    await use(space, "create", path="long", text="".join(f"line {n}\n" for n in range(1, 501)))
    shown = (await use(space, "view", path="long")).splitlines()
    assert (shown[0], shown[199], shown[-1]) == ("  1\tline 1", "200\tline 200", "[lines 1 to 200 of 500]")


async def test_the_calls_of_one_reply_are_done_in_their_order(space):
    async def slow() -> str:
        return await use(space, "shell", command="sleep 0.2; echo first > order")

    async def then() -> str:
        return await use(space, "view", path="order")

    assert await asyncio.gather(slow(), then()) == ["[no output]", "1\tfirst"]


async def test_evidence_is_read_after_what_still_runs_has_been_ended(space):
    await use(space, "shell", command="(while true; do echo x >> log; sleep 0.01; done) &\nsleep 0.1")
    first = (await space.evidence())["files"]["log"]
    await asyncio.sleep(0.2)
    assert (await space.evidence())["files"]["log"] == first
    assert set((await space.evidence())["files"]) == {"a/one.txt", "main.py", "log"}


class FileIs(Verifier):
    def score(self, episode):
        return Score(float(episode.evidence["files"].get("out.txt") == episode.task.answer))


@pytest.mark.parametrize("way", ["step", "astep"])
async def test_an_environment_judges_the_files(pool, way):
    made = ToolEnv(
        [Task("t", "Write 42 into out.txt.", "42\n", {"files": {"in.txt": "42"}})],
        [Workspace("shell", pool=pool, limits=LIMITS, evidence=["*.txt"])],
        FileIs(),
    )
    made.reset(seed=0)
    call = Hermes().render(
        "", None, [ToolCall("", "shell", {"command": "sed p in.txt -n > out.txt; echo >> out.txt"})]
    )
    for text in (call, "Done."):
        answer = made.step(text) if way == "step" else await made.astep(text)
    assert answer[1] == 1.0
    made.close()


async def test_a_box_that_is_gone_ends_the_episode_ungraded(pool):
    kit = Shell(pool=pool, limits=LIMITS)
    made = ToolEnv([Task("t", "Do.", "")], [kit], FileIs())
    made.reset(seed=0)
    call = Hermes().render("", None, [ToolCall("", "shell", {"command": "echo"})])
    await made.astep(call)
    assert made._live is not None
    made._live._kits[0]._box._link.close()  # type: ignore[attr-defined]
    *_, truncated, info = await made.astep(call)
    assert truncated
    assert info["score"].reason.startswith("infrastructure: sandbox: ")
    await made.aclose()


async def test_a_pool_of_its_own_is_opened_when_needed_and_freed_with_the_environment():
    kit = PythonSession(limits=LIMITS)
    assert kit._boxes._own is None
    made = ToolEnv([Task("t", "Do.", "")], [kit], FileIs())
    made.reset(seed=0)
    try:
        await made.astep(Hermes().render("", None, [ToolCall("", "python", {"code": "print(1)"})]))
    except UserError as error:
        pytest.skip(str(error))
    assert kit._boxes._own is not None
    await made.aclose()
    assert kit._boxes._own is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Workspace("bash"), "Workspace: offer must be of python, shell, editor, got 'bash'"),
        (lambda: Workspace(evidence="*.py"), r"evidence is a list of patterns, write \['\*.py'\]"),
        (lambda: Workspace(files={"a": 3}), "Workspace: files: 'a' must be a path with a text, got int"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"files": ["a"]}, "the setup's files must be an object, path to text, got list"),
        ({"files": {"../a": ""}}, "the files cannot be put into the folder: '../a' is outside"),
        ({"prepare": "echo no >&2; exit 3"}, r"the setup's prepare failed: no\n\[exit status 3\]"),
        ({"prepare": ["ls"]}, "the setup's prepare must be a shell script, got list"),
    ],
)
async def test_a_setup_that_makes_no_sense_is_the_users(pool, setup, said):
    kit = Workspace(pool=pool, limits=LIMITS).fresh()
    with pytest.raises(UserError, match=said):
        await kit.open(setup)
    await kit.close()


def test_the_tools_are_those_of_the_offer():
    assert [tool.name for tool in Workspace().tools] == ["python", "shell", "view", "create", "replace"]
    assert [tool.name for tool in Workspace("editor").tools] == ["view", "create", "replace"]
    assert [tool.name for tool in Shell().tools] == ["shell"]
