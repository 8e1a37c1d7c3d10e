"""The code of docs/tools.md runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quintain.tools import UserError
from quintain.tools.formats import FORMATS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "# not run" not in block]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_a_block_runs(block):
    try:
        exec(compile(block, "tools.md", "exec"), {"__name__": "page"})
    except UserError as error:
        if "have no sandbox" not in str(error):
            raise
        pytest.skip(str(error))


def test_every_format_is_described():
    assert [name for name in FORMATS if f"| `{name}`" not in PAGE] == []
