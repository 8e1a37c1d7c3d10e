"""A file is there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quintain.tools.atomic import replacing, write_atomically, write_lines


def test_folders_on_the_way_are_made_and_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert write_lines(path, (str(n) for n in range(3))) == 3
    assert path.read_text() == "0\n1\n2\n"


def test_a_failure_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_atomically(path, "old\n")

    def lines():
        yield "new"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_lines(path, lines())
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert path.read_text() == "old\n"


def test_a_reader_sees_the_old_file_until_the_body_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with replacing(path) as work:
        work.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_file_has_the_modes_that_the_process_gives_to_new_files(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
