"""The contract with TRL: the loss of a batch of ours is the formula of its paper, over the model's tokens alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import logsigmoid

from quintain.rl.stages.dpo_config import DpoLossConfig
from quintain.rl.stages.dpo_tasks import KtoRow, PairRow, kto_partners, kto_task, pair_task
from quintain.rl.stages.fit import Loop, make_optimizer, make_trainer
from quintain.rl.stages.preference import Tokens
from quintain.rl.stages.stage_config import OptimConfig
from quintain.rl.stages.token_logps import answer_logps

pytestmark = pytest.mark.slow  # TRL's trainers take seconds to import


def tokens(ids, mask):
    return Tokens(tuple(ids), tuple(mark == "x" for mark in mask))


# In the second pair the model calls a tool: "." in the middle is what came back.
PAIRS = [
    PairRow(tokens([40, 41, 50, 51, 4], "..xxx"), tokens([40, 41, 60, 4], "..xx"), "a"),
    PairRow(tokens([42, 43, 50, 4, 90, 91, 52, 4], "..xx..xx"), tokens([42, 43, 61, 62, 4], "..xxx"), "b"),
]


def logp(model, side: Tokens) -> torch.Tensor:
    """By the plainest means: the log-softmax of the logits, at the marked tokens. [marked]"""
    ids = torch.tensor([side.ids])
    rows = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
    picked = rows.gather(1, ids[0, 1:, None])[:, 0]
    return picked[torch.tensor(side.mask[1:])]


def loss_of(task, model, tokenizer, tmp_path: Path) -> float:
    loop = Loop(tmp_path, steps=1, micro_batch=task.rows)
    optimizer = make_optimizer(model, OptimConfig())
    trainer = make_trainer(model, tokenizer, task, range(task.rows), loop, optimizer, lambda step: 1.0)
    task.prepared(trainer)
    model.train()
    return float(trainer.compute_loss(model, task.collate(range(task.rows))).detach())


@pytest.fixture
def told(make_model):
    """Return a policy, the log-probabilities of its answers, and those of a reference that differs."""
    policy, reference = make_model(0), make_model(1)
    with torch.no_grad():
        sides = [[logp(policy, side) for side in (row.chosen, row.rejected)] for row in PAIRS]
    flat = answer_logps(reference, [side for row in PAIRS for side in (row.chosen, row.rejected)])
    return policy, sides, list(zip(flat[::2], flat[1::2], strict=True)), reference


def test_the_reference_speaks_of_the_marked_tokens_alone(told):
    _, _, found, reference = told
    with torch.no_grad():
        expected = [
            tuple(float(logp(reference, side).sum()) for side in (row.chosen, row.rejected)) for row in PAIRS
        ]
    assert found == [pytest.approx(pair, abs=1e-4) for pair in expected]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "hinge", "robust"])
def test_losses_with_a_reference(loss, told, tokenizer, tmp_path):
    policy, sides, reference, _ = told
    beta, eps = 0.3, 0.2 if loss == "robust" else 0.0
    total = 0.0
    for (chosen, rejected), (ref_chosen, ref_rejected) in zip(sides, reference, strict=True):
        over = chosen.sum() - ref_chosen, rejected.sum() - ref_rejected
        delta = over[0] - over[1]
        if loss == "ipo":  # means over the tokens
            total += (over[0] / len(chosen) - over[1] / len(rejected) - 1 / (2 * beta)) ** 2
        elif loss == "hinge":
            total += torch.relu(1 - beta * delta)
        else:
            right, flipped = -logsigmoid(beta * delta), -logsigmoid(-beta * delta)
            total += ((1 - eps) * right - eps * flipped) / (1 - 2 * eps)
    task = pair_task(PAIRS, [], reference, DpoLossConfig(loss=loss, beta=beta, label_smoothing=eps))
    assert loss_of(task, policy, tokenizer, tmp_path) == pytest.approx(float(total) / 2, abs=1e-4)


def test_a_weight_on_the_likelihood_of_the_chosen_answer_is_added(told, tokenizer, tmp_path):
    policy, sides, reference, _ = told
    plain = loss_of(pair_task(PAIRS, [], reference, DpoLossConfig()), policy, tokenizer, tmp_path)
    task = pair_task(PAIRS, [], reference, DpoLossConfig(nll=0.5))
    nll = -torch.cat([chosen for chosen, _ in sides]).mean()
    assert loss_of(task, policy, tokenizer, tmp_path) == pytest.approx(plain + 0.5 * float(nll), abs=1e-4)


def test_simpo_compares_means_and_asks_for_a_margin(told, tokenizer, tmp_path):
    policy, sides, _, _ = told
    wanted = [-logsigmoid(2.0 * (c.mean() - r.mean()) - 0.5) for c, r in sides]
    task = pair_task(PAIRS, [], [], DpoLossConfig(loss="simpo", beta=2.0, gamma=0.5))
    assert loss_of(task, policy, tokenizer, tmp_path) == pytest.approx(float(sum(wanted)) / 2, abs=1e-4)


def test_orpo_is_the_likelihood_of_the_answer_and_the_odds_ratio(told, tokenizer, tmp_path):
    policy, sides, _, _ = told

    def log_odds(logps):
        mean = logps.mean()
        return mean - torch.log1p(-torch.exp(mean))

    nll = -torch.cat([chosen for chosen, _ in sides]).mean()
    ratio = sum(logsigmoid(log_odds(c) - log_odds(r)) for c, r in sides) / 2
    task = pair_task(PAIRS, [], [], DpoLossConfig(loss="orpo", beta=0.3))
    assert loss_of(task, policy, tokenizer, tmp_path) == pytest.approx(float(nll - 0.3 * ratio), abs=1e-4)


def test_kto_weighs_wanted_and_unwanted_answers_against_the_kl(told, tokenizer, make_model, tmp_path):
    policy, _, _, reference = told
    rows = [KtoRow(row.chosen, True, "") for row in PAIRS] + [
        KtoRow(row.rejected, False, "") for row in PAIRS
    ]
    partners = kto_partners(4, 0)
    assert partners == [2, 3, 0, 1]
    strangers = [
        Tokens(
            own.tokens.ids[:2] + rows[other].tokens.ids[2:], own.tokens.mask[:2] + rows[other].tokens.mask[2:]
        )
        for own, other in zip(rows, partners, strict=True)
    ]
    said = answer_logps(reference, [*(row.tokens for row in rows), *strangers])
    ours = answer_logps(policy, [*(row.tokens for row in rows), *strangers])
    kl = max(0.0, sum(ours[4:][n] - said[4:][n] for n in range(4)) / 4)
    ratios = [ours[n] - said[n] for n in range(4)]
    wanted = [1 - torch.sigmoid(torch.tensor(0.3 * (r - kl))) for r in ratios[:2]]
    unwanted = [1.5 * (1 - torch.sigmoid(torch.tensor(0.3 * (kl - r)))) for r in ratios[2:]]
    task = kto_task(rows, [], strangers, said, DpoLossConfig(loss="kto", beta=0.3, undesirable=1.5))
    expected = float(sum(wanted) + sum(unwanted)) / 4
    assert loss_of(task, policy, tokenizer, tmp_path) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss", ["sigmoid", "simpo"])
def test_a_batch_in_two_parts_is_the_same_step(loss, make_model, tokenizer, tmp_path):
    found = []
    for micro, parts in ((2, 1), (1, 2)):
        model = make_model(0)
        task = pair_task(PAIRS, [], [(-9.0, -8.0), (-7.0, -9.0)], DpoLossConfig(loss=loss))
        loop = Loop(tmp_path, 1, micro, parts, max_grad_norm=1e9)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        make_trainer(model, tokenizer, task, [0, 1], loop, optimizer, lambda step: 1.0).train()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*found, atol=1e-5)
