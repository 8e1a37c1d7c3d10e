"""`quintain/IFEval-v0`: prompts with checkable instructions ("no commas", "exactly 4 bullet points"), one reply.

What is said is not judged, so two holes have to be closed. Many prompts ask for so little that a reply written before
reading them would do, or every reply in one: those are left out unless `sound=False`. And a prompt that names its own
keywords and marks can be handed back as the reply: words copied out of the prompt earn nothing.

The data: Zhou et al., "Instruction-Following Evaluation for Large Language Models" (2023), Apache-2.0 licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.final_answer import without_thinking
from ...verifiers.instructions import Instructions, followed, instructions_of
from ...verifiers.mix import Gate
from ...verifiers.texts import words
from ..card import Card
from ..single_turn import SingleTurnEnv
from ..tasks import TaskSet
from .obedient import obedient
from .plain_letters import disguise
from .sources import Part, check_choice, check_limit, row_tasks

_RUN = 4
"""Words in a row that make a copy."""
_MOST_COPIED = 2 / 3
"""Share of copied runs up to which a reply is its writer's own: good replies take up half a question, no more."""
_SHORT = 8  # words: "My answer is maybe." is a copy, and right

_PARAGRAPH = (
    "Thank you for asking. There is a lot to say about this and every part of it deserves a careful look. First we "
    "should think about what matters most to people. Then we can see how the pieces fit together in practice. Some "
    "of them are simple while others take time to understand. In the end it is best to start small and learn from "
    "each step. I hope that this helps you to find a good way forward."
)


def _constants() -> tuple[str, ...]:
    """Return replies that anybody could write before reading a prompt: they must not be worth anything."""
    short = "I do not know."
    return (
        short,
        short.upper(),
        short.lower(),
        "0",
        "42",
        "Yes.",
        "A. B. C. D. E. F. G. H. I. J.",
        *(f"My answer is {word}." for word in ("yes", "no", "maybe")),
        f'{{"answer": "{short}"}}',
        f'"{short}"',
        f"<<Answer>>\n\n{short}",
        f"{short}\n\nP.S. I really do not know.",
        f"{short}\n\nP.P.S I really do not know.",
        f"{short}\n******\nWe cannot say.",
        _PARAGRAPH,
        _PARAGRAPH.upper(),
        _PARAGRAPH.lower(),
        f'"{_PARAGRAPH}"',
        *(" ".join(f"[item {index}]" for index in range(count)) for count in (3, 6, 12)),
        " and ".join(f"the *part number {index}*" for index in range(12)),
        *("\n".join(f"* Point number {index}" for index in range(count)) for count in range(1, 9)),
        *(
            "\n***\n".join(f"This is paragraph {index} of it." for index in range(count))
            for count in range(2, 8)
        ),
    )


_BESIDE = "Silver windows keep a brave uncle in spring. Old violins quote the exact poet near home. They say no more."


def is_sound(task: Task) -> bool:
    """Return whether the instructions of a task can be followed, and not by writing anything that comes to mind.

    Not by a reply that has not read them, and not by putting every reply that one can think of one after the other:
    something must limit what else may stand beside a right reply.
    """
    listed = instructions_of(task)
    right = obedient(listed, np.random.default_rng(0))
    if right is None:
        return False  # what has to be repeated breaks another instruction
    sandwich = f"{_BESIDE}\n\n{right}\n\n{_BESIDE}"
    return not any(all(followed(reply, listed, "hard")) for reply in (sandwich, *_constants()))


@dataclass(frozen=True)
class OwnWords(Verifier):
    """Is the reply more than a copy of the prompt, in letters that are what they look like (see `plain_letters`)?

    0 if more than two thirds of its runs of four words stand in the prompt too. What the task asks to be repeated
    (`combination:repeat_prompt`) is taken off the front first, and replies of less than eight words are let through.
    """

    def score(self, episode: Episode) -> Score:
        """Count the runs of words that are the prompt's."""
        reply = without_thinking(episode.reply.content).strip()
        if odd := disguise(reply):
            return Score(0.0, reason=f"the reply has {odd}")
        for kind, given in instructions_of(episode.task):
            if kind == "combination:repeat_prompt":
                repeated = str(given["prompt_to_repeat"]).strip()
                if reply.lower().startswith(repeated.lower()):
                    reply = reply[len(repeated) :]
        if len(words(reply)) < _SHORT:
            return Score(1.0, reason="too short to be a copy")
        own, prompts = _runs(reply), set(_runs(episode.task.prompt))
        copied = sum(run in prompts for run in own) / max(len(own), 1)
        return Score(float(copied <= _MOST_COPIED), reason=f"{copied:.0%} of it stands in the prompt")


