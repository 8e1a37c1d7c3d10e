"""The code of docs/viewer.md runs, and its pictures are there and small."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "viewer.md").read_text(encoding="utf-8")
sys.path.insert(0, str(DOCS.parent / "tests" / "front"))  # for the made-up run


def test_the_block_runs(tmp_path, capsys):
    from made_up import write_run

    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    page = {"__name__": "page"}
    exec(compile(block, "viewer.md", "exec"), page)
    write_run(tmp_path / "run", rl_steps=2)
    names = page["wrong_answers"](tmp_path / "run")
    assert names and capsys.readouterr().out == f"{len(names)} wrong\n"


def test_the_pictures_are_small():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) == 7
    for name in pictures:
        assert 5_000 < (DOCS / name).stat().st_size < 150_000, name
