"""The checks of our own machinery speak up when it is broken, and only then."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from quintain.rl.chat import ChatCodec
from quintain.rl.engines.transformers import TransformersEngine
from quintain.rl.selfcheck import (
    DeliveryCheck,
    SelfCheckError,
    check_recorded,
    raise_if_mismatched,
    retokenized,
)
from quintain.rl.trajectory import Turn


def nudge(model, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


class Deaf(TransformersEngine):
    """Keeps its own copy of the weights, whatever it is given."""

    async def load(self, model, version):
        self.version = version


async def test_weights_that_arrive_are_no_matter(model, trajectory):
    engine = TransformersEngine(model)
    check = DeliveryCheck(engine, 1.0)
    for version in range(3):
        nudge(model, 0.05)
        await engine.load(model, version)
        await check.after_load(model, [trajectory([1, 2, 3, 4], "..xx")])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_weights_that_do_not_arrive_stop_the_run(make_model, trajectory, temperature):
    learned, stale = make_model(), make_model()
    engine = Deaf(stale)
    check = DeliveryCheck(engine, temperature)
    batch = [dataclasses.replace(trajectory([1, 2, 3, 4], "..xx"), turns=[Turn(2, 4, 1.0)])]
    await check.after_load(learned, batch)
    nudge(learned, 0.05)
    await engine.load(learned, 7)
    with pytest.raises(
        SelfCheckError, match=r"have moved by .* the weights of version 7 have not reached it"
    ):
        await check.after_load(learned, batch)


async def test_an_engine_that_stands_still_because_the_learner_does_is_no_matter(make_model, trajectory):
    learned, engine = make_model(), TransformersEngine(make_model())
    check = DeliveryCheck(engine, 1.0)
    for _ in range(2):
        await check.after_load(learned, [trajectory([1, 2, 3, 4], "..xx")])


async def test_nothing_is_probed_without_an_episode(model):
    await DeliveryCheck(TransformersEngine(model), 1.0).after_load(model, [])


@pytest.mark.parametrize("mismatch", [0.51, float("nan"), float("inf")])
def test_a_sampler_that_is_not_the_learners_model_stops_the_run(mismatch: float):
    with pytest.raises(SelfCheckError, match=r"nats a token \(rollout.max_mismatch = 0.5\)"):
        raise_if_mismatched(mismatch, 0.5)
    raise_if_mismatched(0.49, 0.5)


def test_a_record_that_does_not_say_who_wrote_a_token_is_refused(trajectory):
    one = dataclasses.replace(trajectory([1, 2, 3, 4], "..xx"), turns=[Turn(2, 4, 1.0)])
    check_recorded(one)
    broken = {
        "its mask marks 1 tokens, its turns have 2": {"mask": [False, False, True, False]},
        "has a log-probability or a version": {"versions": [-1, 0, 0, 0]},
        "a sample begins with a token that the model wrote": {"samples": [0, 3]},
    }
    for told, change in broken.items():
        with pytest.raises(SelfCheckError, match=told):
            check_recorded(dataclasses.replace(one, **change))


def test_replies_that_text_would_not_give_back_are_counted(tokenizer, trajectory):
    codec = ChatCodec(tokenizer)
    plain = codec.encode("The answer is 17.")
    letters = tokenizer.convert_tokens_to_ids(list("answer"))
    batch = []
    for reply in (plain, letters):
        ids = [3, *reply, codec.end_id]
        made = trajectory(ids, "." + "x" * (len(ids) - 1))
        batch.append(made)
    assert retokenized(batch, codec) == 0.5
    assert retokenized([], codec) == 0.0
