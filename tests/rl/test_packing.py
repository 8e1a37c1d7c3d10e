"""Packing loses no token and mixes none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from quintain.rl.attention import enable_packing, packed_attention
from quintain.rl.forward import token_logprobs
from quintain.rl.packing import pack
from quintain.rl.stages.sft import IGNORED, labels


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
    assert enable_packing(model)
    with torch.no_grad():
        for batch in pack(trajectories, budget):
            parts = token_logprobs(model, batch)[0].split(list(batch.lengths))
            found.update(zip(batch.members, (part.tolist() for part in parts), strict=True))
    return [found[index] for index in range(len(trajectories))]


def test_sequences_lie_end_to_end(six):
    (batch,) = pack(six[:3], 1000)
    assert batch.ids_RT.tolist() == [[11, 12, 13, 14, 15, 21, 22, 31, 32, 33, 34, 35, 36, 37, 38]]
    assert batch.positions_RT.tolist() == [[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert [(s.start, s.end) for s in batch.segments] == [(0, 5), (5, 7), (7, 15)]
    assert batch.ends_M.tolist() == [4, 6, 14]


@pytest.mark.parametrize("budget", [1, 8, 16, 24, 1000])
def test_every_trained_token_comes_exactly_once(six, budget: int):
    batches = list(pack(six, budget))
    assert sorted(index for batch in batches for index in batch.members) == [0, 1, 2, 3, 4, 5]
    targets = sorted(token for batch in batches for token in batch.targets_N.tolist())
    assert targets == [13, 14, 15, 22, 32, 33, 36, 37, 38, 43, 52, 53, 54, 65, 66]
    for batch in batches:
        assert sum(batch.lengths) == len(batch.targets_N)
        after = batch.ids_RT.view(-1)[batch.places_N + 1]
        assert after.tolist() == batch.targets_N.tolist()


@pytest.mark.parametrize("budget", [8, 16, 24])
def test_a_batch_keeps_the_budget(six, budget: int):
    assert all(batch.ids_RT.numel() <= budget for batch in pack(six, budget))


def test_a_sequence_longer_than_the_budget_gets_a_batch_of_its_own(six):
    batches = list(pack(six, 5))
    assert [batch.ids_RT.numel() for batch in batches if batch.ids_RT.numel() > 5] == [8, 6]


def test_the_sampler_logprobs_stay_with_their_tokens(six):
    (batch,) = pack(six, 1000)
    found = dict(zip(batch.targets_N.tolist(), batch.sampler_logp_N.tolist(), strict=True))
    assert [found[13], found[14], found[15], found[22]] == [-1.5, -2.5, -3.5, 0.0]


def test_the_first_token_of_a_sequence_is_never_trained(trajectory):
    (batch,) = pack([trajectory([11, 12], "xx")], 100)
    assert batch.targets_N.tolist() == [12]


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
    (batch,) = pack(six[:3], 1000, share=False)
    no = IGNORED
    assert labels(batch).tolist() == [[no, no, 13, 14, 15, no, 22, no, 32, 33, no, no, 36, 37, 38]]


def test_no_place_is_wasted(six):
    batches = list(pack(six, 1000, share=False))
    assert sum(batch.ids_RT.numel() for batch in batches) == sum(len(t.ids) for t in six)


# --- a beginning that a group shares


PROMPT = list(range(100, 120))


@pytest.fixture
def group(trajectory):
    """Three episodes of one group after the same prompt of twenty tokens, and a stranger in between."""
    prompt = "." * 20
    return [
        trajectory([*PROMPT, 11, 12, 13], prompt + "xx.", group=1),
        trajectory([31, 32, 33], ".xx", group=2),
        trajectory([*PROMPT, 14], prompt + "x", group=1),
        trajectory([*PROMPT, 11, 15, 16, 17], prompt + "x.xx", group=1),
    ]


def test_the_prompt_of_a_group_is_in_the_row_once(group):
    (batch,) = pack(group, 1000)
    assert batch.ids_RT.tolist() == [[*PROMPT, 11, 12, 13, 14, 11, 15, 16, 17, 31, 32, 33]]
    assert batch.positions_RT.tolist()[0][20:] == [20, 21, 22, 20, 20, 21, 22, 23, 0, 1, 2]
    assert batch.members == (0, 2, 3, 1)
    assert batch.targets_N.tolist() == [11, 12, 14, 11, 16, 17, 32, 33]
    # The first token of each reply is predicted by the last one of the prompt.
    assert batch.places_N.tolist() == [19, 20, 19, 19, 25, 26, 28, 29]
    assert batch.ends_M.tolist() == [22, 23, 27, 30]


@pytest.mark.parametrize("budget", [24, 30, 1000])
def test_sharing_changes_no_logprob(group, model, budget: int):
    for found, one in zip(packed_logps(model, group, budget), group, strict=True):
        assert found == pytest.approx(unpacked_logps(model, one), abs=1e-5)


@pytest.mark.parametrize("budget", [24, 30, 1000])
def test_a_shared_row_keeps_the_budget(group, budget: int):
    assert all(batch.ids_RT.numel() <= budget for batch in pack(group, budget))


def test_sharing_changes_no_gradient(group, make_model):
    found = []
    for share in (True, False):
        copied = make_model()
        enable_packing(copied)
        (batch,) = pack(group, 1000, share=share)
        token_logprobs(copied, batch)[0].sum().backward()
        found.append([p.grad for p in copied.parameters()])
    for shared, repeated in zip(*found, strict=True):
        torch.testing.assert_close(shared, repeated, rtol=1e-4, atol=1e-5)


def test_changing_one_reply_leaves_its_siblings_as_they_are(group, model):
    before = packed_logps(model, group, 1000)
    changed = dataclasses.replace(group[0], ids=[*PROMPT, 71, 72, 73])
    after = packed_logps(model, [changed, *group[1:]], 1000)
    assert after[1:] == before[1:]
    assert after[0] != before[0]


def test_a_short_common_beginning_is_repeated(trajectory):
    pair = [trajectory([1, 2, 3, 4], "...x"), trajectory([1, 2, 3, 5], "...x")]
    (batch,) = pack(pair, 1000)
    assert batch.ids_RT.tolist() == [[1, 2, 3, 4, 1, 2, 3, 5]]


def test_what_was_sampled_alike_is_not_shared(trajectory):
    """Two episodes may begin with the same reply: each is trained on its own."""
    pair = [trajectory([*PROMPT, 7, 8], "." * 18 + "xxxx"), trajectory([*PROMPT, 7, 9], "." * 18 + "xxxx")]
    (batch,) = pack(pair, 1000)
    assert len(batch.targets_N) == 8


# --- models that cannot run packed rows


def test_alone_every_sequence_has_a_row_of_its_own_longest_first(six):
    first, second = pack(six[:4], 16, alone=True)
    assert first.ids_RT.tolist() == [[31, 32, 33, 34, 35, 36, 37, 38], [11, 12, 13, 14, 15, 0, 0, 0]]
    assert second.ids_RT.tolist() == [[41, 42, 43], [21, 22, 0]]
    assert first.segments == ()
    assert first.ends_M.tolist() == [7, 12]


def test_alone_the_logprobs_are_the_same(six, model):
    for batch in pack(six, 16, alone=True):
        with torch.no_grad():
            parts = token_logprobs(model, batch)[0].split(list(batch.lengths))
        for member, part in zip(batch.members, parts, strict=True):
            assert part.tolist() == pytest.approx(unpacked_logps(model, six[member]), abs=1e-5)


def tiny(kind: str, **options: object):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, **options})).eval()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "olmo2"])
def test_any_family_of_plain_attention_runs_packed(kind, six, group):
    other = tiny(kind, **({"pad_token_id": 0} if kind == "phi3" else {}))
    assert enable_packing(other)
    for found, one in zip(packed_logps(other, [*six, *group], 1000), [*six, *group], strict=True):
        assert found == pytest.approx(unpacked_logps(other, one), abs=1e-4)


def test_a_sliding_window_holds_within_a_packed_row(group):
    other = tiny("mistral", sliding_window=4)
    assert enable_packing(other)
    for found, one in zip(packed_logps(other, group, 1000), group, strict=True):
        assert found == pytest.approx(unpacked_logps(other, one), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma2", {}),  # soft-capped scores
        ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1}),  # attention sinks
        (
            "qwen3_next",
            {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
        ),  # recurrent layers
        ("mamba", {"state_size": 4}),
    ],
)
def test_models_in_which_sequences_would_meet_run_alone(kind, options, six):
    other = tiny(kind, **options)
    assert not enable_packing(other)


@pytest.mark.parametrize("alone", [False, True], ids=["packed", "rows"])
@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_the_samples_of_a_trajectory_are_sequences_of_one_member(six, model, alone: bool, budget: int):
    """Each sample's log-probabilities are those of the sample run by itself, and they come in the member's order."""
    whole = dataclasses.replace(
        six[2], ids=[31, 32, 33, 34, 31, 35, 36, 37, 38, 39], mask=[m == "x" for m in ".xx...x.xx"],
        logprobs=[0.0] * 10, versions=[-1] * 10, samples=[0, 4],
    )  # fmt: skip
    first = dataclasses.replace(
        six[2], ids=whole.ids[:4], mask=whole.mask[:4], logprobs=[0.0] * 4, versions=[-1] * 4
    )
    second = dataclasses.replace(
        six[2], ids=whole.ids[4:], mask=whole.mask[4:], logprobs=[0.0] * 6, versions=[-1] * 6
    )
    parts = [unpacked_logps(model, first), unpacked_logps(model, second)]
    enable_packing(model)
    found = {}
    with torch.no_grad():
        for batch in pack([six[0], whole, six[1]], budget, alone=alone):
            split = token_logprobs(model, batch)[0].split(list(batch.lengths))
            found.update(zip(batch.members, split, strict=True))
            states = batch.ids_RT.view(-1)[batch.ends_M].tolist()
            assert dict(zip(batch.members, states, strict=True)).items() <= {0: 15, 1: 39, 2: 22}.items()
    assert found[1].tolist() == pytest.approx(parts[0] + parts[1], abs=1e-5)


def test_a_shared_beginning_ends_with_the_first_sample(trajectory):
    """A group whose members share more than their first samples shares only these."""
    ids = [*range(40, 60), 7, 8, *range(40, 60), 9, 10]
    one = dataclasses.replace(trajectory(ids, "." * 20 + "xx" + "." * 20 + "xx"), samples=[0, 22])
    other = dataclasses.replace(one, id="other")
    (batch,) = pack([one, other], 1000)
    assert [(s.start, s.end) for s in batch.segments] == [(0, 20), (20, 22), (22, 44), (44, 46), (46, 68)]
    assert batch.targets_N.tolist() == [7, 8, 9, 10] * 2
    assert batch.lengths == (4, 4)


@pytest.mark.parametrize("hidden", [0, 5])
def test_one_new_token_attends_as_with_repeated_keys(hidden: int):
    """Six query heads, two of keys: head 0 to 2 read the first, 3 to 5 the second; `hidden` keys of 11 are masked."""
    draws = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, 1, 8, generator=draws)
    key, value = torch.randn(2, 3, 2, 11, 8, generator=draws)
    mask = (torch.arange(11) >= hidden).expand(3, 1, 1, 11) if hidden else None
    found, _ = packed_attention(torch.nn.Module(), query, key, value, mask)
    scores = query @ key.repeat_interleave(3, 1).transpose(2, 3) / 8**0.5
    scores[..., :hidden] = -torch.inf
    expected = (scores.softmax(-1) @ value.repeat_interleave(3, 1)).transpose(1, 2)
    torch.testing.assert_close(found, expected)
