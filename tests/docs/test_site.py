"""The web site is built of the pages and of the code, without a warning, and no public name is missing in it."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow  # `make test` alone does not install sphinx

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made_pages() -> ModuleType:
    pytest.importorskip("sphinx", reason="sphinx is not installed: make docs")
    spec = importlib.util.spec_from_file_location("made_pages", ROOT / "docs" / "made_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path, made_pages: ModuleType
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-d", tmp_path / "trees",
         ROOT / "docs", tmp_path / "site"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "site" / "made" / "reference" / "envs.html").read_text(encoding="utf-8")
    assert 'quintain.envs.</span></span><span class="sig-name descname"><span class="pre">TextEnv' in page
    assert '<script src="http' not in page and '<link rel="stylesheet" href="http' not in page
    assert (tmp_path / "site" / "made" / "environments" / "SQL-v0.html").is_file()


def test_every_public_name_is_documented(made_pages: ModuleType) -> None:
    missing = []
    for floor in made_pages.FLOORS:
        for room in (floor,) if made_pages.public_names(floor) else made_pages.rooms(floor):
            module = importlib.import_module(room)
            for name in made_pages.public_names(room):
                value = getattr(module, name)
                if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
                    missing.append(f"{room}.{name}")
    assert missing == []
