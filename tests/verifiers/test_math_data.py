"""The labelled rows of others: every row must be met, but those on which careful people differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quintain.verifiers import MathAnswer, Task


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["math_verify_sample", "math_verify_public"])
def test_every_label_is_met(data_dir: Path, name: str) -> None:
    judge = MathAnswer()
    wrong = []
    for row in rows(data_dir / f"{name}.jsonl"):
        score = judge(row["response"], Task(row["id"], "", row["gold"]))
        assert score.graded, score.reason
        if bool(score.value) != row["label"] and not row.get("convention"):
            wrong.append((row["id"], score.reason))
    assert wrong == []


def test_every_label_of_the_grade_school_solutions_is_met(data_dir: Path) -> None:
    judge = MathAnswer()
    wrong = [
        row
        for row in rows(data_dir / "gsm8k_solutions_a.jsonl")
        if bool(judge(row["response"], Task("t", "", row["gold"])).value) != row["is_correct"]
    ]
    assert wrong == []


def test_every_gold_is_right_for_itself(data_dir: Path) -> None:
    judge = MathAnswer()
    golds = {
        row["gold"] for name in ("sample", "public") for row in rows(data_dir / f"math_verify_{name}.jsonl")
    }
    wrong = [gold for gold in golds if not judge(gold, Task("t", "", gold)).value]
    assert wrong == []
