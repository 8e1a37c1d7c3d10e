"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, two threads for each process wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data rows (`QUINTAIN_DATA`, else `../shared/data` beside the checkout)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("QUINTAIN_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data rows in {folder}: set QUINTAIN_DATA to their folder")
    return folder
