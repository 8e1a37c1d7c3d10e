"""The code of docs/environments.md runs, and its definitions are as short as promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quintain.envs import list_envs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_a_block_runs(block):
    exec(compile(block, "environments.md", "exec"), {"__name__": "page"})


def test_the_three_ways_are_short():
    lengths = [len([line for line in block.splitlines() if line.strip()]) for block in BLOCKS[:3]]
    assert lengths[0] <= 10
    assert lengths[1] <= 15
    assert lengths[2] <= 25


def test_every_environment_of_ours_is_described():
    ours = [env_id for env_id in list_envs() if env_id.startswith("quintain/")]
    assert [env_id for env_id in ours if f"`{env_id}`" not in PAGE] == []
