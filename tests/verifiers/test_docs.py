"""Every example of the page on verifiers runs, and the public names are the ones that it is written for."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import quintain.verifiers
from quintain.cli import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifiers.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^\$ (quintain verify .*)$", TEXT, re.MULTILINE)
HEAVY = [index for index, block in enumerate(BLOCKS) if "RewardModel" in block]


@pytest.mark.parametrize("index", [i for i in range(len(BLOCKS)) if i not in HEAVY])
def test_an_example_runs(index: int) -> None:
    if "CodeTests" in BLOCKS[index]:
        from quintain.sandboxes import SandboxUnavailable
        from quintain.verifiers.code import shared_pool

        try:
            shared_pool()
        except SandboxUnavailable as error:
            pytest.skip(str(error))
    run(index)


def run(index: int) -> None:
    exec(compile(BLOCKS[index], f"{PAGE.name}, example {index}", "exec"), {"__name__": "__example__"})


@pytest.mark.slow
@pytest.mark.parametrize("index", HEAVY)
def test_an_example_with_a_model_runs(
    index: int, tiny_reward_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-reward-model").symlink_to(tiny_reward_model)
    monkeypatch.chdir(tmp_path)
    run(index)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "math_verify" in command:
        pytest.importorskip("math_verify")
    rows = re.search(
        r"^```json\n(.*?)^```", TEXT[TEXT.index("## `quintain verify`") :], re.DOTALL | re.MULTILINE
    )
    assert rows
    (tmp_path / "replies.jsonl").write_text(rows[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert "rows" in result.output


@pytest.mark.parametrize("name", [n for n in quintain.verifiers.__all__ if n[0].isupper()])
def test_every_public_class_is_on_the_page(name: str) -> None:
    if name not in {"Episode", "FunctionVerifier", "Status", "Completer", "SpecError"}:
        assert name in TEXT


def test_every_verifier_has_an_example_that_runs() -> None:
    code = "\n".join(BLOCKS)
    verifiers = [n for n in quintain.verifiers.__all__ if _is_verifier(getattr(quintain.verifiers, n))]
    assert [name for name in verifiers if f"{name}(" not in code] == []


def _is_verifier(thing: object) -> bool:
    hidden = {quintain.verifiers.FunctionVerifier, quintain.verifiers.Verifier}
    return isinstance(thing, type) and issubclass(thing, quintain.verifiers.Verifier) and thing not in hidden


def test_the_import_is_light() -> None:
    heavy = "{'sympy', 'mpmath', 'torch', 'transformers', 'numpy', 'aiohttp', 'typer'}"
    code = f"import sys, quintain.verifiers; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
