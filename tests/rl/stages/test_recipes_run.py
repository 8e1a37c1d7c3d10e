"""The four recipes of examples/recipes, whole, with few steps; and one that is killed between and in its stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.stages.preference import read_preferences
from quintain.rl.stages.told import read_told

pytestmark = pytest.mark.slow  # TRL's trainers, real models

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "examples" / "recipes"
WARM = [
    "--warm.sft.steps=6", "--warm.sft.warmup-steps=1", "--warm.sft.episodes=80", "--warm.eval.problems=2",
]  # fmt: skip
PAIRS = [
    "--pairs.play.groups=8", "--pairs.play.group-size=4",
    "--pairs.play.env.verifier.id=function", "--pairs.play.env.verifier.path=rule_of_this_test:long",
]  # fmt: skip
RL = [
    "--rl.rl.steps=1",
    "--rl.rl.groups=2",
    "--rl.rl.group-size=4",
    "--rl.rl.minibatches=1",
    "--rl.eval.problems=2",
]
FEW = {
    "rlvr": [*WARM, *RL],
    "dpo": [*WARM, *PAIRS, "--dpo.optim.steps=2", "--dpo.optim.batch=4", "--dpo.optim.micro-batch=4",
            "--dpo.eval.eval.problems=2"],
    "rlhf": [*WARM, *PAIRS, *RL, "--reward-model.optim.steps=2", "--reward-model.optim.batch=4",
             "--reward-model.optim.micro-batch=4"],
    "constitutional": ["--helpful.optim.epochs=8.0", "--revised.optim.steps=1", "--dpo.optim.steps=2"],
}  # fmt: skip
MADE = {
    "rlvr": ["01-warm/model", "02-rl/model"],
    "dpo": ["01-warm/model", "02-pairs/pairs.jsonl", "03-dpo/model"],
    "rlhf": ["01-warm/model", "02-pairs/pairs.jsonl", "03-reward-model/model", "04-rl/model"],
    "constitutional": [
        "01-helpful/model", "02-revise/rows.jsonl", "03-revised/model", "04-feedback/pairs.jsonl", "05-dpo/model",
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def rule(tmp_path, monkeypatch):
    """A rule that tells the episodes of a model apart which has learned nothing yet."""
    (tmp_path / "rule_of_this_test.py").write_text(
        "def long(reply, task):\n    return min(1.0, len(reply) / 200)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("kind", list(FEW))
def test_each_recipe_runs_and_is_through_the_second_time(kind, tmp_path, capsys):
    folder = tmp_path / "made"
    words = ["recipe", kind, str(RECIPES / f"{kind}.toml"), *FEW[kind]]
    assert main([*words, "--run-dir", str(folder)]) == 0, capsys.readouterr().err
    assert [str(folder / made) for made in MADE[kind] if (folder / made).exists()] == [
        str(folder / made) for made in MADE[kind]
    ]
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / MADE[kind][-1])
    metrics = {path: path.read_bytes() for path in folder.glob("*/metrics.jsonl")}
    assert main(["recipe", "--resume", str(folder)]) == 0
    assert capsys.readouterr().err.count("through") == len(MADE[kind])
    assert {path: path.read_bytes() for path in metrics} == metrics
    if kind == "constitutional":
        _rows_and_pairs_say_where_they_are_from(folder)


def _rows_and_pairs_say_where_they_are_from(folder):
    rows = [json.loads(line) for line in (folder / "02-revise" / "rows.jsonl").read_text().splitlines()]
    assert rows[6]["origin"]["row"] == 7 and set(rows[6]["origin"]["by"]) <= {"kind", "plain"}
    pairs = read_preferences(folder / "04-feedback" / "pairs.jsonl").kept
    assert pairs and {one.source for one in pairs} == {"constitution"}
    assert not any(one.tie for one in pairs)


def test_a_recipe_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    from safetensors.torch import load_file

    words = [sys.executable, "-m", "quintain", "recipe", "dpo", str(RECIPES / "dpo.toml"), *FEW["dpo"]]
    words += ["--dpo.optim.steps=8", "--dpo.run.checkpoint-every=2"]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    assert main([*words[3:], "--run-dir", str(tmp_path / "whole")]) == 0
    cut = tmp_path / "cut"
    with subprocess.Popen([*words, "--run-dir", str(cut)], env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not (cut / "03-dpo" / "checkpoints" / "step-000002").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert not (cut / "03-dpo" / "model").exists()
    assert main(["recipe", "--resume", str(cut)]) == 0
    one, other = (
        load_file(at / "03-dpo" / "model" / "model.safetensors") for at in (tmp_path / "whole", cut)
    )
    assert all(bool((one[name] == other[name]).all()) for name in one)


def test_a_model_of_ours_can_be_critic_and_judge(tmp_path):
    """The embedded model says nothing of use: its critiques are kept as they are, its verdicts cannot be read."""
    folder = tmp_path / "made"
    words = ["recipe", str(RECIPES / "constitutional.toml"), *FEW["constitutional"], "--run-dir", str(folder)]
    words += ["--revise.critic.rules=false", "--revise.critic.max-tokens=8", "--revise.rounds=1"]
    words += ["--feedback.judge.rules=false", "--feedback.judge.max-tokens=8", "--feedback.pairs=1"]
    assert main([*words, "--feedback.data.on-failed=refuse"]) == 2
    told = read_told(folder / "02-revise" / "critiques.jsonl")
    assert len(told) == 64 and all(
        step["critique"] for one in told if "steps" in one for step in one["steps"]
    )
    assert not (folder / "04-feedback" / "pairs.jsonl").exists()
    failed = [
        one["failed"] for one in read_told(folder / "04-feedback" / "verdicts.jsonl") if "failed" in one
    ]
    assert failed and all("verdict is unreadable" in one or "tokens, the model sees" in one for one in failed)
