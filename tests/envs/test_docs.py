"""The code of docs/environments.md runs, and its definitions are as short as promised."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from quintain.envs import list_envs
from quintain.envs.registry import load

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


def test_the_table_of_environments_is_made_of_their_cards():
    """When it differs, put the rows that the failure shows into the page."""
    rows = []
    for env_id in (name for name in list_envs() if name.startswith("quintain/")):
        made = load(env_id)
        options = [name for name in inspect.signature(made).parameters if name != "render_mode"]
        rows.append(f"| `{env_id}` | {made.card.what} | {', '.join(f'`{name}`' for name in options)} |")
    found = [line for line in PAGE.splitlines() if line.startswith("| `quintain/")]
    assert found == rows, "\n".join(rows)
