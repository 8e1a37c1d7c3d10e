"""The stages' example configs run as they stand, one on the model of the other, with a few rows and steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quintain.cli import main

pytestmark = pytest.mark.slow  # TRL's trainers take seconds to import

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FEW = ["--optim.steps", "2", "--optim.batch", "4", "--optim.micro_batch", "2"]


def lines(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_sft_then_dpo_and_a_reward_model_on_what_it_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [{"role": "user", "content": f"{n}+1?"} for n in range(40)]
    right = [{"role": "assistant", "content": str(n + 1)} for n in range(40)]
    wrong = [{"role": "assistant", "content": str(n + 2)} for n in range(40)]
    rows = lines(tmp_path / "rows.jsonl", [{"messages": [q, a]} for q, a in zip(asked, right, strict=True)])
    pairs = lines(
        tmp_path / "pairs.jsonl",
        [
            {"prompt": [q], "chosen": [a], "rejected": [b]}
            for q, a, b in zip(asked, right, wrong, strict=True)
        ],
    )
    assert main(["sft", str(EXAMPLES / "sft.toml"), "--data.path", rows, *FEW]) == 0
    model = str(tmp_path / "runs" / "sft-seed1-1" / "model")
    for kind, file in (("dpo", "dpo.toml"), ("reward-model", "reward_model.toml")):
        words = [kind, str(EXAMPLES / file), "--data.path", pairs, "--model.path", model, *FEW]
        assert main([*words, "--dry-run"]) == 0
        assert main(words) == 0
        (made,) = (tmp_path / "runs").glob(f"{kind}-seed*-1")
        assert (made / "model" / "model.safetensors").is_file()
