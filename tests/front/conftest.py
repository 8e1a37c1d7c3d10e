"""What the tests of the front door may ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the made-up run and the browser beside the tests

from made_up import write_run

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run of a word-problem agent into a folder and returns the folder."""

    def make(folder: str = "calculator_agent-seed0-1", **more: Any) -> Path:
        write_run(tmp_path / folder, **more)
        return tmp_path / folder

    return make
