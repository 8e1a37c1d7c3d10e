"""Stages that play: a model that teaches itself, and DPO in rounds of its own samples, from one small warm start."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from quintain.rl.config import Config
from quintain.rl.metrics import Event, read_metrics
from quintain.rl.stages.preference import read_preferences
from quintain.rl.stages.stage import find_stage, run_stage
from quintain.rl.train import train

pytestmark = pytest.mark.slow

PLAY = {
    "env": {
        "id": "quintain/Calculator-v0",
        "kwargs": {"split": "train", "max_steps": 1},
        "eval_kwargs": {"split": "test"},
    },
    "rollout": {"turn_tokens": 40, "episode_tokens": 160},
}


class Killed(BaseException):
    """As near as a test in one process comes to it."""


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A tiny agent that solves the task now and then."""
    folder = tmp_path_factory.mktemp("warm")
    config = Config.model_validate(
        {
            **PLAY,
            "seed": 1,
            "model": {"path": "tiny"},
            "sft": {"episodes": 600, "steps": 70, "tokens_per_step": 1024},
            "eval": {"problems": 1, "greedy": False},
        }
    )
    train(config, folder)
    return folder / "checkpoints" / "step-000000"


def run(kind: str, start: Path, folder: Path, kill_in: int = 0, **sections: object) -> Path | None:
    config = find_stage(kind).config.model_validate({"seed": 1, "model": {"path": str(start)}, **sections})
    again = folder.is_dir()
    folder.mkdir(exist_ok=True)

    def watch(event: Event) -> None:
        if kill_in and event.phase == "train" and event.step == kill_in:
            raise Killed

    with contextlib.suppress(Killed):
        return run_stage(config, folder, watch, resume=again)
    return None


def test_a_model_that_teaches_itself_learns_what_the_verifier_let_through(start, tmp_path):
    sections = {
        "teacher": {**PLAY, "tasks": 24, "samples": 4, "per_task": 1},
        "optim": {"steps": 4, "batch": 8, "micro_batch": 8, "lr": 1e-4},
    }
    run("sft", start, tmp_path / "sft", **sections)
    (prepared, *_) = [r for r in read_metrics(tmp_path / "sft" / "metrics.jsonl") if r.phase == "prepare"]
    assert (
        prepared.metrics["rows"] <= 24 and prepared.metrics["rows"] + prepared.metrics["rows_left_out"] == 96
    )
    assert "below the score" in prepared.message and (tmp_path / "sft" / "model").is_dir()


def test_rounds_that_were_killed_go_on_to_the_same_weights(start, tmp_path):
    """Killed in the second round, after its groups were sampled and its reference spoke."""
    sections = {
        "online": {**PLAY, "rounds": 2, "groups": 12, "group_size": 4, "hold_to": "start"},
        "optim": {"steps": 3, "batch": 4, "micro_batch": 4, "lr": 5e-4},
        "run": {"checkpoint_every": 2},
    }
    whole = run("dpo", start, tmp_path / "whole", **sections)
    assert run("dpo", start, tmp_path / "cut", kill_in=5, **sections) is None
    cut = run("dpo", start, tmp_path / "cut", **sections)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    pairs = read_preferences(tmp_path / "whole" / "preferences" / "round-001.jsonl").kept
    assert pairs and all(pair.tokens is not None and pair.margin == 1.0 for pair in pairs)
