"""What the environment tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quintain.envs import list_envs

GSM8K_ROWS: list[dict[str, Any]] = [
    {"question": "Ann has 3 pens and buys 4 more. How many pens?", "answer": "3+4 = <<3+4=7>>7\n#### 7"},
    {"question": "A robe costs $1,100 and a hat $200. Both?", "answer": "It is $1,300.\n#### 1,300"},
    {"question": "Half of 5?", "answer": "#### 2.5"},
]
MATH_ROWS: list[dict[str, Any]] = [
    {"problem": "Half of one?", "answer": "\\frac{1}{2}", "level": "Level 1", "type": "Prealgebra"},
    {"problem": "Solve $x^2=9$.", "solution": "It is \\boxed{3,-3}.", "level": 5, "subject": "Algebra"},
    {"problem": "Which point?", "answer": "(1, 2)", "level": "3", "subject": "Geometry"},
]

IFEVAL_ROWS: list[dict[str, Any]] = [
    {
        "key": 1,
        "prompt": 'Describe a harbour in two paragraphs with *** between them in less than 40 words. Use "lantern".',
        "instruction_id_list": [
            "length_constraints:number_paragraphs",
            "keywords:existence",
            "length_constraints:number_words",
        ],
        "kwargs": [
            {"num_paragraphs": 2},
            {"keywords": ["lantern"]},
            {"relation": "less than", "num_words": 40},
        ],
    },
    {
        "key": 2,
        "prompt": "Write about rain. Use only small letters and the word umbrella at least twice.",
        "instruction_id_list": ["change_case:english_lowercase", "keywords:frequency"],
        "kwargs": [{}, {"keyword": "umbrella", "relation": "at least", "frequency": 2, "num_words": None}],
    },
    {
        "key": 3,
        "prompt": "First repeat this request word for word, then answer it: name three rivers in three bullet points.",
        "instruction_id_list": ["combination:repeat_prompt", "detectable_format:number_bullet_lists"],
        "kwargs": [
            {"prompt_to_repeat": "name three rivers in three bullet points."},
            {"num_bullets": 3},
        ],
    },
]


def _bfcl_row(name: str, request: str, calls: list[Any] | None) -> dict[str, Any]:
    area = {
        "name": "geometry.area",
        "description": "Area of a rectangle.",
        "parameters": {
            "type": "dict",
            "properties": {
                "width": {"type": "integer", "description": "Width."},
                "height": {"type": "float", "description": "Height."},
                "unit": {"type": "string", "description": "Unit.", "default": "m"},
            },
            "required": ["width", "height"],
        },
    }
    question = [[{"role": "user", "content": request}]]
    return {"id": name, "question": question, "function": [area], "ground_truth": calls}


BFCL_ROWS = [
    _bfcl_row(
        "simple_0",
        "How large is a field of 3 by 4.5 metres?",
        [{"geometry.area": {"width": [3], "height": [4.5], "unit": ["m", "metre", ""]}}],
    ),
    _bfcl_row(
        "parallel_0",
        "Areas of 1 by 2 cm and of 5 by 6 cm?",
        [
            {"geometry.area": {"width": [1], "height": [2], "unit": ["cm"]}},
            {"geometry.area": {"width": [5], "height": [6], "unit": ["cm"]}},
        ],
    ),
    _bfcl_row("irrelevance_0", "Who wrote Faust?", None),
]

HUMANEVAL_ROWS = [
    {
        "task_id": f"Rows/{number}",
        "prompt": f'def {name}(n):\n    """{text}\n    >>> {name}(2)\n    {example}\n    """\n',
        "entry_point": name,
        "canonical_solution": f"    return {body}\n",
        "test": f"def check(candidate):\n    for n in range(5):\n        assert candidate(n) == {body}\n",
    }
    for number, (name, text, example, body) in enumerate(
        [
            ("double", "Return twice n.", 4, "2 * n"),
            ("square", "Return n times n.", 4, "n * n"),
            ("below", "Return the numbers below n.", [0, 1], "list(range(n))"),
        ]
    )
]
MBPP_ROWS = [
    {
        "task_id": number,
        "text": f"Write a function {name} to {text}.",
        "code": f"def {name}(n):\n    return {body}",
        "test_setup_code": "",
        "test_list": [f"assert {name}({n}) == {eval(body, {'n': n})!r}" for n in (3, 5, 10)],
        "challenge_test_list": [],
    }
    for number, (name, text, body) in enumerate(
        [
            ("add_two", "add two to a number", "n + 2"),
            ("halve", "halve a number", "n / 2"),
            ("digits", "return the digits of a number as a list", "[int(d) for d in str(n)]"),
        ],
        start=11,
    )
]

ROWS = {
    "quintain/BFCL-v0": BFCL_ROWS,
    "quintain/GSM8K-v0": GSM8K_ROWS,
    "quintain/HumanEval-v0": HUMANEVAL_ROWS,
    "quintain/IFEval-v0": IFEVAL_ROWS,
    "quintain/MBPP-v0": MBPP_ROWS,
    "quintain/MathRows-v0": MATH_ROWS,
}
"""Rows for the environments that read a file."""


@pytest.fixture(scope="session")
def row_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of rows for each environment that reads one, by its id."""
    folder = tmp_path_factory.mktemp("rows")
    files = {env_id: folder / f"{env_id.split('/')[1].lower()}.jsonl" for env_id in ROWS}
    for env_id, path in files.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[env_id]))
    return files


@pytest.fixture(scope="session")
def gsm8k_file(row_files: dict[str, Path]) -> Path:
    """A small file of rows in the shape of GSM8K."""
    return row_files["quintain/GSM8K-v0"]


@pytest.fixture(scope="session")
def math_file(row_files: dict[str, Path]) -> Path:
    """A small file of rows in the shape of MATH."""
    return row_files["quintain/MathRows-v0"]


@pytest.fixture(params=list_envs())
def env_case(request: pytest.FixtureRequest, row_files: dict[str, Path]) -> tuple[str, dict[str, Any]]:
    """Each registered id with the options it needs here."""
    path = row_files.get(request.param)
    return request.param, {} if path is None else {"path": str(path)}
