"""The calculator computes like Python with exact numbers, and cannot be made to do anything else."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintain.tools import ToolCall, calculate, calculator
from quintain.tools.calculator import MAX_BITS, CalculatorError, evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*7", "84"),
        ("(12*7-9)/3", "25"),
        ("0.1+0.2", "0.3"),
        ("1/3", "0.333333333333"),
        ("2/3", "0.666666666667"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-3", "0.125"),
        ("- -3", "3"),
        (".5*4", "2"),
        ("1e3+1", "1001"),
        ("6×7", "42"),
        ("1234567890123*10", "12345678901230"),
        ("(-1)**99999999999", "-1"),
    ],
)
def test_it_computes(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1/0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0**-1", "division by zero"),
        ("9**9**9", "too large"),
        ("9**99999999", "too large"),
        ("1e999999999", "too large"),
        ("2**0.5", "an exponent must be a whole number"),
        ("", "empty"),
        ("2*", "ends too early"),
        ("(2", "a closing parenthesis is missing"),
        ("2)", "unexpected ')'"),
        ("1,000", "without commas"),
        ("2^3", "write ** for a power"),
        ("__import__('os')", "unexpected '_'"),
        ("x", "unexpected 'x'"),
        ("(" * 300, "nested more than 40 deep"),
        ("-" * 300 + "1", "nested more than 40 deep"),
        ("1" * 401, "too many"),
    ],
)
def test_what_has_no_value_is_told(expression, said):
    assert calculate(expression).startswith("Error: ")
    assert said in calculate(expression)


numbers = st.integers(0, 999).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(
            lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"
        )
        | inner.map(lambda text: f"-{text}")
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(expressions)
def test_it_agrees_with_python(expression):
    try:
        expected = Fraction(eval(expression))
    except ZeroDivisionError:
        with pytest.raises(CalculatorError, match="division by zero"):
            evaluate(expression)
        return
    if len(expression) <= 300:
        assert evaluate(expression) == expected


@settings(deadline=None)
@given(st.text("0123456789+-*/%(). eE", max_size=60) | st.text(max_size=20))
def test_any_text_gives_a_text_at_once(expression):
    begin = time.process_time()
    text = calculate(expression)

    assert isinstance(text, str)
    assert len(text) < MAX_BITS
    assert time.process_time() - begin < 3


async def test_the_tool_takes_one_expression():
    assert calculator.parameters == {
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "For example (12*7-9)/3"}},
        "required": ["expression"],
        "additionalProperties": False,
    }
    good = await calculator.call(ToolCall("call_0", "calculator", {"expression": "12*7"}))
    bad = await calculator.call(ToolCall("call_1", "calculator", {"expression": "1/0"}))

    assert (good.call_id, good.content, good.error) == ("call_0", "84", None)
    assert (bad.call_id, bad.content, bad.error) == ("call_1", "Error: division by zero", "raised")
