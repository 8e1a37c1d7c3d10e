"""The stage `feedback`: pairs of answers compared by a judge with a principle in its hand: preferences without people.

After arXiv 2212.08073, section 4.1, with both orders asked. `RUN/verdicts.jsonl` holds what the judge said,
`RUN/pairs.jsonl` the preferences.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.judge import Judge
from ..metrics import Event
from ..seeds import generator
from .constitution import Principle, read_constitution
from .constitution_config import FeedbackConfig
from .preference import Preference, preference_of, write_preferences
from .sources import by_judge
from .speakers import Speaker, Speakers
from .stage import StageRun, find_stage
from .told import Told, read_prompts, settle, tell_all

VERDICTS = "verdicts.jsonl"
"""Every pair of answers, the principle, the judge's words, with the number of the prompt's row."""


class _Heard:
    """A judge's completer that keeps what was said."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.words: list[str] = []

    async def complete(self, messages: Sequence[Message]) -> str:
        said = await self.speaker.complete(messages)
        self.words.append(said)
        return said


def run_stage(run: StageRun[FeedbackConfig]) -> None:
    """Answer, compare and write; see `stage.StageRun`.

    Raises `UserError` for a constitution or prompts that cannot be used, verdicts that could not be read where they
    are refused, and where no preference came out.
    """
    config = run.config
    principles = read_constitution(config.constitution)
    prompts = read_prompts(config.data)
    run.tell(Event("prepare", 0, 0, message=f"{len(prompts.kept)} prompts, {len(principles)} principles"))
    speakers = Speakers(run, principles)

    async def work() -> list[Told]:
        async with (
            speakers.open(config.answer, "answer") as answerer,
            speakers.open(config.judge, "judge") as judge,
        ):

            async def one(place: int) -> dict[str, Any]:
                prompt, row = prompts.kept[place][0], prompts.numbers[place]
                drawn = generator(config.seed, "principle", row)
                told: list[dict[str, Any]] = []
                for pair in range(config.pairs):
                    answers = [await answerer.say(prompt, draw=2 * pair + side) for side in (0, 1)]
                    principle = principles[int(drawn.integers(len(principles)))]
                    told.append(await _compared(prompt, answers, principle, judge, f"row-{row}/{pair}"))
                return {"prompt": list(prompt), "pairs": told}

            return await tell_all(run.folder / VERDICTS, prompts, principles, one, config.judge.concurrency)

    told = asyncio.run(work())
    pairs = [pair for one in told if "failed" not in one for pair in one["pairs"]]
    found = [preference_of(pair["preference"]) for pair in pairs if "preference" in pair]
    counts = {
        "pairs": len(found),
        "identical": sum("identical" in pair for pair in pairs),
        "empty": sum("empty" in pair for pair in pairs),
        "ties": sum(one.tie for one in found),
        "by_the_order": sum(bool(pair.get("by_the_order")) for pair in pairs),
    }
    settle(run, config.data, run.folder / VERDICTS, told, counts, prompts)
    kept = [one for one in found if config.ties == "keep" or not one.tie]
    if not kept:
        said = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in counts.items() if n)
        raise UserError(
            f"no answer was found better than another ({said or 'no pairs'}): give more prompts, a higher "
            "answer.temperature, or principles by which the answers differ"
        )
    write_preferences(run.folder / find_stage(config.stage).makes, kept)


async def _compared(
    prompt: Sequence[Message], answers: Sequence[str], principle: Principle, judge: Speaker, name: str
) -> dict[str, Any]:
    """Return what a judge says about two answers. Raises `ValueError` for a verdict that cannot be read."""
    told: dict[str, Any] = {"answers": list(answers), "principle": principle.name}
    if not all(answer.strip() for answer in answers):
        return {**told, "empty": True}
    if answers[0] == answers[1]:
        return {**told, "identical": True}
    first, second = ((_said(answer),) for answer in answers)
    info = {"rubric": principle.compare, "principle": principle.name}
    comparison = Preference(tuple(prompt), first, second, id=name, info=info)
    heard = _Heard(judge)
    said = await by_judge([comparison], Judge(heard, "pairwise"), source="constitution")
    if said.ungraded:
        raise ValueError(f"{name}, by {principle.name!r}: {said.ungraded[0][1]}")
    row = json.loads(said.preferences[0].to_json())
    return {**told, "words": heard.words, "by_the_order": bool(said.changed), "preference": row}


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}
