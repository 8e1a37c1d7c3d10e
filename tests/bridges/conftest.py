"""What the tests of the bridges share: which libraries are there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable

import pytest

os.environ.setdefault("NLTK_DATA", "/nonexistent")  # whatever a library finds there would make tests differ


@pytest.fixture(scope="session")
def needs() -> Callable[[str], None]:
    """Skip a test whose library is not installed, saying how to get it."""

    def check(module: str) -> None:
        if importlib.util.find_spec(module) is None:
            pytest.skip(
                f"{module} is not installed: pip install quintain[bridges], or run `make test-bridges`"
            )

    return check
