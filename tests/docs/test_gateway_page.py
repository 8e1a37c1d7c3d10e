"""The code of docs/gateway.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "# not run" not in block]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_a_block_runs(block):
    pytest.importorskip("torch", reason="needs the train extra")
    pytest.importorskip("openai", reason="needs the openai client (the dev extra)")
    exec(compile(block, "gateway.md", "exec"), {"__name__": "page"})
