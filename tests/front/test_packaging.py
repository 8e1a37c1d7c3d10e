"""The package: light to import, complete in the wheel, its public names pinned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import quintain

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]

PUBLIC = [
    "make",
    "TextEnv",
    "SingleTurnEnv",
    "ToolEnv",
    "Task",
    "TaskSet",
    "audit",
    "Score",
    "Verifier",
    "verifier",
    "Tool",
    "tool",
    "Message",
    "Reply",
    "UserError",
    "Config",
    "load_config",
    "train",
    "Trajectory",
    "__version__",
]


def measured(code: str) -> tuple[float, list[str]]:
    """Run `code` in a fresh interpreter; return its CPU-seconds and the modules it has loaded."""
    script = (
        f"import json, sys, time\n{code}\n"
        "print(json.dumps([time.process_time(), sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stderr.splitlines()[-1])
    return seconds, modules


def test_the_public_names_are_these() -> None:
    assert quintain.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(quintain))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "train"])
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(quintain, name) is not None


@pytest.mark.slow
def test_train_is_the_trainer() -> None:
    from quintain.rl.train import train

    assert quintain.train is train


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'quintain' has no attribute 'trainn'"):
        quintain.trainn  # noqa: B018


def test_import_is_light() -> None:
    seconds, modules = measured("import quintain")
    assert seconds <= 0.3
    heavy = {"torch", "transformers", "vllm", "trl", "docker", "numpy", "pydantic", "gymnasium", "sympy"}
    assert heavy.isdisjoint(modules)


def test_the_environments_load_no_trainer() -> None:
    _, modules = measured("import quintain\nquintain.make, quintain.Config, quintain.verifier")
    assert {"torch", "transformers", "vllm", "trl", "docker", "matplotlib"}.isdisjoint(modules)


def test_help_is_quick() -> None:
    seconds, modules = measured("from quintain.cli import main\nmain(['--help'])")
    assert seconds < 0.5
    assert {"torch", "transformers", "pydantic", "gymnasium"}.isdisjoint(modules)


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quintain", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"quintain {quintain.__version__}\n"
    assert quintain.__version__ == PROJECT["project"]["version"]


def test_every_folder_with_code_is_a_listed_package() -> None:
    parts = {Path(folder): package for package, folder in SETUPTOOLS["package-dir"].items()}
    found = set()
    for folder, package in parts.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder)
            if not any((ROOT / folder / part).is_symlink() for part in [below, *below.parents]):
                found.add(".".join([package, *below.parts]))
    assert found == set(SETUPTOOLS["packages"])


@pytest.mark.slow
def test_the_wheel_ships_every_file(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    source = tmp_path / "source"
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    places = {package.replace(".", "/"): folder for package, folder in SETUPTOOLS["package-dir"].items()}
    for place, folder in places.items():
        for path in (source / folder).rglob("*"):
            if path.suffix in (".py", ".html", ".js", ".css", ".typed"):
                assert f"{place}/{path.relative_to(source / folder).as_posix()}" in shipped
    assert not any(name.startswith(("tests/", "envs/", "rl/", "tools/")) for name in shipped)
