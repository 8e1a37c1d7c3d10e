"""docs/scale.md is true: its commands parse, its config is one, its program prints what is shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.workers_config import WorkersConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(quintain .+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("CONFIG.toml", str(ROOT / "examples/calculator_agent.toml")))
    assert main([*words[1:], "--dry-run"]) == 0, capsys.readouterr().err
    assert WorkersConfig(**tomllib.loads(capsys.readouterr().out)["workers"]).kind == "ray"


def test_the_config_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert WorkersConfig(**tomllib.loads(text)["workers"]).count == 32


def test_links_lead_to_files() -> None:
    assert [link for link in re.findall(r"\]\(([^)#]+)\)", PAGE) if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.alone
def test_the_program_prints_what_is_shown_and_leaves_nothing() -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    pytest.importorskip("ray", reason="needs the ray extra")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="q") as folder:  # short: Ray puts sockets below it
        here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
            "TMPDIR": folder
        }
        here["RAY_worker_niceness"] = "0"  # else (15) a busy machine leaves it nearly nothing
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, env=here
        )
        assert (done.returncode, done.stdout) == (0, shown), done.stderr
        assert list(Path(folder).glob("qray-*")) == []
        assert folder not in subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True).stdout
