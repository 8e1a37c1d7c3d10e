"""The stage `revise`: an answer, a critique by a principle, a revision, again; the last one is a row for SFT.

After arXiv 2212.08073, section 3.1. `RUN/critiques.jsonl` holds every step, `RUN/rows.jsonl` what is learned.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ...tools.atomic import write_lines
from ...tools.chat import Message
from ..metrics import Event
from ..seeds import generator
from .constitution import read_constitution
from .constitution_config import ReviseConfig
from .speakers import Speakers
from .stage import StageRun, find_stage
from .told import Told, read_prompts, settle, tell_all

STEPS = "critiques.jsonl"
"""Every answer, critique and revision, with the number of the prompt's row."""


def run_stage(run: StageRun[ReviseConfig]) -> None:
    """Answer, criticise, revise and write; see `stage.StageRun`.

    Raises `UserError` for a constitution or prompts that cannot be used, and rows that failed where they are refused.
    """
    config = run.config
    principles = read_constitution(config.constitution)
    prompts = read_prompts(config.data)
    run.tell(Event("prepare", 0, 0, message=f"{len(prompts.kept)} prompts, {len(principles)} principles"))
    speakers = Speakers(run, principles)

    async def work() -> list[Told]:
        async with (
            speakers.open(config.answer, "answer") as answerer,
            speakers.open(config.critic, "critic") as critic,
        ):

            async def one(place: int) -> dict[str, Any]:
                prompt, given = prompts.kept[place]
                answer = given or await answerer.say(prompt)
                if not answer.strip():
                    raise ValueError("the answer is empty")
                told: dict[str, Any] = {"prompt": list(prompt), "answer": answer, "steps": []}
                for number in range(config.rounds):
                    drawn = generator(config.seed, "principle", prompts.numbers[place], number)
                    principle = principles[int(drawn.integers(len(principles)))]
                    talk = [*prompt, _said(answer), principle.ask_critique()]
                    critique = await critic.say(talk)
                    if not critique.strip():
                        raise ValueError(f"the critique by {principle.name!r} is empty")
                    answer = await critic.say([*talk, _said(critique), principle.ask_revision()])
                    if not answer.strip():
                        raise ValueError(f"the revision by {principle.name!r} is empty")
                    told["steps"].append(
                        {"principle": principle.name, "critique": critique, "revision": answer}
                    )
                return told

            return await tell_all(run.folder / STEPS, prompts, principles, one, config.critic.concurrency)

    told = asyncio.run(work())
    changed = sum(t["answer"] != t["steps"][-1]["revision"] for t in told if "failed" not in t)
    kept = settle(run, config.data, run.folder / STEPS, told, {"changed": changed}, prompts)
    _write_rows(run.folder / find_stage(config.stage).makes, kept, config)


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _write_rows(path: Path, told: list[Told], config: ReviseConfig) -> None:
    """Write the rows of `quintain sft`: prompt, last revision, and where they come from."""
    rows = [
        {
            "prompt": one["prompt"],
            "completion": [_said(one["steps"][-1]["revision"])],
            "origin": {
                "file": str(config.data.path),
                "row": one["row"],
                "by": [s["principle"] for s in one["steps"]],
            },
        }
        for one in told
    ]
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))
