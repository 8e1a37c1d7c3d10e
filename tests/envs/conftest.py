"""What the environment tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quintain.envs import list_envs

GSM8K_ROWS = [
    {"question": "Ann has 3 pens and buys 4 more. How many pens?", "answer": "3+4 = <<3+4=7>>7\n#### 7"},
    {"question": "A robe costs $1,100 and a hat $200. Both?", "answer": "It is $1,300.\n#### 1,300"},
    {"question": "Half of 5?", "answer": "#### 2.5"},
]
MATH_ROWS = [
    {"problem": "Half of one?", "answer": "\\frac{1}{2}", "level": "Level 1", "type": "Prealgebra"},
    {"problem": "Solve $x^2=9$.", "solution": "It is \\boxed{3,-3}.", "level": 5, "subject": "Algebra"},
    {"problem": "Which point?", "answer": "(1, 2)", "level": "3", "subject": "Geometry"},
]


@pytest.fixture(scope="session")
def gsm8k_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of rows in the shape of GSM8K."""
    path = tmp_path_factory.mktemp("rows") / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GSM8K_ROWS))
    return path


@pytest.fixture(scope="session")
def math_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of rows in the shape of MATH."""
    path = tmp_path_factory.mktemp("rows") / "math.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MATH_ROWS))
    return path


@pytest.fixture(params=list_envs())
def env_case(request: pytest.FixtureRequest, gsm8k_file: Path, math_file: Path) -> tuple[str, dict[str, Any]]:
    """Each registered id with the options it needs here."""
    files = {"quintain/GSM8K-v0": gsm8k_file, "quintain/MathRows-v0": math_file}
    return request.param, {"path": str(files[request.param])} if request.param in files else {}
