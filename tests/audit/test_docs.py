"""docs/audit.md: its programs run, and it names every probe and every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from quintain.cli import app
from quintain.envs.audit import built_in

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_program_of_the_page_runs(block):
    exec(compile(block, "audit.md", "exec"), {"__name__": "page"})


def test_every_probe_is_described_with_its_promise():
    for probe in built_in():
        assert f"| `{probe.name}` |" in PAGE
        assert re.search(rf"passed +{probe.name} +{re.escape(probe.promise)}\n", PAGE)


def test_every_option_is_described():
    command = get_command(app).commands["audit"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert {
        name for name in options - {"--help"} if f"`{name}" not in PAGE and f" {name}" not in PAGE
    } == set()
