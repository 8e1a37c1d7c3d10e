"""math-verify behind our interface."""

from __future__ import annotations

import importlib.util

import pytest

from quintain.verifiers import Task, from_spec
from quintain.verifiers.math_peer import MathVerify

INSTALLED = importlib.util.find_spec("math_verify") is not None


def test_it_has_an_id() -> None:
    assert from_spec("math_verify") == MathVerify()


@pytest.mark.skipif(INSTALLED, reason="math-verify is installed")
def test_without_it_a_reply_is_ungraded_and_says_what_to_install() -> None:
    score = MathVerify()("\\boxed{1}", Task("t", "", "1"))
    assert not score.graded
    assert 'pip install "math-verify' in score.reason


@pytest.mark.skipif(not INSTALLED, reason="needs math-verify")
def test_it_judges() -> None:
    assert MathVerify()("\\boxed{\\frac{1}{2}}", Task("t", "", "0.5")).value == 1
    assert MathVerify()("\\boxed{\\frac{1}{3}}", Task("t", "", "0.5")).value == 0
