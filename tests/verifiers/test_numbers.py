"""The final number of a reply."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from quintain.verifiers import FinalNumber, Task
from quintain.verifiers.numbers import final_number

from_text = [
    ("It is 5 - 3 = 2", 2),
    ("$-5$", -5),
    ("It is −5.", -5),
    ("so \\boxed{-\\frac{3}{4}} of 12", Fraction(-3, 4)),
    ("1,234.50 dollars", Fraction("1234.5")),
    ("#### 12", 12),
    ("<answer>7</answer> after 3 tries", 7),
    ("\\boxed{4} and later 9", 4),
    ("\\boxed{1{,}234}", 1234),
    ("5 apples\n- 6 pears", 6),
    ("x = .5", Fraction(1, 2)),
    ("1e3", 1000),
    ("**18**.", 18),
    ("$18.00", 18),
    ("-$3", -3),
    ("50%", 50),
    ("3.", 3),
    ("<think>it is 4</think>It is 5", 5),
    ("it is 4</think>It is 5", 5),
    ("It is 5 <think>or 6", 5),
    ("\\boxed{12} no wait \\boxed{1", 12),
    ("nothing", None),
    ("", None),
    ("\\boxed{}", None),
    ("v2 has none", None),
    ("1/0", None),
    ("9" * 100_000, None),
]


@pytest.mark.parametrize(("text", "number"), from_text, ids=[t[:25] for t, _ in from_text])
def test_the_final_number_of_a_text(text: str, number: Fraction | int | None) -> None:
    assert final_number(text) == number


def test_the_gold_may_be_a_number_or_a_worked_answer() -> None:
    judge = FinalNumber()
    assert judge("18", Task("t", "", "16 - 3 = 13 and so on\n#### 18")).value == 1
    assert judge("18", Task("t", "", 18)).value == 1
    assert judge("0.1", Task("t", "", 0.1)).value == 1
    assert judge("19", Task("t", "", 18)).value == 0


def test_the_reason_says_what_was_compared() -> None:
    assert FinalNumber()("0.5", Task("t", "", "1/3")).reason == "different: got 0.5, wanted 1/3"


def test_tolerance_is_relative() -> None:
    assert FinalNumber(tolerance=0.01)("101", Task("t", "", 100)).value == 1
    assert FinalNumber(tolerance=0.01)("0.02", Task("t", "", 0.01)).value == 0


@pytest.mark.parametrize("gold", [None, "none", float("nan"), True, [1], ""])
def test_a_gold_without_a_number_is_refused_at_load(gold: object) -> None:
    with pytest.raises(ValueError, match="task 't7': the answer must be a finite number"):
        FinalNumber().check(Task("t7", "", gold))


def test_a_gold_without_a_number_leaves_the_reply_ungraded() -> None:
    assert not FinalNumber()("3", Task("t", "", "none")).graded


def test_every_label_of_the_model_solutions_is_met(data_dir: Path) -> None:
    import json

    judge = FinalNumber()
    with (data_dir / "gsm8k_solutions_a.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    wrong = [r for r in rows if bool(judge(r["response"], Task("t", "", r["gold"])).value) != r["is_correct"]]
    assert len(rows) == 2640
    assert wrong == []
