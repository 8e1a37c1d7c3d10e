"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data rows (`QUINTAIN_DATA`, else `../shared/data` beside the checkout)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("QUINTAIN_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data rows in {folder}: set QUINTAIN_DATA to their folder")
    return folder
