"""The code of docs/post_training.md runs, in the order in which it stands there; the configs it names are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the train extra")

from quintain.rl.config import load_section
from quintain.rl.stages.stage import find_stage, stages

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "post_training.md").read_text(encoding="utf-8")


def test_its_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        if "# not run" not in block:
            exec(compile(block, "post_training.md", "exec"), names)


@pytest.mark.parametrize("name", ["sft", "sft_self", "dpo", "calculator_dpo"])
def test_the_examples_are_configs_of_their_stage(name):
    path = ROOT / "examples" / f"{name}.toml"
    kind = "sft" if name.startswith("sft") else "dpo"
    config = load_section(find_stage(kind).config, path)
    assert config.stage == kind and config.name == name


def test_the_stages_that_it_names_are_there():
    assert {"sft", "dpo"} <= set(stages())
