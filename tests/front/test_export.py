"""`quintain export`: a checkpoint as a plain folder with a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.config import Config
from quintain.rl.metrics import Event, MetricsLog


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two checkpoints, of which the first is the best; the weights are stand-ins, they are only copied."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = Config.model_validate(
        {"name": "agent", "env": {"id": "quintain/Calculator-v0"}, "rl": {"algorithm": "grpo"}}
    )
    (folder / "config.toml").write_text(config.to_toml())
    for step in (20, 40):
        checkpoint = folder / "checkpoints" / f"step-{step:06d}"
        (checkpoint / "shards").mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "trainer.pt", "chat_template.jinja"):
            (checkpoint / name).write_text(f"{name} {step}")
    (folder / "checkpoints" / "best.json").write_text(json.dumps({"step": 20, "success": 0.9}))
    with MetricsLog(folder / "metrics.jsonl") as log:
        log.write(Event("eval", 20, 0, {"success_sampled": 0.9, "ci_low": 0.85, "problems": 200}, "during"))
    return folder


def test_the_best_checkpoint_without_what_only_a_resume_needs(run: Path, tmp_path: Path, capsys):
    target = tmp_path / "out" / "model"
    assert main(["export", str(run), str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert sorted(p.name for p in target.iterdir()) == [
        "README.md", "chat_template.jinja", "config.json", "model.safetensors"
    ]  # fmt: skip
    assert (target / "config.json").read_text() == "config.json 20"


def test_the_card_says_what_it_is(run: Path, tmp_path: Path):
    main(["export", str(run), str(tmp_path / "model")])
    card = (tmp_path / "model" / "README.md").read_text()
    assert (
        "on `quintain/Calculator-v0` with the options `{}`, seed 0: 20 steps of reinforcement learning (grpo)."
        in card
    )
    assert "| success_sampled | 90.0 % |" in card
    assert "| ci_low | 85.0 % |" in card
    assert "problems | 200" not in card


@pytest.mark.parametrize(("which", "step"), [("last", 40), ("20", 20), ("40", 40)])
def test_another_checkpoint_by_name(run: Path, tmp_path: Path, which: str, step: int):
    assert main(["export", str(run), str(tmp_path / "model"), "--checkpoint", which]) == 0
    assert (tmp_path / "model" / "config.json").read_text() == f"config.json {step}"


def test_nothing_is_overwritten(run: Path, tmp_path: Path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    assert main(["export", str(run), str(tmp_path / "model")]) == 2
    assert "is not empty: name another folder" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["mine"]


def test_a_step_that_was_not_kept_names_those_that_were(run: Path, tmp_path: Path, capsys):
    assert main(["export", str(run), str(tmp_path / "model"), "--checkpoint", "30"]) == 2
    assert "has no checkpoint '30': the choices are best, last, 20, 40" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path: Path, capsys):
    assert main(["export", str(tmp_path), str(tmp_path / "model")]) == 2
    assert "is not a run" in capsys.readouterr().err
