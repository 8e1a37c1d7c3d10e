"""The code of docs/reward_models.md runs, and its configs are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quintain.rl.config import load_config, load_section
from quintain.rl.inference_time import METHODS
from quintain.rl.stages.reward_model_config import RewardModelConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reward_models.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", PYTHON, ids=[block.split("\n")[0] for block in PYTHON])
def test_a_block_runs(block: str) -> None:
    exec(compile(block, "reward_models.md", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("block", TOML, ids=range(len(TOML)))
def test_a_config_is_read(block: str, tmp_path: Path) -> None:
    path = tmp_path / "page.toml"
    path.write_text(block)
    if "stage =" in block:
        load_section(RewardModelConfig, path)
    else:
        assert load_config(path).env.verifier


def test_the_example_is_read() -> None:
    load_section(RewardModelConfig, ROOT / "examples" / "reward_model.toml")


def test_every_method_is_described() -> None:
    assert [name for name in METHODS if f"| `{name}`" not in PAGE] == []
