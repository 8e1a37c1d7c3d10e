"""Files-v0: what counts is what lies in the folder at the end, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from quintain.envs import TextEnv, make
from quintain.envs.library import programs
from quintain.envs.library.file_chores import CHORES, draw_chores, draw_folder
from quintain.envs.library.files import SameFiles
from quintain.envs.tasks import item_rng
from quintain.sandboxes import SandboxUnavailable
from quintain.tools import Reply, UserError
from quintain.verifiers import Episode, Task
from quintain.verifiers.code import shared_pool

try:
    shared_pool()
except SandboxUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)


def call(command: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'shell', 'arguments': {'command': command}})}\n</tool_call>"


def played(env: TextEnv, *games: tuple[Any, list[str] | None]) -> list[tuple[float, str]]:
    """Return reward and reason of each (task, replies) at once; the oracle plays where the replies are None."""
    rng = np.random.default_rng(0)

    async def one(task: Any, replies: list[str] | None) -> tuple[float, str]:
        copy = env.fresh()
        copy.reset(options={"task": task})
        said = iter(replies or ())
        over = False
        while not over:
            reply = next(said, "Done.") if replies is not None else env.oracle(copy.task, copy.messages, rng)
            _, reward, over, truncated, info = await copy.astep(reply)
            over = over or truncated
        assert info["score"].graded, info["score"].reason
        return reward, info["score"].reason

    async def every() -> list[tuple[float, str]]:
        return list(await asyncio.gather(*(one(task, replies) for task, replies in games)))

    return asyncio.run(every())


@pytest.mark.parametrize("chores", [1, 2, 4])
def test_the_commands_do_what_is_asked(chores):
    env = make("quintain/Files-v0", chores=chores)
    results = played(env, *((index, None) for index in range(12)))
    assert results == [(1.0, reason) for _, reason in results], results


def test_every_kind_of_chore_is_done_by_its_command():
    env = make("quintain/Files-v0")
    games = []
    for number, kind in enumerate(CHORES):
        rng = item_rng("chores", number)
        folder = draw_folder(rng, 16)
        while (chore := kind(rng, folder)) is None or chore.result == folder:
            folder = draw_folder(rng, 16)
        task = Task(
            f"t{number}", chore.text, {"files": chore.result}, {"files": folder, "commands": [chore.command]}
        )
        games.append((task, None))
    assert [reward for reward, _ in played(env, *games)] == [1.0] * len(CHORES)


FOLDER = {"a.txt": "one\n", "b/c.txt": "two\n"}
GOAL = Task(
    "goal", "Tidy up.", {"files": {"a.txt": "ONE\n", "c.txt": "two\n"}}, {"files": FOLDER, "commands": []}
)


@pytest.mark.parametrize(
    ("commands", "reward", "reason"),
    [
        (["echo ONE > a.txt", "mv b/c.txt . && rmdir b"], 1.0, "all 2 files are as they should be"),
        (["printf ONE > a.txt; mv b/c.txt ."], 1.0, "all 2 files are as they should be"),
        ([], 0.0, "missing: c.txt"),
        (["echo ONE > a.txt"], 0.0, "missing: c.txt"),
        (["echo ONE > a.txt; cp b/c.txt ."], 0.0, "too many: b/c.txt"),
        (["mv b/c.txt ."], 0.0, "wrong inside: a.txt"),
        (["echo ' ONE' > a.txt; mv b/c.txt ."], 0.0, "wrong inside: a.txt"),
        (["echo ONE > a.txt; mv b/c.txt .; touch done"], 0.0, "too many: done"),
        (["echo ONE > a.txt; mv b/c.txt /tmp/c; ln -s /tmp/c c.txt"], 0.0, "missing: c.txt"),
        (["echo ONE > a.txt; mv b/c.txt .; printf '\\377' > d"], 0.0, "too many: d"),
        (
            ["(sleep 1; echo no > a.txt) & echo ONE > a.txt; mv b/c.txt ."],
            1.0,
            "all 2 files are as they should be",
        ),
        (["rm -rf /work/* ~ / 2>/dev/null"], 0.0, "missing: a.txt, c.txt"),
        (["exit 3"], 0.0, "missing: c.txt"),
    ],
)
def test_only_the_files_count(commands, reward, reason):
    assert played(make("quintain/Files-v0"), (GOAL, [call(one) for one in commands])) == [(reward, reason)]


def test_saying_that_it_is_done_earns_nothing():
    env = make("quintain/Files-v0")
    cheats = [
        "Done.",
        "",
        "All files are as they should be. Score: 1.0",
        env.tasks[0].prompt,
        str(env.tasks[0].answer),
    ]
    assert [reward for reward, _ in played(env, *((0, [cheat]) for cheat in cheats))] == [0.0] * len(cheats)


def test_a_reply_without_any_call_needs_no_sandbox():
    env = make("quintain/Files-v0")
    opened = shared_pool().stats().lent, shared_pool().stats().opened
    assert played(env, (GOAL, []))[0] == (0.0, "missing: c.txt")
    assert (shared_pool().stats().lent, shared_pool().stats().opened) == opened


def test_nothing_of_the_answer_is_in_the_sandbox_or_the_prompt():
    env = make("quintain/Files-v0", chores=1)
    for index in range(30):
        task = env.tasks[index]
        assert set(env.setup(task)) == {"files"}
        assert task.info["commands"][0] not in task.prompt
        new = [path for path in task.answer["files"] if path not in task.info["files"]]
        assert not any(f"\n{path}\n" in f"{task.prompt}\n" for path in new)


def test_files_that_were_not_read_are_no_wrong_answer():
    assert not SameFiles()(Episode(GOAL, Reply("Done."))).graded


def test_chores_change_something_and_lose_no_file():
    rng = item_rng("folders")
    made = 0
    while made < 100:
        folder = draw_folder(rng, 16)
        names = [path.rpartition("/")[2] for path in folder]
        assert len(set(names)) == len(names)
        chores = draw_chores(rng, folder, 3)
        for chore in chores or ():
            made += 1
            assert chore.result != folder
            assert len(chore.result) >= len(folder) or chore.text.startswith("Delete")
            folder = chore.result


def test_train_and_test_ask_for_different_things():
    def asked(split: str) -> set[str]:
        tasks = make("quintain/Files-v0", split=split, chores=1).tasks
        return {tasks[index].prompt.partition("\n\n")[0] for index in range(150)}

    assert not asked("train") & asked("test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chores": 5}, "chores must be a whole number from 1 to 4, got 5"),
        ({"size": 7}, "size must be a whole number from 8 to 40, got 7"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Files-v0", **options)


def test_a_machine_without_sandbox_is_told_so_when_the_environment_is_made(monkeypatch):
    def none() -> None:
        raise SandboxUnavailable("bubblewrap is missing")

    monkeypatch.setattr(programs, "shared_pool", none)
    with pytest.raises(
        UserError, match="Files runs the model's programs and has no sandbox to run them in: bubb"
    ):
        make("quintain/Files-v0")
