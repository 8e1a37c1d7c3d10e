"""docs/security.md is true: its program prints what is shown, and it names every tier and every gap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quintain.sandboxes import SandboxUnavailable, Tier, open_sandbox
from quintain.sandboxes.local import GAPS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text("utf-8")


def test_its_program_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        open_sandbox("local", tier="full").close()
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    found = re.search(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    exec(compile(found[1], "security.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == found[2]


def test_every_tier_and_every_gap_is_on_the_page() -> None:
    for tier in Tier:
        assert tier is Tier.NONE or f"`{tier}`" in TEXT
    for gaps in GAPS.values():
        for name in gaps:
            assert name == "isolation" or f"`{name}`" in TEXT, name
