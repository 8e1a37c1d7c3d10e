"""`quintain/Retrieval-v0`: answer questions whose facts stand in documents that have to be searched first.

The documents are of an invented world, another one for every few questions: what is answered can be known from nowhere
else. A question takes one fact, or several of which each leads to the next.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tools.chat import Message, ToolCall
from ...tools.formats import Hermes
from ...tools.search import Corpus, Document, Search, words
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.final_answer import answer_tag, without_thinking
from ..card import Card
from ..tasks import item_rng
from ..tool_use import ToolEnv
from .items import Split
from .plain_letters import disguise
from .sources import Drawn, check_range, made_tasks
from .worlds import World, question, world

_SYSTEM = (
    "Find the answer in the documents: search them, as often as you need. Then reply with the answer alone between "
    "<answer> and </answer>: a name or a number, no sentence."
)
_WORLDS = 10_000  # a world belongs to one split; its questions are drawn without end


@functools.lru_cache(maxsize=64)
def _world(key: str, size: int) -> World:
    return world(item_rng("world", key), size)


@functools.lru_cache(maxsize=16)
def _corpus(key: str, size: int) -> Corpus:
    documents = _world(key, size).documents
    return Corpus(Document(name, text, title) for name, (title, text) in documents.items())


class WorldSearch(Search):
    """The tool `search(query)` over the world of the episode; the setup holds `world` and `size`."""

    def __init__(self, results: int = 3) -> None:
        super().__init__(
            Corpus([Document("none", "The documents come with the episode.")]), results=results, read="none"
        )

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Take the documents of the episode."""
        await super().open(setup)
        self.corpus = _corpus(setup["world"], setup["size"])


@dataclass(frozen=True)
class AnswerInTag(Verifier):
    """Is the text in the reply's last `<answer>` the answer of the task, but for case, accents and punctuation?

    Compared as a whole: a list of candidates, or the answer within a sentence, is wrong.
    """

    def score(self, episode: Episode) -> Score:
        """Compare the words."""
        said = answer_tag(without_thinking(episode.reply))
        if said is None:
            return Score(0.0, reason="missing: no <answer>")
        if odd := disguise(said):
            return Score(0.0, reason=f"the answer has {odd}")
        wanted = str(episode.task.answer)
        right = words(said.replace(",", "")) == words(wanted)
        return Score(float(right), reason=f"said {said.strip()!r:.80}, wanted {wanted!r}")

    def check(self, task: Task) -> None:
        """Refuse a task without an answer."""
        if not words(str(task.answer or "")):
            raise ValueError(
                f"task {task.id!r}: the answer must be a text with a word, got {task.answer!r:.60}"
            )


class Retrieval(ToolEnv):
    """Answer questions from documents that have to be searched; see the module.

    Args:
        split: "train" or "test": different worlds.
        hops: Facts that a question takes, 1 to 3; of several, each names what the next is about.
        size: People, towns and firms of a world, 10 to 200 each; each is a document. More hide a fact better.
        results: Documents that one search shows.
        max_turns: Replies until the episode is truncated; None: three and two for each hop.
        seed: Of the questions.
    """

    card = Card(
        what="Answer a question about an invented world by searching its documents.",
        reward="1 if the final answer, between tags, is the right name or number and nothing else.",
        difficulty="`hops`, the facts to put together, `size`, the documents around them, `results`, what a search "
        "shows.",
        oracle="Looks up one fact after the other, with the name of its subject as the query.",
        tags=("tools", "search", "retrieval", "multi-turn", "procedural"),
    )

    def __init__(
        self,
        split: Split = "train",
        hops: int = 1,
        size: int = 40,
        results: int = 3,
        max_turns: int | None = None,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_range("Retrieval", "hops", hops, 1, 3)
        check_range("Retrieval", "size", size, 10, 200)
        check_range("Retrieval", "results", results, 1, 20)

        def draw(rng: np.random.Generator) -> Drawn:
            key = str(int(rng.integers(_WORLDS)))

            def make() -> Task:
                text, answer, chain = question(_world(key, size), rng, hops)
                steps = [fact.subject for fact in chain]
                return Task("", text, answer, {"world": key, "size": size, "subjects": steps})

            return key, make

        super().__init__(
            made_tasks("Retrieval", draw, split=split, seed=seed, variant=f"{hops}-{size}"),
            [WorldSearch(results)],
            AnswerInTag(),
            max_turns=3 + 2 * hops if max_turns is None else max_turns,
            system_prompt=_SYSTEM,
            render_mode=render_mode,
        )
        self.oracle = _oracle

    def setup(self, task: Task) -> Mapping[str, Any]:
        """Return which documents to search, and nothing of the answer."""
        return {"world": task.info["world"], "size": task.info["size"]}

    def evidence(self) -> Mapping[str, Any]:
        """Return nothing: the answer is in the reply, and a reply without a search opens no documents."""
        return {}

    async def aevidence(self) -> Mapping[str, Any]:
        """Return the same."""
        return {}


def _oracle(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    done = sum(message["role"] == "tool" for message in messages)
    subjects = task.info["subjects"]
    if done >= len(subjects):
        return f"<answer>{task.answer}</answer>"
    return Hermes().render("", calls=[ToolCall(f"call_{done}", "search", {"query": subjects[done]})])
