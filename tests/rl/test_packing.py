"""Packing loses no token and mixes none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from quintain.rl.forward import token_logprobs
from quintain.rl.packing import pack
from quintain.rl.sft import IGNORED, labels


@pytest.fixture
def six(trajectory):
    return [
        trajectory([11, 12, 13, 14, 15], "..xxx", logprobs=[0, 0, -1.5, -2.5, -3.5]),
        trajectory([21, 22], ".x"),
        trajectory([31, 32, 33, 34, 35, 36, 37, 38], ".xx..xxx"),
        trajectory([41, 42, 43], "..x"),
        trajectory([51, 52, 53, 54], ".xxx"),
        trajectory([61, 62, 63, 64, 65, 66], "....xx"),
    ]


def unpacked_logps(model, trajectory):
    """The textbook way: one sequence, the whole head, no mask but the causal one."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([trajectory.ids])).logits[0]
    table = torch.log_softmax(logits.float(), -1)
    return [table[t - 1, trajectory.ids[t]].item() for t, mine in enumerate(trajectory.mask) if mine and t]


def packed_logps(model, trajectories, budget):
    found = {}
    with torch.no_grad():
        for batch in pack(trajectories, budget):
            parts = token_logprobs(model, batch)[0].split(list(batch.lengths))
            found.update(zip(batch.members, (part.tolist() for part in parts), strict=True))
    return [found[index] for index in range(len(trajectories))]


def test_rows_are_filled_first_fit_longest_first(six):
    (batch,) = pack(six, 1000)
    assert batch.ids_RL.tolist() == [
        [31, 32, 33, 34, 35, 36, 37, 38],
        [61, 62, 63, 64, 65, 66, 21, 22],
        [11, 12, 13, 14, 15, 41, 42, 43],
        [51, 52, 53, 54, 0, 0, 0, 0],
    ]
    assert batch.positions_RL.tolist()[1] == [0, 1, 2, 3, 4, 5, 0, 1]
    assert batch.segments_RL.tolist()[1] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert batch.segments_RL.tolist()[3] == [0, 0, 0, 0, -1, -1, -1, -1]


@pytest.mark.parametrize("budget", [1, 8, 16, 24, 1000])
def test_every_trained_token_comes_exactly_once(six, budget: int):
    batches = list(pack(six, budget))
    assert sorted(index for batch in batches for index in batch.members) == [0, 1, 2, 3, 4, 5]
    targets = sorted(token for batch in batches for token in batch.targets_N.tolist())
    assert targets == [13, 14, 15, 22, 32, 33, 36, 37, 38, 43, 52, 53, 54, 65, 66]
    for batch in batches:
        assert sum(batch.lengths) == len(batch.targets_N)
        before = batch.ids_RL[batch.rows_N, batch.columns_N + 1]
        assert before.tolist() == batch.targets_N.tolist()


@pytest.mark.parametrize("budget", [8, 16, 24])
def test_a_batch_keeps_the_budget(six, budget: int):
    assert all(batch.ids_RL.numel() <= budget for batch in pack(six, budget))


def test_a_sequence_longer_than_the_budget_gets_a_batch_of_its_own(six):
    batches = list(pack(six, 5))
    assert [batch.ids_RL.numel() for batch in batches if batch.ids_RL.numel() > 5] == [8, 6]


def test_the_sampler_logprobs_stay_with_their_tokens(six):
    (batch,) = pack(six, 1000)
    found = dict(zip(batch.targets_N.tolist(), batch.sampler_logp_N.tolist(), strict=True))
    assert [found[13], found[14], found[15], found[22]] == [-1.5, -2.5, -3.5, 0.0]


def test_the_first_token_of_a_sequence_is_never_trained(trajectory):
    (batch,) = pack([trajectory([11, 12], "xx")], 100)
    assert batch.targets_N.tolist() == [12]


def test_a_token_sees_earlier_tokens_of_its_own_sequence_alone(trajectory):
    (batch,) = pack([trajectory([1, 2, 3], "..x"), trajectory([4], "x"), trajectory([5, 6], ".x")], 100)
    assert batch.ids_RL.tolist() == [[1, 2, 3], [5, 6, 4]]
    seen = batch.attention_mask()[1, 0].int().tolist()
    assert seen == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("budget", [8, 1000])
def test_packed_logprobs_are_the_unpacked_ones(six, model, budget: int):
    for found, one in zip(packed_logps(model, six, budget), six, strict=True):
        assert found == pytest.approx(unpacked_logps(model, one), abs=1e-5)


def test_changing_one_sequence_leaves_the_others_as_they_are(six, model):
    before = packed_logps(model, six, 1000)
    changed = dataclasses.replace(six[5], ids=[71, 72, 73, 74, 75, 76])
    after = packed_logps(model, [*six[:5], changed], 1000)
    assert after[:5] == before[:5]
    assert after[5] != before[5]


def test_labels_stand_on_sampled_tokens_only(six):
    (batch,) = pack(six, 1000)
    no = IGNORED
    assert labels(batch).tolist() == [
        [no, 32, 33, no, no, 36, 37, 38],
        [no, no, no, no, 65, 66, no, 22],
        [no, no, 13, 14, 15, no, no, 43],
        [no, 52, 53, 54, no, no, no, no],
    ]
