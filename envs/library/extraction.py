"""`quintain/Extraction-v0`: read a document and write its facts as JSON that fits a schema.

Documents are invented as they are asked for, and the record is drawn before the text is written, so that the gold
answer is known exactly. Strict by default: the JSON must fit the schema and every field must be right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...tools.chat import Message
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.structure import JsonFields, JsonSchema
from ..card import Card
from ..single_turn import SingleTurnEnv
from .extraction_documents import MAKERS
from .items import Split
from .sources import Drawn, check_choice, check_range, made_tasks

_PROMPT = (
    "Read the document and reply with one JSON object that fits the schema, and with nothing else.\n\n"
    "Schema:\n{schema}\n\nDocument:\n{text}"
)


@dataclass(frozen=True)
class ExtractedRecord(Verifier):
    """Is the reply a JSON object that fits the schema of the task (`task.info["schema"]`) and holds its answer?"""

    partial: bool = False
    """Whether the value is the share of right fields; else 1 for all of them and 0 otherwise."""

    def score(self, episode: Episode) -> Score:
        """Check the form, then the fields."""
        fits = JsonSchema(episode.task.info["schema"]).score(episode)
        return JsonFields(partial=self.partial).score(episode) if fits.value else fits

    def check(self, task: Task) -> None:
        """Refuse a task without schema or fields."""
        if "schema" not in task.info:
            raise ValueError(f"task {task.id!r}: info needs a 'schema'")
        JsonSchema(task.info["schema"]).check(task)
        JsonFields().check(task)


class Extraction(SingleTurnEnv):
    """Read a document and write its facts as JSON; see the module.

    Args:
        split: "train" or "test".
        difficulty: 1 (short forms), 2 (prose with facts beside the point) or 3 (longer, numbers in words, facts that
            are missing).
        kind: The kind of document, or "any": "invoice", "event", "parcel", "job", "minutes".
        partial: Whether the reward is the share of right fields; else all of them or nothing.
        seed: Of the problem set.
    """

    card = Card(
        what="Read an invented invoice, event, parcel note, job notice or minutes, and write its facts as JSON by a "
        "schema.",
        reward="1 if the reply is JSON alone, fits the schema and every field is right; by option the share of right "
        "fields.",
        difficulty="`difficulty` 1 to 3: from forms to prose with facts beside the point, numbers and hours in words, "
        "and facts that are missing and must be null.",
        oracle="The record from which the document was written.",
        tags=("extraction", "json", "single-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        difficulty: int = 2,
        kind: str = "any",
        partial: bool = False,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("Extraction", "difficulty", difficulty, 1, 3)
        check_choice("Extraction", "kind", kind, ("any", *MAKERS))
        kinds = list(MAKERS) if kind == "any" else [kind]

        def draw(rng: np.random.Generator) -> Drawn:
            made = kinds[int(rng.integers(len(kinds)))]
            document = MAKERS[made](rng, difficulty)
            prompt = _PROMPT.format(
                schema=json.dumps(document.schema, ensure_ascii=False), text=document.text
            )
            task = Task("", prompt, document.record, {"schema": document.schema, "tag": made})
            return json.dumps(document.record, sort_keys=True), task

        tasks = made_tasks("Extraction", draw, split=split, seed=seed, variant=f"{kind}-{difficulty}")
        super().__init__(tasks, ExtractedRecord(partial), render_mode=render_mode)
        self.oracle = _oracle


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return json.dumps(task.answer, ensure_ascii=False)
