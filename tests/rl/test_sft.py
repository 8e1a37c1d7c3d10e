"""The warm start goes through TRL and learns exactly what the mask marks."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
import torch

from quintain.rl.chat import ChatCodec
from quintain.rl.config import SftConfig
from quintain.rl.forward import token_logprobs
from quintain.rl.learner import NonFiniteError
from quintain.rl.optim import MuonAdamW, schedule
from quintain.rl.packing import pack
from quintain.rl.stages.demonstrations import read_demonstrations
from quintain.rl.stages.sft import warm_start
from quintain.tools.errors import UserError


@pytest.fixture
def demonstrations(trajectory):
    """Eight of them: after 50 + n, count on from there; then what the environment says."""
    return [trajectory([40, 50 + n, *range(51 + n, 56 + n), 90, 91], "..xxxxx..", group=n) for n in range(8)]


def loss_of(model, trajectories) -> float:
    """Mean negative log-probability of the sampled tokens, by our own forward pass."""
    with torch.no_grad():
        logps = [token_logprobs(model, batch)[0] for batch in pack(trajectories, 8192)]
    return -torch.cat(logps).mean().item()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_ten_steps_through_trl_lower_the_loss(model, tokenizer, demonstrations, optimizer: str):
    config = SftConfig(
        steps=10, warmup_steps=2, tokens_per_step=72, optimizer=optimizer, lr=5e-3, muon_lr=0.02
    )
    before, seen = loss_of(model, demonstrations), []
    warm_start(
        model, tokenizer, demonstrations, config, seed=1, on_step=lambda step, m: seen.append((step, m))
    )
    assert [step for step, _ in seen] == list(range(1, 11))
    # 72 tokens are all eight demonstrations, so the first loss that TRL reports is the one before training.
    assert seen[0][1]["loss"] == pytest.approx(before, abs=2e-3)
    assert loss_of(model, demonstrations) < 0.7 * before
    assert {"loss", "lr", "grad_norm"} <= set(seen[0][1])


def test_what_the_environment_said_is_not_learned(model, tokenizer, demonstrations, trajectory):
    """Other tokens after the last reply: the same weights in the end."""
    config = SftConfig(steps=3, warmup_steps=0, tokens_per_step=72, lr=5e-3)
    other = [trajectory([*t.ids[:-2], 100, 101], "..xxxxx..", group=t.group) for t in demonstrations]
    copied = copy.deepcopy(model)
    warm_start(model, tokenizer, demonstrations, config, seed=1)
    warm_start(copied, tokenizer, other, config, seed=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, copied.state_dict()[name]), name


def test_the_generators_of_the_process_are_left_as_they_were(model, tokenizer, demonstrations):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    warm_start(
        model, tokenizer, demonstrations, SftConfig(steps=2, warmup_steps=0, tokens_per_step=16), seed=7
    )
    assert random.getstate() == before[0]
    after = np.random.get_state()
    assert (after[0], after[1].tolist(), *after[2:]) == (before[1][0], before[1][1].tolist(), *before[1][2:])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_same_seed_gives_the_same_weights(make_model, tokenizer, demonstrations):
    config = SftConfig(steps=4, warmup_steps=0, tokens_per_step=18)
    found = []
    for seed in (5, 5, 6):
        model = make_model()
        warm_start(model, tokenizer, demonstrations, config, seed=seed)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_rates_follow_the_schedule(model, tokenizer, demonstrations):
    seen = []
    config = SftConfig(steps=6, warmup_steps=2, tokens_per_step=72, lr=1e-3, lr_final=0.1)
    warm_start(model, tokenizer, demonstrations, config, seed=1, on_step=lambda step, m: seen.append(m["lr"]))
    assert seen == pytest.approx([1e-3 * schedule(step, 6, 2, 0.1) for step in range(6)])


def test_a_loss_that_is_not_finite_stops(model, tokenizer, demonstrations):
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="the SFT loss is nan in step 1"):
        warm_start(model, tokenizer, demonstrations, SftConfig(steps=3, warmup_steps=0), seed=1)


def test_nothing_to_learn_from_is_refused(model, tokenizer):
    with pytest.raises(UserError, match="there are no demonstrations to learn from"):
        warm_start(model, tokenizer, [], SftConfig(steps=3, warmup_steps=0), seed=1)


def test_muon_and_adamw_follow_a_schedule_after_their_state_was_loaded(model):
    """`accelerate` loads the state back when it prepares an optimiser; the scheduler must still reach both parts."""
    optimizer = MuonAdamW(model, lr=0.1, muon_lr=0.5)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.load_state_dict(optimizer.state_dict())
    for expected in (1.0, 0.5, 0.25):
        adamw, muon = optimizer.parts
        assert [group["lr"] for group in adamw.param_groups] == pytest.approx([0.1 * expected] * 2)
        assert [group["lr"] for group in muon.param_groups] == pytest.approx([0.5 * expected])
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        plan.step()


def test_muon_takes_the_matrices_inside_and_adamw_the_rest(model):
    adamw, muon = MuonAdamW(model, lr=0.1, muon_lr=0.5).parts
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    outside = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert all("_proj.weight" in name for name in inside) and len(inside) == 2 * 7
    assert outside == set(names.values()) - inside
    assert "model.embed_tokens.weight" in outside


def test_rows_of_messages_become_trajectories(tokenizer, tmp_path):
    codec = ChatCodec(tokenizer)
    messages = [
        {"role": "user", "content": "3+4?"},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n\n")
    (found,) = read_demonstrations(path, codec).kept
    written = [token for token, mine in zip(found.ids, found.mask, strict=True) if mine]
    assert tokenizer.decode(written) == "7<|im_end|>Yes.<|im_end|>"
    assert tokenizer.decode(found.ids) == (
        "<|im_start|>user\n3+4?<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"not JSON \(row 2\)"),
        ('{"label": "a"}', r"no messages, no prompt with a completion, no text and no trajectory \(row 2\)"),
        (
            '{"messages": [{"role": "user", "content": "a"}]}',
            r"no message of the assistant to learn from \(row 2\)",
        ),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', r"a user's message comes first \(row 2\)"),
    ],
)
def test_a_row_that_is_no_demonstration_is_refused_by_its_number(tokenizer, tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read_demonstrations(path, ChatCodec(tokenizer))


def test_a_file_that_is_not_there_is_named(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"rows\.jsonl does not exist; give a JSONL file"):
        read_demonstrations(tmp_path / "rows.jsonl", ChatCodec(tokenizer))
