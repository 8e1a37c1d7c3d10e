"""The four recipes of examples/recipes, whole, with few steps; and one that is killed between and in its stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.stages.preference import read_preferences

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