def _runs(text: str) -> list[tuple[str, ...]]:
    listed = [word.lower() for word in words(text)]
    return list(zip(*(listed[start:] for start in range(_RUN)), strict=False))


def following(mode: Literal["strict", "loose", "hard"] = "hard", partial: bool = False) -> Verifier:
    """Return the verifier of the instruction environments: the instructions, in the model's own words."""
    return Gate(OwnWords(), Instructions(mode=mode, partial=partial))


def oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    """Write a text that follows the instructions and says nothing."""
    return obedient(instructions_of(task), rng) or str(task.info.get("response", ""))


class IFEval(SingleTurnEnv):
    """Prompts with checkable instructions; see the module.

    Args:
        path: A `.jsonl`, `.parquet` or `.csv` file of rows as published; None takes `google/IFEval` from the hub.
        split: "all" rows, or "train" or "test", which a hash of the key tells apart.
        limit: Use only the first so many of the rows that are taken.
        mode: "hard" (the reading that cannot be cheated), or "strict" or "loose" as published.
        partial: Whether the reward is the share of instructions followed; else all of them or nothing.
        sound: Leave out the rows that nobody can follow, or anybody without reading, or by writing everything at
            once. False for figures that compare with published ones.
    """

    card = Card(
        what="Write a text that obeys one to three instructions that a program can check, such as its length, its "
        "format, or words that must or must not occur.",
        reward="1 if every instruction is followed (by option the share), in words that are not copied out of the "
        "prompt. What the text says is not judged.",
        difficulty="More instructions at once are harder; so are counts of letters, words and sentences. `mode` sets "
        "how literally they are read.",
        oracle="A writer that fills the asked-for shape with plain sentences, and checks itself by the same rules.",
        source="IFEval (Zhou et al., 2023), Apache-2.0; rows that a constant reply solves are left out",
        tags=("instructions", "single-turn", "data"),
        accepted={
            "trivial/candidates": (
                1.0,
                "form is judged, not content: texts for other tasks may stand around it",
            ),
            "trivial/lookalike": (1.0, "form is judged, not content: most letters of the text may be any"),
        },
    )

    def __init__(
        self,
        path: str | None = None,
        split: Part = "all",
        limit: int | None = None,
        mode: Literal["strict", "loose", "hard"] = "hard",
        partial: bool = False,
        sound: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_choice("IFEval", "mode", mode, ("strict", "loose", "hard"))
        check_limit("IFEval", limit)  # of the sound rows
        tasks = row_tasks(
            "IFEval",
            path,
            part=split,
            hub={"dataset": "google/IFEval"},
            id="key",
            prompt="prompt",
            answer=_instructions,
        )
        verifier = following(mode, partial)
        tasks.check(verifier)  # before the rows are sifted, so that a bad one is named and not left out
        chosen = [task for task in tasks if not sound or is_sound(task)][:limit]
        if not chosen:
            raise UserError(
                f"IFEval: none of the {len(tasks)} rows is sound; sound=False takes them as they are"
            )
        super().__init__(TaskSet(chosen, name=tasks.name), verifier, render_mode=render_mode)
        self.oracle = oracle


def _instructions(row: Mapping[str, Any]) -> dict[str, Any]:
    # the hub's rows hold every argument of every kind, those of others as null
    given = [
        {key: value for key, value in (part or {}).items() if value is not None}
        for part in row["kwargs"] or ()
    ]
    return {"instruction_id_list": list(row["instruction_id_list"]), "kwargs": given}
