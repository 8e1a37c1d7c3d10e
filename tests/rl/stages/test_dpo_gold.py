"""DPO on pairs that a verifier made raises the verifier's own score, measured exactly and on other questions."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from quintain.rl.chat import ChatCodec
from quintain.rl.stages.encode import converse, tokenizer_mark
from quintain.rl.stages.pairs import pairs_from_groups
from quintain.rl.stages.preference import write_preferences
from quintain.verifiers.base import Task, verifier

pytestmark = pytest.mark.slow


@verifier
def even(reply, task):
    return int(reply) % 2 == 0


def asked(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{n}+{n}?"}]


def gold(weights, make_model, codec) -> float:
    """The probability that the answer to a question begins with an even digit: the mean over 20 held-out questions."""
    model = make_model(0)
    model.load_state_dict(weights, strict=False)
    digits = [codec.encode(str(d))[0] for d in (0, 2, 4, 6, 8)]
    with torch.no_grad():
        found = [
            torch.softmax(model(torch.tensor([codec.prompt(asked(n))])).logits[0, -1], -1)[digits].sum()
            for n in range(80, 100)
        ]
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "kto", "simpo"])
def test_the_gold_score_of_a_model_that_guesses_rises(loss, run_of, make_model, tokenizer, tmp_path):
    codec, rng = ChatCodec(tokenizer), random.Random(0)
    rows = tmp_path / "rows.jsonl"
    guesses = [
        {"messages": [*asked(n % 80), {"role": "assistant", "content": str(rng.randrange(10))}]}
        for n in range(400)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in guesses))
    optim = {"batch": 32, "micro_batch": 32, "warmup": 0.0}
    start = run_of(
        "sft",
        "start",
        data={"path": str(rows)},
        optim={**optim, "steps": 80, "lr": 1e-2},
        run={"checkpoint_every": 99},
    )
    before = gold(start, make_model, codec)
    assert before < 0.7

    groups = []
    for n in range(80):
        for member in range(4):
            said = str(rng.randrange(10))
            one = converse(codec, [*asked(n), {"role": "assistant", "content": said}], (), n)
            groups.append(replace(one, id=f"{n}-{member}", score=even(said, Task(str(n), ""))))
    paired = pairs_from_groups(groups, tokenizer=tokenizer_mark(tokenizer))
    assert paired.groups == 80 and len(paired.preferences) + paired.silent == 80
    write_preferences(tmp_path / "pairs.jsonl", paired.preferences)
    after = run_of(
        "dpo",
        "dpo",
        model={"path": str(tmp_path / "start" / "model")},
        data={"path": str(tmp_path / "pairs.jsonl")},
        optim={**optim, "steps": 20, "lr": 1e-3},
        dpo={"loss": loss, "beta": 2.0 if loss == "simpo" else 0.1},
        run={"checkpoint_every": 99},
    )
    assert gold(after, make_model, codec) > before + 0.2
