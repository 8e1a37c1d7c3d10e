"""The stage `quintain reward-model`: what it learns, what it refuses, what it hands on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from quintain.cli import main
from quintain.rl.stages.reward_model import (
    load_reward_model,
    logits_of,
    padded,
    reward_task,
    with_head,
)
from quintain.rl.stages.reward_model_config import RewardModelConfig
from quintain.rl.stages.reward_report import JudgedPair, calibration, label_report, pair_report
from quintain.rl.stages.reward_rows import RewardRow, Side, read_reward_rows
from quintain.rl.stages.stage import run_stage
from quintain.tools.errors import UserError
from quintain.verifiers import RewardModel, Task
from quintain.verifiers.base import as_episode
from quintain.verifiers.reward_tokens import conversation_ids, step_ids, steps_of

SHAPE = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "mlp": 64, "vocabulary": 300, "context": 64}
WORDS = ("blue", "cold", "deep", "salt")


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def easy_pairs(count: int) -> list[dict[str, Any]]:
    """The side with `salt` is the better one."""
    return [
        pair(
            "The sea.",
            f"{WORDS[n % 3]} salt {WORDS[n // 3 % 3]}",
            f"{WORDS[n // 9 % 3]} {WORDS[(n + 1) % 3]}" + " deep" * (n % 2),
            id=f"p{n}/0",
            margin=1.0,
            info={"category": f"c{n % 2}"},
        )
        for n in range(count)
    ]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(path: Path, **sections: Any) -> RewardModelConfig:
    plain: dict[str, Any] = {
        "threads": 1,
        "model": {"device": "cpu", "tiny": SHAPE},
        "data": {"path": str(path)},
        "rows": {"held_out": 0.25},
        "optim": {"steps": 25, "batch": 16, "micro_batch": 16, "lr": 3e-3},
    }
    for name, section in sections.items():
        plain[name] = {**plain.get(name, {}), **section} if isinstance(section, dict) else section
    return RewardModelConfig.model_validate(plain)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned the easy pairs."""
    folder = tmp_path_factory.mktemp("run")
    run_stage(config(write(folder / "pairs.jsonl", easy_pairs(120))), folder)
    return folder


# --- what it learns


@pytest.mark.slow
def test_bradley_terry_tells_held_out_pairs_apart(trained: Path) -> None:
    report = json.loads((trained / "reward_model.json").read_text())
    assert report["accuracy"] >= 0.9
    assert report["count"] == report["rows"]["held_out"] > 15
    assert set(report["by_category"]) == {"c0", "c1"}
    assert report["calibration"]["error"] < 0.5


