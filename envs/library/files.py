"""`quintain/Files-v0`: put a folder in order in a shell, and be judged by the files that are there at the end.

The folder lies in a sandbox of the episode's own. What counts is what we read out of it afterwards, never what the
model says about it; the way does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...sandboxes.base import Limits
from ...tools.chat import Message, ToolCall
from ...tools.formats import Hermes
from ...tools.workspace import Workspace
from ...verifiers.base import Episode, Score, Task, Verifier
from ..card import Card
from ..tool_use import ToolEnv
from .file_chores import draw_chores, draw_folder
from .items import Split
from .programs import opened_pool
from .sources import Drawn, check_range, made_tasks

LIMITS = Limits(wall_s=10.0, memory_mb=256, disk_mb=32, output_bytes=1 << 15)
"""What one command may use."""

_SYSTEM = (
    "Work on the files in the current folder with the shell, until everything that is asked has been done, in the "
    "given order. Leave nothing else behind in the folder. Then say so in a reply without a call."
)


@dataclass(frozen=True)
class SameFiles(Verifier):
    """Are the files at the end those of `task.answer["files"]`, path by path? Empty folders do not matter.

    Nor does a line end at the end of a file. A link, or a file that is no text, is a file too many.
    """

    def score(self, episode: Episode) -> Score:
        """Compare the files."""
        if "files" not in episode.evidence:
            return Score.ungraded("the files were not read")
        found, others = episode.evidence["files"], episode.evidence["other_files"]
        wanted = episode.task.answer["files"]
        extra = [*sorted(set(found) - set(wanted)), *others]
        missing = sorted(set(wanted) - set(found))
        wrong = [path for path in wanted if path in found and _text(found[path]) != _text(wanted[path])]
        for what, paths in (("missing", missing), ("too many", extra), ("wrong inside", wrong)):
            if paths:
                return Score(0.0, reason=f"{what}: {', '.join(paths[:5])[:200]}")
        return Score(1.0, reason=f"all {len(wanted)} files are as they should be")


def _text(text: str) -> str:
    return text.removesuffix("\n")


class Files(ToolEnv):
    """Put a folder in order in a shell; see the module.

    Args:
        split: "train" or "test": disjoint by what is asked.
        chores: How many things are asked for, 1 to 4, one after the other. More are harder.
        size: Files at the beginning, 8 to 40.
        max_turns: Replies until the episode is truncated.
        seed: Of the problem set.

    Raises `UserError` on a machine without a sandbox.
    """

    card = Card(
        what="Put a folder of files in order with a shell: move, rename, delete, count, extract, replace, add up.",
        reward="1 if the folder holds exactly the right files with the right text at the end, else 0. What is said "
        "about it does not count.",
        difficulty="`chores`, 1 to 4 one after the other, each on what the one before left; `size`, the files.",
        oracle="A shell command for each chore.",
        tags=("tools", "shell", "sandbox", "multi-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        chores: int = 2,
        size: int = 16,
        max_turns: int = 10,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("Files", "chores", chores, 1, 4)
        check_range("Files", "size", size, 8, 40)

        def draw(rng: np.random.Generator) -> Drawn | None:
            folder = draw_folder(rng, size)
            drawn = draw_chores(rng, folder, chores)
            if drawn is None:
                return None
            asked = [chore.text for chore in drawn]
            prompt = "\n".join(f"{number}. {text}" for number, text in enumerate(asked, 1))
            listed = "\n".join(folder)
            info = {"files": folder, "commands": [chore.command for chore in drawn]}
            task = Task("", f"{prompt}\n\nThe files now:\n{listed}", {"files": drawn[-1].result}, info)
            return json.dumps(asked), task

        pool = opened_pool("Files")
        super().__init__(
            made_tasks("Files", draw, split=split, seed=seed, variant=f"{chores}-{size}"),
            [Workspace("shell", pool=pool, limits=LIMITS)],
            SameFiles(),
            max_turns=max_turns,
            system_prompt=_SYSTEM,
            render_mode=render_mode,
        )
        self.oracle = _oracle

    def setup(self, task: Task) -> Mapping[str, Any]:
        """Return the files: nothing else of the task reaches the sandbox."""
        return {"files": task.info["files"]}

    def evidence(self) -> Mapping[str, Any]:
        """Return the files at the end; without any call those of the beginning, for which no sandbox is opened."""
        return super().evidence() if self._worked() else self._untouched()

    async def aevidence(self) -> Mapping[str, Any]:
        """Return the same without blocking the event loop."""
        return await super().aevidence() if self._worked() else self._untouched()

    def _worked(self) -> bool:
        return any(message["role"] == "tool" for message in self.messages)

    def _untouched(self) -> Mapping[str, Any]:
        assert self.task is not None
        return {"files": self.task.info["files"], "other_files": []}


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    done = sum(message["role"] == "tool" for message in messages)
    commands = task.info["commands"]
    if done >= len(commands):
        return "Done."
    return Hermes().render("", calls=[ToolCall(f"call_{done}", "shell", {"command": commands[done]})])
