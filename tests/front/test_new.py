"""`quintain new`: what it writes installs, passes its own tests and its own audit; what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.config import load_config
from quintain.scaffold import KINDS, scaffold
from quintain.tools import UserError

SOURCE = Path(__file__).resolve().parents[2] / "src"


def python(*arguments: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(SOURCE))))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow  # each plays its own audit
@pytest.mark.parametrize("kind", KINDS)
def test_a_package_passes_its_own_tests_and_audit(kind, tmp_path):
    folder = scaffold(f"my-{kind}-task", kind, tmp_path)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "6 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_package_can_be_trained_on_as_it_is(kind, tmp_path):
    folder = scaffold("word-sums", kind, tmp_path)
    short = [
        "--sft.steps",
        "12",
        "--sft.episodes",
        "40",
        "--rl.steps",
        "1",
        "--rl.groups",
        "2",
        "--eval.problems",
        "2",
    ]
    run = "import sys, word_sums; from quintain.cli import main; sys.exit(main(['train', 'train.toml', *sys.argv[1:]]))"
    done = python("-c", run, *short, cwd=folder, path=str(folder / "src"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "runs" / "word-sums-seed0-1" / "report.html").is_file()


@pytest.mark.slow  # builds and installs
def test_an_installed_package_is_found_by_its_id(tmp_path):
    folder, site = scaffold("word-sums", "tool", tmp_path), tmp_path / "site"
    built = python(
        "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
        "--target", str(site), str(folder), cwd=tmp_path,
    )  # fmt: skip
    if "No module named pip" in built.stderr or "setuptools" in built.stderr:
        pytest.skip(f"nothing can be built here: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    code = (
        "import quintain, sys; from quintain.envs import list_envs; assert 'word_sums/WordSums-v0' in list_envs();"
        "assert 'word_sums' not in sys.modules; env = quintain.make('word_sums/WordSums-v0', kinds=2);"
        "print(env.reset(seed=1)[0])"
    )
    done = python("-c", code, cwd=tmp_path, path=str(site))
    assert done.stdout.startswith("What does this basket cost"), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_whole_and_clean(kind, tmp_path):
    folder = scaffold("word-sums", kind, tmp_path)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        "train.toml",
        "src/word_sums/__init__.py",
        "src/word_sums/environment.py",
        "tests/test_word_sums.py",
    }
    assert load_config(folder / "train.toml").env.id == "word_sums/WordSums-v0"
    for path in folder.rglob("*.*"):
        if path.is_file():
            assert "$" not in path.read_text(), path
    done = python(
        "-m", "ruff", "check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "120", ".", cwd=folder
    )
    if "No module named ruff" not in done.stderr:
        assert done.returncode == 0, done.stdout
    done = python("-c", "import word_sums; print(word_sums.ENV_ID)", cwd=folder / "src")
    assert done.stdout == "word_sums/WordSums-v0\n", done.stderr


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    assert main(["new", "word-sums", "--kind", "game", "--in", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/word-sums holds a game environment" in out
    assert 'pip install -e ".[dev]"' in out
    assert (tmp_path / "word-sums" / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Word Sums", "cannot be the name of a package: take lower-case letters"),
        ("../up", "cannot be the name of a package"),
        ("9lives", "cannot be the name of a package"),
        ("word--sums", "cannot be the name of a package"),
        ("", "cannot be the name of a package"),
        ("x" * 61, "at most 60"),
        ("class", "'class' is a word or a module of Python itself"),
        ("json", "'json' is a word or a module of Python itself"),
        ("quintain", "'quintain' would hide the package of that name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, said, tmp_path):
    with pytest.raises(UserError, match=said):
        scaffold(name, parent=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_exists_is_touched(tmp_path):
    (tmp_path / "word-sums").mkdir()
    with pytest.raises(UserError, match="exists already; choose another name"):
        scaffold("word-sums", parent=tmp_path)
    assert list((tmp_path / "word-sums").iterdir()) == []


def test_an_unknown_kind_and_a_missing_folder_are_told(tmp_path, capsys):
    assert main(["new", "word-sums", "--kind", "gaem", "--in", str(tmp_path)]) == 2
    assert "there is no kind 'gaem'; did you mean 'game'" in capsys.readouterr().err
    assert main(["new", "word-sums", "--in", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        scaffold("word-sums", parent=tmp_path)
    assert list(tmp_path.iterdir()) == []
