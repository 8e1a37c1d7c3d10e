"""Step labels from Monte-Carlo continuations."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from quintain.rl.chat import ChatCodec
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.process_labels import monte_carlo_labels
from quintain.verifiers import FinalNumber, Task
from quintain.verifiers.base import Episode, Score, Verifier

TASK = Task("t", "How many?", "17")
PROMPT: list[Any] = [{"role": "user", "content": "How many?"}]


@pytest.fixture
def codec(tokenizer) -> ChatCodec:
    return ChatCodec(tokenizer)


def goes_on(codec: ChatCodec, ends: dict[str, list[str]]) -> ScriptedEngine:
    """An engine that ends a text after its last line in the given ways, in turn."""
    asked: dict[str, int] = {}

    def write(ids, sampling):
        last = codec.tokenizer.decode(ids).rstrip("\n").splitlines()[-1]
        asked[last] = asked.get(last, -1) + 1
        return codec.encode_reply(ends[last][asked[last] % len(ends[last])])

    return ScriptedEngine(write)


async def test_a_step_is_worth_the_share_of_continuations_that_pass(codec: ChatCodec) -> None:
    engine = goes_on(codec, {"3 boxes": ["17", "12", "17", "17"], "4 pens": ["12"]})
    found = await monte_carlo_labels(
        engine, codec, FinalNumber(), TASK, PROMPT, "3 boxes\n4 pens\n12", samples=4
    )
    assert found.labels == (0.75, 0.0, 0.0)
    row = json.loads(found.to_json(hard=True))
    assert (row["steps"], row["labels"]) == (["3 boxes", "4 pens", "12"], [True, False, False])


async def test_the_last_step_is_the_reply_itself(codec: ChatCodec) -> None:
    found = await monte_carlo_labels(goes_on(codec, {}), codec, FinalNumber(), TASK, PROMPT, "17", samples=9)
    assert (found.labels, found.ungraded) == ((1.0,), 0)


async def test_labels_end_where_nothing_could_be_graded(codec: ChatCodec) -> None:
    class Shaky(Verifier):
        def score(self, episode: Episode) -> Score:
            return Score.ungraded("down") if "pens" in episode.reply else FinalNumber().score(episode)

    engine = goes_on(codec, {"3 boxes": ["17"], "4 pens": ["17"]})
    found = await monte_carlo_labels(engine, codec, Shaky(), TASK, PROMPT, "3 boxes\n4 pens\n17", samples=2)
    assert (found.steps, found.labels, found.ungraded) == (("3 boxes\n",), (1.0,), 3)


async def test_a_reply_without_steps_is_refused(codec: ChatCodec) -> None:
    with pytest.raises(ValueError, match="needs a reply with steps and at least 1 sample, got 0 and 4"):
        await monte_carlo_labels(SimpleNamespace(), codec, FinalNumber(), TASK, PROMPT, " \n")  # type: ignore[arg-type]
