"""Every example of the page on verifiers runs, and the public names are the ones that it is written for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import quintain.verifiers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifiers.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_an_example_runs(index: int) -> None:
    if "CodeTests" in BLOCKS[index]:
        from quintain.sandboxes import SandboxUnavailable
        from quintain.verifiers.code import shared_pool

        try:
            shared_pool()
        except SandboxUnavailable as error:
            pytest.skip(str(error))
    exec(compile(BLOCKS[index], f"{PAGE.name}, example {index}", "exec"), {"__name__": "__example__"})


@pytest.mark.parametrize("name", [n for n in quintain.verifiers.__all__ if n[0].isupper()])
def test_every_public_class_is_on_the_page(name: str) -> None:
    if name not in {"Episode", "FunctionVerifier", "Status", "Completer", "SpecError"}:
        assert name in PAGE.read_text(encoding="utf-8")


def test_the_import_is_light() -> None:
    heavy = "{'sympy', 'mpmath', 'torch', 'transformers', 'numpy', 'aiohttp', 'typer'}"
    code = f"import sys, quintain.verifiers; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
