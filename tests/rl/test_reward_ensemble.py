"""`quintain reward-model` with `members`: an ensemble in one run, judged on rows that no member has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from quintain.rl.stages.reward_ensemble import Said, ensemble_report, member_config
from quintain.rl.stages.reward_model_config import RewardModelConfig
from quintain.rl.stages.reward_rows import RewardRow, Side
from quintain.rl.stages.stage import run_stage
from quintain.verifiers import RewardModel, Task
from quintain.verifiers.reward_model import members_of

SHAPE = {"layers": 1, "width": 32, "heads": 4, "kv_heads": 2, "mlp": 32, "vocabulary": 300, "context": 64}


def config(path: Path, **more: Any) -> RewardModelConfig:
    plain: dict[str, Any] = {
        "threads": 1,
        "seed": 5,
        "members": 2,
        "model": {"device": "cpu", "tiny": SHAPE},
        "data": {"path": str(path)},
        "rows": {"held_out": 0.25},
        "optim": {"steps": 8, "batch": 16, "micro_batch": 16, "lr": 3e-3},
        "run": {"checkpoint_every": 4},
    }
    return RewardModelConfig.model_validate(plain | more)


def row(a: int, b: int) -> RewardRow:
    return RewardRow((Side((5,) * a, (a - 1,)), Side((5,) * b, (b - 1,))))


def test_a_member_has_a_seed_and_rows_of_its_own_and_the_held_out_rows_of_all():
    third = member_config(config(Path("x")), 2)
    assert (third.members, third.seed, third.split_seed, third.bootstrap) == (1, 7, 5, True)
    assert member_config(config(Path("x"), bootstrap=False), 0).bootstrap is False
    watched = member_config(config(Path("x"), run={"wandb": True, "tensorboard": True}), 0).run
    assert (watched.wandb, watched.tensorboard) == (False, True)


def test_what_the_members_say_together_and_where_they_disagree():
    """Three pairs; both members are right about the first, one about the second, none about the third."""
    one = Said([[2.0], [0.0], [3.0], [0.0], [0.0], [1.0]], scale=(0.0, 2.0))
    two = Said([[4.0], [0.0], [0.0], [1.0], [0.0], [1.0]], scale=(1.0, 1.0))
    found = ensemble_report([one, two], [row(3, 2), row(3, 2), row(2, 3)])
    assert found["accuracy"] == pytest.approx(2 / 3)  # the means are 3 0, 1.5 0.5 and 0 1
    assert found["disagreement"]["split"] == pytest.approx(1 / 3)
    assert found["disagreement"]["accuracy_agreed"] == 0.5
    assert found["disagreement"]["accuracy_split"] == 1.0
    # Each in its own deviations: 1 0 1.5 0 0 0.5 and 3 -1 -1 0 -1 0; the deviation of two is their distance / sqrt 2.
    assert found["disagreement"]["sigma"] == pytest.approx((2 + 1 + 2.5 + 0 + 1 + 0.5) / 6 / 2**0.5)


def test_without_held_out_rows_nothing_is_claimed():
    found = ensemble_report([Said([], (0.0, 1.0))] * 2, [])
    assert found["accuracy"] is None and found["disagreement"] == {"sigma": None}


def test_a_folder_of_members_stands_for_them_in_their_order(tmp_path):
    for number in (0, 1, 2, 10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "config.json").write_text("{}")
    assert members_of(str(tmp_path)) == [str(tmp_path / name) for name in ("0", "1", "2", "10")]
    assert RewardModel(str(tmp_path), pessimism=1.0).paths == members_of(str(tmp_path))
    assert members_of(str(tmp_path / "0")) == [str(tmp_path / "0")]
    assert members_of("some/hub-id") == ["some/hub-id"]


def pairs(path: Path) -> Path:
    """The side with `salt` is the better one."""
    words = ("blue", "cold", "deep")
    rows = [
        {
            "prompt": "The sea.",
            "chosen": f"{words[n % 3]} salt {n}",
            "rejected": f"{words[n % 3]} {n}",
            "id": f"p{n}/0",
        }
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.mark.slow
def test_an_ensemble_is_one_run_that_the_verifier_takes_as_it_is_and_a_stopped_one_goes_on_to_it(tmp_path):
    chosen = config(pairs(tmp_path / "pairs.jsonl"))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    assert run_stage(chosen, whole) == whole / "model"

    held_out = [json.loads((whole / "members" / n / "reward_model.json").read_text())["rows"] for n in "01"]
    assert held_out[0] == held_out[1]
    report = json.loads((whole / "reward_model.json").read_text())
    assert report["count"] == held_out[0]["held_out"] > 5 and len(report["members"]) == 2
    assert report["disagreement"]["sigma"] > 0
    weights = [(whole / "model" / n / "model.safetensors").read_bytes() for n in "01"]
    assert weights[0] != weights[1]

    task = Task("t", "The sea.")
    score = RewardModel(str(whole / "model"), pessimism=1.0, device="cpu")("blue salt", task)
    named = RewardModel([str(whole / "model" / n) for n in "01"], pessimism=1.0, device="cpu")
    assert score == named("blue salt", task) and score.parts["sigma"] > 0

    def stop(event: Any) -> None:
        begun = (stopped / "members" / "1").exists()
        if begun and event.phase == "train" and event.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(chosen, stopped, stop)
    first = stopped / "members" / "0" / "model" / "model.safetensors"
    before = first.stat().st_mtime_ns
    assert not (stopped / "model").exists()
    run_stage(chosen, stopped, resume=True)
    assert first.stat().st_mtime_ns == before
    for number, expected in zip("01", weights, strict=True):
        assert (stopped / "model" / number / "model.safetensors").read_bytes() == expected
    assert json.loads((stopped / "reward_model.json").read_text()) == report
    assert torch.get_num_threads() == 1
