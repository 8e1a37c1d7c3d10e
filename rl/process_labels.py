"""Step labels without people: a step is worth what comes of going on from it (Math-Shepherd, arXiv 2312.08935).

From each step of a reply the model goes on several times; the share of continuations that the verifier passes is the
soft label of the step, whether any passes the hard one. The rows feed `quintain reward-model` with kind = "steps".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..tools.chat import Message, Reply
from ..verifiers.base import Episode, Task, Verifier
from ..verifiers.reward_tokens import SEPARATOR, steps_of
from .chat import ChatCodec
from .engines.base import Engine, Sampling
from .seeds import derive


@dataclass(frozen=True, slots=True)
class StepLabels:
    """What came of a reply's steps."""

    prompt: tuple[Message, ...]
    """The conversation up to the reply."""
    steps: tuple[str, ...]
    """The steps that have a label: those up to the first whose continuations could not be graded."""
    labels: tuple[float, ...]
    """The share of graded continuations that passed, in [0, 1], one for each step."""
    ungraded: int
    """Continuations that could not be graded, and were left out."""

    def to_json(self, *, hard: bool = False) -> str:
        """Return the row of JSON that the stage reads; `hard` makes a label 1 where any continuation passed."""
        labels: list[Any] = [label > 0 for label in self.labels] if hard else list(self.labels)
        row = {
            "prompt": list(self.prompt),
            "steps": [s.rstrip(SEPARATOR) for s in self.steps],
            "labels": labels,
        }
        return json.dumps(row, ensure_ascii=False)


async def monte_carlo_labels(
    engine: Engine,
    codec: ChatCodec,
    verifier: Verifier,
    task: Task,
    prompt: Sequence[Message],
    reply: str,
    *,
    samples: int = 4,
    max_tokens: int = 256,
    temperature: float = 1.0,
    seed: int = 0,
    separator: str = SEPARATOR,
) -> StepLabels:
    """Return the labels of the steps of a reply to a single-turn task.

    Args:
        engine: goes on from each step, `samples` times.
        codec: reads and writes the model's tokens.
        verifier: passes a whole reply, at a value of 1, or does not.
        task: what the verifier needs.
        prompt: the conversation up to the reply.
        reply: what was written, its steps ended by `separator`.
        samples: continuations from each step; the last step needs none, as the reply is its own continuation.
        max_tokens: the most tokens of a continuation; one that is cut counts as it stands.
        temperature: of the sampling.
        seed: everything random follows from it.
        separator: what ends a step.

    A step whose continuations could not be graded at all ends the labels: what follows it would be a biased sample.
    Raises `ValueError` for a reply without steps and for fewer than one sample.
    """
    steps = steps_of(reply, separator)
    if not steps or samples < 1:
        raise ValueError(f"needs a reply with steps and at least 1 sample, got {len(steps)} and {samples}")
    asked = codec.prompt(list(prompt), ())

    async def pass_of(place: int, member: int) -> float | None:
        begun = "".join(steps[: place + 1])
        if place == len(steps) - 1:
            text = reply
        else:
            sampling = Sampling(
                max_tokens=max_tokens,
                stop_ids=codec.stop_ids,
                temperature=temperature,
                seed=derive(seed, "step", place, member),
            )
            ids = [*asked, *codec.tokenizer(begun, add_special_tokens=False)["input_ids"]]
            session = f"step-{seed}-{task.id}-{place}-{member}"
            try:
                completion = await engine.generate(ids, sampling, session=session)
            finally:
                engine.release(session)
            text = begun + codec.decode_reply(completion.ids)
        score = await verifier.acall(Episode(task, Reply(text)))
        return float(score.value >= 1.0) if score.graded else None

    counts = [samples] * (len(steps) - 1) + [1]
    found = await asyncio.gather(
        *(asyncio.gather(*(pass_of(place, n) for n in range(count))) for place, count in enumerate(counts))
    )
    labels: list[float] = []
    for passes in found:
        graded = [value for value in passes if value is not None]
        if not graded:
            break
        labels.append(sum(graded) / len(graded))
    return StepLabels(
        tuple(prompt),
        tuple(steps[: len(labels)]),
        tuple(labels),
        sum(value is None for passes in found for value in passes),
    )