@pytest.mark.slow
def test_the_verifier_reads_exactly_what_was_trained(trained: Path) -> None:
    """Token for token and logit for logit, less the mean and over the deviation that the model knows of itself."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(trained / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    row = read_reward_rows(config(trained / "pairs.jsonl"), tokenizer, 64).kept[0]
    said = [own[0] for own in logits_of(model, row.sides, tokenizer.pad_token_id)]
    mean, deviation = model.config.reward_statistics
    ids, mask = padded(row.sides, tokenizer.pad_token_id)
    with torch.inference_mode():
        pooled = model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
    assert said == pytest.approx(pooled, abs=1e-5)  # TRL trains on the model's own pooling
    easy = easy_pairs(1)[0]
    task = Task("t", easy["prompt"])
    scores = [RewardModel(folder, device="cpu")(easy[side], task) for side in ("chosen", "rejected")]
    assert [s.parts["logit"] for s in scores] == pytest.approx(
        [(v - mean) / deviation for v in said], abs=1e-5
    )
    assert scores[0].value > scores[1].value


@pytest.mark.slow
def test_the_same_config_gives_the_same_model_and_a_stopped_run_goes_on_to_it(
    trained: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    chosen = config(trained / "pairs.jsonl", run={"checkpoint_every": 10})

    def stop(event: Any) -> None:
        if event.phase == "train" and event.step == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(chosen, stopped, stop)
    assert not (stopped / "model").exists()
    run_stage(chosen, stopped, resume=True)
    for name in ("model.safetensors", "config.json"):
        assert (stopped / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()


@pytest.mark.slow
def test_the_command_prints_the_model_s_folder_and_a_dry_run_the_config(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rm.toml"
    path.write_text(config(trained / "pairs.jsonl").to_toml())
    assert main(["reward-model", str(path), "--optim.lr", "1e-4", "--dry-run"]) == 0
    assert "lr = 0.0001" in capsys.readouterr().out
    assert (
        main(["reward-model", "--resume", str(trained)]) == 2
    )  # it has no config.toml: it was not made by the command
    out = tmp_path / "run"
    assert main(["reward-model", str(path), "--optim.steps", "1", "--run-dir", str(out)]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(out / "model")


# --- the losses are those of TRL, and of their papers


def rows_of_two() -> list[RewardRow]:
    return [
        RewardRow((Side((5, 6, 7), (2,)), Side((5, 8), (1,))), margin=2.0),
        RewardRow((Side((5, 9), (1,)), Side((5, 6, 9, 8), (3,))), margin=1.0),
    ]


def trainer_of(
    chosen: RewardModelConfig, rows: list[RewardRow], model: Any, tokenizer: Any
) -> tuple[Any, Any]:
    from datasets import Dataset

    task = reward_task(chosen, rows, len(rows), tokenizer.pad_token_id)
    options = {"output_dir": "unused", "report_to": "none", "use_cpu": True, "bf16": False, **task.options}

    class Staged(task.trainer):  # type: ignore[misc, name-defined]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    trainer = Staged(
        model=model,
        args=task.config(**options),
        train_dataset=Dataset.from_dict({"index": list(range(len(rows)))}),
        data_collator=task.collate,
        processing_class=tokenizer,
    )
    return trainer, task.collate(range(len(rows)))


@pytest.mark.slow  # loads TRL
def test_the_loss_of_pairs_is_bradley_terry_with_margin_and_centring(
    make_model, tokenizer, tmp_path: Path
) -> None:
    """-log sigmoid(better - worse - margin) + c (better + worse)^2, by the trainer of the TRL that is installed."""
    model = with_head(make_model(), seed=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    chosen = config(tmp_path / "x", data={"margin": 0.5}, center=0.1)
    trainer, batch = trainer_of(chosen, rows_of_two(), model, tokenizer)
    sides = [side for row in rows_of_two() for side in row.sides]
    (a,), (b,), (c,), (d,) = logits_of(model, sides, tokenizer.pad_token_id)
    gaps = torch.tensor([a - b - 1.0, c - d - 0.5])
    wanted = -torch.nn.functional.logsigmoid(gaps).mean() + 0.1 * ((a + b) ** 2 + (c + d) ** 2) / 2
    assert trainer.compute_loss(model, batch).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_the_loss_of_steps_is_the_cross_entropy_at_their_ends(make_model, tokenizer, tmp_path: Path) -> None:
    model = with_head(make_model(), seed=1)
    rows = [
        RewardRow((Side((5, 6, 7, 8), (1, 3)),), (1.0, 0.0)),
        RewardRow((Side((5, 9), (1,)),), (0.25,)),
    ]
    trainer, batch = trainer_of(config(tmp_path / "x", data={"kind": "steps"}), rows, model, tokenizer)
    said = logits_of(model, [row.sides[0] for row in rows], tokenizer.pad_token_id)
    logits, labels = torch.tensor([*said[0], *said[1]]), torch.tensor([1.0, 0.0, 0.25])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert trainer.compute_loss(model, batch).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_a_new_output_stands_on_the_trunk_as_it_was(make_model) -> None:
    base = make_model()
    model = with_head(base, seed=1)
    assert torch.equal(model.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert model.score.weight.shape == (1, 32)
    assert torch.equal(model.score.weight, with_head(base, seed=1).score.weight)
    assert not torch.equal(model.score.weight, with_head(base, seed=2).score.weight)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["outcome", "steps"])
def test_outcomes_and_steps_are_learned_too(kind: str, tmp_path: Path) -> None:
    rows = []
    for n in range(96):
        words = [WORDS[n % 4], WORDS[n // 4 % 4], WORDS[n // 16 % 4]]
        prompt = f"The sea, {n}."
        if kind == "outcome":
            rows.append({"prompt": prompt, "response": " ".join(words), "label": "salt" in words})
        else:
            rows.append({"prompt": prompt, "steps": words, "labels": [word != "salt" for word in words]})
    chosen = config(
        write(tmp_path / "rows.jsonl", rows), data={"kind": kind}, optim={"steps": 60, "lr": 5e-3}
    )
    model = run_stage(chosen, tmp_path)
    report = json.loads((tmp_path / "reward_model.json").read_text())
    assert report["accuracy"] > 0.9 and report["auc"] > 0.95
    if kind == "steps":
        judge = RewardModel(str(model), steps="minimum", device="cpu", normalize=False)
        task = Task("t", "The sea, 3.")
        assert judge("blue\ncold\ndeep", task).value > 0.5 > judge("blue\nsalt\ndeep", task).value
        each = judge.step_logits(as_episode("blue\nsalt\ndeep", task))
        assert len(each) == 3 and each[1] == min(each)


# --- what bad rows get


@pytest.mark.parametrize(
    ("rows", "sections", "message"),
    [
        (
            [pair("p", "a", "a"), pair("p", "a", "b")],
            {},
            r"1 identical sides \(row 1\); correct them, or skip them",
        ),
        ([pair("p", "a", " a"), pair("p", "a", "b", strength=5)], {}, r"1 rows are ties \(2\)"),
        ([pair("p", "a", "b"), {"prompt": "p", "chosen": "a"}], {}, r"1 no rejected \(row 2\)"),
        ([pair("p", "deep " * 90, "b")], {}, r"1 more than 64 tokens \(row 1\); raise rows.max_tokens"),
        (
            [{"prompt": "p", "response": "x", "label": "yes"}],
            {"data": {"kind": "outcome"}},
            r"a label that is neither",
        ),
        (
            [{"prompt": "p", "steps": ["x"], "labels": []}],
            {"data": {"kind": "steps"}},
            r"not one label for each step",
        ),
    ],
    ids=["identical", "tie", "no side", "over-long", "no label", "labels for other steps"],
)
def test_bad_rows_are_refused_with_their_numbers(
    rows, sections, message: str, tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read_reward_rows(config(write(tmp_path / "rows.jsonl", rows), **sections), tokenizer, 64)


def test_bad_rows_are_skipped_and_counted_where_that_is_asked_for(tokenizer, tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        [
            pair("p", "a", "a"),
            pair("p", "a", "b"),
            pair("p", "deep " * 90, "b"),
            pair("p", "a", "b", strength=4),
        ],
    )
    found = read_reward_rows(
        config(path, rows={"on_bad": "skip", "on_long": "skip"}, data={"ties": "skip"}), tokenizer, 64
    )
    assert found.numbers == [2]
    assert found.counts() == {"identical sides": 1, "more than 64 tokens": 1, "ties": 1}


def test_a_long_row_may_lose_its_beginning_as_the_verifier_s_does(tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair("p", "deep " * 90 + "end", "b")])
    row = read_reward_rows(config(path, rows={"on_long": "cut"}), tokenizer, 16).kept[0]
    whole = conversation_ids(
        tokenizer, [{"role": "user", "content": "p"}, {"role": "assistant", "content": "deep " * 90 + "end"}]
    )
    assert list(row.sides[0].ids) == whole[-16:]


@pytest.mark.slow
def test_a_model_with_two_outputs_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(trained / "model", folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"], settings["label2id"] = {"0": "a", "1": "b"}, {"a": 0, "b": 1}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"has 2 outputs; a reward model has one"):
        load_reward_model(config(tmp_path / "x", model={"path": str(folder)}))


@pytest.mark.slow
def test_a_reward_model_may_be_trained_further_and_its_padding_is_no_end_of_turn(
    trained: Path, tmp_path: Path
) -> None:
    model, tokenizer, template = load_reward_model(
        config(tmp_path / "x", model={"path": str(trained / "model")})
    )
    assert model.config.num_labels == 1
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    assert "<|im_start|>" in template


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a reward model is trained whole"):
        config(tmp_path / "x", model={"lora": {}})


# --- the report


def judged(better: float, worse: float, lengths: tuple[int, int] = (3, 3), **more: Any) -> JudgedPair:
    return JudgedPair(better, worse, lengths, **more)


def test_the_report_counts_by_length_category_and_margin() -> None:
    report = pair_report(
        [
            judged(2.0, 0.0, (9, 3), margin=3.0, category="a"),
            judged(0.0, 1.0, (2, 5), margin=1.0, category="a"),
            judged(1.0, 1.0, (4, 4), margin=2.0, category="b"),
        ]
    )
    assert report["accuracy"] == 0.5 and report["count"] == 3
    assert {k: v["accuracy"] for k, v in report["by_category"].items()} == {"a": 0.5, "b": 0.5}
    assert report["length"]["better_is_longer"]["accuracy"] == 1.0
    assert report["length"]["better_is_shorter"]["accuracy"] == 0.0
    assert report["length"]["longer_wins"] == 1.0  # it has chosen the longer side both times
    assert [part["accuracy"] for part in report["by_margin"]] == [0.0, 0.5, 1.0]
    assert pair_report([])["accuracy"] is None


def test_pairs_of_one_margin_stay_together_in_the_report() -> None:
    """A verdict of 0 or 1 knows one margin: parts of it would be sorted by nothing."""
    ones = [judged(0.0, 1.0, (1, 2), margin=1.0), *[judged(1.0, 0.0, (1, 2), margin=1.0)] * 5]
    assert [(p["count"], p["accuracy"]) for p in pair_report(ones)["by_margin"]] == [
        (6, pytest.approx(5 / 6))
    ]
    found = pair_report([*ones, judged(1.0, 0.0, (1, 2), margin=2.0)])["by_margin"]
    assert [(p["from"], p["to"], p["count"]) for p in found] == [(1.0, 1.0, 6), (2.0, 2.0, 1)]
    assert pair_report([judged(1.0, 0.0, (1, 2))])["by_margin"] == []


def test_calibration_compares_what_was_said_with_what_was() -> None:
    found = calibration([0.95, 0.95, 0.15, 1.0], [1.0, 0.0, 0.0, 1.0])
    assert [(round(p["said"], 3), round(p["was"], 3), p["count"]) for p in found["curve"]] == [
        (0.15, 0.0, 1),
        (0.967, 0.667, 3),
    ]
    assert found["error"] == pytest.approx((0.15 + 3 * 0.3) / 4)


def test_the_report_on_labels_has_the_area_under_the_curve_and_what_guessing_gives() -> None:
    report = label_report([2.0, -1.0, 0.5, -2.0], [1.0, 0.0, 0.0, 0.0], [5, 4, 3, 2], ["x"] * 4)
    assert (report["accuracy"], report["majority"], report["auc"]) == (0.75, 0.75, 1.0)
    assert label_report([1.0], [1.0], [1], [""])["auc"] is None


# --- what it reads


def test_a_conversation_ends_with_the_end_of_its_last_turn(tokenizer) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert conversation_ids(tokenizer, messages)[-1] == tokenizer.eos_token_id


def test_steps_are_lines_and_their_ends_are_found_again(tokenizer) -> None:
    assert steps_of("one\n\ntwo") == ["one\n", "two\n"]
    ids, ends = step_ids(tokenizer, [{"role": "user", "content": "a"}], ["one\n", "two\n"])
    assert [tokenizer.decode(ids[a + 1 : b + 1]) for a, b in zip([ends[0] - 4, ends[0]], ends, strict=True)][
        1
    ] == "two\n"
    assert ends[-1] == len(ids) - 1
