"""Stages from config to model folder: resumed after a kill to the same weights, bad input refused by its row."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from quintain.rl.metrics import read_metrics
from quintain.rl.stages.stage import find_stage
from quintain.tools.errors import UserError

pytestmark = pytest.mark.slow  # TRL's trainers take seconds to import

OPTIM = {"steps": 5, "batch": 4, "micro_batch": 2, "lr": 3e-3}


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{n}+1?", "completion": str(n + 1)}) + "\n" for n in range(12))
    )
    return {"data": {"path": str(path), "held_out": 0.2}, "optim": OPTIM, "seed": 3}


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    made = [{"prompt": f"{n}+1?", "chosen": str(n + 1), "rejected": str(n + 2)} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return {"data": {"path": str(path), "held_out": 0.2}, "optim": OPTIM, "seed": 3}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(tmp_path, folder, phase):
    return [
        (r.step, dict(r.metrics))
        for r in read_metrics(tmp_path / folder / "metrics.jsonl")
        if r.phase == phase
    ]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_small_steps_of_half_precision_weights_add_up_and_survive_a_kill(
    optimizer, rows, run_of, model_folder
):
    """bfloat16 keeps 8 bits: steps of a two-thousandth of a weight are rounded away, twenty of them are not."""
    optim = {**OPTIM, "steps": 20, "optimizer": optimizer, "lr": 5e-4, "muon_lr": 5e-4, "lr_final": 1.0}
    rows = {**rows, "optim": optim, "model": {"path": str(model_folder), "dtype": "bfloat16"}}
    start = load_file(model_folder / "model.safetensors")
    whole = run_of("sft", "whole", **rows)
    norms = [
        name for name in whole if name.endswith("norm.weight")
    ]  # at 1: a step is a quarter of a rounding
    assert all((whole[name].float() != start[name].float()).float().mean() > 0.1 for name in norms)
    run_of("sft", "cut", kill_in=15, **rows)
    assert equal(run_of("sft", "cut", **rows), whole)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.1}], ids=["whole", "lora"])
def test_sft_that_was_killed_goes_on_to_the_same_weights(lora, rows, run_of, model_folder, tmp_path):
    rows = {**rows, "model": {"path": str(model_folder), "lora": lora}}
    whole = run_of("sft", "whole", **rows)
    assert "killed" in run_of("sft", "cut", kill_in=4, **rows)
    assert equal(run_of("sft", "cut", **rows), whole)
    shown = [
        [(step, m["loss"], m["lr"]) for step, m in told(tmp_path, name, "train")] for name in ("whole", "cut")
    ]
    assert shown[0] == shown[1] and [step for step, *_ in shown[0]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in told(tmp_path, "whole", "check")] == [0, 5]


@pytest.mark.parametrize("loss", ["sigmoid", "kto", "simpo", "orpo"])
def test_dpo_that_was_killed_goes_on_to_the_same_weights(loss, pairs, run_of, tmp_path):
    pairs = {**pairs, "dpo": {"loss": loss}}
    whole = run_of("dpo", "whole", **pairs)
    run_of("dpo", "cut", kill_in=4, **pairs)
    assert equal(run_of("dpo", "cut", **pairs), whole)


def test_an_adapter_is_held_to_the_model_without_it_and_saved_alone_and_merged(
    pairs, run_of, model_folder, tmp_path
):
    """At the first step the policy is its own reference: the loss of DPO is log 2."""
    pairs = {**pairs, "model": {"path": str(model_folder), "lora": {"rank": 4}}}
    made = run_of("dpo", "lora", **pairs)
    assert told(tmp_path, "lora", "train")[0][1]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert not [name for name in made if "lora" in name]
    assert sorted(p.name for p in (tmp_path / "lora" / "model" / "adapter").glob("*.safetensors")) == [
        "adapter_model.safetensors"
    ]


def test_a_finished_stage_is_not_run_again(rows, run_of, tmp_path):
    first = run_of("sft", "done", **rows)
    before = (tmp_path / "done" / "metrics.jsonl").read_bytes()
    assert equal(run_of("sft", "done", **rows), first)
    assert (tmp_path / "done" / "metrics.jsonl").read_bytes() == before


def test_the_model_of_one_stage_is_the_start_of_the_next(rows, pairs, run_of, tmp_path):
    run_of("sft", "first", **rows)
    path = str(tmp_path / "first" / "model")
    run_of("dpo", "second", **{**pairs, "model": {"path": path}})
    assert (tmp_path / "second" / "model" / "chat_template.jinja").is_file()
    assert not (tmp_path / "second" / "model" / "trainer.pt").exists()


@pytest.mark.parametrize(
    ("row", "section", "message"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, {}, r"identical sides \(row 13\)"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "strength": 5}, {}, "1 rows are ties .13."),
        ({"prompt": "a" * 90, "chosen": "b", "rejected": "c"}, {"max_tokens": 40}, r"longer than 40 tokens .rows 13."),
        (
            {
                "prompt": "a", "chosen": "b", "rejected": "c", "tokenizer": "another",
                "tokens": [{"ids": [1, 2], "mask": [0, 1]}, {"ids": [1, 3], "mask": [0, 1]}],
            },
            {}, r"tokens of another tokenizer .rows 13.; correct them, or set data.on_foreign",
        ),
    ],
    ids=["identical", "tie", "long", "tokenizer"],
)  # fmt: skip
def test_dpo_refuses_rows_by_their_numbers_and_skips_them_where_asked(
    row, section, message, pairs, run_of, tmp_path
):
    path = tmp_path / "pairs.jsonl"
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    data = {**pairs["data"], **section}
    with pytest.raises(UserError, match=message):
        run_of("dpo", "refused", **{**pairs, "data": data})
    skip = {"on_bad": "skip", "ties": "skip", "on_long": "skip", "on_foreign": "skip"}
    run_of("dpo", "skipped", **{**pairs, "data": {**data, **skip}})
    assert told(tmp_path, "skipped", "prepare")[0][1]["rows_left_out"] == 1


def test_sft_on_the_folder_of_a_run_and_another_tokenizer_is_refused(rows, run_of, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("[env]\nid = 'quintain/Calculator-v0'\n")
    with pytest.raises(UserError, match="has no checkpoint, so its tokenizer is not known"):
        run_of("sft", "x", **{**rows, "data": {"path": str(tmp_path / "run")}})


@pytest.mark.parametrize(
    ("kind", "sections", "message"),
    [
        ("sft", {}, "give the rows with data.path"),
        ("dpo", {}, "give the preferences with data.path"),
        (
            "dpo",
            {"data": {"path": "x"}, "dpo": {"label_smoothing": 0.1}},
            "of the losses robust and simpo alone",
        ),
        ("dpo", {"data": {"path": "x"}, "dpo": {"loss": "orpo", "reference": "m"}}, "orpo has no reference"),
        ("dpo", {"online": {"env": {"id": "quintain/Calculator-v0"}}}, "needs optim.steps"),
        (
            "dpo",
            {"data": {"path": "x"}, "optim": {"batch": 5, "micro_batch": 2}},
            "a multiple of micro_batch",
        ),
        ("sft", {"stage": "dpo", "data": {"path": "x"}}, "Input should be 'sft'"),
    ],
)
def test_configs_that_cannot_work_are_refused(kind, sections, message):
    with pytest.raises(ValueError, match=message):
        find_stage(kind).config.model_validate(sections)


def test_a_stage_that_is_none_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'dpo'"):
        find_stage("dop")
