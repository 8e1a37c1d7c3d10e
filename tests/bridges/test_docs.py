"""The code of docs/bridges.md runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from quintain.envs.registry import families

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bridges.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs(block, needs):
    for id_part, module in (("reasoning-gym/", "reasoning_gym"), ("textarena/", "textarena")):
        if id_part in block:
            needs(module)
    if "trl_bridge" in block and importlib.util.find_spec("trl") is None:
        pytest.skip("trl is not installed: pip install quintain[train]")
    exec(compile(block, "bridges.md", "exec"), {"__name__": "page"})


def test_every_family_is_described():
    assert all(f"| `{family}` |" in PAGE for family in families())
